"""Drives a goal to its end: asks the master again and again until every node has what it must, or time is up.

The goal is pinned by the first answer, so edits made meanwhile do not move it. A broker or a master that restarts
only costs time: the question is plain data and is asked again.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from master.cli.connect import Session
from master.cli.formats import count
from protocol.errors import Unavailable
from protocol.operator_messages import Goal, Missing, WaitReply, WaitRequest

PATIENCE_S: Final = 2.0
"""How long the master holds one question; short, so that one it took to its grave is soon asked again."""
ANSWER_S: Final = 3.0
"""How much longer than its patience an answer may take."""
FIRST_ANSWER_S: Final = 10.0
"""Without a goal the master first reads its sources again."""
PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 1.0

NAMED_MAX: Final = 3

Progress = Callable[[WaitReply], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a wait ended."""

    goal: Goal | None
    """None if the master has never answered."""
    nodes_total: int
    missing: tuple[Missing, ...]
    trouble: str = ""
    """Why the master did not answer at the end, if it did not."""

    @property
    def is_reached(self) -> bool:
        return self.goal is not None and not self.missing and not self.trouble


async def wait_for(session: Session, request: WaitRequest, *, timeout_s: float, progress: Progress) -> Outcome:
    """Return when the goal is reached or `timeout_s` has passed; Refused if the master calls the goal impossible."""
    deadline = session.clock() + timeout_s
    outcome = Outcome(request.goal, 0, (), trouble="not asked yet")
    pause_s = PAUSE_MIN_S
    while True:
        asked_at = session.clock()
        try:
            reply = await _ask(session, request, remaining_s=max(deadline - asked_at, 0.0))
        except Unavailable as error:
            outcome = Outcome(outcome.goal, outcome.nodes_total, outcome.missing, trouble=str(error))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
        else:
            progress(reply)
            outcome = Outcome(reply.goal, reply.nodes_total, reply.missing)
            request = WaitRequest(goal=reply.goal)
            pause_s = PAUSE_MIN_S
        now = session.clock()
        if outcome.is_reached or now >= deadline:
            return outcome
        if now < asked_at + pause_s:
            await session.sleep(min(asked_at + pause_s, deadline) - now)


async def _ask(session: Session, request: WaitRequest, *, remaining_s: float) -> WaitReply:
    patience_s = min(PATIENCE_S, remaining_s)
    answer_s = min(ANSWER_S if request.goal else FIRST_ANSWER_S, remaining_s + 1.0)
    question = WaitRequest(goal=request.goal, scopes=request.scopes, nodes=request.nodes, patience_s=patience_s)
    return await session.bus.ask("wait", question, WaitReply, timeout_s=patience_s + answer_s)


@contextmanager
def progress_line() -> Iterator[Progress]:
    """Show how far it is, where a person watches: a line on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda reply: None
        return
    from rich.console import Console

    spinner = "dots" if sys.stderr.encoding.lower().startswith("utf") else "line"
    with Console(file=sys.stderr, highlight=False).status("waiting for the nodes", spinner=spinner) as line:
        yield lambda reply: line.update(progress_sentence(reply))


def progress_sentence(reply: WaitReply) -> str:
    """Return how many nodes have it, of how many."""
    return f"{max(reply.nodes_total - _lacking(reply.missing), 0)} of {count(reply.nodes_total, 'node')}"


def reached_sentence(outcome: Outcome) -> str:
    """Return who holds what now. Empty if there was nothing to wait for."""
    goal = outcome.goal
    if goal is None or not (goal.generations or goal.serials or goal.looks):
        return ""
    if outcome.nodes_total == 0:
        return "No node has to hold it now: nothing to wait for"
    facts = [f"{scope} generation {generation}" for scope, generation in sorted(goal.generations.items())]
    facts.append(f"{count(outcome.nodes_total, 'node')} asked")
    if 1 <= len(goal.nodes) <= NAMED_MAX:
        who, one = ", ".join(goal.nodes), len(goal.nodes) == 1
    elif outcome.nodes_total == 1:
        who, one = "The one node", True
    else:
        who, one = f"All {outcome.nodes_total} nodes", False
    looked = ("has read its disk again and " if one else "have read their disks again and ") if goal.looks else ""
    holds = "holds all it must" if one else "hold all they must"
    only = " and nothing more" if goal.serials else ""
    return f"{who} {looked}now {holds}{only} ({', '.join(facts)})"


def deadline_sentences(outcome: Outcome, timeout_s: float) -> tuple[str, list[str]]:
    """Return the sentence that says the time is up, and one line per thing that is missing: node, path, reason."""
    lines = [_missing_line(one) for one in outcome.missing]
    lacking = _lacking(outcome.missing)
    if outcome.trouble:
        sentence = f"after {timeout_s:g} s it is not known who holds it: {outcome.trouble}; look with: gnt-mesh status"
    else:
        total = count(max(outcome.nodes_total, lacking), "node")
        verb = "does" if lacking == 1 else "do"
        sentence = (
            f"after {timeout_s:g} s {lacking} of {total} {verb} not hold all yet; "
            "the mesh goes on trying, wait on with: gnt-mesh wait"
        )
    return sentence, lines


def _missing_line(one: Missing) -> str:
    return ": ".join(filter(None, (one.node, one.path or one.scope, one.reason)))


def _lacking(missing: tuple[Missing, ...]) -> int:
    return len({one.node for one in missing})
