"""node_agent/core/holdings.py: after a crash at any moment the agent knows which files are its own, and how secret."""

import itertools

from node_agent.core.holdings import Holdings
from node_agent.core.reconcile import ABSENT, Found, Known, Wanted, Write, is_ours
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName, is_secret
from tests.support.values import OTHER, PATH, an_entry, digest_of, found_as, found_file

KNOWN: list[Known | None] = [
    None,
    *(
        Known(scope, digest_of(content), is_intent)
        for scope, content, is_intent in itertools.product((ALL, MASTER_CANDIDATES), ("before", "new"), (False, True))
    ),
    *(
        Known(scope, digest_of("before"), next_digest=digest_of(content))
        for scope, content in itertools.product((ALL, MASTER_CANDIDATES), ("new", "third"))
    ),
]
FOUND: list[Found] = [ABSENT, found_file("before"), found_file("by hand"), found_file("new"), found_file("third")]


def a_write(scope: ScopeName = ALL, content: str = "new") -> Write:
    return Write(scope, an_entry(content=content))


def intended(known: Known | None, here: Found, scope: ScopeName) -> Known:
    holdings = Holdings({PATH: known} if known else {})
    holdings.intend([a_write(scope)], {PATH: here})
    return holdings.known[PATH]


def test_after_a_crash_what_was_written_is_ours() -> None:
    for known, here, scope in itertools.product(KNOWN, FOUND, (ALL, MASTER_CANDIDATES)):
        assert is_ours(found_as(a_write().entry), intended(known, here, scope)), (known, here)


def test_after_a_crash_what_was_not_written_is_ours_if_it_was_before() -> None:
    """The file that a secret lies in must not be forgotten because something else was to replace it."""
    for known, here, scope in itertools.product(KNOWN, FOUND, (ALL, MASTER_CANDIDATES)):
        was_ours = known is not None and is_ours(here, known)
        is_new_already = here == found_file("new")
        assert is_ours(here, intended(known, here, scope)) == (was_ours or is_new_already), (known, here)


def test_after_a_crash_whichever_content_is_there_the_mesh_wrote_it() -> None:
    """Otherwise it would be kept as a backup, as if it had been somebody else's."""
    for known, here, scope in itertools.product(KNOWN, FOUND, (ALL, MASTER_CANDIDATES)):
        after = intended(known, here, scope)
        assert after.wrote(digest_of("new")), (known, here)
        assert after.wrote(here.digest) or known is None or not known.wrote(here.digest), (known, here)


def test_as_long_as_either_content_may_be_secret_it_is_treated_as_one() -> None:
    """A demotion after the crash removes it at once, and keeps no copy."""
    for known, here, scope in itertools.product(KNOWN, FOUND, (ALL, MASTER_CANDIDATES)):
        was_secret = known is not None and is_ours(here, known) and is_secret(known.scope)
        may_be_secret = was_secret or is_secret(scope)
        assert is_secret(intended(known, here, scope).scope) or not may_be_secret, (known, here)


def test_what_was_written_counts_for_the_scope_it_was_written_for() -> None:
    holdings = Holdings({PATH: Known(MASTER_CANDIDATES, digest_of("before"))})
    holdings.intend([a_write(VM_CAPABLE)], {PATH: found_file("before")})
    assert holdings.scopes == (MASTER_CANDIDATES,)

    holdings.note_written(a_write(VM_CAPABLE))

    assert holdings.known == {PATH: Known(VM_CAPABLE, digest_of("new"))}
    assert holdings.scopes == (VM_CAPABLE,)


def test_changes_are_noticed_and_repetitions_are_not() -> None:
    holdings = Holdings({PATH: Known(ALL, digest_of("content"))})
    holdings.note_right(PATH, Wanted(ALL, an_entry()))
    assert not holdings.is_changed

    holdings.note_right(OTHER, Wanted(VM_CAPABLE, an_entry(OTHER)))

    assert holdings.is_changed
    assert holdings.scopes == (ALL, VM_CAPABLE)
    holdings.forget(PATH)
    assert holdings.scopes == (VM_CAPABLE,)


def test_the_memory_it_began_with_is_not_written_to() -> None:
    memory = {PATH: Known(ALL, digest_of("content"))}

    Holdings(memory).forget(PATH)

    assert memory == {PATH: Known(ALL, digest_of("content"))}
