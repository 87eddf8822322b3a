"""What holds the project together and no module owns: lock files, folders and their READMEs, commands, file modes."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("enforcer", "shared", "webhook")
FOLDERS = (*PACKAGES, "charts", "e2e", "tests")
"""The top-level folders; each says in a README what it is, what it is not, and how data walks through it."""
LOCKS = ("requirements.lock", "requirements-test.lock")

BUILDS_FROM_A_CHECKOUT = ("Containerfile", "requirements.in", "requirements.lock")
"""Files in a package's folder that make an image of it, and are of no use without the checkout."""

LARGEST_CHECKED = 1 << 20
"""Bytes; a tracked file above this is data."""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def git(*arguments: str) -> str:
    """What git says about this checkout; the test is skipped where there is no git or no checkout."""
    try:
        done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout, or git is missing")
    return done.stdout


def project_files() -> list[Path]:
    """Every file that is, or without more ado would be, committed."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted(ROOT / name for name in set(names) - {""} if (ROOT / name).is_file())


def pins(lock: str) -> dict[str, str]:
    """The versions that a lock file names, by package; all of them where Python versions differ."""
    found: dict[str, str] = {}
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9][a-z0-9._-]*)==([^ \\;]+)", line):
            found[match[1]] = f"{found[match[1]]} {match[2]}" if match[1] in found else match[2]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_holds_versions_and_hashes_and_nothing_else(lock: str) -> None:
    allowed = re.compile(
        r"[a-z0-9][a-z0-9._-]*==[^ :]+( ; [a-zA-Z0-9_.' <>=!()]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?"
    )
    strange = [line for line in (ROOT / lock).read_text(encoding="utf-8").splitlines() if not allowed.fullmatch(line)]
    assert strange == [], "renew the lock files with .ci/lock"


def test_what_runs_is_what_is_tested() -> None:
    tested = pins("requirements-test.lock")
    assert {name: tested.get(name) for name in pins("requirements.lock")} == pins("requirements.lock")


def asked_for(lock: str) -> list[str]:
    """The requirements of pyproject.toml that a lock file has to meet."""
    project = pyproject()
    runtime: list[str] = project["build-system"]["requires"] + project["project"]["dependencies"]
    return runtime if lock == "requirements.lock" else runtime + project["project"]["optional-dependencies"]["test"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_meets_what_pyproject_asks_for(lock: str) -> None:
    locked = pins(lock)
    wanted = [Requirement(text) for text in asked_for(lock)]
    unmet = [
        str(requirement)
        for requirement in wanted
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"))
        or canonicalize_name(requirement.name) not in locked
    ]
    assert unmet == [], "renew the lock files with .ci/lock"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_what_it_is(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) >= 5


def test_the_readme_names_every_folder() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("README.md is not written yet")
    named = re.findall(r"`([a-z0-9]+)/`", readme.read_text(encoding="utf-8"))
    assert set(FOLDERS) - set(named) == set()


def test_no_folder_of_code_is_forgotten_here() -> None:
    holding_code = {file.relative_to(ROOT).parts[0] for file in project_files() if file.suffix == ".py"}
    assert holding_code - {file.name for file in ROOT.iterdir() if file.is_file()} <= set(FOLDERS)


def modules_to_document() -> list[Path]:
    """The public modules; an empty ``__init__.py`` leaves the word to its folder's README."""
    found = (file for package in (*PACKAGES, "tests/support") for file in (ROOT / package).rglob("*.py"))
    return sorted(file for file in found if file.stat().st_size and not re.match("_[^_]", file.name))


def test_every_public_module_says_what_it_is_for() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in modules_to_document()
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_programs_say_the_projects_version() -> None:
    assert pyproject()["project"]["version"] == VERSION


@pytest.mark.parametrize("command", ["armistice", "kubectl-armistice"])
def test_a_console_script_leads_to_a_function(command: str) -> None:
    module, _, function = pyproject()["project"]["scripts"][command].partition(":")
    if not (ROOT / module.rpartition(".")[0].replace(".", "/")).is_dir():
        pytest.skip(f"{module} is not written yet")
    assert callable(getattr(importlib.import_module(module), function))


