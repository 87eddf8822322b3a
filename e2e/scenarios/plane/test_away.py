"""Nobody answers for the webhook: what that costs whom, and how all of it is switched off.

The chart is installed, and its Service leads where nobody is: to a port that is closed, or to an address that swallows
everything, where each call ends with its timeout only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import pytest

from e2e.lab import netns
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE
from e2e.lab.installed import CONFIGURATION, SERVICE, SWITCH_OFF, Installed
from e2e.lab.namespace import Namespace
from e2e.lab.replicas import endpoint_slice
from e2e.lab.webhook import ENFORCE, WARN
from e2e.scenarios.plane.test_webhook import SINGLE, config_map, created, deployment, pod, refused, wait_until

pytestmark = pytest.mark.slow

MUTATE, VALIDATE = 3.0, 5.0
"""Seconds that the API server waits for either, of the chart's values."""

SPENT = 1.5
"""Seconds that kubectl takes by itself, at most, on cores that others use too; measured 0.2 to 0.5."""

CALLED = f"https://{SERVICE}.{NAMESPACE}.svc:443/validate/switch-off-by/"
COMMAND = f"kubectl-delete-validatingwebhookconfiguration-{CONFIGURATION}"


@dataclass(frozen=True, slots=True)
class Silence:
    """Where the Service leads."""

    what: str
    address: str
    said: str
    """What the API server says of it."""
    waits: bool
    """Whether each call takes its whole timeout."""


CLOSED = Silence("a closed port", "10.0.20.250", "connect: connection refused", waits=False)
SWALLOWED = Silence("a black hole", "10.0.21.1", "context deadline exceeded", waits=True)


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> Iterator[Installed]:
    """The chart, without a pod."""
    netns.add_address(plane.netns, CLOSED.address)
    netns.add_hole(plane.netns, SWALLOWED.address)
    found = Installed.install(plane)
    yield found
    found.uninstall()
    plane.wait_settled()


@pytest.fixture
def opened(installed: Installed) -> Iterator[Callable[..., Namespace]]:
    """Makes namespaces with one of our labels, or with none."""
    made: list[Namespace] = []

    def open_(label: str = "") -> Namespace:
        labels: Mapping[str, str] = {label: SINGLE} if label else {}
        made.append(Namespace.make(installed.plane, labels))
        return made[-1]

    yield open_
    for namespace in made:
        namespace.drop()


def lead(installed: Installed, silence: Silence, enforcing: Namespace) -> None:
    """Lead the Service there; returns once the API server has called there."""
    leads = json.dumps(endpoint_slice(NAMESPACE, SERVICE, [silence.address]))
    installed.plane.kubectl("apply", "-f", "-", input=leads)
    wait_until(lambda: silence.said in enforcing.create_dry(pod("probe", "1", "1")).stderr)


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "silence",
    [
        pytest.param(CLOSED, marks=pytest.mark.fault("webhook-killed")),
        pytest.param(SWALLOWED, marks=pytest.mark.fault("webhook-black-holed")),
    ],
    ids=lambda silence: silence.what,
)
def test_only_pods_of_namespaces_that_enforce_are_kept_out_and_nobody_else_waits_longer_than_for_mutation(
    installed: Installed,
    opened: Callable[..., Namespace],
    silence: Silence,
    record_property: Callable[[str, object], None],
) -> None:
    enforcing, warning, plain = opened(ENFORCE), opened(WARN), opened()
    lead(installed, silence, enforcing)
    allowed = MUTATE if silence.waits else 0.0
    for space, name, most in ((plain, "not labelled", 0.0), (warning, "that warns", allowed)):
        seconds = timed(partial(assert_comes_in, space))
        record_property(f"seconds_of_a_pod_in_a_namespace_{name.replace(' ', '_')}, {silence.what}", f"{seconds:.1f}")
        assert seconds <= most + SPENT, f"a pod of a namespace {name} took {seconds:.1f} s"

    seconds = timed(partial(assert_refused, enforcing, silence))
    assert seconds <= (MUTATE + VALIDATE if silence.waits else 0.0) + SPENT
    # What has nothing to do with pods is not even asked about.
    assert timed(lambda: created(enforcing.apply(config_map("settings")), "configmap/settings")) <= SPENT


def assert_comes_in(space: Namespace) -> None:
    """A pod is stored, and nobody says anything about it."""
    assert created(space.apply(pod("fits", "2", "500m")), "pod/fits") == []


def assert_refused(enforcing: Namespace, silence: Silence) -> None:
    """The refusal names Armistice, and the command that ends it."""
    line = refused(enforcing.apply(pod("fits", "2", "500m")))
    assert 'failed calling webhook "enforce.armistice.dev"' in line
    assert f'Post "{CALLED}{COMMAND}?timeout=5s"' in line
    assert silence.said in line


def test_workloads_come_in_and_their_pods_follow_once_validation_is_deleted_as_the_refusal_says(
    installed: Installed, opened: Callable[..., Namespace]
) -> None:
    enforcing = opened(ENFORCE)
    lead(installed, CLOSED, enforcing)
    assert created(enforcing.apply(deployment("web", "2", "500m")), "deployment.apps/web") == []
    wait_until(lambda: COMMAND in str(enforcing.list("events")))  # whoever asks why there are no pods reads it, too
    assert enforcing.list("pods") == []
    verb, kind, name = COMMAND.removeprefix("kubectl-").split("-", 2)
    installed.plane.kubectl(verb, kind, name)
    enforcing.wait("--for=create", "pod", "-l", "app=web")
    installed.upgrade()


def test_one_command_switches_everything_off_and_it_stays_off_until_the_next_upgrade(
    installed: Installed, opened: Callable[..., Namespace]
) -> None:
    enforcing, warning = opened(ENFORCE), opened(WARN)
    lead(installed, SWALLOWED, enforcing)
    installed.plane.kubectl(*SWITCH_OFF)
    wait_until(lambda: timed(lambda: warning.create_dry(pod("probe", "1", "1"))) <= SPENT)
    for space in (enforcing, warning):
        assert timed(partial(assert_comes_in, space)) <= SPENT
    assert installed.configurations() == []
    installed.upgrade()
    assert installed.configurations() == [CONFIGURATION, CONFIGURATION]
