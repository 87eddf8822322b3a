"""What the kernel says of a process (proc(5)): memory, wake-ups, processor time; here, or in a shell of its machine."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """A process at one moment."""

    at: float
    """Seconds, by its machine's clock since boot."""
    resident: float
    """MiB in memory, shared pages included (RSS)."""
    proportional: float
    """MiB in memory, of a page that n processes share the n-th part (PSS)."""
    wakes: int
    """Times that one of its threads began to wait."""
    processor: float
    """Milliseconds that its threads have run; those of threads that ended are not in it."""
    kernel: float
    """Milliseconds of it in the kernel, to ten or so; those of threads that ended are in it."""


def script(pid: int) -> str:
    """A shell's script that prints what :func:`parse` reads."""
    proc = f"/proc/{pid}"
    return f"""
        sed 's/^/at /' /proc/uptime
        grep -E '^(Rss|Pss):' {proc}/smaps_rollup
        grep -sh '^voluntary_ctxt_switches:' {proc}/task/*/status
        echo "ticks $(sed 's/.*) //' {proc}/stat | cut -d' ' -f13) $(getconf CLK_TCK)"
        sed 's/^/ran /' {proc}/task/*/schedstat 2>/dev/null
        true"""


def parse(text: str) -> Reading:
    """What that script printed. Raises ValueError where the process had gone."""
    found: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        name, value, *more = line.split()
        found[name.rstrip(":")] += float(value) / float(more[0]) if name == "ticks" else float(value)
    if missing := {"at", "Rss", "Pss", "voluntary_ctxt_switches", "ticks", "ran"} - found.keys():
        raise ValueError(f"the kernel tells no {', '.join(sorted(missing))} of the process; has it ended?")
    return Reading(
        at=found["at"],
        resident=found["Rss"] / 1024,
        proportional=found["Pss"] / 1024,
        wakes=int(found["voluntary_ctxt_switches"]),
        processor=found["ran"] / 1e6,
        kernel=1000 * found["ticks"],
    )


def read(pid: int, shell: Callable[[str], str] | None = None) -> Reading:
    """The process now; with a shell, one of that shell's machine."""
    return parse((shell or _here)(script(pid)))


def _here(text: str) -> str:
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout
