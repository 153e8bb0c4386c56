"""What a measurement found: values, the floor beside them, what every process used. As a table and as JSON."""

import resource
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.benchmarks.child import Child, own_cpu_ns


@dataclass(frozen=True, slots=True)
class Used:
    """What one process used in one case."""

    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the table. `floor` has one value per value, measured just before it, or none at all."""

    name: str
    unit: str
    values: tuple[float, ...]
    floor: tuple[float, ...] = ()
    target: float | None = None
    judged: Literal["median", "max"] = "median"
    used: Mapping[str, Used] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Value over floor, pair by pair."""
        return tuple(value / floor for value, floor in zip(self.values, self.floor, strict=bool(self.floor)))

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return (self.median if self.judged == "median" else max(self.values)) < self.target

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 3),
            "min": round(min(self.values), 3),
            "max": round(max(self.values), 3),
            "target": self.target,
            "judged_by": self.judged,
            "met": self.is_met,
            "values": [round(value, 3) for value in self.values],
            "floor": [round(value, 3) for value in self.floor],
            "floor_median": round(statistics.median(self.floor), 3) if self.floor else None,
            "ratio_median": round(statistics.median(self.ratios), 2) if self.floor else None,
            "processes": {who: {"cpu_s": used.cpu_s, "peak_mb": used.peak_mb} for who, used in self.used.items()},
            **self.facts,
        }


class Meter:
    """What the processes use from now on."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._before = {child.name: child.cpu_ns() for child in children}
        self._own_before = own_cpu_ns()
        for child in children:
            child.forget_peak()

    def read(self) -> dict[str, Used]:
        used = {
            child.name: Used(round((child.cpu_ns() - self._before[child.name]) / 1e9, 4), child.peak_mb())
            for child in self._children
        }
        own_peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        return {**used, "bench": Used(round((own_cpu_ns() - self._own_before) / 1e9, 4), own_peak_mb)}


HEADINGS = ("case", "unit", "median", "min", "max", "floor", "ratio", "target", "met", "n")


def table(results: Sequence[Result]) -> str:
    """Return the results as text, one line each."""
    return _aligned([HEADINGS, *(_row(result) for result in results)])


def usage_table(results: Sequence[Result]) -> str:
    """Return what each kind of process used per repetition, and its peak, for the results that know."""
    rows = [("case", "process", "CPU ms per repetition", "peak MB")]
    for result in results:
        for who, used in _by_kind(result.used).items():
            rows.append((result.name, who, f"{used.cpu_s * 1000 / len(result.values):.1f}", f"{used.peak_mb:.1f}"))
    return _aligned(rows)


def _by_kind(used: Mapping[str, Used]) -> dict[str, Used]:
    """Merge the agents into two lines: that of the sources' node, and the busiest of the others."""
    merged: dict[str, Used] = {}
    for name, one in used.items():
        who = "agent of the master's node" if name == "node1" else "busiest agent" if name.startswith("node") else name
        if who not in merged or merged[who].cpu_s < one.cpu_s:
            merged[who] = one
    return merged


def _row(result: Result) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[result.is_met]
    return (
        result.name,
        result.unit,
        _number(result.median),
        _number(min(result.values)),
        _number(max(result.values)),
        _number(statistics.median(result.floor)) if result.floor else "",
        f"{statistics.median(result.ratios):.1f}x" if result.floor else "",
        f"<{result.target:g}" + (" (max)" if result.judged == "max" else "") if result.target is not None else "",
        met,
        str(len(result.values)),
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = [2 if any(row[column][:1].isalpha() for row in rows[1:]) else 1 for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if text == 2 else cell.rjust(width)
            for cell, width, text in zip(row, widths, texts, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
