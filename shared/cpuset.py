"""Sets of CPUs, in the kernel's own notation.

A CPU here is a *logical* CPU: one SMT thread, as numbered by the kernel. The text form is the kernel's list format
(``"0-3,8"``, Documentation/admin-guide/cputopology.rst), ``""`` for the empty set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.errors import InputError

MAX_CPU = 65_535
"""Highest CPU number read from text. The kernel's own limit (NR_CPUS) is 8,192 on x86; the bound keeps a hostile
``"0-99999999999"`` from becoming a gigabyte of bits."""


class CpuSet:
    """An immutable set of CPU numbers, held as one integer with a bit per CPU."""

    __slots__ = ("mask",)

    mask: int

    def __init__(self, mask: int = 0) -> None:
        object.__setattr__(self, "mask", mask)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a CpuSet does not change")

    def __reduce__(self) -> tuple[type[CpuSet], tuple[int]]:
        return CpuSet, (self.mask,)

    @classmethod
    def of(cls, cpus: Iterable[int]) -> CpuSet:
        """The set of the given CPU numbers."""
        mask = 0
        for cpu in cpus:
            mask |= 1 << cpu
        return cls(mask)

    @classmethod
    def parse(cls, text: str) -> CpuSet:
        """Read the kernel's list format. Raises InputError for anything else."""
        mask = 0
        for part in text.strip().split(","):
            part = part.strip()
            if not part:
                if text.strip():
                    raise InputError(f"{text!r} is not a CPU list; write it as 0-3,8")
                continue
            low, dash, high = part.partition("-")
            if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
                raise InputError(f"{text!r} is not a CPU list; write it as 0-3,8")
            first, last = _number(low), _number(high if dash else low)
            if first > last or last > MAX_CPU:
                raise InputError(f"{text!r} is not a CPU list: {part} is not a range of CPUs up to {MAX_CPU}")
            mask |= ((1 << (last - first + 1)) - 1) << first
        return cls(mask)

    def __str__(self) -> str:
        return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in self._runs())

    def __repr__(self) -> str:
        return f"CpuSet({str(self)!r})"

    def _runs(self) -> Iterator[tuple[int, int]]:
        mask, base = self.mask, 0
        while mask:
            skip = (mask & -mask).bit_length() - 1
            mask >>= skip
            base += skip
            length = (~mask & (mask + 1)).bit_length() - 1
            yield base, base + length - 1
            mask >>= length
            base += length

    def __iter__(self) -> Iterator[int]:
        for first, last in self._runs():
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, cpu: int) -> bool:
        return cpu >= 0 and bool(self.mask >> cpu & 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CpuSet) and self.mask == other.mask

    def __hash__(self) -> int:
        return hash(self.mask)

    def __and__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self.mask & other.mask)

    def __or__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self.mask | other.mask)

    def __sub__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self.mask & ~other.mask)

    def __le__(self, other: CpuSet) -> bool:
        """Whether this is a subset of the other."""
        return not self.mask & ~other.mask

    def isdisjoint(self, other: CpuSet) -> bool:
        """Whether the two share no CPU."""
        return not self.mask & other.mask


def _number(digits: str) -> int:
    """A CPU number; one too many for anything beyond the highest, however many digits it has."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= len(str(MAX_CPU)) else MAX_CPU + 1


EMPTY = CpuSet()
