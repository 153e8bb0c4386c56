"""Who may come in beside the nodes that are: operators and observers, and nodes that hold a join token."""

import re
from dataclasses import dataclass
from typing import Final

from protocol.names import public_key
from protocol.permissions import AccessRole

ROLES: Final[tuple[AccessRole, ...]] = ("operator", "observer")

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
_TAKEN: Final = frozenset({"master", "system", "join"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One person's or program's way in."""

    name: str
    role: AccessRole
    public_key: str
    ctime: float = 0.0
    next_public_key: str = ""
    """Let in as well, while it is being taken up."""

    def __post_init__(self) -> None:
        access_name(self.name)
        for key in self.keys:
            public_key(key)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key that lets this one in."""
        return (self.public_key, self.next_public_key) if self.next_public_key else (self.public_key,)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGrant:
    """A join token, as far as the master knows it: by its public key."""

    token_key: str
    expires: float
    used_by: str = ""
    """The public key that came in with it; empty until then."""

    def __post_init__(self) -> None:
        public_key(self.token_key)
        if self.used_by:
            public_key(self.used_by)


def access_name(text: str) -> str:
    """Return `text` as the name of an access; ValueError names the rule it breaks."""
    if not _NAME.fullmatch(text) or text in _TAKEN:
        raise ValueError(
            f"access name {text!r}: a letter, then letters, digits and '-', at most 31, all lower-case, "
            f"and none of {', '.join(sorted(_TAKEN))}"
        )
    return text
