"""What the latency section of the benchmark makes of its readings, and that its client leaves no late request out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from e2e.lab.errors import LabError
from e2e.lab.tools import made
from tests.bench.arranged import APPLICATION
from tests.bench.latency import ratios
from tests.bench.trial import (
    RATE,
    Reading,
    Request,
    Span,
    Trial,
    believed,
    kept_up,
    manifest,
    parse_reading,
    parse_requests,
    percentile,
    within,
)


def span(noisy: bool = True, begin: float = 10.0, end: float = 12.0, **used: float) -> Span:
    return Span(noisy, begin, end, used, stalled=0.0)


def requests(begin: float, end: float, took: float = 0.001) -> list[Request]:
    """As many a second as the application gets."""
    return [
        Request(begin + number / RATE, begin + number / RATE + took, 0.0) for number in range(int((end - begin) * RATE))
    ]


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.5, 50),
        (range(1, 101), 1.0, 100),
        (range(1, 601), 0.99, 594),
        ([7], 0.99, 7),
        ([3, 1, 2], 0.0, 1),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: Sequence[float], share: float, found: float) -> None:
    assert percentile(values, share) == found


def test_a_request_that_was_sent_late_counts_from_when_it_was_due() -> None:
    (found,) = parse_requests("1000000000 3000000000 4000000000 500000\n")
    assert (found.took, found.queued) == (3.0, 0.0005)


def test_a_request_belongs_to_the_span_in_which_it_was_due_whenever_it_was_answered() -> None:
    found = within(requests(9.0, 13.0, took=5.0), span())
    assert (found[0].due, round(found[-1].due, 3)) == (10.1, 11.88)


def test_a_span_whose_requests_are_missing_measures_nothing() -> None:
    with pytest.raises(LabError) as raised:
        within(requests(9.0, 11.0), span())
    assert str(raised.value) == "45 of 90 requests were answered in a span of the measurement"


def test_an_application_that_is_overloaded_in_silence_measures_nothing() -> None:
    quiet, noisy = span(noisy=False), span(begin=12.0, end=14.0)
    well = Trial({}, (quiet, noisy), (*requests(9.0, 12.0), *requests(12.0, 14.0, took=1.0)))
    assert kept_up(well) is well
    with pytest.raises(LabError) as raised:
        kept_up(Trial({}, (quiet,), tuple(requests(9.0, 12.0, took=0.5))))
    assert str(raised.value) == (
        "50 requests a second are too many for this machine: in silence half of them took more than 500 ms; "
        "it takes two cores that nobody else uses"
    )


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (span(noisy=True, app=0.2, sidecar=0.9), None),
        (span(noisy=False, app=0.2, sidecar=0.0), None),
        (span(noisy=True, app=0.2, sidecar=0.0), "noise that was none; CPUs used: {'sidecar': 0.0}"),
        (span(noisy=False, app=0.2, sidecar=0.9), "silence that was none; CPUs used: {'sidecar': 0.9}"),
    ],
)
def test_noise_has_to_be_heard_and_silence_not(seen: Span, complaint: str | None) -> None:
    if complaint is None:
        assert believed(seen) is seen
    else:
        with pytest.raises(LabError) as raised:
            believed(seen)
        assert str(raised.value) == complaint


def test_processor_time_is_read_for_each_cgroup_by_its_name() -> None:
    text = "101.25 300.00\na.slice/b.scope/cpu.stat:usage_usec 1500000\nc.slice/cpu.stat:usage_usec 20\n"
    assert parse_reading(text, {"c": "c.slice", "b": "a.slice/b.scope"}) == Reading(101.25, {"c": 2e-5, "b": 1.5})


def test_rounds_are_compared_in_pairs() -> None:
    slow, fast = [requests(0, 1, took=0.004)] * 2, [requests(0, 1, took=0.002), requests(0, 1, took=0.001)]
    assert [round(one, 3) for one in ratios(slow, fast)] == [2.0, 4.0]


def test_kubernetes_finds_nothing_to_replace_in_the_sidecars_command() -> None:
    assert "$$" not in str(manifest())


@contextmanager
def serving(program: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen([program, "serve", "-port", str(port)])
    try:
        _wait_listening(port)
        yield server
    finally:
        server.kill()
        server.wait()


def _wait_listening(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError("the server did not listen within 10 s")


@pytest.mark.slow
def test_requests_that_were_due_while_the_server_stood_still_are_sent_and_counted(unused_tcp_port: int) -> None:
    program = made(APPLICATION)
    with serving(program, unused_tcp_port) as server:
        argv = [str(program), "load", "-port", str(unused_tcp_port), "-rate", "100", "-seconds", "60"]
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        time.sleep(0.2)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGCONT)
        time.sleep(0.3)
        out, _ = client.communicate(timeout=30)  # the end of its input ends it
    found = parse_requests(out)
    late = [one.took for one in found if one.took > 0.1]
    assert client.returncode == 0
    assert len(late) >= 30, "of 50 that were due while it stood still, those of the first 0.4 s waited over 0.1 s each"
    assert max(late) >= 0.4
    gaps = [second.due - first.due for first, second in pairwise(found)]
    assert max(gaps) < 0.016, "requests stay due at their rate, whatever the server does"
