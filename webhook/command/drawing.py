"""A machine as a picture in the terminal: sockets, NUMA nodes, L3 caches, cores, and the pods on them.

Every CPU is one character; the threads of a core stand together, a bar parts the cores of two L3 caches. A pod's own
CPUs are its capital letter, its shared pool the small one, so that the picture reads without colour too::

    NUMA node 0   8 CPUs   16 GiB
      0-3,8-11   ## AA AA aa

The layout is worked out for the width at hand: small NUMA nodes share lines, large ones take several.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from shared.cpuset import EMPTY, CpuSet
from shared.quantity import text as quantity_text
from shared.topology import Machine, MemoryKind, NumaNode
from webhook.command.output import count, size
from webhook.printable import printable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZΓΔΘΛΞΠΣΦΨΩБДЖИЛЦЧШЩЭЮЯ"
"""One per pod; only letters whose capital and small forms differ and look like no other. Further pods share ``*``."""

COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "red", "bright_cyan", "bright_green", "bright_magenta")
OTHER = ("*", "+")
FREE, ASCII_FREE = "·", "."

MANY_NODES = 9
"""From here on NUMA nodes that fit one line are listed as lines, without a heading each."""
LONGEST_LABEL = 23
_CUT = ",…"
_FRAME = 4
DISTANCES_OF = 16
"""Most NUMA nodes whose distances are printed as a matrix."""


@dataclass(frozen=True, slots=True)
class Bubble:
    """One pod on the machine."""

    label: str
    """How the legend calls it: ``default/web``."""
    containers: Mapping[str, CpuSet]
    """What each container may run on."""
    pool: CpuSet = EMPTY
    """The pod shared pool."""
    owns: bool = True
    """False for a pod in the node shared pool, which owns no CPU: it gets a line in the legend, and no letter."""

    @property
    def slices(self) -> CpuSet:
        """The CPUs that one container has for itself."""
        union = EMPTY
        for cpus in self.containers.values():
            union |= cpus
        return union - self.pool


@dataclass(frozen=True, slots=True)
class _Glyph:
    char: str
    style: str


_RESERVED = _Glyph("#", "bold bright_black")
_ISOLATED = _Glyph("!", "bright_yellow")


@dataclass(frozen=True)
class Drawing:
    """A picture that lays itself out when rich asks for it."""

    machine: Machine
    bubbles: Sequence[Bubble] = field(default=())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, sockets with their NUMA nodes, what has no CPUs, distances, legend."""
        glyphs = _glyphs(self.machine, self.bubbles, ascii_only=options.ascii_only)
        painter = _Painter(self.machine, glyphs, options.max_width, "|" if options.ascii_only else "│")
        yield from _title(self.machine)
        yield from painter.sockets()
        yield from _without_cpus(self.machine)
        yield from _distances(self.machine, options.max_width)
        yield Text()
        yield from _legend(self.machine, self.bubbles, glyphs)
        if painter.bars:
            yield _entry(_Glyph(painter.bar, "dim"), "between the cores of two L3 caches")


def draw(machine: Machine, bubbles: Sequence[Bubble] = ()) -> RenderableType:
    """The machine, and the pods on it, as something that rich prints."""
    return Drawing(machine, tuple(bubbles))


# --- what each CPU looks like -----------------------------------------------------------------------------------------


def _letter(place: int) -> tuple[_Glyph, _Glyph]:
    """The glyphs of a pod's slices and of its pool, by the pod's place among those that own CPUs."""
    colour = COLOURS[place % len(COLOURS)]
    capital, small = (LETTERS[place], LETTERS[place].lower()) if place < len(LETTERS) else OTHER
    return _Glyph(capital, f"bold reverse {colour}"), _Glyph(small, f"bold {colour}")


def _glyphs(machine: Machine, bubbles: Sequence[Bubble], *, ascii_only: bool) -> dict[int, _Glyph]:
    """Every online CPU's glyph; a pod's claim goes before what the CPU is otherwise."""
    glyphs = dict.fromkeys(machine.online, _Glyph(ASCII_FREE if ascii_only else FREE, "dim"))
    glyphs.update(dict.fromkeys(machine.isolated & machine.online, _ISOLATED))
    glyphs.update(dict.fromkeys(machine.reserved & machine.online, _RESERVED))
    for place, bubble in enumerate(each for each in bubbles if each.owns):
        own, shared = _letter(place)
        glyphs.update(dict.fromkeys(bubble.slices, own))
        glyphs.update(dict.fromkeys(bubble.pool, shared))
    return glyphs


