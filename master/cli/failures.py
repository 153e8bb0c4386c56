"""What a command says and returns when it does not succeed: one sentence on stderr, never a stack trace."""

import sys
import traceback
from collections.abc import Callable

import click

from master.cli import INTERRUPTED
from master.cli.formats import one_line
from protocol.errors import MeshError

DONE = 0
FAILED = 1
DEADLINE_PASSED = 2


def complain(sentence: str) -> None:
    """Print a sentence on stderr, on one line, whatever it contains."""
    click.echo(f"gnt-mesh: {one_line(sentence)}", file=sys.stderr)


def exit_code_of(run: Callable[[], object], *, debug: bool) -> int:
    """Run a command and return its exit code, having said what is wrong if something is."""
    try:
        result = run()
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message, err=True)
        return FAILED
    except click.UsageError as error:
        complain(_usage_sentence(error))
        return FAILED
    except click.ClickException as error:
        complain(error.format_message())
        return FAILED
    except MeshError as error:
        complain(str(error) or type(error).__name__)
        return FAILED
    except Exception as error:
        if debug:
            click.echo(traceback.format_exc(), nl=False, file=sys.stderr)
        complain(f"internal error: {type(error).__name__}: {error}; please report it")
        return FAILED
    return result if type(result) is int else DONE


def _usage_sentence(error: click.UsageError) -> str:
    message = error.format_message().strip().removesuffix(".")
    if not message[:2].isupper():  # OS, MAC
        message = message[:1].lower() + message[1:]
    if error.ctx is None:
        return message
    return f"{message}; see: {error.ctx.command_path} --help"
