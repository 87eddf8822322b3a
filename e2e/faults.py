"""The faults: what is done to a running cluster, what must hold all the same, and who says whether it did.

Scenarios name theirs with ``@pytest.mark.fault("etcd-paused")``; a fault holds when every scenario of it passes. What
they assert is read from the kernel's files or the API server, never from what the component under test says of itself.

1. ``FAULTS`` is the list.
2. ``Record`` is a pytest plugin that leaves all other scenarios out and remembers what came of these.
3. ``run`` puts both together, for ``python -m e2e faults``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from textwrap import fill

import pytest

from e2e.lab.errors import LabError

ROOT = Path(__file__).parents[1]

WIDTH = 120
"""Of what is printed, in characters."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    name: str
    done: str
    """What is done."""
    holds: str
    """What must hold."""
    reader: str
    """Who reads whether it does."""


FAULTS = (
    Fault(
        "api-server-killed",
        "the API server is killed (SIGKILL), away for 5 s, and started again; once more under a load of pods",
        "every pod that is stored has an intent that the published key signed, and none is refused; what changes "
        "afterwards counts in the next verdicts",
        "the API server: stored pods, its answers to new ones",
    ),
    Fault(
        "etcd-paused",
        "etcd stands still (SIGSTOP) for 8 s under a load of pods",
        "nothing is refused in Armistice's name; every pod that is stored has an intent that the published key "
        "signed; a label that is changed afterwards is in force; no replica of the webhook was restarted",
        "the API server: every stored pod; the kernel: the replicas' process ids",
    ),
    Fault(
        "webhook-killed",
        "a replica of the webhook is killed (SIGKILL) under a load of pods; the leader is; all of them are away",
        "pods that cannot be asked about are refused, for seconds, and none is stored without an intent; namespaces "
        "that do not enforce are untouched; the other replica keeps what the dead one kept",
        "the API server: stored pods, refusals, bundles in the configurations",
    ),
    Fault(
        "webhook-black-holed",
        "the network between API server and webhook swallows every packet, open connections included",
        "only pods of namespaces that enforce are kept out, and nobody waits longer than the timeouts say; bound pods "
        "keep their cores; pods come in again once packets pass",
        "the API server: answers and how long they took; the kernel of the node: cpusets",
    ),
    Fault(
        "clock-stepped",
        "the clock of the webhook's node is set ahead beyond the end of its certificate, back, behind "
        "the certificate's begin, and right again",
        "no pod is refused at any time; the certificate is one that the API server accepts; pods are bound meanwhile, "
        "and bound pods keep their cores",
        "the API server: answers; a TLS handshake from its side; the kernel of the node: cpusets",
    ),
    Fault(
        "disk-full",
        "/run of the node is full, and the enforcer is killed; the enforcer's own folder is full, and it is killed",
        "a pod that starts meanwhile is bound or does not run; restarted, the enforcer knows who owns what; nothing is "
        "moved, no CPU has two owners, and afterwards everything goes on",
        "the kernel of the node: cpusets, threads",
    ),
    Fault(
        "containerd-killed",
        "containerd is killed (SIGKILL) at three moments of a pod's start",
        "every pod ends up running and bound; none is moved, no CPU has two owners, none is lost",
        "the kernel of the node: cpusets, threads",
    ),
    Fault(
        "enforcer-stopped",
        "the enforcer stands still (SIGSTOP) in the middle of a call of the runtime, for longer than the runtime waits",
        "whatever of the pod runs meanwhile runs on nobody else's cores; going on, the same process has it bound; "
        "nothing is moved",
        "the kernel of the node: cpusets, threads; containerd's journal: that the call was given up",
    ),
    Fault(
        "cgroups-changed",
        "a container's cpuset is widened by hand; a pod's partition is dissolved by hand",
        "both are as before within a minute, and an event on the pod says so",
        "the kernel of the node: cpusets, partitions; the API server: events",
    ),
)
"""In the order in which a request walks: API server, webhook, node."""

NAMES = tuple(fault.name for fault in FAULTS)

