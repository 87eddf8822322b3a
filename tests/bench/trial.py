"""One pod under noise: its requests, measured from inside, while a sidecar of its pod and a daemon of the host are busy
by turns.

1. The pod's app serves requests (``requests serve``); a client in the same container sends them at a fixed rate, and
   writes down for each when it was due, when it was answered, and how long client and server stood on run queues.
2. Both noises are processes that stand still (SIGSTOP) or spin; one round is a span of silence, then one of noise.
3. Requests belong to the span in which they were due. The guest's own clock says where spans begin and end.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.images import Image
from e2e.lab.namespace import Namespace
from e2e.lab.workload import container, pod, pod_resources, sidecar
from e2e.observe import Sight
from e2e.scenarios.nodes.conftest import Cluster

RATE = 50
"""Requests a second."""

WORK = 4096
"""Bytes that the server hashes for each."""

SETTLE = 1.0
"""Seconds between the switch and the span that is measured."""

EDGE = 0.1
"""Seconds at both ends of a span that do not count: whoever looks at the clock uses the node, too."""

LONGEST = 600
"""Seconds after which the client ends by itself."""

SPINNERS = 2
"""Busy threads of the sidecar; its pod has one CPU beside the app's."""

POD = "served"
APP, SIDE, HOST = "app", "sidecar", "host daemon"
DAEMON = "bench-noise"
"""The host daemon's unit."""

SPIN = "read own _ </proc/self/stat; kill -STOP $own; while :; do :; done"
"""A shell that stands still until it is told to go on, and then never rests. It finds its id without `$$`, which
Kubernetes would replace in a command."""


def image(program: bytes) -> Image:
    """The application's image."""
    return Image("localhost/requests:1", {"bin/requests": program}, folders=("proc", "sys", "tmp"))


