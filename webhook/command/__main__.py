"""The ``armistice`` command: finds the subcommand, runs it, and turns every failure into one sentence.

A subcommand is a line in :data:`COMMANDS`; its module is imported when it is used, so that none pays for another.
Exit: 0 done, 1 something does not fit (said by the subcommand), 2 the input could not be used.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from pathlib import PurePath
from typing import Any

import click

from shared.errors import ArmisticeError

COMMANDS = {
    "demo": "webhook.command.demo:demo",
    "demand": "webhook.command.demand:demand",
    "check": "webhook.command.check:check",
    "place": "webhook.command.place:place",
    "machines": "webhook.command.machines:machines",
    "topology": "webhook.command.topology:topology",
    "policy": "webhook.command.policy:policy",
    "webhook": "webhook.command.webhook:webhook",
    "enforcer": "enforcer.__main__:enforcer",
    "proof": "enforcer.command:proof",
}
"""Name to module and attribute, in the order of ``armistice --help``."""

FAILED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
"""The last two are what a shell reports for SIGINT and SIGPIPE."""

DEBUG = "ARMISTICE_DEBUG"
"""Environment variable: when set, what we did not expect comes with its traceback."""


class PipeClosed(Exception):
    """Nobody reads our output any more. Click would answer its own way, with success."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in our own order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand, or None, which click tells the user."""
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand, and write out what it printed."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  armistice demo",
)
@click.version_option(package_name="armistice", message="%(prog)s %(version)s")
@click.pass_context
def armistice(ctx: click.Context) -> None:
    """Treat a pod as one machine: what it weighs, whether it fits one NUMA node, and where it would land."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """The console script, under both its names."""
    _make_streams_lenient()
    called = PurePath(sys.argv[0]).name
    name = "kubectl armistice" if called.startswith("kubectl") else "armistice"
    sys.exit(run(sys.argv[1:], name))


def run(arguments: list[str], name: str = "armistice") -> int:
    """Run one command line and give its exit code. Errors are told on standard error, each as one sentence."""
    try:
        result = armistice.main(arguments, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _told(_usage(error))
    except ArmisticeError as error:
        return _told(str(error))
    except PipeClosed:
        _forget_output()
        return PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        return _told(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _told(f"a fault of its own, {type(error).__name__}: {error}; {DEBUG}=1 shows where")


def _told(text: str) -> int:
    click.echo(f"armistice: {text}", err=True)
    return FAILED


def _usage(error: click.ClickException) -> str:
    """Click's complaint, and which help to read."""
    text = error.format_message()
    ctx = getattr(error, "ctx", None)
    return f"{text} (see {ctx.command_path} --help)" if ctx else text


def _make_streams_lenient() -> None:
    """A character that the terminal's encoding lacks is shown as ``?`` rather than ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _forget_output() -> None:
    """Nobody reads any more: what is still buffered goes nowhere, or the interpreter would complain on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
