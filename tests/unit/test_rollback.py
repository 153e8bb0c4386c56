"""master/core/rollback.py: what goes back and what is refused by name, before anything is written."""

from dataclasses import replace

import pytest

from master.core.ancillary import ManagedFile
from master.core.plan import Source
from master.core.rollback import Step, progress_of, steps, wanted_sources
from protocol.errors import Refused
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath
from tests.support.values import CONFIG_DATA, OTHER, PATH, a_source, an_entry

THEN = {
    PATH: (ALL, an_entry(content="old", mode=0o600)),
    OTHER: (ALL, an_entry(OTHER, "old too")),
    CONFIG_DATA: (MASTER_CANDIDATES, an_entry(CONFIG_DATA)),
}


def managed(*paths: ManagedPath) -> list[ManagedFile]:
    return [
        ManagedFile(path=path, scope=ALL, reason="it is on the administrator's list", rule="list") for path in paths
    ]


def wanted(*paths: str, files: tuple[ManagedPath, ...] = (PATH, OTHER, CONFIG_DATA)) -> dict[ManagedPath, Source]:
    return wanted_sources(THEN, managed(*files), paths, generation=7, made={CONFIG_DATA})


def test_everything_goes_back_but_the_clusters_own_record() -> None:
    assert wanted() == {PATH: a_source("old", mode=0o600), OTHER: a_source("old too")}


def test_only_what_is_named_goes_back() -> None:
    assert wanted(OTHER) == {OTHER: a_source("old too")}


def test_the_clusters_own_record_is_refused() -> None:
    with pytest.raises(Refused, match=f"{CONFIG_DATA} is the cluster's own record and is not rolled back"):
        wanted(CONFIG_DATA)


def test_what_was_not_published_then_is_refused() -> None:
    with pytest.raises(Refused, match="/etc/z was not published in generation 7"):
        wanted(PATH, "/etc/z")


@pytest.mark.parametrize("named", [(), (OTHER,), (PATH, OTHER)])
def test_what_is_not_managed_any_more_is_refused_by_name_and_nothing_goes_back(named: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match=f"^{OTHER} is not managed any more, so nothing was rolled back"):
        wanted(*named, files=(PATH, CONFIG_DATA))


def test_only_what_differs_is_written() -> None:
    now = {PATH: a_source("old", mode=0o600), OTHER: a_source("new")}

    assert steps(wanted(), now) == (Step(path=OTHER, before=a_source("new"), wanted=a_source("old too")),)


@pytest.mark.parametrize("change", [{"mode": 0o777}, {"owner": "daemon"}, {"group": "daemon"}])
def test_a_mode_or_an_owner_alone_goes_back_too(change: dict[str, object]) -> None:
    now = {PATH: replace(a_source("old", mode=0o600), **change)}

    assert [step.path for step in steps(wanted(PATH), now)] == [PATH]


def test_a_source_that_vanished_comes_back() -> None:
    assert [step.path for step in steps(wanted(PATH), {PATH: Source("absent")})] == [PATH]


@pytest.mark.parametrize("kind", ["unsettled", "unusable"])
def test_a_source_that_cannot_be_replaced_is_refused_by_name(kind: str) -> None:
    now = {PATH: Source(kind, reason="is a symbolic link on the master")}  # type: ignore[arg-type]

    with pytest.raises(Refused, match=f"{PATH} is a symbolic link on the master, so nothing was rolled back"):
        steps(wanted(PATH), now)


def test_after_a_crash_it_is_known_what_is_still_to_be_done() -> None:
    step = Step(path=PATH, before=a_source("new"), wanted=a_source("old"))

    assert progress_of(step, a_source("new")) == "due"
    assert progress_of(step, a_source("old")) == "done"
    assert progress_of(step, a_source("edited since")) == "overtaken", "whoever did that has the last word"
    assert progress_of(step, Source("absent")) == "overtaken"