def test_there_is_no_third_console_script() -> None:
    assert sorted(pyproject()["project"]["scripts"]) == ["armistice", "kubectl-armistice"]


CI_FILES = sorted((ROOT / ".ci").iterdir())


@pytest.mark.parametrize("file", CI_FILES, ids=[file.name for file in CI_FILES])
def test_a_ci_file_can_be_started(file: Path) -> None:
    assert os.access(file, os.X_OK)
    assert file.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    # The mode that a fresh clone gets; nothing for a file that is not added yet.
    assert git("ls-files", "--stage", "--", str(file)).partition(" ")[0] in ("100755", "")


HOME = re.compile(r"(?<![\w.$})*>-])/(?:work|root|home/[a-z]\w*|Users/\w+)/[\w.]")
SCRATCH = re.compile(r"(?<![\w.$})*>-])/tmp/[\w.]")
SCRATCH_IS_THEIRS = ("tests/", "e2e/")
"""Folders whose code may speak of the temporary folder."""


def machine_paths(name: str, text: str) -> list[str]:
    """Lines of a file that hold a path of some one machine, as ``file:line``."""
    patterns = (
        [HOME] if name.startswith(SCRATCH_IS_THEIRS) or name.endswith((".yaml", ".yml", ".json")) else [HOME, SCRATCH]
    )
    lines = enumerate(text.splitlines(), start=1)
    return [f"{name}:{number}" for number, line in lines if any(pattern.search(line) for pattern in patterns)]


PATHS = [
    ("somebody's checkout", "docs.md", "cd /" + "work/main", ["docs.md:1"]),
    ("root's home", "shared/a.py", "x\nopen('/" + "root/.kube/config')", ["shared/a.py:2"]),
    ("somebody's home", "tests/a.py", "/" + "home/ann/x", ["tests/a.py:1"]),
    ("the temporary folder in the program", "webhook/a.py", "'/tmp/x'", ["webhook/a.py:1"]),
    ("the temporary folder in a test", "tests/a.py", "'/tmp/x'", []),
    ("the temporary folder as a mount in a manifest", "webhook/examples/a.yaml", "mountPath: /tmp/x", []),
    ("the end of a longer path", "docs.md", "dumps/root/sys and $ROOT/work/x", []),
    ("a word between slashes", "docs.md", "cores/work/memory", []),
]


@pytest.mark.parametrize(("what", "name", "text", "found"), PATHS, ids=[row[0] for row in PATHS])
def test_which_paths_belong_to_one_machine(what: str, name: str, text: str, found: list[str]) -> None:
    assert machine_paths(name, text) == found


def test_no_file_speaks_of_one_machine() -> None:
    named = []
    for file in project_files():
        if file.stat().st_size <= LARGEST_CHECKED:
            named += machine_paths(str(file.relative_to(ROOT)), file.read_bytes().decode(errors="replace"))
    assert named == []


def test_what_is_made_here_is_not_committed() -> None:
    made = (
        ".venv/x",
        "armistice.egg-info/x",
        "build/x",
        ".mypy_cache/x",
        ".ruff_cache/x",
        ".hypothesis/x",
        "shared/__pycache__/x",
    )
    git("rev-parse")
    left_in = [name for name in made if subprocess.run(("git", "check-ignore", "-q", name), cwd=ROOT).returncode]
    assert left_in == []


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for file in project_files():
        copy = tree / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    if not (tree / "README.md").exists():
        pytest.skip("README.md is not written yet")
    build = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(tree),
    )
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("armistice-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(file.relative_to(ROOT))
        for file in project_files()
        # A package that is only announced, without code yet, is not shipped; nor is what builds from a checkout.
        if file.name not in BUILDS_FROM_A_CHECKOUT
        and file.suffix != ".proto"
        and (package := file.relative_to(ROOT).parts[0]) in PACKAGES
        and (ROOT / package / "__init__.py").exists()
    }
    assert sorted(wanted - held) == []
