"""A certificate that expires within a month is told in time; keys do not expire."""

import pytest

from master.core.expiry import DAY_S, expiry_findings, expiry_warnings
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


@pytest.mark.parametrize(
    ("days", "says", "is_warning"),
    [
        (-0.1, "Certificate has expired", False),
        (6.9, "Certificate expires in about 6 days", False),
        (7.1, "Certificate expires in about 7 days", True),
        (29.9, "Certificate expires in about 29 days", True),
    ],
)
def test_verify_finds_it_in_ganetis_words_with_ganetis_limits(days: float, says: str, is_warning: bool) -> None:
    (finding,) = expiry_findings([a_certificate(days)], NOW)
    assert finding.reason == f"While verifying the certificate of the server: {says}"
    assert (finding.code, finding.is_warning) == ("ECLUSTERCERT", is_warning)


def test_what_is_good_for_longer_is_not_and_keys_never() -> None:
    key = KeyInfo(what="node", name="node1", fingerprint="U", made=1.0)
    good = [a_certificate(30), a_certificate(4000), key]
    assert (expiry_warnings(good, NOW), expiry_findings(good, NOW)) == ((), ())
