"""Quantities: the API server's own answers, row by row, and an independent reading of the grammar."""

from __future__ import annotations

import contextlib
import math
from decimal import ROUND_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.quantity import (
    FORMAT_ERROR,
    MAX_AMOUNT,
    MAX_LENGTH,
    MAX_WHOLE,
    NANO,
    NUMERIC_ERROR,
    SUFFIX_ERROR,
    from_json,
    from_whole,
    parse,
    spoken,
    text,
    to_whole,
)

PARSED: dict[str, list[tuple[str, int]]] = {
    "plain numbers": [
        ("0", 0),
        ("1", NANO),
        ("+1", NANO),
        ("-1", -NANO),
        ("00012", 12 * NANO),
        ("1.", NANO),
        (".5", 500_000_000),
        ("-.5", -500_000_000),
        ("+.5", 500_000_000),
        ("0.1", 100_000_000),
        ("2.5", 2_500_000_000),
        ("1234567890.123456789", 1_234_567_890_123_456_789),
        ("9007199254740993", 9_007_199_254_740_993 * NANO),
        ("1000000000000000000", 1_000_000_000_000_000_000 * NANO),
        ("9223372036854775807", 9_223_372_036_854_775_807 * NANO),
        ("-0", 0),
        ("-0.0", 0),
        ("00", 0),
    ],
    "no digits at all": [
        ("+", 0),
        ("-", 0),
        (".", 0),
        ("+.", 0),
        ("k", 0),
        ("-k", 0),
        ("m", 0),
        ("n", 0),
        ("E", 0),
        ("P", 0),
        ("Ki", 0),
        (".Ki", 0),
        ("e3", 0),
        ("e-9", 0),
        (".e-9", 0),
        ("e9999", 0),
        ("E1", 0),
    ],
    "every decimal suffix": [
        ("1n", 1),
        ("1u", 1_000),
        ("1m", 1_000_000),
        ("1k", 1_000 * NANO),
        ("1M", 1_000_000 * NANO),
        ("1G", 1_000_000_000 * NANO),
        ("1T", 1_000_000_000_000 * NANO),
        ("1P", 1_000_000_000_000_000 * NANO),
        ("1E", 1_000_000_000_000_000_000 * NANO),
        ("1.5E", 1_500_000_000_000_000_000 * NANO),
        ("1.5P", 1_500_000_000_000_000 * NANO),
        ("100m", 100_000_000),
        ("1.5m", 1_500_000),
        ("4.2k", 4_200 * NANO),
        ("-100m", -100_000_000),
        ("0E", 0),
    ],
    "every binary suffix": [
        ("1Ki", 1_024 * NANO),
        ("1Mi", 1_048_576 * NANO),
        ("1Gi", 1_073_741_824 * NANO),
        ("1Ti", 1_099_511_627_776 * NANO),
        ("1Pi", 1_125_899_906_842_624 * NANO),
        ("1Ei", 1_152_921_504_606_846_976 * NANO),
        ("1.5Ki", 1_536 * NANO),
        ("0.1Ki", 102_400_000_000),
        ("1.1Gi", 1_181_116_006_400_000_000),
        ("0.25Gi", 268_435_456 * NANO),
        ("3.7Ti", 4_068_193_022_771_200_000_000),
        (".5Pi", 562_949_953_421_312 * NANO),
        ("1.Pi", 1_125_899_906_842_624 * NANO),
        ("0.5Ei", 576_460_752_303_423_488 * NANO),
        ("0.001Ei", 1_152_921_504_606_846_976_000_000),
        ("0.Ei", 0),
        ("0Pi", 0),
        ("-1.5Ki", -1_536 * NANO),
    ],
    "exponents": [
        ("1e3", 1_000 * NANO),
        ("1E3", 1_000 * NANO),
        ("1e+3", 1_000 * NANO),
        ("1e-3", 1_000_000),
        ("1.5e3", 1_500 * NANO),
        ("1.e3", 1_000 * NANO),
        (".5e1", 5 * NANO),
        ("12E3", 12_000 * NANO),
        ("1e03", 1_000 * NANO),
        ("1e00", NANO),
        ("1E6", 1_000_000 * NANO),
        ("1e18", 1_000_000_000_000_000_000 * NANO),
        ("0e100", 0),
        ("1e-9", 1),
        ("1e4294967299", 1_000 * NANO),
        ("1e9223372036854775807", 100_000_000),
        ("1e-9223372036854775808", NANO),
    ],
    "finer than 1n: up, away from zero": [
        ("0.1n", 1),
        ("1.5n", 2),
        ("-0.1n", -1),
        ("-1.5n", -2),
        ("1.0001u", 1_001),
        ("0.1m", 100_000),
        ("0.0000000001", 1),
        ("0.0000000015", 2),
        ("0.9999999999", NANO),
        ("1e-10", 1),
        ("-1e-10", -1),
        ("1e-100", 1),
        ("1.000000000000000000000001", 1_000_000_001),
        ("1.00000000000000000001Ki", 1_024_000_000_001),
        ("0.3Ei", 345_876_451_382_054_092_800_000_000),
    ],
    "capped": [
        ("7Ei", 8_070_450_532_247_928_832 * NANO),
        ("8Ei", 9_223_372_036_854_775_807 * NANO),
        ("9Ei", 9_223_372_036_854_775_807 * NANO),
        ("-9Ei", -9_223_372_036_854_775_807 * NANO),
        ("999999999999999999999999999999Ki", 9_223_372_036_854_775_807 * NANO),
    ],
}
"""Text to nano-units. Every figure was printed by apimachinery's own ``ParseQuantity``, none by the code under test."""

