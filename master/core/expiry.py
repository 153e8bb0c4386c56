"""Which certificates need an administrator soon. What expires unnoticed stops the whole mesh at once.

`status` has a sentence for a person, `cluster verify` Ganeti's finding, with Ganeti's two limits.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from protocol.key_messages import KeyInfo
from protocol.verify_messages import ECLUSTERCERT, Finding

DAY_S: Final = 86_400.0
WARNED_BEFORE_DAYS: Final = 30
AN_ERROR_BEFORE_DAYS: Final = 7


def expiry_warnings(keys: Iterable[KeyInfo], now: float) -> tuple[str, ...]:
    """Return a sentence for each certificate that has expired, or will within a month."""
    return tuple(_sentence(key, days) for key, days in _soon(keys, now))


def expiry_findings(keys: Iterable[KeyInfo], now: float) -> tuple[Finding, ...]:
    """Return the same as what `cluster verify` finds: a warning, and in the last week an error."""
    return tuple(
        Finding(
            problem="certificate",
            code=ECLUSTERCERT,
            reason=f"While verifying the certificate of the {key.name}: {_ganetis_words(days)}",
            is_warning=days >= AN_ERROR_BEFORE_DAYS,
        )
        for key, days in _soon(keys, now)
    )


def _soon(keys: Iterable[KeyInfo], now: float) -> Iterator[tuple[KeyInfo, int]]:
    """Yield what has expired, or will within a month, and in how many days."""
    for key in keys:
        if key.expires and key.expires - now < WARNED_BEFORE_DAYS * DAY_S:
            yield key, int((key.expires - now) // DAY_S)


def _sentence(key: KeyInfo, days: int) -> str:
    if days < 0:
        return f"the certificate of the {key.name} has expired: nobody who connects anew believes it"
    when = "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"
    return f"the certificate of the {key.name} expires {when}; see: gnt-mesh cluster keys"


def _ganetis_words(days: int) -> str:
    return "Certificate has expired" if days < 0 else f"Certificate expires in about {days} days"
