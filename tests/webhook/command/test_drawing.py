"""The picture: the whole of it for three machines, and what must hold for every machine at every width."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shared import catalogue
from shared.cpuset import CpuSet
from shared.sysfs import read_machine
from shared.topology import Machine
from tests.support.data import MACHINES_WITH_ORACLE, unpack_dump
from tests.support.golden import check_golden
from webhook.command.drawing import LETTERS, Bubble, draw

P = CpuSet.parse


def drawn(machine: Machine, bubbles: tuple[Bubble, ...] = (), width: int = 80, *, colour: bool = False) -> str:
    file = io.StringIO()
    system = "standard" if colour else None
    console = Console(file=file, width=width, color_system=system, force_terminal=colour, highlight=False)  # type: ignore[arg-type]
    console.print(draw(machine, bubbles))
    return file.getvalue()


def with_reserved(name: str, cpus: str) -> Machine:
    return replace(catalogue.machine(name), reserved=P(cpus))


WEB = Bubble(
    "default/web",
    {"app": P("8-11,200-203"), "istio-proxy": P("12,204"), "log": P("12,204")},
    P("12,204"),
)
TRAIN = Bubble("ml/train", {"trainer": P("24-39,216-231")})
CACHE = Bubble("default/cache", {"redis": P("2-7,194-199")}, owns=False)
WORKER = Bubble("telco/upf", {"worker": P("2-5,114-117"), "control": P("1,113")}, P("1,113"))


def test_pods_on_a_machine_of_two_sockets_and_eight_nodes() -> None:
    machine = with_reserved("epyc9654-2s-nps4", "0-1,192-193")
    check_golden("drawing/epyc9654-2s-nps4-pods.txt", drawn(machine, (WEB, TRAIN, CACHE), 100))


def test_isolated_and_reserved_cpus_at_eighty_columns() -> None:
    machine = with_reserved("xeon8480-2s-snc4-dpdk", "0,112")
    check_golden("drawing/xeon8480-2s-snc4-dpdk-pod.txt", drawn(machine, (WORKER,)))


def test_many_nodes_without_cpus() -> None:
    check_golden("drawing/gb200-nvl-tray.txt", drawn(catalogue.machine("gb200-nvl-tray")))


@pytest.fixture(scope="module")
def every_machine(dumps: Path) -> list[Machine]:
    real = [read_machine(unpack_dump(name, dumps), name) for name in MACHINES_WITH_ORACLE]
    return [*real, *(catalogue.machine(name) for name in catalogue.names())]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_cpu_of_every_machine_is_drawn_once_within_the_width(width: int, every_machine: list[Machine]) -> None:
    for machine in every_machine:
        lines = drawn(replace(machine, isolated=P("")), width=width).splitlines()
        assert max(map(len, lines)) <= width, machine.name
        picture = "\n".join(lines[: lines.index("")])
        assert picture.count("·") == len(machine.online), machine.name


@pytest.mark.parametrize("name", ["aws-u-24tb1.112xlarge", "gb200-nvl-tray", "epyc9654-2s-l3numa"])
def test_the_largest_machines_take_less_than_fifty_lines(name: str) -> None:
    assert len(drawn(catalogue.machine(name)).splitlines()) < 50


def test_sixty_four_nodes_take_less_than_forty_lines(dumps: Path) -> None:
    assert len(drawn(read_machine(unpack_dump("altix-64n", dumps))).splitlines()) < 40


def test_the_letters_count_each_pods_cpus() -> None:
    picture = drawn(with_reserved("epyc9654-2s-nps4", "0-1,192-193"), (WEB, TRAIN)).split("distances")[0]
    cells = Counter(char for line in picture.splitlines() if line.startswith("│   ") for char in line)
    assert (cells["A"], cells["a"], cells["B"], cells["#"]) == (8, 2, 32, 4)


def test_without_colour_there_is_no_escape_and_with_colour_pods_differ() -> None:
    machine = catalogue.machine("epyc9654-2s-nps4")
    assert "\x1b" not in drawn(machine, (WEB, TRAIN))
    coloured = drawn(machine, (WEB, TRAIN), colour=True)
    styles = [re.findall(rf"\x1b\[([0-9;]+)m{letter}", coloured)[0] for letter in "AaB"]
    assert len(set(styles)) == 3


def test_offline_cpus_are_told() -> None:
    assert "x  offline, so not drawn: 192-383\n" in drawn(catalogue.machine("epyc9654-2s-nps1-nosmt"))


def test_cpus_of_no_numa_node_have_a_place_of_their_own(dumps: Path) -> None:
    picture = drawn(read_machine(unpack_dump("haswell-node0-offline", dumps)))
    assert "CPUs of no NUMA node   9 CPUs\n  4,6,8,10,12,14,16,18,20   · · · · · · · · ·\n" in picture


def test_more_pods_than_letters_share_a_star() -> None:
    pods = tuple(Bubble(f"ns/p{place}", {"app": CpuSet.of([place])}) for place in range(60))
    picture = drawn(catalogue.machine("altramax-m128-2s"), pods)
    assert "*  ns/p59: app 59\n" in picture
    assert picture.count("*") == 2 * (60 - len(LETTERS))


def test_every_letter_has_a_capital_and_a_small_form_of_its_own() -> None:
    both = LETTERS + LETTERS.lower()
    assert len(set(both)) == len(both)
    assert not set(both) & set("·.#!~*+x│|") - {"x"}


def test_a_terminal_of_ascii_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=80, color_system=None).print(draw(catalogue.machine("epyc9654-2s-nps4")))
    file.seek(0)
    assert "| " in file.read()


def test_names_from_a_dump_cannot_reach_the_terminal() -> None:
    machine = replace(catalogue.machine("aws-t3.medium"), name="a\x1b[31mb", title="c\x07d\ne")
    picture = drawn(machine, (Bubble("n\x1b]0;x", {"app": P("0-1")}),))
    assert "\x1b" not in picture
    assert picture.startswith("a?[31mb   c?d?e\n")
