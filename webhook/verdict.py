"""The verdict on one pod: does it fit one NUMA node of a node that is known, and if not, what is to be done.

Values in, a value out: no clock but the caller's, no client, no log. Whether a verdict is a rejection, a warning or
nothing is the policy's affair (:func:`breaks`); how it reads is :mod:`webhook.messages`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from shared.allocator import offer
from shared.demand import Demand, weigh
from shared.intent import Intent, make, starved
from shared.inventory import Closest, Inventory, Known, Zone, zones_of
from shared.placement import Misfit, Placement
from shared.pod import Pod
from shared.policy import Placing, TopologyPolicy
from shared.quantity import from_whole
from shared.sidecars import undeclarable
from shared.value import value
from webhook.change import POD_LEVEL, Change, smallest_change, with_amount
from webhook.nodes import Choice, Fleet, Refusal
from webhook.wish import ANYWHERE, Wish


class Verdict(Enum):
    """What can be said of a pod."""

    FITS = "fits"
    SIDECARS_TOO_HEAVY = "sidecars-too-heavy"
    POD_TOO_LARGE = "pod-too-large"
    UNEVEN = "uneven"
    UNKNOWN = "unknown"


@value
class Heavy:
    """A sidecar's part of the pod."""

    name: str
    cpu: int
    """Millicores."""
    memory: int
    """Bytes."""
    share: float
    """Per cent of the pod's CPU or memory demand, whichever is larger."""


@value
class Ruling:
    """A verdict with everything that was found on the way."""

    verdict: Verdict
    demand: Demand
    intent: Intent
    """What the node is to be told."""
    judged: Intent
    """What was held against the machines: the same, on one NUMA node."""
    choice: Choice
    """The nodes that counted."""
    held_against: Zone | None = None
    """The NUMA node that comes closest, where none holds the pod."""
    misfit: Misfit | None = None
    """What that machine said."""
    nodes_needed: int = 0
    """The fewest NUMA nodes of a known machine that hold the pod together; 0 when none does, or the pod fits one."""
    over_share: float = 0.0
    """The sidecars' share in per cent where it is over the limit; else 0."""
    allowed_share: int = 100
    share_resource: str = ""
    starving: tuple[str, ...] = ()
    change: tuple[Change, ...] | None = None
    elsewhere: Refusal | None = None
    """A node that would hold the pod, but does not count for it."""
    upgrade: str = ""
    """A machine, of those one can rent or buy, that would hold the pod; the cheapest."""
    undeclarable: tuple[str, ...] = ()
    """Names in the sidecar annotation that the pod has no container for."""

    @property
    def sidecars(self) -> tuple[Heavy, ...]:
        """With their shares, the heaviest first."""
        return heaviest_first(self.demand)

    @property
    def largest(self) -> Zone | None:
        """The NUMA node that the pod was held against; when it fits, the largest one of the nodes that count."""
        return self.held_against or self.choice.inventory.largest


Late = Callable[[], bool]
"""Says that the time for a search is up."""


def never() -> bool:
    """A search without a deadline."""
    return False


@value
class Bench:
    """What verdicts are given against."""

    fleet: Fleet
    """The nodes that are known; each pod says which of them count for it."""
    upgrades: Inventory | None = None
    """Machines to recommend where none of those will do, the cheapest first."""


def rule(
    pod: Pod,
    bench: Bench,
    placing: Placing,
    max_share: int | None = None,
    late: Late = never,
    wish: Wish = ANYWHERE,
) -> Ruling:
    """Judge a pod that has its defaults, by the nodes that count for its wish.

    The rules, first match wins: policy ``none`` asks nothing; no known node, no answer; a shared container without a
    CPU is uneven; a pod that some node holds fits, unless its sidecars are over their share; what would fit without
    its sidecars has sidecars too heavy; the rest is too large.
    """
    demand = weigh(pod)
    judged = _strictest(placing)
    intent = make(demand, judged)
    choice = bench.fleet.choose(wish.asking(intent.devices))
    inventory = choice.inventory
    ruling = Ruling(
        verdict=Verdict.FITS,
        demand=demand,
        intent=intent if placing == judged else make(demand, placing),
        judged=intent,
        choice=choice,
        undeclarable=undeclarable(pod),
    )
    if placing.policy is TopologyPolicy.NONE:
        return _within_share(ruling, pod, None, judged, max_share, late)
    if not inventory.known:
        return replace(ruling, verdict=Verdict.UNKNOWN)
    starving = starved(demand)
    holder = inventory.holder(intent)
    if starving:
        return _uneven(ruling, pod, holder, judged, starving)
    if holder is not None:
        return _within_share(ruling, pod, holder, judged, max_share, late)
    return _too_much(ruling, pod, bench, judged, max_share, late)


def _strictest(placing: Placing) -> Placing:
    """What "fits" means, whatever the policy tolerates: one NUMA node."""
    if placing.policy is TopologyPolicy.SINGLE_NUMA_NODE:
        return placing
    return replace(placing, policy=TopologyPolicy.SINGLE_NUMA_NODE)


def heaviest_first(demand: Demand) -> tuple[Heavy, ...]:
    """The sidecars with their shares."""
    total_cpu, total_memory = demand.total.get("cpu", 0), demand.total.get("memory", 0)
    found = []
    for weight in demand.sidecars:
        cpu = 100 * weight.requests.get("cpu", 0) / total_cpu if total_cpu else 0.0
        memory = 100 * weight.requests.get("memory", 0) / total_memory if total_memory else 0.0
        found.append(Heavy(weight.name, weight.cpu, weight.memory, round(max(cpu, memory), 1)))
    return tuple(sorted(found, key=lambda heavy: (-heavy.share, -heavy.cpu, -heavy.memory, heavy.name)))


