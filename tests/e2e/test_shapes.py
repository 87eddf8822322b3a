"""Shapes of the lab's machines, and the command line that QEMU is given for them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from e2e.lab.errors import LabError
from e2e.lab.node import Accelerator, Machine, accelerator, qemu_arguments
from e2e.lab.shapes import CATALOGUE, Cell, Shape, kernel_arguments, machine_arguments, named, parse

SAME = ((10, 20), (20, 10))


def shape(*cells: Cell, sockets: int = 1, threads: int = 1, distances: tuple[tuple[int, ...], ...] = SAME) -> Shape:
    """A shape that was not read from the catalogue."""
    return Shape("mine", "", sockets, threads, cells, distances)


def after(arguments: list[str], option: str) -> list[str]:
    """The values of an option, in order."""
    return [value for name, value in pairwise(arguments) if name == option]


def machine(of: Shape, **changed: object) -> Machine:
    """A machine of that shape in a folder called /run."""
    run = Path("/run")
    fields: dict[str, object] = {"kernel": run / "k", "initrd": run / "i", "disk": run / "d"}
    fields |= {"settings": run / "s", "images": run / "m"}
    return Machine(shape=of, number=2, name="n", sockets=run, **{**fields, **changed})  # type: ignore[arg-type]


def test_every_shape_of_the_catalogue_is_possible_and_told_apart() -> None:
    shapes = parse(CATALOGUE.read_text(encoding="utf-8"))
    assert set(shapes) >= {"2x4", "4x4", "2x4-smt2", "2x4-memory-only"}
    assert len({one.about for one in shapes.values()}) == len(shapes)


@pytest.mark.parametrize(
    ("name", "cpus", "nodes"),
    [
        ("2x4", 8, [range(4), range(4, 8)]),
        ("4x4", 16, [range(4), range(4, 8), range(8, 12), range(12, 16)]),
        ("2x4-smt2", 8, [range(4), range(4, 8)]),
        ("2x4-memory-only", 8, [range(4), range(4, 8), range(8, 8)]),
    ],
)
def test_a_shape_says_which_cpus_each_numa_node_has(name: str, cpus: int, nodes: list[range]) -> None:
    found = named(name)
    assert found.cpus == cpus
    assert [found.cpus_of(number) for number in range(len(found.cells))] == nodes


def test_a_machine_with_a_memory_only_node_in_qemus_words() -> None:
    assert machine_arguments(shape(Cell(2, 512), Cell(0, 256), threads=2)) == [
        *("-smp", "cpus=4,sockets=1,cores=2,threads=2", "-m", "768M"),
        *("-object", "memory-backend-ram,id=mem0,size=512M", "-numa", "node,nodeid=0,memdev=mem0,cpus=0-3"),
        *("-object", "memory-backend-ram,id=mem1,size=256M", "-numa", "node,nodeid=1,memdev=mem1"),
        *("-numa", "dist,src=0,dst=1,val=20", "-numa", "dist,src=1,dst=0,val=20"),
    ]


def test_huge_pages_are_set_aside_on_their_numa_node_by_the_kernels_command_line() -> None:
    assert kernel_arguments(shape(Cell(1, 512), Cell(1, 512, hugepages=8))) == ["hugepagesz=2M", "hugepages=1:8"]
    assert kernel_arguments(shape(Cell(1, 512), Cell(1, 512))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"cells": (Cell(3, 512), Cell(2, 512)), "sockets": 2},
            "5 cores cannot be dealt out evenly to 2 sockets; change either number",
        ),
        ({"cells": (Cell(1, 512), Cell(1, 512)), "threads": 4}, "4 threads per core; the emulated CPU knows 1 and 2"),
        (
            {"cells": (Cell(0, 512), Cell(2, 512))},
            "NUMA node 0 has no cores; put the memory-only node last",
        ),
        (
            {"cells": (Cell(1, 512), Cell(1, 512)), "distances": ((10, 20),)},
            "distances need 2 rows of 2 numbers",
        ),
        (
            {"cells": (Cell(1, 512), Cell(1, 512)), "distances": ((10, 20), (20, 11))},
            "a NUMA node's distance to itself must be 10 (ACPI)",
        ),
        (
            {"cells": (Cell(1, 512), Cell(1, 512, hugepages=200))},
            "huge pages take more than half of a NUMA node's memory; the node would not boot",
        ),
    ],
)
def test_an_impossible_shape_is_refused_in_one_sentence(wrong: dict[str, object], said: str) -> None:
    cells = wrong.pop("cells")
    with pytest.raises(LabError) as refused:
        shape(*cells, **wrong)  # type: ignore[misc,arg-type]
    assert str(refused.value) == f'shape "mine" in shapes.toml: {said}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[x]\nsize = 1\nabout = ""', 'shape "x" in shapes.toml: "size" is no field; the head of the file lists them'),
        (
            '[x]\nabout = ""\nsockets = 1',
            "shape \"x\" in shapes.toml is incomplete ('node'); the head of the file lists the fields",
        ),
    ],
)
def test_a_catalogue_with_a_mistake_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(LabError) as refused:
        parse(text)
    assert str(refused.value) == said


def test_a_shape_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(LabError) as refused:
        named("9x9")
    assert str(refused.value).startswith('the lab has no shape "9x9"; it has 2x4, 2x8, 4x4, ')


def test_a_booting_machine_is_emulated_in_software_with_a_network_and_consoles_of_its_own() -> None:
    arguments = qemu_arguments(machine(named("2x4")))
    assert after(arguments, "-accel") == ["tcg,thread=multi"]
    assert after(arguments, "-cpu") == ["Westmere"]
    assert after(arguments, "-nic") == [
        "tap,model=virtio-net-pci,mac=52:54:00:00:00:02,ifname=node2,script=no,downscript=no"
    ]
    assert after(arguments, "-qmp") == ["unix:/run/monitor.sock,server=on,wait=off"]
    settings, images = after(arguments, "-drive")[1:]  # the guest calls them vdb and vdc, and writes to neither
    assert settings == "if=none,id=settings,file=/run/s,format=raw,readonly=on"
    assert images == "if=none,id=images,file=/run/m,format=raw,readonly=on"
    assert "systemd.unit=lab.target" in after(arguments, "-append")[0].split()
    assert "-loadvm" not in arguments


def test_a_machine_that_goes_on_from_a_snapshot_is_the_same_but_for_that() -> None:
    booting, woken = (qemu_arguments(machine(named("4x4"), snapshot=name)) for name in ("", "ready"))
    assert woken == [*booting, "-loadvm", "ready"]


def test_kvm_is_taken_only_where_the_cpu_has_it() -> None:
    assert accelerator("processor: 0\nflags\t\t: fpu sse hypervisor\n") is Accelerator.TCG
    assert after(qemu_arguments(machine(named("2x4"), accelerator=Accelerator.KVM)), "-cpu") == ["host"]
