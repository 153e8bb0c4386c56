"""A certificate that expires within a month is told in time; keys do not expire."""

import pytest

from master.core.expiry import DAY_S, expiry_warnings
from protocol.key_messages import KeyInfo

NOW = 1.8e9


def a_certificate(days: float) -> KeyInfo:
    return KeyInfo(what="certificate", name="server", fingerprint="ab", made=1.0, expires=NOW + days * DAY_S)


@pytest.mark.parametrize(
    ("days", "says"),
    [(-0.1, "has expired"), (0.5, "expires today"), (1.5, "expires tomorrow"), (29.9, "expires in 29 days")],
)
def test_what_expires_soon_is_told(days: float, says: str) -> None:
    (warning,) = expiry_warnings([a_certificate(days)], NOW)
    assert warning.startswith(f"the certificate of the server {says}")


def test_what_is_good_for_longer_is_not_and_keys_never() -> None:
    key = KeyInfo(what="node", name="node1", fingerprint="U", made=1.0)
    assert expiry_warnings([a_certificate(30), a_certificate(4000), key], NOW) == ()