VARIABLE = "ARMISTICE_LAB_FAULTS"

by_hand = pytest.mark.skipif(
    f"{VARIABLE!r} not in os.environ",  # text: asked when the scenario is to run, which ``run`` has set it for
    reason=f"by hand, for it takes minutes more: `python -m e2e faults` or {VARIABLE}=1 runs it",
)
"""For scenarios that `.ci/test` leaves out."""


class Verdict(Enum):
    """What came of a fault."""

    HELD = "held"
    NOT_HELD = "NOT HELD"
    NOT_SHOWN = "not shown"
    """No scenario of it ran to its end."""


@dataclass(slots=True)
class Scenario:
    """One scenario that ran, or was to run."""

    faults: tuple[str, ...]
    passed: bool = False
    failed: bool = False
    seconds: float = 0.0
    """Of the scenario itself, without the clusters and nodes that it shares with others."""


@dataclass(slots=True, eq=False)  # pytest keeps its plugins in sets
class Record:
    """A pytest plugin: the scenarios of some faults and no others, and what came of each."""

    wanted: frozenset[str]
    scenarios: dict[str, Scenario] = field(default_factory=dict)
    """By pytest's id."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what shows none of them."""
        kept: list[pytest.Item] = []
        for item in items:
            named = tuple(str(mark.args[0]) for mark in item.iter_markers("fault"))
            if self.wanted.intersection(named):
                self.scenarios[item.nodeid] = Scenario(named)
                kept.append(item)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A scenario is set up, called, and taken down, where the node has to be as it was found. One that cannot be
        set up has shown nothing."""
        scenario = self.scenarios[report.nodeid]
        scenario.failed |= report.failed and report.when != "setup"
        if report.when == "call":
            scenario.passed = report.passed
            scenario.seconds = report.duration

    def of(self, fault: str) -> list[Scenario]:
        """The scenarios of a fault."""
        return [scenario for scenario in self.scenarios.values() if fault in scenario.faults]

    def verdict(self, fault: str) -> Verdict:
        """What came of a fault."""
        found = self.of(fault)
        if any(scenario.failed for scenario in found):
            return Verdict.NOT_HELD
        return Verdict.HELD if found and all(scenario.passed for scenario in found) else Verdict.NOT_SHOWN


def chosen(names: Iterable[str]) -> tuple[Fault, ...]:
    """The faults of these names; all of them where none is named. Raises LabError for a name that is none."""
    wanted = tuple(names)
    for name in wanted:
        if name not in NAMES:
            raise LabError(f"no fault is called {name!r}; there are {', '.join(NAMES)}")
    return tuple(fault for fault in FAULTS if not wanted or fault.name in wanted)


def described(fault: Fault) -> str:
    """A fault as a person reads it."""
    rows = {"done": fault.done, "must hold": fault.holds, "read from": fault.reader}
    return "\n".join(_indented(name, text) for name, text in rows.items())


def _indented(name: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"    {name:9}  ", subsequent_indent=" " * 15)


def run(faults: Sequence[Fault]) -> Record:
    """Run the scenarios of these faults; pytest says how it goes."""
    record = Record(frozenset(fault.name for fault in faults))
    os.environ[VARIABLE] = "1"
    pytest.main(["-c", str(ROOT / "pyproject.toml"), "-q", str(ROOT / "e2e")], plugins=[record])
    return record


def line(record: Record, fault: Fault) -> str:
    """What came of a fault, in one line."""
    found = record.of(fault.name)
    seconds = sum(scenario.seconds for scenario in found)
    count = f"{len(found)} scenario{'s' if len(found) != 1 else ''}"
    return f"{fault.name:20} {record.verdict(fault.name).value:9} {seconds:5.0f} s  {count}"


def status(record: Record, faults: Sequence[Fault]) -> int:
    """For the shell: 0 where all of them held, 1 where one did not, 2 where one was not shown."""
    verdicts = {record.verdict(fault.name) for fault in faults}
    if Verdict.NOT_HELD in verdicts:
        return 1
    return 2 if Verdict.NOT_SHOWN in verdicts else 0
