"""The command as a process: exit codes, streams, colour, signals, and what it loads."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest

from webhook.command.__main__ import COMMANDS, armistice, run

ROOT = Path(__file__).resolve().parents[3]
ARMISTICE = [sys.executable, "-m", "webhook.command"]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **environment}
    return subprocess.run([*ARMISTICE, *arguments], capture_output=True, text=True, cwd=ROOT, env=told, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_of_the_table_leads_to_a_command_of_that_name(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name


@pytest.mark.parametrize("name", ["machines", "topology"])
def test_examples_of_the_help_work_as_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    examples = re.findall(r"^ +armistice (.+)$", capsys.readouterr().out.split("Example")[1], re.M)
    assert examples
    for example in examples:
        assert run(shlex.split(example)) == 0, example


def test_the_example_of_policy_that_needs_no_cluster_works_as_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["policy", "--help"]) == 0
    (example,) = re.findall(r"^ +armistice (policy -f .+)$", capsys.readouterr().out, re.M)
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(example)) == 0


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("armistice: No such command 'machine'.")
    assert err.endswith("(see armistice --help)\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"armistice \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_what_only_some_commands_need_is_not_loaded_for_all() -> None:
    script = "import sys, webhook.command.__main__; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    heavy = {"rich", "yaml", "aiohttp", "kubernetes", "cryptography", "pydantic", "asyncio"}
    assert not heavy & set(loaded.stdout.split())


def test_json_is_not_coloured_even_when_colour_is_forced() -> None:
    forced = call("machines", "dgx-h100", "-o", "json", FORCE_COLOR="1", COLUMNS="20")
    assert "\x1b" not in forced.stdout
    assert forced.stdout == call("machines", "dgx-h100", "-o", "json").stdout


COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:[349][0-7]|[34]8)(?:;[0-9]+)*m")


def test_no_color_is_obeyed() -> None:
    picture = ("topology", "--machine", "xeon8480-2s-snc4-dpdk")
    assert COLOUR.search(call(*picture, FORCE_COLOR="1").stdout)
    assert not COLOUR.search(call(*picture, FORCE_COLOR="1", NO_COLOR="1").stdout)
    assert "\x1b" not in call(*picture).stdout


def test_a_terminal_that_knows_ascii_only_gets_the_picture_all_the_same() -> None:
    done = call("machines", "epyc9654-2s-nps4", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


def slow_reader() -> subprocess.Popen[bytes]:
    """The command, writing into a pipe that holds 4 KiB, so that it waits for us.

    Unbuffered, Python loses what a cut write leaves over; nobody sets that for a pipe, but this test's caller may.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*ARMISTICE, "topology", "--machine", "gb200-nvl-tray", "-o", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, pipesize=4096, bufsize=0, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background jobs
    )  # fmt: skip
    assert process.stdout is not None
    assert fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ) == 4096
    assert process.stdout.read(1) == b"{"
    return process


def test_a_reader_that_goes_away_ends_the_command_without_a_word() -> None:
    with slow_reader() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 141


def test_an_interrupt_ends_the_command_with_the_end_of_the_line() -> None:
    with slow_reader() as process:
        time.sleep(0.2)  # it is blocked in write by now; the signal finds it there
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stdout is not None
        process.stdout.read()
        assert process.stderr.read() == b"\n"
        assert process.wait(10) == 130


def test_a_full_disk_is_told_in_a_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("w") as sink:
        done = subprocess.run(
            [*ARMISTICE, "machines", "-o", "json"], stdout=sink, stderr=subprocess.PIPE, cwd=ROOT, check=False
        )
    assert (done.returncode, done.stderr) == (2, b"armistice: [Errno 28] No space left on device\n")


def test_kubectl_calls_it_by_its_other_name(tmp_path: Path) -> None:
    script = tmp_path / "kubectl-armistice"
    script.write_text("from webhook.command.__main__ import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, str(script), "topology", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.startswith("Usage: kubectl armistice topology [OPTIONS]")


def test_the_group_is_the_table() -> None:
    assert armistice.list_commands(click.Context(armistice)) == list(COMMANDS)