# --- sockets and NUMA nodes -------------------------------------------------------------------------------------------

_Cores = list[CpuSet]
_Row = list[_Cores]
"""The cores of one line, grouped by L3 cache."""


class _Painter:
    """Lays out the NUMA nodes with CPUs for one width, alike all over the machine."""

    def __init__(self, machine: Machine, glyphs: Mapping[int, _Glyph], width: int, bar: str) -> None:
        self._machine = machine
        self._glyphs = glyphs
        self._width = width
        self.bar = bar
        self._nodes = [node for node in machine.numa_nodes if node.cpus]
        self._homeless = machine.online - _union([[node.cpus for node in self._nodes]])
        blocks = [node.cpus for node in self._nodes] + ([self._homeless] if self._homeless else [])
        self._groups = {cpus: _groups(machine, cpus) for cpus in blocks}
        self._rows, self._label = _even_layout(self._groups, width - _FRAME)

    @property
    def bars(self) -> bool:
        """Whether the picture has bars between caches."""
        return any(len(row) > 1 for rows in self._rows.values() for row in rows)

    def sockets(self) -> Iterator[RenderableType]:
        """A frame per socket; where NUMA nodes and sockets do not nest (some old machines) the nodes stand alone."""
        inside = {package.id: [n for n in self._nodes if n.cpus <= package.cpus] for package in self._machine.packages}
        if all(inside.values()) and sum(map(len, inside.values())) == len(self._nodes):
            for number, nodes in inside.items():
                yield self._socket(number, nodes)
        else:
            yield from self._drawn(self._nodes, self._width)
        if self._homeless:
            told = f"   {count(len(self._homeless), 'CPU')}"
            yield Text("CPUs of no NUMA node", style="bold").append(told, "not bold")
            yield from self._block(self._homeless)

    def _socket(self, number: int, nodes: Sequence[NumaNode]) -> Panel:
        """A frame; the heading of an only NUMA node becomes part of the frame's, where it has room."""
        title = Text(f"socket {number}", style="bold")
        lines = list(self._drawn(nodes, self._width - _FRAME))
        together = Text.assemble(title, ": ", lines[0])
        if len(nodes) == 1 and len(together) <= self._width - 2 * _FRAME:
            title, lines = together, lines[1:]
        return Panel(Group(*lines), title=title, title_align="left", width=self._width, border_style="dim")

    def _drawn(self, nodes: Sequence[NumaNode], width: int) -> Iterator[Text]:
        lines = [self._line(node) for node in nodes]
        if len(self._nodes) >= MANY_NODES and all(line.fits(width) for line in lines):
            yield from _columns(lines, width)
            return
        for node in nodes:
            yield _heading(node)
            yield from self._block(node.cpus)

    def _line(self, node: NumaNode) -> _Line:
        return _Line(f"node {node.id}", size(node.memory), _short(node.cpus), self._cells(self._groups[node.cpus]))

    def _block(self, cpus: CpuSet) -> Iterator[Text]:
        """Lines of cores, each led by its CPU list; the whole list below where one had to be cut."""
        cut = False
        for row in self._rows[cpus]:
            label = _short(_union(row))
            cut = cut or label.endswith(_CUT)
            yield Text(f"  {label:<{self._label}}   ", no_wrap=True).append_text(self._cells(row))
        if cut:
            told = f"CPUs {cpus}".replace(",", ", ")
            yield from (Text(f"  {line}", style="dim") for line in textwrap.wrap(told, self._width - _FRAME - 2))

    def _cells(self, row: _Row) -> Text:
        text = Text(no_wrap=True)
        for place, group in enumerate(row):
            if place:
                text.append(f" {self.bar} ", "dim")
            for number, core in enumerate(group):
                text.append(" " if number else "")
                for glyph, alike in groupby(self._glyphs[cpu] for cpu in core):
                    text.append(glyph.char * len(list(alike)), glyph.style)
        return text


def _groups(machine: Machine, cpus: CpuSet) -> _Row:
    """The cores among these CPUs, by L3 cache; one group where caches are unknown or smaller than a core."""
    cores = [core & cpus for core in machine.cores if core & cpus]
    caches = [cache & cpus for cache in machine.uncore_caches if cache & cpus]
    if any(not core <= cache and not core.isdisjoint(cache) for cache in caches for core in cores):
        caches = []
    left = cpus - _union([caches])
    groups = [[core for core in cores if core <= part] for part in [*caches, left]]
    return [group for group in groups if group]


