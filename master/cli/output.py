"""Where text and JSON go. Tables are drawn for the terminal's width; in a pipe nothing is cut, coloured or padded.

Streams are named in full: click by itself would send UTF-8 where the stream says that it takes only ASCII.
"""

import io
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from master.cli.formats import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 100_000
"""Wider than any line we print: a name in a pipe is never cut or wrapped."""


def emit_json(value: object, *, compact: bool = False) -> None:
    """Print a value as JSON. It is pure ASCII, and so valid and harmless wherever it is shown."""
    click.echo(json.dumps(value, indent=None if compact else 2), file=sys.stdout)


def emit_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print sentences, one per line, whatever a node has put into them."""
    for line in lines:
        click.echo(one_line(line), file=sys.stderr if err else sys.stdout)


def terminal_console() -> "Console | None":
    """Return a console for stdout if that is a terminal."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else None


def show(renderable: "RenderableType") -> None:
    """Print a table, or several, on stdout."""
    console = terminal_console()
    if console is not None:
        console.print(renderable)
    else:
        click.echo(plain_text(renderable), file=sys.stdout)


def plain_text(renderable: "RenderableType") -> str:
    """Return what `show` prints into a pipe."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=PIPE_COLUMNS, color_system=None, force_terminal=False, highlight=False)
    console.print(renderable, markup=False, emoji=False)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().split("\n"))
