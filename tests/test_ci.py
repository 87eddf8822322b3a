"""The set-up's own words, for machines and habits that it cannot serve. The good path is every run of ``.ci/test``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("bash", "cat", "dirname", "find", "flock", "id", "mkdir", "rm", "rmdir")
"""What a machine without Python still has."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the set-up reads."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    for name in ("pyproject.toml", "requirements.lock", "requirements-test.lock"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder for PATH with the few tools the set-up needs, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


def start(script: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run one of the scripts from elsewhere, as CI does; its exit status and what it said on stderr."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    done = subprocess.run(
        (bash, str(script), *arguments),
        cwd="/",
        env={"CI": "true", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def old_python(folder: Path, name: str) -> None:
    """A Python that answers as one before 3.11 does: it starts, and is not new enough."""
    (folder / name).write_text("#!/bin/sh\nexit 0\n")
    (folder / name).chmod(0o755)


def test_a_machine_without_python_is_told_what_to_install(checkout: Path, bare_path: Path) -> None:
    assert start(checkout / ".ci/venv", PATH=str(bare_path)) == (
        1,
        "armistice: No Python from 3.11 on was found on the PATH. Install one (on Debian 12 or newer: apt-get install "
        "python3), or name one: PYTHON=/path/to/python3.12 and the same command again.\n",
    )


def test_a_python_before_3_11_counts_as_none(checkout: Path, bare_path: Path) -> None:
    old_python(bare_path, "python3")
    status, said = start(checkout / ".ci/venv", PATH=str(bare_path))
    assert (status, said.partition(".")[0]) == (1, "armistice: No Python from 3")
    assert not (checkout / ".venv").exists()


def test_a_python_that_was_named_and_is_too_old_is_not_passed_over(checkout: Path, bare_path: Path) -> None:
    old_python(bare_path, "python3.9")
    assert start(checkout / ".ci/venv", PATH=str(bare_path), PYTHON="python3.9") == (
        1,
        "armistice: PYTHON=python3.9 is no Python from 3.11 on. Name one, or unset PYTHON.\n",
    )


def test_somebody_elses_venv_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    path = f"{Path(shutil.which('python3') or '').parent}:/usr/bin:/bin"
    assert start(checkout / ".ci/venv", PATH=path) == (
        1,
        f"armistice: {checkout}/.venv is there already, and .ci/venv did not make it. Move it away or remove it, then "
        "run the same command again.\n",
    )
    assert (checkout / ".venv/bin").exists()


NO_OPTION = "armistice: --quick is not an option of .ci/{}; "
MINUTES = "armistice: .ci/test --within takes whole minutes, as in --within 68.\n"

WRONG = {
    "venv": ("venv", ["--quick"], f"{NO_OPTION.format('venv')}the only one is --tests.\n"),
    "lock": ("lock", ["--quick"], f"{NO_OPTION.format('lock')}the only one is --upgrade.\n"),
    "test": ("test", ["--quick"], f"{NO_OPTION.format('test')}it has --fast and --within MINUTES.\n"),
    "no minutes": ("test", ["--within"], MINUTES),
    "a unit": ("test", ["--within", "1h"], MINUTES),
    "no time": ("test", ["--within", "0"], MINUTES),
}


@pytest.mark.parametrize(("script", "words", "sentence"), WRONG.values(), ids=WRONG)
def test_a_word_that_a_script_does_not_know_is_told_before_anything_is_set_up(
    checkout: Path, script: str, words: list[str], sentence: str
) -> None:
    assert start(checkout / ".ci" / script, *words, PATH="/usr/bin:/bin") == (2, sentence)
    assert not (checkout / ".venv").exists()
