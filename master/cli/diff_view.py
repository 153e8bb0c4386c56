"""How the differences between two generations look: like `diff -u`, with what is not content in words."""

import sys
from collections.abc import Iterable, Iterator
from typing import Final

import click

from master.cli.contents import Comparison
from master.cli.formats import mode, printable, size
from master.cli.output import terminal_console
from master.cli.shapes import Json
from protocol.history_messages import FileDiff
from protocol.messages import FileEntry

STYLES: Final = {"---": "bold", "+++": "bold", "@@": "cyan", "+": "green", "-": "red", "!": "yellow"}
"""By how a line begins; the longer beginnings come first."""
DIGEST_CHARS: Final = 12


def diff_lines(one: FileDiff, found: Comparison, generations: tuple[int, int]) -> Iterator[str]:
    """Yield what is to be said of one file."""
    yield f"--- {_side(one, one.before, generations[0])}"
    yield f"+++ {_side(one, one.after, generations[1])}"
    yield from (f"! {text}" for text in _facts(one, found))
    yield from found.lines


def diff_shape(one: FileDiff, found: Comparison) -> Json:
    return {
        "path": one.path,
        "secret": one.is_secret,
        "before": _entry_shape(one.before, one.scope_before),
        "after": _entry_shape(one.after, one.scope_after),
        "diff": list(found.lines),
        "note": found.note,
    }


def show_lines(lines: Iterable[str]) -> None:
    """Print lines, coloured where a person looks; whatever a file holds, it cannot move their cursor."""
    console = terminal_console()
    for line in lines:
        text = "\t".join(printable(part) for part in line.split("\t"))
        if console is None:
            click.echo(text, file=sys.stdout)
        else:
            style = next((style for beginning, style in STYLES.items() if line.startswith(beginning)), None)
            console.print(text, style=style, soft_wrap=True)


def _side(one: FileDiff, entry: FileEntry | None, generation: int) -> str:
    return f"{one.path} generation {generation}" if entry else f"(not published in generation {generation})"


def _facts(one: FileDiff, found: Comparison) -> Iterator[str]:
    before, after = one.before, one.after
    if before and after:
        if one.scope_before != one.scope_after:
            yield f"scope {one.scope_before} -> {one.scope_after}"
        if before.mode != after.mode:
            yield f"mode {mode(before.mode)} -> {mode(after.mode)}"
        if (before.owner, before.group) != (after.owner, after.group):
            yield f"owner {before.owner}:{before.group} -> {after.owner}:{after.group}"
    elif entry := before or after:
        where = f"{'no longer' if before else 'new'} in {one.scope_before or one.scope_after}"
        yield f"{where}: mode {mode(entry.mode)}, owner {entry.owner}:{entry.group}"
    if found.note:
        yield f"content {_content(before)} -> {_content(after)}: {found.note}"


def _content(entry: FileEntry | None) -> str:
    return f"{size(entry.size_bytes)}, {entry.digest[:DIGEST_CHARS]}…" if entry else "none"


def _entry_shape(entry: FileEntry | None, scope: str) -> Json | None:
    if entry is None:
        return None
    return {
        "scope": scope,
        "digest": entry.digest,
        "size_bytes": entry.size_bytes,
        "mode": mode(entry.mode),
        "owner": entry.owner,
        "group": entry.group,
        "generation": entry.generation,
    }
