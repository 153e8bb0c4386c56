"""What to do about a node's jobs: the board against the journal. Pure, and the same whenever it is asked again.

A job begins at most once (design, D7): it is noted durably before anything else, and the journal lets it begin once
alone, whatever is decided here. What was begun and has neither a runner nor a verdict was interrupted.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from protocol.job_messages import STATES_MAX, JobBoard, JobOrder, JobReport, JobState
from protocol.os_messages import OsJob
from protocol.os_names import JobId


class Phase(Enum):
    """How far a job of the journal is."""

    NOTED = "noted"
    BEGUN = "begun"
    """Its runner has been started or is at work."""
    LOST = "lost"
    """It has begun, its runner is gone, and there is no verdict."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Entry:
    """One job as the journal has it."""

    job: OsJob
    phase: Phase
    state: JobState
    is_cancel_noted: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Write the job into the journal."""

    job: OsJob


@dataclass(frozen=True, slots=True)
class Begin:
    """Hand the job to a runner."""

    job: OsJob


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell the job's runner to end it."""

    id: JobId


@dataclass(frozen=True, slots=True)
class Drop:
    """Give a job that has not begun its verdict: it never will."""

    id: JobId
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """End what is left of a job whose runner is gone, and give it its verdict."""

    id: JobId


@dataclass(frozen=True, slots=True)
class Forget:
    """The master has taken note of the end: the journal may let go, but for the id."""

    id: JobId


Action = Note | Begin | Cancel | Drop | Bury | Forget


def decide(
    board: JobBoard | None,
    entries: Sequence[Entry],
    former: Collection[JobId],
    *,
    limit: int,
    held: Collection[JobId] = (),
) -> list[Action]:
    """Return what to do now. Without a board nothing begins and nothing is forgotten.

    `former` are jobs that ended here and were forgotten: they are not taken up again, whatever a board says. `held` are
    those for which something could not be done a moment ago: they are left alone, and hold up nobody else.
    """
    assert limit >= 1
    known = {entry.job.id: entry for entry in entries}
    actions: list[Action] = [Bury(entry.job.id) for entry in entries if entry.phase is Phase.LOST]
    if board is None:
        return [action for action in actions if job_of(action) not in held]
    orders = {order.job.id: order for order in board.orders}
    actions += [Note(order.job) for order in board.orders if order.job.id not in known and order.job.id not in former]
    for entry in entries:
        actions += _follow(entry, orders.get(entry.job.id))
    actions += _begin(board, known, limit, held)
    return [action for action in actions if job_of(action) not in held]


def job_of(action: Action) -> JobId:
    """Return which job an action is about."""
    return action.job.id if isinstance(action, Note | Begin) else action.id


def _follow(entry: Entry, order: JobOrder | None) -> Iterator[Action]:
    """What the board says of a job that the journal has."""
    if entry.phase is Phase.NOTED and order is None:
        yield Drop(entry.job.id, "the master withdrew it before it began")
    elif entry.phase is Phase.NOTED and order and order.is_cancelled:
        yield Drop(entry.job.id, "cancelled before it began")
    elif entry.phase is Phase.BEGUN and order and order.is_cancelled and not entry.is_cancel_noted:
        yield Cancel(entry.job.id)
    elif entry.phase is Phase.ENDED and order is None:
        yield Forget(entry.job.id)


def _begin(board: JobBoard, known: dict[JobId, Entry], limit: int, held: Collection[JobId]) -> Iterator[Action]:
    """In the board's order, as many as may run; of the jobs about one instance only the first."""
    active = [entry for entry in known.values() if entry.phase in (Phase.BEGUN, Phase.LOST)]
    free = limit - len(active)
    busy = {name for entry in active for name in _instances(entry.job)}
    for order in board.orders:
        entry = known.get(order.job.id)
        if entry and entry.phase is Phase.ENDED:
            continue
        names = _instances(order.job)
        is_waiting = entry is not None and entry.phase is Phase.NOTED and not order.is_cancelled
        if entry and is_waiting and order.job.id not in held and not busy & names and free > 0:
            free -= 1
            yield Begin(entry.job)
        busy |= names


def _instances(job: OsJob) -> set[str]:
    """The names under which a job's instance is known: two jobs that share one work on the same disks."""
    return {name for name in (job.instance.name if job.instance else None, job.old_name) if name}


def report(board: JobBoard | None, entries: Sequence[Entry], former: Sequence[JobState]) -> JobReport | None:
    """Return what there is to say to the master, None before there is a board.

    What runs comes first, so that it is said even if very much has ended.
    """
    if board is None:
        return None
    listed = {order.job.id for order in board.orders}
    states = [entry.state for entry in entries if entry.phase in (Phase.BEGUN, Phase.LOST)]
    states += [entry.state for entry in entries if entry.phase is Phase.ENDED]
    states += [state for state in former if state.id in listed]
    return JobReport(node=board.node, epoch=board.epoch, serial=board.serial, states=tuple(states[:STATES_MAX]))
