"""`gnt-mesh file log, diff, rollback, confirm`: the generations that the master keeps, and the way back to one."""

from collections.abc import Sequence

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import Session, ask, with_bus
from master.cli.contents import Comparison, compare
from master.cli.failures import DONE
from master.cli.formats import count, moment
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines, show
from protocol.history_messages import (
    DiffQuery,
    DiffReply,
    FileConfirm,
    FileRollback,
    LogEntry,
    LogQuery,
    LogReply,
)

PATHS = click.argument("paths", type=options.managed_path, nargs=-1, metavar="[PATH]...")
GENERATION = options.COUNT


@click.command(cls=MeshCommand)
@click.argument("path", type=options.managed_path, required=False)
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@click.option("--before", type=GENERATION, metavar="GEN", help="Only generations older than this one.")
@options.json_option
def log(path: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """Show who changed what, when and why, newest first; of one file, or of all.

    Who is as told by the client that asked; of an edit on the master's disk only the owner of the file is known.

    \b
    gnt-mesh file log /etc/motd
    gnt-mesh file log --limit 100 --json
    """
    reply = ask("file.log", LogQuery(path=path or "", limit=limit, before=before or 0), LogReply)
    if as_json:
        emit_json([_entry_shape(entry) for entry in reply.entries])
        return
    if not reply.entries:
        emit_lines(["No generation that is kept has changed it." if path else "No generation is kept yet."])
        return
    from master.cli.tables import table

    titles = ("Generation", "Time", "Who (as told)", "What", "Changes", "Reason")
    show(table(titles, [_row(entry) for entry in reply.entries], right=("Generation",)))
    if not reply.is_all:
        emit_lines([f"There are older ones: --before {reply.entries[-1].generation}"])


@click.command(cls=MeshCommand)
@click.argument("before", type=GENERATION, metavar="GEN")
@click.argument("after", type=GENERATION, metavar="GEN")
@PATHS
@click.option("--show-secrets", is_flag=True, help="Also print what only master candidates may hold.")
@options.json_option
def diff(before: int, after: int, paths: tuple[str, ...], show_secrets: bool, as_json: bool) -> int:
    """Show what differs between two generations: texts line by line, else size and digest; mode, owner and scope.

    Files of master candidates are secrets: that they differ is shown, how they differ only with --show-secrets.

    \b
    gnt-mesh file diff 41 42
    gnt-mesh file diff 41 42 /etc/motd
    """

    async def work(session: Session) -> int:
        reply = await session.bus.ask("file.diff", DiffQuery(before=before, after=after, paths=paths), DiffReply)
        found = [await compare(session.bus, one, (before, after), show_secrets=show_secrets) for one in reply.files]
        _show_diff(reply, found, (before, after), as_json=as_json)
        return DONE

    return with_bus(work)


@click.command(cls=MeshCommand)
@click.argument("generation", type=GENERATION, metavar="GEN")
@PATHS
@options.waiting_options(default=True)
def rollback(generation: int, paths: tuple[str, ...], wait: bool, timeout: float, as_json: bool) -> int:
    """Give files the content, mode and owner that they had in a generation, on the master and on every node.

    The sources on the master are written, durably, all or none, and published as one new generation. Without PATH
    every file of that generation goes back; files that came later stay as they are. The cluster's own config.data is
    never rolled back. Something that cannot go back is named, and then nothing is changed.

    \b
    gnt-mesh file rollback 41 /etc/motd --reason "broken since 42"
    gnt-mesh file rollback 41 --dry-run
    """
    request = FileRollback(generation=generation, paths=paths)
    return change("file.rollback", request, wait=wait, timeout_s=timeout, as_json=as_json)


@click.command(cls=MeshCommand)
@PATHS
@click.option("--removals", is_flag=True, help="Also let go the many files that are held back.")
@options.waiting_options(default=True)
def confirm(paths: tuple[str, ...], removals: bool, wait: bool, timeout: float, as_json: bool) -> int:
    """Ship what the master holds back because it looks like an accident; `status` shows what that is.

    A source that became empty, or that is only the beginning of what it was, and at most half of it; a secret that
    would go to more than the master candidates; more files than usual that would leave the nodes at once.

    \b
    gnt-mesh file confirm /etc/motd
    """
    if not paths and not removals:
        raise click.UsageError("nothing to confirm: name a PATH, or give --removals", click.get_current_context())
    request = FileConfirm(paths=paths, removals=removals)
    return change("file.confirm", request, wait=wait, timeout_s=timeout, as_json=as_json)


def _row(entry: LogEntry) -> tuple[str, ...]:
    return (str(entry.generation), moment(entry.time), entry.by or "-", entry.why, _changes(entry), entry.reason or "-")


def _changes(entry: LogEntry) -> str:
    if not entry.changes_count:
        return "-"
    first = entry.changes[0] if entry.changes else None
    if first is None or entry.changes_count > 1:
        kinds = [one.change for one in entry.changes]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        return told if len(kinds) == entry.changes_count else count(entry.changes_count, "file")
    return " ".join(filter(None, (first.path, first.change, f"({', '.join(first.details)})" if first.details else "")))


def _entry_shape(entry: LogEntry) -> dict[str, object]:
    return {
        "generation": entry.generation,
        "time": entry.time,
        "by": entry.by,
        "why": entry.why,
        "reason": entry.reason,
        "changes_count": entry.changes_count,
        "changes": [
            {"path": one.path, "scope": one.scope, "change": one.change, "details": list(one.details)}
            for one in entry.changes
        ],
    }


def _show_diff(reply: DiffReply, found: Sequence[Comparison], generations: tuple[int, int], *, as_json: bool) -> None:
    from master.cli.diff_view import diff_lines, diff_shape, show_lines

    pairs = list(zip(reply.files, found, strict=True))
    if as_json:
        emit_json({"files_count": reply.files_count, "files": [diff_shape(*pair) for pair in pairs]})
        return
    show_lines(line for one, comparison in pairs for line in diff_lines(one, comparison, generations))
    if not reply.files_count:
        emit_lines(["Nothing differs."])
    elif len(reply.files) < reply.files_count:
        more = count(reply.files_count - len(reply.files), "more file")
        emit_lines([f"And {more}; name a PATH to see it."])
