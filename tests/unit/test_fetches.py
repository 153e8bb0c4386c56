"""node_agent/core/fetches.py: one fetch per thing at a time, nothing asked for is lost, and how old an answer is."""

from node_agent.core.fetches import Fetches
from protocol.names import ALL, VM_CAPABLE


def test_one_fetch_per_thing_at_a_time() -> None:
    fetches = Fetches()

    assert fetches.begin(ALL, again=True)
    assert fetches.begin(VM_CAPABLE, again=True)
    assert fetches.begin(None, again=True)
    assert not fetches.begin(ALL, again=True)


def test_what_was_asked_for_meanwhile_is_fetched_once_more() -> None:
    for is_answered in (False, True):
        fetches = Fetches()
        fetches.begin(ALL, again=False)
        for _ in range(3):
            fetches.begin(ALL, again=True)

        assert fetches.end(ALL, is_answered=is_answered)
        assert fetches.begin(ALL, again=False)
        assert not fetches.end(ALL, is_answered=is_answered)


def test_who_can_wait_does_not_ask_again() -> None:
    fetches = Fetches()
    fetches.begin(ALL, again=True)
    fetches.begin(ALL, again=False)

    assert not fetches.end(ALL, is_answered=True)


def test_an_answer_is_as_old_as_its_question() -> None:
    fetches = Fetches()
    fetches.begin(ALL, again=True)
    asked = fetches.moment
    fetches.end(ALL, is_answered=True)

    assert fetches.is_answered_since(ALL, asked - 1)
    assert not fetches.is_answered_since(ALL, asked), "it was asked before that moment ended"
    assert not fetches.is_answered_since(VM_CAPABLE, 0)


def test_a_failure_is_no_answer() -> None:
    fetches = Fetches()
    fetches.begin(ALL, again=True)
    fetches.end(ALL, is_answered=False)

    assert not fetches.is_answered_since(ALL, 0)


def test_an_answer_that_is_coming_is_known() -> None:
    fetches = Fetches()
    fetches.begin(VM_CAPABLE, again=True)
    moment = fetches.moment
    assert not fetches.is_coming_since(VM_CAPABLE, moment)

    fetches.begin(VM_CAPABLE, again=True)
    assert fetches.is_coming_since(VM_CAPABLE, moment)
    fetches.end(VM_CAPABLE, is_answered=True)
    fetches.begin(VM_CAPABLE, again=False)
    assert fetches.is_coming_since(VM_CAPABLE, moment)
    fetches.end(VM_CAPABLE, is_answered=True)
    assert fetches.is_answered_since(VM_CAPABLE, moment)
    assert not fetches.is_coming_since(VM_CAPABLE, moment)


def test_idle_is_nothing_under_way() -> None:
    fetches = Fetches()
    assert fetches.is_idle
    fetches.begin(None, again=True)
    assert not fetches.is_idle
    fetches.end(None, is_answered=False)
    assert fetches.is_idle


def test_an_end_without_a_beginning_does_no_harm() -> None:
    fetches = Fetches()

    assert not fetches.end(ALL, is_answered=True)
    assert not fetches.is_answered_since(ALL, 0)