def manifest() -> dict[str, Any]:
    """An app with a CPU of its own and a sidecar without a CPU limit, in a pod of two CPUs: what each of the
    arrangements can make the most of."""
    own = {"image": "localhost/requests:1", "command": ["/bin/requests", "serve"]}
    app = container(APP, "", {"cpu": "1", "memory": "64Mi"}, **own)
    wanted = {"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}}
    side = sidecar(SIDE, f"{_spinning(SPINNERS)}; wait", resources=wanted)
    return pod(POD, app, initContainers=[side], resources=pod_resources(cpu="2", memory="128Mi"))


def _spinning(count: int) -> str:
    return f"for i in $(seq {count}); do ({SPIN}) & done"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; moments in seconds of the guest's clock."""

    due: float
    done: float
    queued: float
    """Seconds that client and server together stood on run queues for it."""

    @property
    def took(self) -> float:
        """Seconds from when it was due, however late it could be sent."""
        return self.done - self.due


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of silence or of noise, in seconds of the guest's clock."""

    noisy: bool
    begin: float
    end: float
    used: Mapping[str, float]
    """CPUs that the app, the sidecar and the host daemon used, by the guest's own accounts."""
    stalled: float
    """Seconds per second that the guest's CPUs together waited for a core of the host."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out for one pod."""

    places: Mapping[str, frozenset[int]]
    """Where the kernel lets the app, the sidecar and the host daemon run."""
    spans: tuple[Span, ...]
    requests: tuple[Request, ...]

    def rounds(self, noisy: bool) -> list[list[Request]]:
        """The requests of each span of silence, or of noise."""
        return [within(self.requests, span) for span in self.spans if span.noisy is noisy]


def within(requests: Sequence[Request], span: Span) -> list[Request]:
    """The requests that were due in a span. Raises LabError when it has hardly any: the client had ended."""
    found = [one for one in requests if span.begin + EDGE <= one.due < span.end - EDGE]
    wanted = RATE * (span.end - span.begin - 2 * EDGE)
    if len(found) < 0.9 * wanted:
        raise LabError(f"{len(found)} of {wanted:.0f} requests were answered in a span of the measurement")
    return found


def kept_up(trial: Trial) -> Trial:
    """An application that is overloaded in silence already measures only its queue. Raises LabError."""
    for found in trial.rounds(noisy=False):
        took = percentile([one.took for one in found], 0.5)
        if took > 1 / RATE:
            raise LabError(
                f"{RATE} requests a second are too many for this machine: in silence half of them took more than "
                f"{1000 * took:.0f} ms; it takes two cores that nobody else uses"
            )
    return trial


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share (0 to 1) of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def parse_requests(text: str) -> tuple[Request, ...]:
    """What the client wrote: due, sent, done and queued of each, in nanoseconds."""
    lines = ([int(word) / 1e9 for word in line.split()] for line in text.splitlines())
    return tuple(Request(due, done, queued) for due, _, done, queued in lines)


@dataclass(frozen=True, slots=True)
class Reading:
    """The guest's clock and accounts at one moment, in seconds."""

    clock: float
    used: Mapping[str, float]


def parse_reading(text: str, groups: Mapping[str, str]) -> Reading:
    """What :func:`_reader` printed, for these cgroups by name."""
    clock, *accounts = text.splitlines()
    used = {line.partition("/cpu.stat:")[0]: int(line.split()[1]) / 1e6 for line in accounts}
    return Reading(float(clock.split()[0]), {name: used[path] for name, path in groups.items()})


def _reader(groups: Mapping[str, str]) -> str:
    """A script that prints the guest's clock, and the processor time of cgroups."""
    files = " ".join(f"{path}/cpu.stat" for path in groups.values())
    return f"cat /proc/uptime; cd /sys/fs/cgroup; grep -H ^usage_usec {files}"


def run(cluster: Cluster, space: Namespace, rounds: int, seconds: float, stalls: Callable[[], float]) -> Trial:
    """Measure a pod in a namespace of the cluster; ``stalls`` reads how long the guest's CPUs have waited so far."""
    done = space.apply(manifest())
    if done.returncode:
        raise LabError(f"the pod was refused: {done.stderr.strip()}")
    try:
        space.wait("--for=condition=Ready", f"pod/{POD}", seconds=120)
        with _daemon(cluster):
            return _measured(cluster, space, rounds, seconds, stalls)
    finally:
        space.plane.kubectl("delete", "pod", POD, "-n", space.name)


def _measured(cluster: Cluster, space: Namespace, rounds: int, seconds: float, stalls: Callable[[], float]) -> Trial:
    sight, seen = cluster.see(space, POD)
    groups = {APP: seen[APP].group.path, SIDE: seen[SIDE].group.path, HOST: f"system.slice/{DAEMON}.service"}
    places = {name: _allowed(sight, group) for name, group in groups.items()}
    with _client(cluster.plane, space) as client:
        spans = tuple(_spans(cluster, groups, rounds, seconds, stalls))
        return kept_up(Trial(places, spans, _answers(client)))


@contextmanager
def _daemon(cluster: Cluster) -> Iterator[None]:
    """A daemon of the host with as many busy processes as the node has CPUs, at first asleep."""
    script = f"{_spinning(cluster.node.shape.cpus)}; wait"
    cluster.node.sh(f"systemd-run -q --expand-environment=no --unit={DAEMON} sh -c '{script}'")
    try:
        yield
    finally:
        cluster.node.sh(f"systemctl kill -s KILL {DAEMON}; systemctl reset-failed {DAEMON} 2>/dev/null; true")


def _allowed(sight: Sight, group: str) -> frozenset[int]:
    """Where the threads of a cgroup may run, all of them together. Raises LabError when there are none."""
    found = [task.cpus for task in sight.tasks if task.group == group]
    if not found:
        raise LabError(f"no task of the node is in /{group}")
    return frozenset().union(*found)


@contextmanager
def _client(plane: ControlPlane, space: Namespace) -> Iterator[subprocess.Popen[str]]:
    """The client, in the app's container; it goes on until its standard input ends."""
    flags = ["-rate", str(RATE), "-seconds", str(LONGEST), "-bytes", str(WORK)]
    words = ["exec", "-i", "-n", space.name, POD, "-c", APP, "--", "/bin/requests", "load", *flags]
    argv = plane.inside([str(plane.kubectl_path), f"--kubeconfig={plane.kubeconfig}", *words])
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "begun\n":
            raise LabError(f"the client in the pod did not begin: {process.communicate()[1].strip()}")
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(client: subprocess.Popen[str]) -> tuple[Request, ...]:
    out, error = client.communicate(timeout=60)
    if client.returncode:
        raise LabError(f"the client in the pod ended with status {client.returncode}: {error.strip()}")
    return parse_requests(out)


def _spans(
    cluster: Cluster, groups: Mapping[str, str], rounds: int, seconds: float, stalls: Callable[[], float]
) -> Iterator[Span]:
    """Silence and noise by turns; ends in silence, in which what was due before is answered."""
    reader = _reader(groups)
    for noisy in [False, True] * rounds:
        _tell(cluster, groups, "CONT" if noisy else "STOP")
        time.sleep(SETTLE)
        stalled = stalls()
        text = cluster.node.sh(f"({reader}); echo; sleep {seconds}; ({reader})", seconds=seconds + 60)
        stalled = stalls() - stalled
        first, last = (parse_reading(half, groups) for half in text.split("\n\n"))
        length = last.clock - first.clock
        used = {name: (last.used[name] - first.used[name]) / length for name in groups}
        yield believed(Span(noisy, first.clock, last.clock, used, stalled / length))
    _tell(cluster, groups, "STOP")
    time.sleep(SETTLE)


def _tell(cluster: Cluster, groups: Mapping[str, str], signal: str) -> None:
    """Let both noises spin, or stand still."""
    lists = " ".join(f"/sys/fs/cgroup/{path}/cgroup.procs" for name, path in groups.items() if name != APP)
    cluster.node.sh(f"kill -{signal} $(cat {lists})")


def believed(span: Span) -> Span:
    """Noise that was none, or silence that was noise, measures nothing. Raises LabError."""
    loud = {name: used for name, used in span.used.items() if name != APP and (used > 0.1) is not span.noisy}
    if loud:
        raise LabError(f"{'noise' if span.noisy else 'silence'} that was none; CPUs used: {loud}")
    return span
