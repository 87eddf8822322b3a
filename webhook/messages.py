"""How a ruling reads. Messages are interface: tests hold whole texts.

Each is one line. The clause before the first semicolon carries the object, the verdict and the numbers, within the 120
characters that the API recommends for a warning; what follows is detail and the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.demand import PlacementClass
from shared.intent import Intent
from shared.inventory import Zone
from shared.placement import Misfit
from shared.pod import is_hugepages
from shared.quantity import spoken, text
from webhook.change import Change
from webhook.nodes import Choice, Constraint, Limit, Refusal
from webhook.pod import Subject
from webhook.printable import printable
from webhook.verdict import Heavy, Ruling, Verdict

LEAD = 120
"""Characters of the first clause: a name that would make it longer loses its middle."""

SHORTEST_NAME = 16
"""Characters that every name keeps."""

NAMED_SIDECARS = 3
"""Sidecars that are named in a message, heaviest first; the others are counted."""

NAMED_CHANGES = 4
"""Changes that are spelled out; ``check -o json`` has them all."""


def say(subject: Subject, ruling: Ruling) -> str:
    """What a person applying the object reads; empty when it fits."""
    if ruling.verdict is Verdict.FITS:
        return ""
    first, *rest = _clauses(ruling)
    room = LEAD - len(f'{subject.kind} "": {first}')
    return printable("; ".join([f"{whom(subject, max(SHORTEST_NAME, room))}: {first}", *rest]))


def lead(ruling: Ruling) -> str:
    """What :func:`say` says first, without the object; empty when it fits."""
    return "" if ruling.verdict is Verdict.FITS else printable(next(_clauses(ruling)))


def notes(subject: Subject, ruling: Ruling) -> tuple[str, ...]:
    """What is worth knowing although nothing is wrong."""
    return tuple(printable(f"{whom(subject)}: {note}") for note in _notes(ruling))


def whom(subject: Subject, longest: int = 63) -> str:
    """The object, its name shortened to some characters (at least 16) by its middle."""
    name = subject.name or "(no name)"
    if len(name) > longest:
        head = (longest - 3) // 2
        name = f"{name[:head]}...{name[head + 3 - longest :]}"
    return f'{subject.kind} "{name}"'


def _clauses(ruling: Ruling) -> Iterator[str]:
    match ruling.verdict:
        case Verdict.SIDECARS_TOO_HEAVY if ruling.over_share:
            yield from _over_share(ruling)
        case Verdict.SIDECARS_TOO_HEAVY:
            yield from _numbers("sidecars too heavy", ruling)
            yield _sidecars(ruling.sidecars)
            yield "without its sidecars it fits"
        case Verdict.POD_TOO_LARGE:
            yield from _numbers("too large", ruling)
            yield from _too_large(ruling)
        case Verdict.UNEVEN:
            yield from _uneven(ruling)
        case Verdict.UNKNOWN:
            yield from _unknown(ruling.choice)
            return
    if ruling.misfit is not None and ruling.misfit.hint:
        yield ruling.misfit.hint
    if ruling.elsewhere:
        yield _elsewhere(ruling.elsewhere)
    if ruling.change:
        yield f"smallest change: {changes(ruling.change)}"
    if ruling.upgrade:
        yield f"{ruling.upgrade} would hold it as it is"


def _numbers(verdict: str, ruling: Ruling) -> Iterator[str]:
    """What is asked and what there is: the resource that lacks most in the lead, the others after it."""
    misfit = ruling.misfit
    assert misfit is not None  # both verdicts come from a misfit
    short = [name for name, asked in misfit.asked.items() if asked > misfit.found[name]] or ["cpu"]
    short.sort(key=lambda name: misfit.found[name] / max(1, misfit.asked[name]))
    asked = [spoken(name, misfit.asked[name], misfit.found[name]) for name in short]
    found = [_bare(name, misfit) for name in short]
    chosen = [limit for limit in ruling.choice.limits if limit.constraint in OWN]
    roomiest = "the roomiest eligible NUMA node" if chosen else "the roomiest NUMA node"
    yield f"{verdict}, asks {asked[0]}, {roomiest} has {found[0]}"
    if chosen:
        yield _spoken_of(ruling.choice, chosen)
    if short[1:]:
        yield f"it asks {join(asked[1:])}, and there is {join(found[1:])}"


OWN = (Constraint.NODE, Constraint.SELECTOR, Constraint.AFFINITY, Constraint.DEVICES)
"""Constraints in the pod's own words: a message says of which nodes it speaks. Taints are the nodes' words; hardly a
cluster is without any, and they are said where they make the difference."""


def _spoken_of(choice: Choice, limits: Sequence[Limit]) -> str:
    if choice.wish.node:
        return f"it is to run on node {choice.wish.node}"
    return f"{_allowing(choice, limits)} {limits[-1].left:,} of {choice.total:,} nodes"


def _allowing(choice: Choice, limits: Sequence[Limit]) -> str:
    """``its node selector and its node affinity allow``."""
    words = list(dict.fromkeys(_word(choice, limit.constraint) for limit in limits))
    return f"{join(words)} {'allows' if len(words) == 1 else 'allow'}"


def _word(choice: Choice, constraint: Constraint) -> str:
    if constraint is Constraint.DEVICES:
        return f"its request for {join(sorted(choice.wish.devices))}"
    return f"its {constraint.value}"


def _unknown(choice: Choice) -> Iterator[str]:
    """Which constraint left no node, or that those left have published nothing."""
    if not choice.limits:
        yield "no eligible node has published a topology, so whether it fits one NUMA node is unknown"
        return
    *before, last = choice.limits
    if last.left:
        yield _none(choice, choice.limits, "has published a topology", "has published no topology")
    elif last.constraint is Constraint.NODE:
        yield f"there is no node {choice.wish.node}"
    else:
        yield _none(choice, before, *_lacking(choice, last.constraint))
    yield "whether it fits one NUMA node is unknown"


def _lacking(choice: Choice, constraint: Constraint) -> tuple[str, str]:
    """What none of several nodes does, and what the only one does instead."""
    devices = join(sorted(choice.wish.devices))
    return {
        Constraint.SELECTOR: ("has the labels of its node selector", "lacks the labels of its node selector"),
        Constraint.AFFINITY: ("meets its node affinity", "does not meet its node affinity"),
        Constraint.DEVICES: (f"has {devices}", f"has no {devices}"),
        Constraint.TAINTS: ("has only taints that it tolerates", "has a taint that it does not tolerate"),
    }[constraint]


def _none(choice: Choice, limits: Sequence[Limit], several: str, single: str) -> str:
    """``none of the 3 nodes that its node selector allows has published a topology``."""
    number = limits[-1].left if limits else choice.total
    own = [limit for limit in limits if limit.constraint in OWN]
    clauses = [f"that {_allowing(choice, own)}"] if own else []
    if len(own) < len(limits):
        clauses.append("whose taints it tolerates")
    which = f" {join(clauses)}" if clauses else ""
    return f"the one node{which} {single}" if number == 1 else f"none of the {number:,} nodes{which} {several}"


def _elsewhere(refusal: Refusal) -> str:
    reason = f"its {refusal.constraint.value} does not allow that node"
    if refusal.taint is not None:
        reason = f"it does not tolerate the taint {refusal.taint}"
    return f"{refusal.node} would hold it, but {reason}"


def _bare(resource: str, misfit: Misfit) -> str:
    """What was found of a resource that has just been named."""
    found, asked = misfit.found[resource], misfit.asked[resource]
    if resource == "cpu":
        return spoken(resource, found, asked)
    if resource == "memory" or is_hugepages(resource):
        return spoken("memory", found, asked)
    return str(found)


def _place(zone: Zone | None) -> str:
    return f"NUMA node {zone.node} of {zone.machine}" if zone else "no NUMA node"


def _over_share(ruling: Ruling) -> Iterator[str]:
    resource = "CPU" if ruling.share_resource == "cpu" else "memory"
    share, allowed = f"{ruling.over_share:.1f} %", f"{ruling.allowed_share} %"
    yield f"sidecars too heavy, they take {share} of its {resource}, over the {allowed} allowed"
    yield _sidecars(ruling.sidecars)


def _sidecars(sidecars: Sequence[Heavy]) -> str:
    named = [f"{heavy.name} asks {_weight(heavy)} ({heavy.share:.1f} %)" for heavy in sidecars[:NAMED_SIDECARS]]
    more = len(sidecars) - NAMED_SIDECARS
    if more > 0:
        named.append("1 more sidecar" if more == 1 else f"{more} more sidecars")
    return join(named)


def _weight(heavy: Heavy) -> str:
    return " and ".join(spoken(r, a) for r, a in (("cpu", heavy.cpu), ("memory", heavy.memory)) if a) or "nothing"


def _too_large(ruling: Ruling) -> Iterator[str]:
    if ruling.sidecars:
        yield "even without its sidecars it does not fit"
    yield f"held against {_place(ruling.largest)}"
    if ruling.nodes_needed > 1:
        yield f"it needs at least {ruling.nodes_needed} NUMA nodes"
    else:
        yield "no machine as a whole holds it either"


def _uneven(ruling: Ruling) -> Iterator[str]:
    slices = sum(weight.exclusive_cpus for weight in ruling.demand.containers)
    asked = spoken("cpu", (ruling.demand.pod_cpu or 0) // 10**6)
    owned = "all of them" if slices > 1 else "it"
    yield f"no CPU is left for {join(ruling.starving)}, spec.resources asks {asked} and its slices take {owned}"


def changes(found: Sequence[Change]) -> str:
    """``istio-proxy cpu from 2 to 1``, several joined."""
    words = [
        f"{c.container} {c.resource} from {text(c.resource, c.before)} to {text(c.resource, c.after)}" for c in found
    ]
    more = len(words) - NAMED_CHANGES
    return join(words if more <= 0 else [*words[:NAMED_CHANGES], f"{more} more"])


def _notes(ruling: Ruling) -> Iterator[str]:
    intent = ruling.intent
    if intent.placement is PlacementClass.EXCLUSIVE:
        yield from _of_its_own(intent, ruling.demand.pod_cpu)
    if ruling.undeclarable:
        yield f"the annotation armistice.dev/sidecars names {join(ruling.undeclarable)}, which is no container of it"


def _of_its_own(intent: Intent, pod_cpu: int | None) -> Iterator[str]:
    """Where a pod will own more than the scheduler counts."""
    if intent.bubble * 1000 - intent.cpu >= 1000:
        owns, asks = spoken("cpu", intent.bubble * 1000), spoken("cpu", intent.cpu)
        yield f"it will own {owns} while the scheduler counts {asks}; let its shared containers request their CPUs"
    elif pod_cpu and intent.cpu % 1000:
        owns, asks = spoken("cpu", intent.bubble * 1000), spoken("cpu", intent.cpu)
        yield f"spec.resources asks {asks}, and {owns} will be its own; CPUs are owned whole"


def join(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