REFUSED = [
    ("", FORMAT_ERROR),
    ("1..5", FORMAT_ERROR),
    ("1.5.5", FORMAT_ERROR),
    ("1,5", FORMAT_ERROR),
    ("1_000", FORMAT_ERROR),
    ("0x10", FORMAT_ERROR),
    ("1 Gi", FORMAT_ERROR),
    (" 1", FORMAT_ERROR),
    ("1 ", FORMAT_ERROR),
    ("1KI", FORMAT_ERROR),
    ("1Gb", FORMAT_ERROR),
    ("1g", FORMAT_ERROR),
    ("1Mib", FORMAT_ERROR),
    ("1e3m", FORMAT_ERROR),
    ("1e3.5", FORMAT_ERROR),
    ("1e++3", FORMAT_ERROR),
    ("1a", FORMAT_ERROR),
    ("abc", FORMAT_ERROR),
    ("inf", FORMAT_ERROR),
    ("NaN", FORMAT_ERROR),
    ("true", FORMAT_ERROR),
    ("１", FORMAT_ERROR),
    ("٣", FORMAT_ERROR),
    ("1e", SUFFIX_ERROR),
    ("1e+", SUFFIX_ERROR),
    ("12EE", SUFFIX_ERROR),
    ("1EE3", SUFFIX_ERROR),
    ("1ee3", SUFFIX_ERROR),
    ("1K", SUFFIX_ERROR),
    ("1ki", SUFFIX_ERROR),
    ("1mi", SUFFIX_ERROR),
    ("1kk", SUFFIX_ERROR),
    ("1i", SUFFIX_ERROR),
    ("i", SUFFIX_ERROR),
    ("1mm", SUFFIX_ERROR),
    ("1m3", SUFFIX_ERROR),
    ("1Ki3", SUFFIX_ERROR),
    ("1+", SUFFIX_ERROR),
    ("1+3", SUFFIX_ERROR),
    ("1Gi+", SUFFIX_ERROR),
    ("++1", SUFFIX_ERROR),
    ("+-1", SUFFIX_ERROR),
    (".+", SUFFIX_ERROR),
    ("1e9223372036854775808", SUFFIX_ERROR),
    ("1e-9223372036854775809", SUFFIX_ERROR),
    ("EE", SUFFIX_ERROR),
    ("Pi", NUMERIC_ERROR),
    ("Ei", NUMERIC_ERROR),
    ("+Pi", NUMERIC_ERROR),
    (".Pi", NUMERIC_ERROR),
    ("e-10", NUMERIC_ERROR),
    (".e-10", NUMERIC_ERROR),
]
"""What ``ParseQuantity`` of apimachinery refuses, and with which of its three errors."""


@pytest.mark.parametrize(
    ("written", "nanos"),
    [pytest.param(*row, id=f"{about}: {row[0]}") for about, rows in PARSED.items() for row in rows],
)
def test_a_quantity_is_what_the_api_server_makes_of_it(written: str, nanos: int) -> None:
    assert parse(written) == nanos


