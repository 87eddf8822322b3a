"""What processes hold of the machine, as the kernel says it: memory, open files, threads, processor time.

A shell script prints files of ``/proc`` as they are, here or inside of a node; the rest is parsing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KIBIBYTES_IN_MIB = 1024

COLLECT = r"""
for pid in PIDS; do
  echo "process $pid"
  grep -sE '^(VmRSS|RssAnon|Threads):' /proc/$pid/status
  ls -l /proc/$pid/fd 2>/dev/null | sed -n 's/.* -> //p' | sed 's/^socket:.*/Socket/; t; s/.*/File/' | sort | uniq -c
  echo "Stat: $(cat /proc/$pid/stat 2>/dev/null)"
done
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One process at one moment."""

    resident: float
    """MiB, ``VmRSS``."""
    anonymous: float
    """MiB, ``RssAnon``: what of it is no file's. (``Pss`` would count a file's pages in parts, and so grow when others
    that use the file end.)"""
    files: int
    """Open descriptors but those of sockets."""
    sockets: int
    threads: int
    seconds: float
    """Of processor time since it began."""
    began: int
    """Ticks of the kernel: another process of the same id has another."""

    @property
    def quantities(self) -> dict[str, float]:
        """As samples, by name and unit."""
        return {
            "resident, MiB": self.resident,
            "anonymous, MiB": self.anonymous,
            "open files": self.files,
            "sockets": self.sockets,
            "threads": self.threads,
        }


def script(pids: Iterable[int]) -> str:
    """Prints what ``read`` understands."""
    return COLLECT.replace("PIDS", " ".join(map(str, pids)))


def read(text: str, ticks: int = os.sysconf("SC_CLK_TCK")) -> Mapping[int, Footprint]:
    """By process id, what the script printed; a process that has ended is left out. ``ticks`` are those of a second."""
    found: dict[int, Footprint] = {}
    for part in text.split("process ")[1:]:
        pid, *lines = part.splitlines()
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        counts = {words[1]: int(words[0]) for line in lines if len(words := line.split()) == 2 and words[0].isdigit()}
        # The name, in brackets, may hold anything. What follows is counted from the third field of proc_pid_stat(5).
        stat = fields.get("Stat", "").rpartition(")")[2].split()
        if not stat or "RssAnon" not in fields:
            continue
        found[int(pid)] = Footprint(
            resident=int(fields["VmRSS"].split()[0]) / KIBIBYTES_IN_MIB,
            anonymous=int(fields["RssAnon"].split()[0]) / KIBIBYTES_IN_MIB,
            files=counts.get("File", 0),
            sockets=counts.get("Socket", 0),
            threads=int(fields["Threads"]),
            seconds=(int(stat[11]) + int(stat[12])) / ticks,
            began=int(stat[19]),
        )
    return found
