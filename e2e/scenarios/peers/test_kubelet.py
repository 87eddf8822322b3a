"""Our model of the kubelet (``tests/support/kubelet.py``) decides as the kubelet's own code does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from e2e.lab.errors import LabError
from shared.ledger import Ledger
from shared.pod import Pod
from shared.policy import Smt
from shared.topology import Machine
from tests.bench.gokubelet import Fate, GoKubelet, RefusesToStart, Setup, gokubelet
from tests.bench.kubelet import Peer
from tests.bench.packing import LONGEST, MACHINES, VARIANTS, start
from tests.bench.pods import Drawn
from tests.support.kubelet import MOST_NUMA_NODES
from tests.support.machines import GIB, machine

pytestmark = pytest.mark.slow

FULL = 3
"""Refusals after which a sequence ends: by then the machine is nearly full."""

KINDS = [pytest.param(v.smt, v.pin, id=v.name) for v in VARIANTS if v.never_empty]


@pytest.fixture(scope="module")
def go() -> Iterator[GoKubelet]:
    try:
        with gokubelet() as process:
            yield process
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize(("smt", "pin"), KINDS)
def test_the_model_decides_as_the_kubelet_does(go: GoKubelet, smt: Smt, pin: bool) -> None:
    refused = 0
    for place, name in enumerate(MACHINES):
        empty, deck = start(name, smt, pin)
        peer = Peer(go, empty, smt)
        refused += _fill(peer, islice(deck.sequence(random.Random(f"model/{place}")), LONGEST))
        assert peer.differing == [], name
        assert peer.decisions >= FULL
    assert refused >= FULL * len(MACHINES) // 2, "the sequences end before the machines are full"


def _fill(peer: Peer, pods: Iterator[Drawn]) -> int:
    """How many pods were refused before the sequence ended."""
    refused = 0
    for number, drawn in enumerate(pods):
        refused += not peer.admit(str(number), drawn)
        if refused == FULL:
            break
    return refused


def test_checkpoints_and_managers_change_no_decision(go: GoKubelet, tmp_path: Path) -> None:
    """The policies alone, which is what is measured by the thousand, decide as the kubelet's managers do."""
    for name in ("aws-m7i.metal-48xl", "dgx-a100"):
        empty, deck = start(name, Smt.SHARE, True)
        pods = list(islice(deck.sequence(random.Random("managers")), LONGEST))
        folder = tmp_path / name
        folder.mkdir()
        fates = []
        for setup in (Setup(empty.layout), Setup(empty.layout, state_folder=str(folder))):
            go.start(setup)
            fates.append([_without_time(go, str(number), drawn.pod) for number, drawn in enumerate(pods[:60])])
        assert fates[0] == fates[1]
        assert any(folder.iterdir()), "no checkpoint was written"


def _without_time(go: GoKubelet, name: str, pod: Pod) -> Fate:
    return replace(go.admit(name, pod), microseconds=0)


def test_the_kubelet_stops_where_the_model_does(go: GoKubelet) -> None:
    go.start(_setup(machine(MOST_NUMA_NODES, 1)))
    with pytest.raises(RefusesToStart, match="unsupported on machines with more than 8 NUMA Nodes"):
        go.start(_setup(machine(MOST_NUMA_NODES + 1, 1)))


def _setup(made: Machine) -> Setup:
    return Setup(Ledger.of(made, made.cores[0], GIB).layout)
