"""Plain, tight tables."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from master.cli.formats import one_line

Cell = str | Text


def table(titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()) -> Table:
    """Return a table without lines, its header bold; the columns named in `right` hold numbers."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        drawn.add_column(title, justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(text, row))
    return drawn


def facts(rows: Iterable[tuple[str, Cell]]) -> Table:
    """Return what is known of one thing, a name and a value per line."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(name, text(value))
    return drawn


def text(cell: Cell, style: str = "") -> Text:
    """Return a cell as text that is shown as it is, whatever a node put into it."""
    return Text(one_line(cell), style=style) if isinstance(cell, str) else cell


def wanted(value: bool) -> Text:
    """Return Y or N for what should be so."""
    return Text("Y", style="green") if value else Text("N", style="bold red")
