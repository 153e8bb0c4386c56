"""Click commands as this tool needs them: loaded when they are called, and with `--dir` wherever a person puts it."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

DIRECTORY_VARIABLE = "GNT_MESH_DIR"
SHORT_HELP_CHARS = 80
_DIRECTORY = "gnt-mesh directory"


def chosen_directory(ctx: click.Context) -> Path | None:
    """Return the directory of a mesh made by `gnt-mesh up`, None for the one configured in /etc/gnt-mesh."""
    directory: Path | None = ctx.meta.get(_DIRECTORY)
    return directory


def _remember(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.meta[_DIRECTORY] = value


def _directory_option(variable: str | None) -> click.Option:
    return click.Option(
        ["--dir", "directory"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        envvar=variable,
        show_envvar=True,
        expose_value=False,
        callback=_remember,
        help="The mesh that `gnt-mesh up --dir DIR` made; without it, the one configured in /etc/gnt-mesh.",
    )


_ANYWHERE = _directory_option(None)
_BEFORE_THE_VERB = _directory_option(DIRECTORY_VARIABLE)


class MeshCommand(click.Command):
    """A command that also takes `--dir`; the one nearest to the end of the line counts."""

    directory_option = _ANYWHERE

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *params, help_option = super().get_params(ctx)
        return [*params, self.directory_option, help_option]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of its help; of a long one as many whole clauses as fit."""
        sentence = super().get_short_help_str(1000)
        if len(sentence) <= max(limit, SHORT_HELP_CHARS):
            return sentence
        ends = [found.start() for found in re.finditer(r"[:;,] ", sentence[:SHORT_HELP_CHARS])]
        return f"{sentence[: ends[-1]]}." if ends else super().get_short_help_str(SHORT_HELP_CHARS)


class MeshGroup(MeshCommand, click.Group):
    """Commands of one noun, listed in the order in which they were written."""

    command_class = MeshCommand

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is, as `module:attribute`, and what the list of commands says about it."""

    target: str
    help: str


class LazyGroup(MeshGroup):
    """Commands that cost nothing until they are called: the list of commands is printed without importing them."""

    directory_option = _BEFORE_THE_VERB

    def __init__(self, *args: Any, places: Mapping[str, Place], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in self.places.items()])