def _within_share(
    ruling: Ruling, pod: Pod, holder: Known | None, judged: Placing, max_share: int | None, late: Late
) -> Ruling:
    """``max-sidecar-share``: of CPU or memory, whichever is larger."""
    if max_share is None:
        return ruling
    share, resource = max((ruling.demand.share(r), r) for r in ("cpu", "memory"))
    if share <= max_share:
        return ruling
    over = [r for r in ("cpu", "memory") if ruling.demand.share(r) > max_share]
    change = smallest_change(pod, ruling.demand, over, _acceptable(holder, judged, max_share), late)
    return replace(
        ruling,
        verdict=Verdict.SIDECARS_TOO_HEAVY,
        over_share=share,
        allowed_share=max_share,
        share_resource=resource,
        change=change,
    )


def _acceptable(holder: Known | None, judged: Placing, max_share: int | None) -> Callable[[Pod], bool]:
    """What a changed pod has to be: held by the machine, nobody starved, the sidecars within their share."""

    def acceptable(pod: Pod) -> bool:
        demand = weigh(pod)
        if starved(demand):
            return False
        if max_share is not None and max(demand.share("cpu"), demand.share("memory")) > max_share:
            return False
        return holder is None or holder.holds(make(demand, judged))

    return acceptable


def _uneven(ruling: Ruling, pod: Pod, holder: Known | None, judged: Placing, starving: tuple[str, ...]) -> Ruling:
    slices = sum(weight.exclusive_cpus for weight in ruling.demand.containers)
    asked = from_whole("cpu", 1000 * (slices + 1))
    raised = with_amount(pod, POD_LEVEL, "cpu", asked)
    change = None
    if holder is not None and holder.holds(make(weigh(raised), judged)):
        change = (Change(POD_LEVEL, "cpu", _pod_cpu(ruling.demand), 1000 * (slices + 1)),)
    return replace(ruling, verdict=Verdict.UNEVEN, starving=starving, change=change)


def _pod_cpu(demand: Demand) -> int:
    return -(-(demand.pod_cpu or 0) // 10**6)


def _too_much(ruling: Ruling, pod: Pod, bench: Bench, judged: Placing, max_share: int | None, late: Late) -> Ruling:
    inventory = ruling.choice.inventory
    closest = inventory.closest(ruling.judged)
    assert closest is not None  # an inventory that is not empty and holds nothing has a closest
    verdict = _blame(ruling, pod, inventory, judged)
    short = [name for name, asked in closest.misfit.asked.items() if asked > closest.misfit.found[name]] or ["cpu"]
    change = smallest_change(pod, ruling.demand, short, _acceptable(closest.known, judged, max_share), late)
    return replace(
        ruling,
        verdict=verdict,
        held_against=_zone(closest),
        misfit=closest.misfit,
        nodes_needed=_nodes_needed(ruling.demand, inventory, judged),
        change=change,
        elsewhere=bench.fleet.elsewhere(ruling.choice, ruling.judged),
        upgrade=next(bench.upgrades.holders(ruling.judged), "") if bench.upgrades else "",
    )


def _blame(ruling: Ruling, pod: Pod, inventory: Inventory, judged: Placing) -> Verdict:
    """Sidecars, if the pod would fit without them; else the pod."""
    names = {weight.name for weight in ruling.demand.sidecars}
    if not names:
        return Verdict.POD_TOO_LARGE
    lighter = replace(
        pod,
        containers=tuple(c for c in pod.containers if c.name not in names),
        init_containers=tuple(c for c in pod.init_containers if c.name not in names),
    )
    if inventory.holder(make(weigh(lighter), judged)) is not None:
        return Verdict.SIDECARS_TOO_HEAVY
    return Verdict.POD_TOO_LARGE


def _zone(closest: Closest) -> Zone | None:
    return next((zone for zone in zones_of(closest.known) if zone.node == closest.misfit.node), None)


def _nodes_needed(demand: Demand, inventory: Inventory, judged: Placing) -> int:
    """The NUMA nodes that a machine would spread the pod over, as few as it can; 0 when no machine holds it so."""
    spread = make(demand, replace(judged, policy=TopologyPolicy.RESTRICTED))
    holder = inventory.holder(spread)
    if holder is None:
        return 0
    answer = offer(holder.ledger, "", spread)
    return len(answer.numa_nodes) if isinstance(answer, Placement) else 0


def breaks(level: TopologyPolicy, ruling: Ruling) -> bool:
    """Whether a pod breaks a level.

    ``best-effort`` is broken by nothing that the Topology Manager would admit; ``restricted`` not by a pod that needs
    several NUMA nodes even on an empty machine and gets them. A share over the limit breaks every level but ``none``.
    An unknown topology breaks nothing: it is said, and no more.
    """
    if level is TopologyPolicy.NONE or ruling.verdict in (Verdict.FITS, Verdict.UNKNOWN):
        return False
    if ruling.over_share:
        return True
    if level is TopologyPolicy.BEST_EFFORT:
        return False
    return not (level is TopologyPolicy.RESTRICTED and ruling.nodes_needed > 1)


def breaks_unknown(level: TopologyPolicy) -> bool:
    """Whether a level refuses what nobody can tell, where the admin says that it shall: those that refuse at all."""
    return level in (TopologyPolicy.RESTRICTED, TopologyPolicy.SINGLE_NUMA_NODE)
