"""What the runner of one job is told: which scripts, in which order, with which environment and limits. Pure.

The plan travels over a pipe to the runner and is never written down: an environment may hold secrets.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

SIZE_FD: Final = 3
"""Where an export script writes the number of bytes it is going to export; EXP_SIZE_FD names it."""

PROGRESS_FD: Final = 4
"""Where a script may write its progress, one JSON object per line."""

Verdict = Literal["success", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One script and its whole world. It gets these descriptors and no others."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    umask: int = 0o022
    stdin_file: str = ""
    """Empty: the script reads the end of its input at once."""
    stdout_file: str = ""
    """Written under another name first, and given this one, durably, if the script succeeds. Empty: the log."""
    has_size_fd: bool = False
    has_progress_fd: bool = False

    @property
    def script(self) -> str:
        """The action, whichever disk it is for."""
        return self.name.partition(" ")[0]

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0].startswith("/") or not self.cwd.startswith("/"):
            raise ValueError(f"step {self.name}: program and directory are absolute paths")
        for text in (*self.argv, *self.env, *self.env.values(), self.cwd, self.stdin_file, self.stdout_file):
            if "\0" in text:
                raise ValueError(f"step {self.name}: a NUL character cannot be passed to a program")
        if any(not name or "=" in name for name in self.env):
            raise ValueError(f"step {self.name}: an environment variable without a name, or with '=' in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """All steps of one job; the first that fails ends it."""

    job: str
    directory: str
    """The job's own directory in the journal: the runner writes there and nowhere else."""
    steps: tuple[Step, ...]
    time_limit_s: float
    """For all steps together."""
    term_grace_s: float = 3.0
    """Between the request to end and the order to."""
    log_head_bytes: int = 8 * 1024 * 1024
    log_tail_bytes: int = 1024 * 1024
    """The log keeps the first `log_head_bytes` of the output, and of the rest at least the last `log_tail_bytes`."""
    is_echoed: bool = False
    """What the scripts print goes to the runner's own output too: under systemd, to the journal."""
    tether: str = ""
    """A file that somebody keeps locked; when the lock is gone the job ends. Empty: it depends on nobody."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"job {self.job}: nothing to run")
        if self.time_limit_s <= 0 or self.log_head_bytes <= 0 or self.log_tail_bytes <= 0 or self.term_grace_s < 0:
            raise ValueError(f"job {self.job}: its limits have to be positive")


def to_json(plan: RunPlan) -> bytes:
    """Return a plan as one line."""
    return json.dumps(asdict(plan)).encode("ascii") + b"\n"


def from_json(line: bytes) -> RunPlan:
    """Return the plan in a line; ValueError if it is none."""
    try:
        fields: dict[str, Any] = json.loads(line)
        steps = tuple(Step(**{**step, "argv": tuple(step["argv"])}) for step in fields.pop("steps"))
        return RunPlan(steps=steps, **fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a plan: {error}") from error