@pytest.mark.parametrize(("written", "error"), REFUSED, ids=[row[0] or "nothing" for row in REFUSED])
def test_what_the_api_server_refuses_is_refused_in_its_words(written: str, error: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse(written)
    assert str(refusal.value) == error


DIFFERENT = [
    ("decimal amounts over 2^63-1 are capped, as binary ones are", "10E", MAX_AMOUNT),
    ("and without a suffix", "9223372036854775808", MAX_AMOUNT),
    ("and below zero", "-10E", -MAX_AMOUNT),
    ("and by exponent", "1e400", MAX_AMOUNT),
    ("an exponent that would fill the memory", "1e2147483647", MAX_AMOUNT),
    ("or divide for ever", "1e-2147483648", 1),
]


@pytest.mark.parametrize(("about", "written", "nanos"), DIFFERENT, ids=[row[0] for row in DIFFERENT])
def test_where_we_differ_from_the_api_server_on_purpose(about: str, written: str, nanos: int) -> None:
    assert parse(written) == nanos


def test_a_quantity_longer_than_anybody_writes_is_refused() -> None:
    assert parse("0" * MAX_LENGTH) == 0
    with pytest.raises(InputError) as refusal:
        parse("0" * 5000)
    assert str(refusal.value) == "a quantity of 5000 characters is longer than the 256 that are read"


JSON: list[tuple[str, object, int | str]] = [
    ("text", "1.5Gi", 1_610_612_736 * NANO),
    ("text with spaces around it, as UnmarshalJSON has it", " 1 ", NANO),
    ("any of Unicode's spaces", "\u00a01\u3000", NANO),
    ("a tab reaches the API server as an escape, and is no digit", "\t1", FORMAT_ERROR),
    ("nothing but spaces", "  ", FORMAT_ERROR),
    ("null is zero", None, 0),
    ("a whole number", 3, 3 * NANO),
    ("a number below zero", -3, -3 * NANO),
    ("a number beyond 64 bits is capped", 10**30, MAX_AMOUNT),
    ("and so below zero", -(10**30), -MAX_AMOUNT),
    ("a fraction", 0.1, NANO // 10),
    ("a float of a whole number", 1.0, NANO),
    ("a float that Python writes with an exponent", 1e22, MAX_AMOUNT),
    ("a small float", 1e-07, 100),
    ("a truth value", True, FORMAT_ERROR),
    ("the other", False, FORMAT_ERROR),
    ("not a number", math.nan, FORMAT_ERROR),
    ("no end", math.inf, FORMAT_ERROR),
    ("nor below", -math.inf, FORMAT_ERROR),
    ("a list", ["1"], FORMAT_ERROR),
    ("an object", {"cpu": 1}, FORMAT_ERROR),
    ("bytes, which JSON has not", b"1", FORMAT_ERROR),
]


@pytest.mark.parametrize(("about", "value", "expected"), JSON, ids=[row[0] for row in JSON])
def test_a_quantity_in_json(about: str, value: object, expected: int | str) -> None:
    if isinstance(expected, int):
        assert from_json(value) == expected
        return
    with pytest.raises(InputError) as refusal:
        from_json(value)
    assert str(refusal.value) == expected


SCALES = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50),
    "Ei": Fraction(2**60), "e3": Fraction(1000), "E-2": Fraction(1, 100), "e+7": Fraction(10**7),
}  # fmt: skip


@given(
    sign=st.sampled_from(["", "+", "-"]),
    whole=st.text("0123456789", max_size=25),
    fraction=st.one_of(st.none(), st.text("0123456789", max_size=25)),
    suffix=st.sampled_from(sorted(SCALES)),
)
def test_it_agrees_with_an_independent_reading(sign: str, whole: str, fraction: str | None, suffix: str) -> None:
    digits = whole + (f".{fraction}" if fraction is not None else "")
    if not any(character.isdigit() for character in digits):
        digits = "0"
    exact = Fraction(Decimal(f"{sign}{digits}")) * SCALES[suffix]
    context = Context(prec=200, rounding=ROUND_UP)
    nanos = context.divide(Decimal((exact * NANO).numerator), Decimal((exact * NANO).denominator))
    rounded = int(nanos.to_integral_value(ROUND_UP))
    assert parse(f"{sign}{digits}{suffix}") == max(-MAX_AMOUNT, min(MAX_AMOUNT, rounded))


@given(st.text(max_size=300))
def test_no_text_does_anything_but_parse_or_refuse(written: str) -> None:
    with contextlib.suppress(InputError):
        assert abs(parse(written)) <= MAX_AMOUNT


WHOLE = [
    ("a millicore is counted", "cpu", "1m", 1),
    ("less than a millicore is one", "cpu", "1n", 1),
    ("a core is a thousand", "cpu", "1", 1000),
    ("a byte's part is a byte", "memory", "100m", 1),
    ("a piece's part is a piece", "nvidia.com/gpu", "500m", 1),
    ("nothing is nothing", "cpu", "0", 0),
    ("millicores are capped too", "cpu", "9E", MAX_WHOLE),
    ("bytes are as they are at the cap", "memory", "9E", 9 * 10**18),
]


@pytest.mark.parametrize(("about", "resource", "written", "amount"), WHOLE, ids=[row[0] for row in WHOLE])
def test_an_amount_leaves_the_core_as_a_whole_number(about: str, resource: str, written: str, amount: int) -> None:
    assert to_whole(resource, parse(written)) == amount


