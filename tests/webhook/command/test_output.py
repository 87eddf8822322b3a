"""Sizes, counts and text of others, as people read them."""

from __future__ import annotations

import pytest

from webhook.command.output import count, size
from webhook.printable import printable

SIZES = [
    (None, "?"),
    (0, "0 B"),
    (512, "512 B"),
    (1023, "0.999 KiB"),
    (1024, "1 KiB"),
    (4294967296, "4 GiB"),
    (8257945600, "7.69 GiB"),
    (2199023255552, "2 TiB"),
    (1022 * 2**30, "0.998 TiB"),
    (2**60, "1.02e+03 PiB"),
]


@pytest.mark.parametrize(("amount", "text"), SIZES, ids=[text for _, text in SIZES])
def test_size(amount: int | None, text: str) -> None:
    assert size(amount) == text


def test_count_has_singular_and_plural() -> None:
    assert [count(number, "CPU") for number in (0, 1, 2, 1000)] == ["0 CPUs", "1 CPU", "2 CPUs", "1,000 CPUs"]
    assert [count(number, "copy", "copies") for number in (1, 2)] == ["1 copy", "2 copies"]


def test_plain_leaves_letters_and_takes_controls() -> None:
    assert printable("Größe\x1b[0m\r\n\u202e") == "Größe?[0m???"
