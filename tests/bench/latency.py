"""How long requests of a small application take while a sidecar of its pod and a daemon of the host are busy: with
nothing against it, with the kubelet's pod-level resource managers, and with each of Armistice's isolations.

A node is a virtual machine whose CPUs are emulated, by fewer cores than it has CPUs. What that does to the figures is
told in the README beside this file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from e2e.assertions import kernel_list
from e2e.lab.errors import LabError
from tests.bench import arranged, emulated, trial
from tests.bench.report import Figure
from tests.bench.trial import Request, Trial, percentile

LONG = 0.001
"""Seconds on a run queue that count as long: natively a switch between client and server takes far less."""


def measure(quick: bool) -> Iterator[Figure]:
    """A pod in each arrangement, one after the other; a round is a span of noise after one of silence."""
    try:
        trials = _trials(1 if quick else 4, 4.0 if quick else 6.0, arranged.ISOLATIONS[: 2 if quick else 3])
    except (LabError, AssertionError) as error:
        pytest.skip(str(error))
    for name in sorted(trials, key=(arranged.NOTHING, arranged.PEER, *trials).index):
        yield from _figures(name, trials[name], trials[arranged.NOTHING])


def _trials(rounds: int, seconds: float, isolations: Sequence[str]) -> Mapping[str, Trial]:
    found = {}
    with tempfile.TemporaryDirectory() as scratch, closing(arranged.places(Path(scratch), isolations)) as places:
        for place in places:
            with place.cluster.plane.run.progress.phase(f"measured with {place.name}"):
                stalls = emulated.stalls(place.cluster.node)
                found[place.name] = trial.run(place.cluster, place.space, rounds, seconds, stalls)
    return found


def _figures(name: str, own: Trial, nothing: Trial) -> Iterator[Figure]:
    """The rows of one arrangement."""
    quiet, noisy = own.rounds(False), own.rounds(True)
    noise = [span for span in own.spans if span.noisy]

    def figure(what: str, unit: str, values: Sequence[float], note: str = "") -> Figure:
        return Figure("latency", f"{name}: {what}", unit, tuple(values), note=note)

    yield figure("median", "ms", [1000 * percentile(_took(one), 0.5) for one in noisy], _allowed(own))
    yield figure("p99", "ms", [1000 * p99(one) for one in noisy])
    yield figure("longest", "ms", [1000 * max(_took(one)) for one in noisy])
    yield figure("p99 in silence", "ms", [1000 * p99(one) for one in quiet])
    yield figure("p99 to that in silence", "x", ratios(noisy, quiet))
    yield figure("p99 to that with nothing", "x", ratios(noisy, nothing.rounds(True)))
    yield figure("on a run queue, p99", "ms", [1000 * percentile(_queued(one), 0.99) for one in noisy])
    yield figure("requests more than 1 ms on a run queue", "%", [100 * _share_long(one) for one in noisy])
    yield figure("CPUs of the host daemon", "CPUs", [span.used[trial.HOST] for span in noise])
    yield figure("emulated CPUs without a core of the host", "CPUs", [span.stalled for span in noise])


def p99(requests: Sequence[Request]) -> float:
    """The 99th percentile of what requests took, in seconds."""
    return percentile(_took(requests), 0.99)


def ratios(these: Sequence[Sequence[Request]], those: Sequence[Sequence[Request]]) -> list[float]:
    """How many times the 99th percentile of those, round by round."""
    return [p99(one) / p99(other) for one, other in zip(these, those, strict=True)]


def _took(requests: Sequence[Request]) -> list[float]:
    return [one.took for one in requests]


def _queued(requests: Sequence[Request]) -> list[float]:
    return [one.queued for one in requests]


def _share_long(requests: Sequence[Request]) -> float:
    return sum(one.queued > LONG for one in requests) / len(requests)


def _allowed(own: Trial) -> str:
    """Who may run where, by the kernel."""
    return "; ".join(f"{name} on CPUs {kernel_list(cpus)}" for name, cpus in own.places.items())