RESOURCES = st.sampled_from(["cpu", "memory", "hugepages-2Mi", "ephemeral-storage", "nvidia.com/gpu"])


@given(RESOURCES, st.one_of(st.integers(0, 10**15), st.integers(0, 2**33).map(lambda n: n * 2**20)))
def test_what_a_manifest_would_say_is_read_back_as_it_was(resource: str, amount: int) -> None:
    assert to_whole(resource, parse(text(resource, amount))) == amount
    assert to_whole(resource, from_whole(resource, amount)) == amount


TEXT = [
    ("cpu", 2000, "2"), ("cpu", 2500, "2500m"), ("cpu", 0, "0"), ("memory", 6 * 2**30, "6Gi"),
    ("memory", 1536 * 2**20, "1536Mi"), ("memory", 1000, "1000"), ("memory", 1024, "1Ki"), ("memory", 0, "0"),
    ("hugepages-1Gi", 2**31, "2Gi"), ("ephemeral-storage", 2**60, "1Ei"), ("nvidia.com/gpu", 1024, "1024"),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "amount", "words"), TEXT)
def test_how_a_manifest_says_it(resource: str, amount: int, words: str) -> None:
    assert text(resource, amount) == words


SPOKEN = [
    ("cpu", 1000, "1 CPU"),
    ("cpu", 2500, "2.5 CPUs"),
    ("cpu", 2000, "2 CPUs"),
    ("cpu", 100, "100m CPU"),
    ("cpu", 1, "1m CPU"),
    ("cpu", 0, "0 CPUs"),
    ("cpu", 192_000, "192 CPUs"),
    ("cpu", MAX_WHOLE, "9223372036854775.807 CPUs"),
    ("memory", 8 * 2**30, "8 GiB"),
    ("memory", 6277 * 2**20, "6.13 GiB"),  # 6277 / 1024 = 6.1299 to four places
    ("memory", 1536 * 2**20, "1.5 GiB"),
    ("memory", 100 * 10**6, "95.367 MiB"),  # 100,000,000 / 1,048,576 = 95.36743
    ("memory", 2**30 - 1, "1 GiB"),
    ("memory", 2**40 + 2**29, "1 TiB"),
    ("memory", 1023, "1023 B"),
    ("memory", 512, "512 B"),
    ("memory", 0, "0 B"),
    ("hugepages-2Mi", 2**30, "1 GiB of hugepages-2Mi"),
    ("hugepages-2Mi", 0, "0 B of hugepages-2Mi"),
    ("ephemeral-storage", 5 * 2**30, "5 GiB of ephemeral-storage"),
    ("nvidia.com/gpu", 8, "8 nvidia.com/gpu"),
]


@pytest.mark.parametrize(("resource", "amount", "words"), SPOKEN, ids=[row[2] for row in SPOKEN])
def test_how_a_sentence_says_it(resource: str, amount: int, words: str) -> None:
    assert spoken(resource, amount) == words


BESIDE = [
    ("two that read differently stay short", "memory", 8 * 2**30, 6 * 2**30, "8 GiB", "6 GiB"),
    ("two that are equal as well", "memory", 2**33, 2**33, "8 GiB", "8 GiB"),
    ("one byte apart", "memory", 2**33 + 1, 2**33, "8589934593 B", "8589934592 B"),
    ("one kibibyte apart, as /proc/meminfo counts", "memory", 2**33, 2**33 - 1024, "8388608 KiB", "8388607 KiB"),
    ("one huge page apart", "hugepages-2Mi", 2**40 + 2**21, 2**40,
     "1048578 MiB of hugepages-2Mi", "1048576 MiB of hugepages-2Mi"),
    ("a millicore apart is told anyway", "cpu", 2001, 2000, "2.001 CPUs", "2 CPUs"),
    ("so is a piece", "nvidia.com/gpu", 2, 1, "2 nvidia.com/gpu", "1 nvidia.com/gpu"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "resource", "asked", "found", "asked_words", "found_words"), BESIDE, ids=[row[0] for row in BESIDE]
)
def test_two_amounts_in_one_sentence(
    about: str, resource: str, asked: int, found: int, asked_words: str, found_words: str
) -> None:
    assert (spoken(resource, asked, found), spoken(resource, found, asked)) == (asked_words, found_words)


@given(RESOURCES, st.integers(0, 2**62), st.integers(0, 5000))
def test_two_amounts_that_differ_never_read_the_same(resource: str, amount: int, more: int) -> None:
    words = spoken(resource, amount, amount + more), spoken(resource, amount + more, amount)
    assert (words[0] == words[1]) == (more == 0)
