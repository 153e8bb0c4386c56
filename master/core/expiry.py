"""Which certificates need an administrator soon. What expires unnoticed stops the whole mesh at once."""

from collections.abc import Iterable
from typing import Final

from protocol.key_messages import KeyInfo

DAY_S: Final = 86_400.0
WARNED_BEFORE_DAYS: Final = 30


def expiry_warnings(keys: Iterable[KeyInfo], now: float) -> tuple[str, ...]:
    """Return a sentence for each certificate that has expired, or will within a month."""
    return tuple(
        _sentence(key, int((key.expires - now) // DAY_S))
        for key in keys
        if key.expires and key.expires - now < WARNED_BEFORE_DAYS * DAY_S
    )


def _sentence(key: KeyInfo, days: int) -> str:
    if days < 0:
        return f"the certificate of the {key.name} has expired: nobody who connects anew believes it"
    when = "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"
    return f"the certificate of the {key.name} expires {when}; see: gnt-mesh cluster keys"
