"""The part of the wire that is about jobs, byte for byte; as in `test_golden`, and with its `--update-golden`."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, job_messages
from protocol.job_messages import JobBoard, JobLogPart, JobLogWanted, JobOrder, JobProgress, JobReport, JobState
from tests.unit.test_golden_os import CREATE, NODE

GOLDEN = Path(__file__).parent.parent / "golden" / "jobs"

ORDER = JobOrder(job=CREATE, is_cancelled=True)
PROGRESS = JobProgress(percent=62.5, text="unpacking süd")
STATE = JobState(
    id=CREATE.id,
    status="failed",
    exit_code=3,
    started=1_700_000_003.5,
    ended=1_700_000_009.25,
    reason="create: exit code 3",
    progress=PROGRESS,
    log_end=2**33,
    script="create",
)

SAMPLES: tuple[Any, ...] = (
    ORDER,
    JobBoard(node=NODE, epoch=3, serial=12, orders=(ORDER,)),
    PROGRESS,
    STATE,
    JobReport(node=NODE, epoch=3, serial=12, states=(STATE,)),
    JobLogWanted(id=CREATE.id, offset=4096),
    JobLogPart(id=CREATE.id, begin=4096, end=4100, text="süd".encode()),
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_encoded_as_ever(message: Any, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{type(message).__name__}.msgpack"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(codec.encode(message))

    assert codec.encode(message) == file.read_bytes()
    assert codec.decode(file.read_bytes(), type(message)) == message
    assert codec.decode_any(file.read_bytes()) == message


def test_there_is_one_golden_message_of_every_kind() -> None:
    kinds = {name for name, kind in vars(job_messages).items() if dataclasses.is_dataclass(kind)} - {"OsJob"}

    assert {type(message).__name__ for message in SAMPLES} == kinds
    assert {file.name for file in GOLDEN.iterdir()} == {f"{kind}.msgpack" for kind in kinds}


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_golden_message_has_something_in_every_field(message: Any) -> None:
    for field in dataclasses.fields(message):
        assert getattr(message, field.name), field.name
