"""Who is looked at again, and who is not."""

from dataclasses import replace

from node_agent.core.reconcile import Known, Wanted
from node_agent.core.settled import Settled
from protocol.names import ALL, ManagedPath
from tests.support.values import an_entry, digest_of, found_as

PATHS = [ManagedPath(f"/etc/ganeti/{number}") for number in range(3)]
WANTED = {path: Wanted(ALL, an_entry(path)) for path in PATHS}
FOUND = {path: found_as(want.entry) for path, want in WANTED.items()}
KNOWN = {path: Known(ALL, want.entry.digest) for path, want in WANTED.items()}


def settled() -> Settled:
    """Return one that everything is noted in."""
    noted = Settled()
    noted.others(WANTED, FOUND, KNOWN, under=1)
    for path in PATHS:
        noted.note(path, WANTED[path], FOUND[path], KNOWN[path])
    return noted


def test_nobody_is_settled_at_first() -> None:
    assert Settled().others(WANTED, FOUND, KNOWN, under=1) == PATHS


def test_what_was_noted_is_not_looked_at_again() -> None:
    assert settled().others(WANTED, FOUND, KNOWN, under=1) == []


def test_every_new_value_is_looked_at_even_an_equal_one() -> None:
    """Whoever sees the file again, or notes something of it, has brought a new value, and that is enough to know."""
    path = PATHS[1]
    for changed in (
        (WANTED | {path: replace(WANTED[path])}, FOUND, KNOWN),
        (WANTED, FOUND | {path: replace(FOUND[path])}, KNOWN),
        (WANTED, {other: here for other, here in FOUND.items() if other != path}, KNOWN),
        (WANTED, FOUND, KNOWN | {path: Known(ALL, digest_of("x"))}),
        (WANTED, FOUND, {other: known for other, known in KNOWN.items() if other != path}),
    ):
        assert settled().others(*changed, under=1) == [path]


def test_what_is_known_and_not_wanted_is_never_settled() -> None:
    wanted = {path: want for path, want in WANTED.items() if path != PATHS[0]}

    assert settled().others(wanted, FOUND, KNOWN, under=1) == [PATHS[0]]


def test_another_role_has_everything_looked_at() -> None:
    assert settled().others(WANTED, FOUND, KNOWN, under=2) == PATHS
