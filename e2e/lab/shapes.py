"""NUMA shapes of the lab's machines: read from `shapes.toml`, turned into QEMU's words. Nothing is started here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.errors import LabError

CATALOGUE = Path(__file__).with_name("shapes.toml")
HUGEPAGE_MIB = 2
"""Size of the huge pages that a shape sets aside."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One NUMA node."""

    cores: int
    """Cores; 0 makes it a memory-only node."""
    memory: int
    """MiB."""
    hugepages: int = 0
    """Pages of 2 MiB set aside at boot."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A machine: its sockets, hardware threads and NUMA nodes."""

    name: str
    about: str
    sockets: int
    threads: int
    cells: tuple[Cell, ...]
    distances: tuple[tuple[int, ...], ...]
    """As the rows of `numactl -H`."""

    def __post_init__(self) -> None:
        for problem in problems(self):
            raise LabError(f'shape "{self.name}" in {CATALOGUE.name}: {problem}')

    @property
    def cores(self) -> int:
        """Cores of the whole machine."""
        return sum(cell.cores for cell in self.cells)

    @property
    def cpus(self) -> int:
        """Hardware threads of the whole machine: what the kernel calls CPUs."""
        return self.cores * self.threads

    @property
    def memory(self) -> int:
        """MiB of the whole machine."""
        return sum(cell.memory for cell in self.cells)

    def cpus_of(self, node: int) -> range:
        """The CPUs of one NUMA node; QEMU numbers threads of a core, cores and nodes in order, without gaps."""
        first = sum(cell.cores for cell in self.cells[:node]) * self.threads
        return range(first, first + self.cells[node].cores * self.threads)


def problems(shape: Shape) -> list[str]:
    """What makes a shape impossible, each with the way out; empty when QEMU and the kernel will take it."""
    found = []
    count = len(shape.cells)
    if shape.sockets < 1 or shape.cores == 0 or shape.cores % max(shape.sockets, 1):
        found.append(f"{shape.cores} cores cannot be dealt out evenly to {shape.sockets} sockets; change either number")
    if shape.threads not in (1, 2):
        found.append(f"{shape.threads} threads per core; the emulated CPU knows 1 and 2")
    if not shape.cells[0].cores:
        found.append("NUMA node 0 has no cores; put the memory-only node last")
    if [len(row) for row in shape.distances] != [count] * count:
        found.append(f"distances need {count} rows of {count} numbers")
    elif any(shape.distances[i][i] != 10 for i in range(count)):
        found.append("a NUMA node's distance to itself must be 10 (ACPI)")
    if any(cell.hugepages * HUGEPAGE_MIB > cell.memory / 2 for cell in shape.cells):
        found.append("huge pages take more than half of a NUMA node's memory; the node would not boot")
    return found


def parse(text: str) -> dict[str, Shape]:
    """The catalogue's shapes by name."""
    return {name: _shape(name, entry) for name, entry in tomllib.loads(text).items()}


def _shape(name: str, entry: dict[str, Any]) -> Shape:
    unknown = entry.keys() - {"about", "sockets", "threads", "distances", "node"}
    if unknown:
        raise LabError(
            f'shape "{name}" in {CATALOGUE.name}: "{min(unknown)}" is no field; the head of the file lists them'
        )
    try:
        cells = tuple(Cell(**node) for node in entry["node"])
        near, far = 10, 20
        default = tuple(tuple(near if i == j else far for j in range(len(cells))) for i in range(len(cells)))
        rows = tuple(tuple(row) for row in entry["distances"]) if "distances" in entry else default
        return Shape(name, entry["about"], entry["sockets"], entry.get("threads", 1), cells, rows)
    except (KeyError, TypeError) as error:
        raise LabError(
            f'shape "{name}" in {CATALOGUE.name} is incomplete ({error}); the head of the file lists the fields'
        ) from error


def named(name: str) -> Shape:
    """The shape of that name from the catalogue."""
    shapes = parse(CATALOGUE.read_text(encoding="utf-8"))
    if name not in shapes:
        raise LabError(
            f'the lab has no shape "{name}"; it has {", ".join(shapes)}, and e2e/lab/{CATALOGUE.name} takes more'
        )
    return shapes[name]


def machine_arguments(shape: Shape) -> list[str]:
    """QEMU's arguments for the CPUs, memory and NUMA nodes of a shape."""
    per_socket = shape.cores // shape.sockets
    smp = f"cpus={shape.cpus},sockets={shape.sockets},cores={per_socket},threads={shape.threads}"
    arguments = ["-smp", smp, "-m", f"{shape.memory}M"]
    for number, cell in enumerate(shape.cells):
        arguments += ["-object", f"memory-backend-ram,id=mem{number},size={cell.memory}M"]
        cpus = shape.cpus_of(number)
        owned = f",cpus={cpus[0]}-{cpus[-1]}" if cpus else ""
        arguments += ["-numa", f"node,nodeid={number},memdev=mem{number}{owned}"]
    for source, row in enumerate(shape.distances):
        for target, distance in enumerate(row):
            if source != target:
                arguments += ["-numa", f"dist,src={source},dst={target},val={distance}"]
    return arguments


def kernel_arguments(shape: Shape) -> list[str]:
    """What the kernel's command line must say for a shape: the huge pages, per NUMA node."""
    pages = ",".join(f"{number}:{cell.hugepages}" for number, cell in enumerate(shape.cells) if cell.hugepages)
    return [f"hugepagesz={HUGEPAGE_MIB}M", f"hugepages={pages}"] if pages else []
