"""What the agent may ask of the privileged process, and what that answers: a closed list, nothing else is understood.

One connection is one question: the agent says `Hello`, hands over what is `Lacking` of the master's word, asks, and
reads to the end of the answer. `Watch` and `Jobs` go on until one side ends them. Long lists come in several
messages.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from node_agent.core.reconcile import Found, Known
from protocol.messages import FileEntry
from protocol.names import ManagedPath, ScopeName
from protocol.os_names import JobId

T = TypeVar("T")

ITEMS_MAX: Final = 1000
"""Of a list in one message."""

ASSIGNMENT: Final = ""
"""The name of the assignment among the parts of the master's word; a manifest's is its scope."""


class Message(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    """A frame's content; its type travels with it."""


# ---- from the agent


class Hello(Message):
    """Which parts of the master's word the agent can hand over, and the digest of each."""

    word: dict[str, str] = {}


class Word(Message):
    """One part: an assignment or the head of a manifest, as it was signed; of a large manifest the rest follows."""

    name: str
    data: bytes
    size_bytes: int = 0


class Piece(Message):
    """More of what was announced: of a manifest, or of the content for a path."""

    data: bytes
    path: str = ""
    reason: str = ""
    """Why there is no more of it."""


class Recall(Message):
    """What is remembered of this node's files?"""


class Remember(Message):
    """Make durable what the master's word says is the newest."""


class Observe(Message):
    paths: list[ManagedPath]
    afresh: bool
    is_last: bool


class Put(msgspec.Struct):
    """A file to be as the manifest of a scope says; `copy_of` may have the content already."""

    scope: ScopeName
    entry: FileEntry
    copy_of: ManagedPath | None = None


class Change(Message):
    """Bring these files in order: some to be put there, some to be taken away."""

    is_last: bool
    puts: list[Put] = []
    removals: list[ManagedPath] = []


class Watch(Message):
    """Tell when one of these files changes. `again`: of the same as before, whose directories may be others now."""

    paths: list[ManagedPath] = []
    again: bool = False
    is_last: bool = True


class ReportOs(Message):
    """Which OS definitions are there?"""


class DefineOs(Message):
    name: str


class KeepSeed(Message):
    """Keep this as the node's key from now on."""

    seed: str


class KeepTrust(Message):
    """Believe whom the master names, from now on: its word as it was signed."""

    word: bytes


class Jobs(Message):
    """Carry boards, reports and output between the bus and the jobs of this node, until one side ends."""


class Look(Message):
    """There may be another board."""


class Board(Message):
    """The board as it was signed; empty if the bus has none, `reason` says why it could not be had."""

    data: bytes = b""
    reason: str = ""


class Output(Message):
    """What did this job print, from an offset on?"""

    job: JobId
    offset: int


Asked = (
    Hello
    | Word
    | Piece
    | Recall
    | Remember
    | Observe
    | Change
    | Watch
    | ReportOs
    | DefineOs
    | KeepSeed
    | KeepTrust
    | Jobs
    | Look
    | Board
    | Output
)


# ---- to the agent


class Lacking(Message):
    """These parts of the master's word are wanted; when it is none, the question is."""

    names: list[str]


class Done(Message):
    pass


class Failed(Message):
    """Nothing was done. `is_refusal`: nor will it be, if it is asked again."""

    reason: str
    is_refusal: bool = False


class Recalled(Message):
    serial: tuple[int, int]
    versions: dict[ScopeName, tuple[int, int]]
    known: dict[ManagedPath, Known]
    swept: int
    is_last: bool


class Observed(Message):
    found: dict[ManagedPath, Found]
    is_last: bool


class Wanted(Message):
    """The content for this path, please."""

    path: ManagedPath


class Changed(Message):
    found: dict[ManagedPath, Found]
    errors: dict[ManagedPath, str]
    is_last: bool


class Touched(Message):
    """None: anything may have changed."""

    paths: list[ManagedPath] | None
    has_os_definitions: bool


class Encoded(Message):
    """A message of the bus, encoded as there; empty if there is none."""

    data: bytes


class BoardWanted(Message):
    pass


class Report(Message):
    """The report of this node's jobs, to be passed on."""

    data: bytes


class Printed(Message):
    """What a job has printed, for whoever listens."""

    job: JobId
    text: bytes


Answered = (
    Lacking
    | Done
    | Failed
    | Recalled
    | Observed
    | Wanted
    | Changed
    | Touched
    | Encoded
    | BoardWanted
    | Report
    | Printed
)


def in_parts(items: Sequence[T]) -> Iterator[tuple[Sequence[T], bool]]:
    """Yield a list in parts that fit into a message, at least one, and whether it is the last."""
    for start in range(0, len(items) or 1, ITEMS_MAX):
        yield items[start : start + ITEMS_MAX], start + ITEMS_MAX >= len(items)
