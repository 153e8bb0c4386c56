"""Where a change comes from, and what became of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from master.core.cluster import ClusterConfig
from protocol.change_messages import ChangeRequest, Preview
from protocol.messages import FileError, Manifest
from protocol.names import ScopeName
from protocol.operator_messages import Changed, Goal


@dataclass(frozen=True, slots=True)
class Cause:
    """Where a generation comes from: the command or what was noticed, who is behind it, and what they said."""

    why: str
    by: str = ""
    reason: str = ""

    @classmethod
    def of(cls, why: str, request: ChangeRequest) -> "Cause":
        return cls(why, request.by or "unknown", request.reason)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change has made of the config, or would make of it: then there is a `preview`, and `goal` asks nothing."""

    before: ClusterConfig
    after: ClusterConfig
    manifests: Mapping[ScopeName, Manifest]
    """Those that were published before."""
    goal: Goal
    problems: tuple[FileError, ...]
    preview: Preview | None = None

    def answer(self, done: Iterable[str], *, goal: Goal | None = None) -> Changed:
        """Return the answer to whoever asked, with a narrower goal if there is one."""
        return Changed(goal=goal or self.goal, done=tuple(done), preview=self.preview)
