"""CPU sets: the kernel's list format, and the same arithmetic as Python's own sets."""

from __future__ import annotations

import operator
import pickle
import time
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cpuset import EMPTY, MAX_CPU, CpuSet
from shared.errors import InputError

LISTS: list[tuple[str, str, set[int], str]] = [
    ("nothing", "", set(), ""),
    ("only a line's end, as a file of an empty cpuset has it", "\n", set(), ""),
    ("one CPU", "0", {0}, "0"),
    ("a range", "0-3", {0, 1, 2, 3}, "0-3"),
    ("a range of one", "5-5", {5}, "5"),
    ("a range of two", "4-5", {4, 5}, "4-5"),
    ("ranges and singles", "0-3,8,10-11", {0, 1, 2, 3, 8, 10, 11}, "0-3,8,10-11"),
    ("out of order", "8,0-1", {0, 1, 8}, "0-1,8"),
    ("overlapping", "0-4,2-6", {0, 1, 2, 3, 4, 5, 6}, "0-6"),
    ("touching ranges become one", "0-1,2-3", {0, 1, 2, 3}, "0-3"),
    ("the same twice", "1,1", {1}, "1"),
    ("spaces after commas and a line's end", " 0-1, 4 \n", {0, 1, 4}, "0-1,4"),
    ("leading zeros, however many", "007," + "0" * 5000 + "9", {7, 9}, "7,9"),
    ("across the words of a machine", "62-65", {62, 63, 64, 65}, "62-65"),
    ("the highest CPU that is read", "65535", {65535}, "65535"),
]


@pytest.mark.parametrize(("about", "text", "cpus", "written"), LISTS, ids=[row[0] for row in LISTS])
def test_the_kernels_list_format(about: str, text: str, cpus: set[int], written: str) -> None:
    found = CpuSet.parse(text)
    assert (set(found), str(found)) == (cpus, written)
    assert found == CpuSet.of(cpus)


NOT_A_LIST = [
    "a", "0-", "-3", "-", "0--3", "0-3-5", "1,,2", ",", "1,", ",1", "0x3", "1.5", "+1", "0 1", "0-31:2/4", "all", "N",
    "１", "²", "0–3", "1;2", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_A_LIST)
def test_what_is_no_list_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        CpuSet.parse(text)
    assert str(refusal.value) == f"{text!r} is not a CPU list; write it as 0-3,8"


HOSTILE = [
    ("one beyond the highest", "65536", "65536"),
    ("a range that ends beyond it", "0-65536", "0-65536"),
    ("a range of gigabytes", "0-99999999999", "0-99999999999"),
    ("backwards", "3-1", "3-1"),
    ("one bad part among good ones", "0-3,9-8,12", "9-8"),
    ("more digits than Python reads", "9" * 5000, "9" * 5000),
    ("and in a range", "0-" + "9" * 5000, "0-" + "9" * 5000),
]


@pytest.mark.parametrize(("about", "text", "part"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_a_range_that_cannot_be_is_refused_at_once(about: str, text: str, part: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError) as refusal:
        CpuSet.parse(text)
    assert str(refusal.value) == f"{text!r} is not a CPU list: {part} is not a range of CPUs up to {MAX_CPU}"
    assert time.perf_counter() - began < 0.1


CPUS = st.sets(st.integers(0, 300), max_size=40)


@given(CPUS)
def test_writing_and_reading_back_changes_nothing(cpus: set[int]) -> None:
    found = CpuSet.of(cpus)
    assert CpuSet.parse(str(found)) == found
    assert list(found) == sorted(cpus)
    assert (len(found), bool(found)) == (len(cpus), bool(cpus))


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 90)), min_size=1, max_size=8))
def test_any_ranges_in_any_order(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" for first, more in ranges)
    assert set(CpuSet.parse(text)) == {cpu for first, more in ranges for cpu in range(first, first + more + 1)}


OPERATIONS: list[Callable[[Any, Any], object]] = [operator.and_, operator.or_, operator.sub, operator.le]


@pytest.mark.parametrize("operation", OPERATIONS)
@given(a=CPUS, b=CPUS)
def test_arithmetic_is_that_of_pythons_sets(operation: Callable[[Any, Any], object], a: set[int], b: set[int]) -> None:
    found, expected = operation(CpuSet.of(a), CpuSet.of(b)), operation(a, b)
    assert (set(found) if isinstance(found, CpuSet) else found) == expected


@given(a=CPUS, b=CPUS)
def test_comparing_and_asking_is_that_of_pythons_sets(a: set[int], b: set[int]) -> None:
    left, right = CpuSet.of(a), CpuSet.of(b)
    assert left.isdisjoint(right) == a.isdisjoint(b)
    assert (left == right) == (a == b)
    assert {cpu for cpu in range(-2, 310) if cpu in left} == a
    assert len({left, CpuSet.of(sorted(a, reverse=True))}) == 1


@given(st.text("0123456789-, \n", max_size=40))
def test_no_text_does_anything_but_parse_or_refuse(text: str) -> None:
    try:
        found = CpuSet.parse(text)
    except InputError:
        return
    assert CpuSet.parse(str(found)) == found


def test_a_set_does_not_change() -> None:
    with pytest.raises(AttributeError) as refusal:
        EMPTY.mask = 1
    assert str(refusal.value) == "a CpuSet does not change"


def test_a_set_can_be_copied_and_sent() -> None:
    given = CpuSet.parse("0-1,4")
    assert deepcopy(given) == copy(given) == pickle.loads(pickle.dumps(given)) == given


def test_a_set_is_not_equal_to_what_is_no_set() -> None:
    assert CpuSet.parse("0-1") != {0, 1}
    assert repr(CpuSet.parse("0-1,4")) == "CpuSet('0-1,4')"
