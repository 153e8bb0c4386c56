"""node_agent/core/retries.py: slower each time, never too slow, and at once when there is news."""

import pytest

from node_agent.core.retries import Retries


def a_failure(times: int = 1, *, first_s: float = 1.0, longest_s: float = 60.0) -> Retries[str]:
    """Return retries of one thing that has failed so often, each time as soon as it was tried, from second 0 on."""
    retries, now_s = Retries[str](first_s, longest_s), 0.0
    for attempt in range(times):
        retries.fail("x", f"reason {attempt}", now_s)
        now_s = next_try_s(retries, now_s)
    return retries


def next_try_s(retries: Retries[str], now_s: float) -> float:
    return next(now_s + tenths / 10 for tenths in range(10_000) if retries.due(now_s + tenths / 10))


def test_pauses_double_up_to_the_longest() -> None:
    retries, now_s, pauses = Retries[str](1.0, 10.0), 0.0, []
    for _ in range(7):
        retries.fail("x", "no", now_s)
        next_s = next_try_s(retries, now_s)
        pauses.append(next_s - now_s)
        now_s = next_s

    assert pauses == [1, 2, 4, 8, 10, 10, 10]


def test_a_thing_that_fails_for_years_is_still_tried() -> None:
    retries = Retries[str](1.0, 60.0)
    for _ in range(5000):
        retries.fail("x", "no", 0.0)

    assert retries.due(60.0) == ["x"]


def test_a_thing_is_held_until_its_pause_is_over() -> None:
    retries = a_failure()

    assert retries.is_held("x", 0.9)
    assert not retries.is_held("x", 1.0)
    assert (retries.due(0.9), retries.due(1.0)) == ([], ["x"])


def test_it_stays_a_failure_until_it_works() -> None:
    retries = a_failure(2)

    assert retries.due(100.0) == retries.due(101.0) == ["x"]
    assert retries.reasons == {"x": "reason 1"}
    retries.clear("x")
    assert (retries.due(100.0), retries.reasons) == ([], {})


def test_news_lets_it_be_tried_at_once_and_pauses_begin_short() -> None:
    """But the reason stays: who asks meanwhile is not told that all is well."""
    retries = a_failure(6)
    retries.hurry("x")

    assert not retries.is_held("x", 0.0)
    assert (retries.due(0.0), retries.reasons) == (["x"], {"x": "reason 5"})
    retries.fail("x", "still not", 100.0)
    assert retries.is_held("x", 100.9)
    assert not retries.is_held("x", 101.0)


def test_what_has_not_failed_is_not_held() -> None:
    retries = a_failure()
    retries.clear("y")
    retries.hurry("y")

    assert not retries.is_held("y", 0.0)
    assert retries.reasons == {"x": "reason 0"}


def test_things_wait_for_themselves_alone() -> None:
    retries = a_failure(3)
    retries.fail("y", "no", 3.0)

    assert retries.due(4.0) == ["y"]


@pytest.mark.parametrize(("first_s", "longest_s"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_pauses_that_make_no_sense_are_our_fault(first_s: float, longest_s: float) -> None:
    with pytest.raises(AssertionError):
        Retries[str](first_s, longest_s)
