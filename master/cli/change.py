"""What every changing command does: ask, say what was done, wait until it is on the disks, say how that ended."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import click

from master.cli.connect import Session, with_bus
from master.cli.failures import DEADLINE_PASSED, DONE, FAILED, complain
from master.cli.lazy import chosen_directory
from master.cli.options import remarks
from master.cli.output import emit_json, emit_lines, show
from master.cli.shapes import changed_shape, outcome_shape
from master.cli.waiting import Outcome, deadline_sentences, progress_line, reached_sentence, wait_for
from master.settings import UP_MARKER_FILE
from protocol.change_messages import ChangeRequest, Preview
from protocol.errors import NoAnswer
from protocol.operator_messages import Changed, WaitRequest

CHANGE_ANSWER_S = 30.0
"""A change may read and publish large sources before it is answered."""


def change(
    verb: str, request: ChangeRequest, *, wait: bool = False, timeout_s: float = 0.0, as_json: bool = False
) -> int:
    """Ask for a change and return the exit code. With `wait`, 0 means that it is on the nodes' disks.

    Who asks, and what `changing_options` has taken from the command line, is added here.
    """
    given = remarks(click.get_current_context())

    async def work(session: Session) -> int:
        asked = replace(request, by=session.asker(), reason=given.reason, dry_run=given.dry_run, confirm=given.confirm)
        changed = await ask_for(session, verb, asked)
        if changed.preview:
            return tell_preview(changed.done, changed.preview, as_json=as_json)
        if not as_json:
            emit_lines([*changed.done, *_how_to_join(changed.token)])
        outcome = await _outcome(session, WaitRequest(goal=changed.goal), timeout_s) if wait else None
        if as_json:
            emit_json({**changed_shape(changed), **(outcome_shape(outcome) if outcome else {})})
        return _tell(outcome, timeout_s, quiet=as_json) if outcome else DONE

    return with_bus(work)


async def ask_for(session: Session, verb: str, request: ChangeRequest) -> Changed:
    """Return what the master says to a change; NoAnswer also says how to find out whether it was done."""
    try:
        return await session.bus.ask(verb, request, Changed, timeout_s=CHANGE_ANSWER_S)
    except NoAnswer as error:
        found_out = "it may have been done all the same, see: gnt-mesh cluster audit list"
        raise NoAnswer(f"{error}; {found_out}") from error


def _how_to_join(token: str) -> list[str]:
    if not token:
        return []
    directory = chosen_directory(click.get_current_context())
    if directory and (directory / UP_MARKER_FILE).exists():
        return [f"gnt-mesh up lets it in and starts its agent here, with its root in {directory}/nodes."]
    return [
        "To let it in, run this on the node, once and soon; it is not shown again:",
        f"gnt-mesh-agent join {token}",
    ]


def wait_until(
    request: WaitRequest, *, timeout_s: float, as_json: bool, told: Mapping[str, object] = MappingProxyType({})
) -> int:
    """Wait for what a request without a goal means now, and return the exit code; `told` goes into the JSON too."""

    async def work(session: Session) -> int:
        outcome = await _outcome(session, request, timeout_s)
        if as_json:
            emit_json({**told, **outcome_shape(outcome)})
        return _tell(outcome, timeout_s, quiet=as_json)

    return with_bus(work)


def tell_preview(done: Sequence[str], preview: Preview, *, as_json: bool) -> int:
    """Show what a dry run has found, and return the exit code."""
    from master.cli.preview_view import preview_shape, preview_text

    if as_json:
        emit_json({"dry_run": True, "done": list(done), **preview_shape(preview)})
    else:
        show(preview_text(done, preview))
    if preview.objections and not as_json:
        complain("without --dry-run this would be refused, unless it is confirmed")
    return FAILED if preview.objections else DONE


async def _outcome(session: Session, request: WaitRequest, timeout_s: float) -> Outcome:
    with progress_line() as progress:
        return await wait_for(session, request, timeout_s=timeout_s, progress=progress)


def _tell(outcome: Outcome, timeout_s: float, *, quiet: bool) -> int:
    if outcome.is_reached:
        sentence = reached_sentence(outcome)
        if sentence and not quiet:
            emit_lines([sentence])
        return DONE
    if not quiet:
        sentence, lines = deadline_sentences(outcome, timeout_s)
        complain(sentence)
        emit_lines(lines, err=True)
    return DEADLINE_PASSED