def _even_layout(blocks: Mapping[CpuSet, _Row], width: int) -> tuple[dict[CpuSet, list[_Row]], int]:
    """The widest layout that fits, with the same number of cores a line everywhere, and the width of its labels."""
    for cores in range(max(1, width // 2), 0, -1):
        rows = {cpus: _layout(groups, cores) for cpus, groups in blocks.items()}
        lines = [row for block in rows.values() for row in block]
        label = max(len(_short(_union(row))) for row in lines)
        if 5 + label + max(_row_width(row) for row in lines) <= width:
            break
    return rows, label


@dataclass(frozen=True, slots=True)
class _Line:
    """A NUMA node on one line."""

    name: str
    memory: str
    label: str
    cells: Text

    def fits(self, width: int) -> bool:
        return len(self.name) + len(self.memory) + len(self.label) + len(self.cells) + 6 <= width


def _columns(lines: Sequence[_Line], width: int) -> Iterator[Text]:
    """Lines side by side, filled downwards, parts under each other."""
    name, memory, label, cells = (
        max(len(getattr(line, part)) for line in lines) for part in ("name", "memory", "label", "cells")
    )
    across = max(1, (width + 4) // (name + memory + label + cells + 6 + 4))
    down = -(-len(lines) // across)
    for row in range(down):
        text = Text(no_wrap=True)
        for line in lines[row::down]:
            text.append("    " if len(text) else "")
            text.append(f"{line.name:<{name}}", "bold").append(f"  {line.memory:>{memory}}  {line.label:<{label}}  ")
            text.append_text(line.cells).append(" " * (cells - len(line.cells)))
        text.rstrip()
        yield text


def _heading(node: NumaNode) -> Text:
    kind = "" if node.kind is MemoryKind.DRAM else f" {node.kind.value}"
    parts = [count(len(node.cpus), "CPU"), f"{size(node.memory)}{kind}"]
    parts += [f"{pages:,} pages of {quantity_text('memory', each)}" for each, pages in node.hugepages.items() if pages]
    parts += [f"{pieces} {name}" for name, pieces in node.devices.items() if pieces]
    return Text(f"NUMA node {node.id}", style="bold").append("   " + "   ".join(parts), "not bold")


def _layout(groups: _Row, cores: int) -> list[_Row]:
    """Lines of at most so many cores: whole groups together, a larger group in even parts of its own."""
    rows: list[_Row] = []
    room = 0
    for group in groups:
        if len(group) <= room:
            rows[-1].append(group)
            room -= len(group)
            continue
        parts = -(-len(group) // cores)
        step = -(-len(group) // parts)
        rows += [[group[start : start + step]] for start in range(0, len(group), step)]
        room = cores - len(group) if parts == 1 else 0
    return rows


def _row_width(row: _Row) -> int:
    return sum(sum(len(core) + 1 for core in group) - 1 for group in row) + 3 * (len(row) - 1)


def _union(row: Iterable[Iterable[CpuSet]]) -> CpuSet:
    union = EMPTY
    for group in row:
        for core in group:
            union |= core
    return union


def _short(cpus: CpuSet) -> str:
    """A CPU list, cut after a comma when it is too long to lead a line."""
    full = str(cpus)
    if len(full) <= LONGEST_LABEL:
        return full
    return full[: full.rindex(",", 0, LONGEST_LABEL)] + _CUT


# --- around the picture -----------------------------------------------------------------------------------------------


def _title(machine: Machine) -> Iterator[Text]:
    title = f"   {printable(machine.title)}" if machine.title else ""
    yield Text(printable(machine.name), style="bold").append(title, "not bold")
    memories = [node.memory for node in machine.numa_nodes if node.kind is not MemoryKind.GPU]
    known = [memory for memory in memories if memory is not None]
    parts = [
        f"{count(len(machine.online), 'CPU')} in {count(len(machine.cores), 'core')}",
        count(len(machine.packages), "socket"),
        count(len(machine.numa_nodes), "NUMA node"),
        count(len(machine.uncore_caches), "L3 cache") if machine.uncore_caches else "no L3 cache shown",
        f"{size(sum(known))} of memory" if known else "memory unknown",
    ]
    yield Text(", ".join(parts))


def _without_cpus(machine: Machine) -> Iterator[Text]:
    """Memory-only nodes, one line for all that are alike; then the empty ones."""
    alike: dict[tuple[MemoryKind, int | None], list[int]] = {}
    for node in machine.numa_nodes:
        if not node.cpus:
            alike.setdefault((node.kind, node.memory), []).append(node.id)
    for (kind, memory), ids in alike.items():
        name = f"NUMA {'node' if len(ids) == 1 else 'nodes'} {CpuSet.of(ids)}"
        if kind is MemoryKind.EMPTY:
            told = "neither CPUs nor memory"
        else:
            told = f"no CPUs   {size(memory)}{' each' if len(ids) > 1 else ''} of {_KINDS[kind]}"
        yield Text(name, style="bold").append(f"   {told}", "not bold")


_KINDS = {
    MemoryKind.DRAM: "memory",
    MemoryKind.HBM: "high-bandwidth memory",
    MemoryKind.CXL: "CXL memory",
    MemoryKind.PMEM: "persistent memory",
    MemoryKind.GPU: "GPU memory, never for pods",
}


def _distances(machine: Machine, width: int) -> Iterator[Text]:
    """A matrix; one line where there is nothing to tell apart, or too much to read."""
    nodes = [node.id for node in machine.numa_nodes if node.kind is not MemoryKind.EMPTY]
    if len(nodes) < 2:
        return
    rows = [[machine.distance(a, b) for b in nodes] for a in nodes]
    others = {value for a, row in enumerate(rows) for b, value in enumerate(row) if a != b}
    if len(nodes) > DISTANCES_OF or len(others) == 1 or 9 + 5 * len(nodes) > width:
        span = f"{min(others)} to {max(others)}" if len(others) > 1 else f"{min(others)}"
        yield Text("distance between NUMA nodes", style="bold").append(f"   {span}", "not bold")
        return
    yield Text("distances", style="bold").append("".join(f" {node:>4}" for node in nodes), "not bold dim")
    for node, row in zip(nodes, rows, strict=True):
        yield Text(f"{node:>9}", style="dim").append("".join(f" {value:>4}" for value in row), "not dim")


def _legend(machine: Machine, bubbles: Sequence[Bubble], glyphs: Mapping[int, _Glyph]) -> Iterator[RenderableType]:
    """What each character means; a pod's letter with what its containers run on."""
    for place, bubble in enumerate(bubble for bubble in bubbles if bubble.owns):
        yield from _pod(bubble, *_letter(place))
    for bubble in bubbles:
        if not bubble.owns:
            yield _entry(_Glyph("~", "dim"), f"{bubble.label}, in the node shared pool: {_alike(bubble.containers)}")
    free = {cpu: glyph for cpu, glyph in glyphs.items() if glyph.char in (FREE, ASCII_FREE)}
    if free:
        what = "node shared pool" if bubbles else "a CPU, the threads of a core side by side"
        yield _entry(next(iter(free.values())), f"{what}: {CpuSet.of(free)}")
    for glyph, name, cpus in (
        (_RESERVED, "reserved for the system", machine.reserved),
        (_ISOLATED, "isolated by the kernel", machine.isolated),
        (_Glyph("x", "dim red"), "offline, so not drawn", machine.cpus - machine.online),
    ):
        if cpus:
            yield _entry(glyph, f"{name}: {cpus}")


def _pod(bubble: Bubble, own: _Glyph, shared: _Glyph) -> Iterator[Text]:
    slices = {name: cpus for name, cpus in bubble.containers.items() if cpus and cpus.isdisjoint(bubble.pool)}
    sharing = [name for name, cpus in bubble.containers.items() if not cpus.isdisjoint(bubble.pool)]
    yield _entry(own, f"{bubble.label}: {_together(slices) or 'no exclusive CPUs'}")
    if bubble.pool:
        yield _entry(shared, f"  shared by {', '.join(sharing) or 'nobody yet'}: {bubble.pool}")


def _alike(containers: Mapping[str, CpuSet]) -> str:
    """One CPU list where all containers have the same."""
    distinct = set(containers.values())
    return str(distinct.pop()) if len(distinct) == 1 else _together(containers)


def _together(containers: Mapping[str, CpuSet]) -> str:
    return "; ".join(f"{name} {cpus}" for name, cpus in containers.items())


def _entry(glyph: _Glyph, told: str) -> Text:
    return Text(glyph.char, style=glyph.style).append(f"  {printable(told)}", "not reverse not bold not dim default")
