"""os_jobs: when a request is one that was made before."""

from dataclasses import replace
from typing import Any

import pytest

from master.core.os_jobs import Asked, is_for
from protocol.os_messages import OsTransfer
from protocol.os_names import instance_name, os_variant
from tests.support.job_values import a_job

CREATE = a_job(instance="web", os="tiny", variant=os_variant("small"), parameters={"size": "1", "name": "x"})
RENAME = a_job(instance="new", action="rename", old_name=instance_name("old"))
EXPORT = a_job(instance="web", action="export", transfers=(OsTransfer(disk=0, path="/srv/export/web/disk0"),))


def asked(**changed: Any) -> Asked:
    return replace(Asked(action="create", instance="web", os="tiny+small", parameters={"size": "1"}), **changed)


@pytest.mark.parametrize(
    "same",
    [
        asked(),
        asked(os=""),
        asked(os="tiny"),
        asked(parameters={}),
        asked(parameters={"name": "default"}),
        asked(disks=("/dev/null",)),
    ],
)
def test_a_request_that_is_made_again_is_known_by_what_it_says(same: Asked) -> None:
    """What it does not say was chosen for it then: the variant that was forced, and defaults."""
    assert is_for(CREATE, same)


@pytest.mark.parametrize(
    "other",
    [
        asked(instance="mail"),
        asked(action="import"),
        asked(os="tiny+large"),
        asked(parameters={"size": "2"}),
        asked(parameters={"colour": "red"}),
        asked(disks=("/dev/zero",)),
        asked(is_reinstall=True),
    ],
)
def test_a_request_that_says_something_else_is_another_one(other: Asked) -> None:
    assert not is_for(CREATE, other)


def test_a_rename_is_known_by_both_names_and_an_export_by_its_directory() -> None:
    assert is_for(RENAME, Asked(action="rename", instance="new", old_name="old"))
    assert not is_for(RENAME, Asked(action="rename", instance="new", old_name="older"))
    assert is_for(EXPORT, Asked(action="export", instance="web", directory="/srv/export/web/"))
    assert not is_for(EXPORT, Asked(action="export", instance="web", directory="/srv/export"))
    assert not is_for(a_job(action="verify"), Asked(action="verify", instance="web"))
