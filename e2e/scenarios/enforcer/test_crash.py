"""Killed at any moment, with pods coming and going: no pod moves, no CPU has two owners, none is lost.

1. A shell loop on the node kills the enforcer at moments of a seeded list: while it starts, and at its work.
2. Meanwhile pods are applied and deleted from here, by the same seed, and containerd is restarted now and then; the
   kubelet, whose unit needs containerd's, with it.
3. ``Watch`` looks again and again. A container that once had its CPUs must have the same ones at each later look.
4. When it is quiet every pod has to be bound; after a reboot again, and the whole node can be filled afterwards.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field

import pytest

from e2e.assertions import assert_disjoint
from e2e.lab.enforcer import PROCESS
from e2e.lab.namespace import Namespace
from e2e.scenarios.enforcer.armed import Armed, alone, until
from e2e.scenarios.enforcer.bound import assert_whole_node_is_free, exclusive_cpus
from e2e.scenarios.enforcer.watch import Watch

ASKED = os.environ.get("ARMISTICE_LAB_KILLS", "")
"""How often to kill. By hand: 50 take a quarter of an hour on an emulated node, and a dozen show nothing, for hardly a
pod lives long enough between them to be seen bound."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="takes a quarter of an hour: ARMISTICE_LAB_KILLS=50 runs it"),
]

SEED = 20261124
KILLS = int(ASKED or 50)
LONGEST_LIFE = 3.0
"""Seconds until the kill, at most: from the process's start, or from when it has been told of the node's pods."""

TOLD = 0.6
"""Share of the kills that wait for that: a process that is only starting has nothing to lose yet."""

RESTARTS = max(1, KILLS // 10)
"""Of containerd, spread evenly over the kills."""

MOST_PODS = 3
SIZES = (1, 2)
"""CPUs of a pod: three of the largest fit the node's two NUMA nodes of 3 and 4, wherever the first two are."""

ALL_KILLED_WITHIN = 60.0 * KILLS
"""Seconds until the last kill: three times what it takes on idle cores."""
BOUND_WITHIN = 180.0
"""Seconds in which, left alone, every pod must be bound."""

KILLER = f"""
for moment in $MOMENTS; do
  while ! pid=$(pgrep -o -f '{PROCESS}'); do sleep 0.5; done
  touch /run/lab-found
  case $moment in told:*)
    for i in $(seq 40); do [ /run/armistice/report.json -nt /run/lab-found ] && break; sleep 0.5; done ;;
  esac
  sleep ${{moment#*:}}
  kill -9 $pid && echo $pid >>/run/lab-killed
  sleep 1
done
echo done >>/run/lab-killed
"""
"""Told is who has written down what it promises, at the latest after 20 s."""


@dataclass(slots=True)
class Traffic:
    """Pods that come and go by the seed."""

    armed: Armed
    space: Namespace
    chance: random.Random
    live: dict[str, int] = field(default_factory=dict)
    """Names and CPUs of the pods that are meant to be there."""
    made: int = 0

    def step(self) -> None:
        """One pod more, or one less."""
        if len(self.live) < MOST_PODS and self.chance.random() < 0.6:
            self.arrive()
        elif self.live:
            name = self.chance.choice(sorted(self.live))
            del self.live[name]
            self.armed.plane.kubectl("delete", "pod", name, "-n", self.space.name, "--wait=false")

    def arrive(self) -> None:
        """One pod more."""
        self.made += 1
        name, size = f"pod-{self.made}", self.chance.choice(SIZES)
        done = self.space.apply(alone(name, size))
        assert done.returncode == 0, done.stderr
        self.live[name] = size


def killed(armed: Armed) -> list[str]:
    """Process ids that the loop on the node has killed, and `done` at its end."""
    return armed.cluster.node.sh("cat /run/lab-killed 2>/dev/null || true").split()


def moment(chance: random.Random) -> str:
    """When the next process is killed: so many seconds after it has started, or has been told."""
    return f"{'told' if chance.random() < TOLD else 'started'}:{chance.uniform(0, LONGEST_LIFE):.2f}"


def let_loose(armed: Armed, chance: random.Random) -> None:
    """Start the loop on the node."""
    moments = " ".join(moment(chance) for _ in range(KILLS))
    armed.cluster.node.sh(
        f"rm -f /run/lab-killed; cat >/run/lab-killer <<'END'\nMOMENTS='{moments}'\n{KILLER}\nEND\n"
        "systemd-run -q --collect --unit=lab-killer sh /run/lab-killer"
    )


def assert_all_bound(armed: Armed, traffic: Traffic) -> None:
    """Left alone, every pod that is meant to be there runs on CPUs of its own."""

    def bound() -> bool:
        own = {name: exclusive_cpus(armed, traffic.space, name, size) for name, size in traffic.live.items()}
        assert_disjoint(own)
        return True

    until(bound, BOUND_WITHIN, "a pod is not bound", every=2)


def test_killed_again_and_again_and_containerd_restarted_and_rebooted_no_pod_moves_and_no_cpu_is_lost(
    armed: Armed, enforced: Namespace
) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    traffic, watch = Traffic(armed, enforced, chance), Watch(armed, enforced)
    let_loose(armed, chance)
    restarts, end = 0, time.monotonic() + ALL_KILLED_WITHIN
    while "done" not in (dead := killed(armed)):
        assert time.monotonic() < end, f"only {len(dead)} kills in {ALL_KILLED_WITHIN:.0f} s"
        traffic.step()
        if len(dead) >= (restarts + 1) * KILLS // (RESTARTS + 1) and restarts < RESTARTS:
            armed.cluster.node.sh("systemctl restart containerd; systemctl start kubelet")
            restarts += 1
        time.sleep(chance.uniform(3, 7))
        watch.look()
    print(f"{len(dead) - 1} kills, {restarts} restarts of containerd, {traffic.made} pods, {watch.looks} looks")
    assert (len(dead) - 1, restarts) == (KILLS, RESTARTS)
    assert watch.seen, "no pod was ever bound: nothing was shown"

    while len(traffic.live) < MOST_PODS:
        traffic.arrive()
    armed.enforcer.wait_ready()
    assert_all_bound(armed, traffic)
    watch.look()

    armed.cluster.node.reboot()
    armed.enforcer.wait_ready()
    assert_all_bound(armed, traffic)
    armed.clear()

    assert_whole_node_is_free(armed)
