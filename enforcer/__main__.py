"""``python -m enforcer``: the node agent's two commands, as its image has them.

``armistice enforcer`` and ``armistice proof`` are the same, where the whole command is installed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import click

from enforcer.command import proof
from enforcer.settings import make, options
from shared.errors import ArmisticeError

FAILED = 2
"""Exit code: it could not begin."""

LEVEL = logging.INFO


class Fields(logging.Formatter):
    """A line of constant text with its fields beside it: ``refused call=... reason="..."``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback where there is one."""
        fields = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        told = "".join(f" {name}={_quoted(str(value))}" for name, value in fields.items())
        head, newline, trace = super().format(record).partition("\n")
        return f"{head}{told}{newline}{trace}"


_PLAIN = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})
"""What every record has."""


def _quoted(text: str) -> str:
    plain = text and text.isprintable() and not {" ", '"', "="} & set(text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@click.command(epilog="\b\nExample:\n  armistice enforcer --keys intent.pub --no-cluster")
@options
def enforcer(**given: Any) -> None:
    """Bind this node's pods as their intents say: an NRI plugin of containerd or CRI-O, one per node."""
    from enforcer.daemon import run  # proof must not pay for it

    settings = make(**given)
    handler = logging.StreamHandler()
    handler.setFormatter(Fields("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=LEVEL)
    asyncio.run(run(settings))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The node agent, and the proof of what it does."""


main.add_command(enforcer)
main.add_command(proof)


def start(arguments: list[str]) -> int:
    """Run one command line and give its exit code. Errors are told on standard error, each as one sentence."""
    try:
        result = main.main(arguments, prog_name="python -m enforcer", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _told(error.format_message())
    except ArmisticeError as error:
        return _told(str(error))
    except click.Abort:
        return 130


def _told(text: str) -> int:
    click.echo(f"armistice: {text}", err=True)
    return FAILED


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
