"""Kubernetes quantities, exactly.

The grammar, the order of its checks and the error texts are those of ``ParseQuantity`` in
``k8s.io/apimachinery/pkg/api/resource``, odd corners included (``"+"`` and ``"k"`` are zero there). Amounts finer than
1n are rounded up, away from zero. The API server caps binary amounts at 2^63-1; here decimal ones are capped there
too, because whatever counts them later (scheduler, kubelet) holds them in 64 bits.

Everything is held as an integer of *nano-units* (nanocores, nanobytes, 10^-9 pieces), so that sums are exact; a sum is
rounded up once, by :func:`to_whole`, when it leaves the core.
"""

from __future__ import annotations

import re
from functools import lru_cache

from shared.errors import InputError

NANO = 10**9
MAX_WHOLE = 2**63 - 1
MAX_AMOUNT = MAX_WHOLE * NANO

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
NUMERIC_ERROR = "unable to parse numeric part of quantity"
SUFFIX_ERROR = "unable to parse quantity's suffix"

MAX_LENGTH = 256
"""Longest text read. The API server sets no limit of its own; nobody writes such a quantity, and arithmetic on a
million digits would hold up every other request."""

_QUANTITY = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_SUFFIXES = {
    "": (10, 0), "n": (10, -9), "u": (10, -6), "m": (10, -3), "k": (10, 3), "M": (10, 6), "G": (10, 9), "T": (10, 12),
    "P": (10, 15), "E": (10, 18), "Ki": (2, 10), "Mi": (2, 20), "Gi": (2, 30), "Ti": (2, 40), "Pi": (2, 50),
    "Ei": (2, 60),
}  # fmt: skip
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_JSON_SPACES = " \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What is trimmed around a quantity in JSON: Unicode's spaces, less those that JSON carries only as an escape."""

_EXPONENT_LIMIT = 2 * MAX_LENGTH
"""Beyond it the outcome is the cap, or the smallest amount, whatever the digits: no need to compute the power."""


@lru_cache(maxsize=4096)
def parse(text: str) -> int:
    """The quantity in nano-units. Raises InputError with the API server's own words."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"a quantity of {len(text)} characters is longer than the {MAX_LENGTH} that are read")
    match = _QUANTITY.fullmatch(text)
    if match is None or text == "":
        raise InputError(FORMAT_ERROR)
    sign, whole, fraction, suffix = match.group(1), match.group(2), match.group(3) or "", match.group(4)
    base, exponent = _scale(suffix)
    if not whole and not fraction:
        return _no_digits(suffix, exponent)
    amount = _scaled(int(whole + fraction), len(fraction), base, exponent)
    return -amount if sign == "-" else amount


def _scale(suffix: str) -> tuple[int, int]:
    known = _SUFFIXES.get(suffix)
    if known is not None:
        return known
    match = _EXPONENT.fullmatch(suffix)
    if match is None or not -(2**63) <= int(match.group(1)) < 2**63:
        raise InputError(SUFFIX_ERROR)
    exponent = (int(match.group(1)) + 2**31) % 2**32 - 2**31  # read as 64 bits, kept in 32 there
    return 10, max(-_EXPONENT_LIMIT, min(_EXPONENT_LIMIT, exponent))


def _no_digits(suffix: str, exponent: int) -> int:
    """Zero where the API server's fast path takes it, an error where its exact arithmetic has to read the digits."""
    if suffix in ("Pi", "Ei") or exponent < -9:
        raise InputError(NUMERIC_ERROR)
    return 0


def _scaled(digits: int, decimals: int, base: int, exponent: int) -> int:
    """digits x base^exponent / 10^decimals in nano-units, rounded up, capped."""
    numerator, denominator = digits * NANO, 10**decimals
    if exponent >= 0:
        numerator *= int(base**exponent)
    else:
        denominator *= int(base**-exponent)
    return min(MAX_AMOUNT, int(-(-numerator // denominator)))


def from_json(value: object) -> int:
    """A quantity as JSON carries it: text (spaces around it are passed over), a number, or ``null``, which is zero.

    As ``Quantity.UnmarshalJSON`` has it. Raises InputError for anything else.
    """
    if value is None:
        return 0
    if isinstance(value, str):
        return parse(value.strip(_JSON_SPACES))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(FORMAT_ERROR)
    if isinstance(value, int):
        return max(-MAX_AMOUNT, min(MAX_AMOUNT, value * NANO))
    return parse(repr(value))


def to_whole(resource: str, nanos: int) -> int:
    """Millicores of ``cpu``, whole units of anything else; rounded up, and capped at 2^63-1."""
    return min(MAX_WHOLE, -(-nanos // (10**6 if resource == "cpu" else NANO)))


def from_whole(resource: str, amount: int) -> int:
    """The nano-units of an amount that :func:`to_whole` gave."""
    return amount * (10**6 if resource == "cpu" else NANO)


_BINARY = ((2**60, "Ei"), (2**50, "Pi"), (2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki"))


def text(resource: str, amount: int) -> str:
    """How a manifest would say an amount that :func:`to_whole` gave: ``2``, ``2500m``, ``6Gi``."""
    if resource == "cpu":
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if _in_bytes(resource):
        for size, suffix in _BINARY:
            if amount and amount % size == 0:
                return f"{amount // size}{suffix}"
    return str(amount)


def spoken(resource: str, amount: int, beside: int | None = None) -> str:
    """How a sentence would say it, to three decimals: ``500m CPU``, ``2.5 CPUs``, ``6.13 GiB``, ``8 nvidia.com/gpu``.

    ``beside`` is the amount of the same resource that the sentence sets against this one. Where rounding would make two
    different amounts read the same, both are said to the last byte.
    """
    words = _rounded(resource, amount)
    if beside is None or beside == amount or words != _rounded(resource, beside):
        return words
    size, suffix = next((s for s in _BINARY if amount % s[0] == 0 and beside % s[0] == 0), (1, ""))
    return f"{amount // size} {suffix}B{_label(resource)}"


def _rounded(resource: str, amount: int) -> str:
    if resource == "cpu":
        if 0 < amount < 1000:
            return f"{amount}m CPU"
        return "1 CPU" if amount == 1000 else f"{_decimal(amount)} CPUs"
    if not _in_bytes(resource):
        return f"{amount} {resource}"
    for size, suffix in _BINARY:
        thousandths = (amount * 1000 + size // 2) // size
        if thousandths >= 1000:
            return f"{_decimal(thousandths)} {suffix}B{_label(resource)}"
    return f"{amount} B{_label(resource)}"


def _in_bytes(resource: str) -> bool:
    return resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-")


def _label(resource: str) -> str:
    return "" if resource == "memory" else f" of {resource}"


def _decimal(thousandths: int) -> str:
    whole, rest = divmod(thousandths, 1000)
    return f"{whole}.{rest:03}".rstrip("0").rstrip(".")
