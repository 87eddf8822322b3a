"""What the API server asks the webhook about, with the chart's configurations: what cannot matter never gets there.

One process stands in for the webhook's pods, and logs each review.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.inject import LABEL, LATER, Injector
from e2e.lab.installed import Installed
from e2e.lab.namespace import Namespace
from e2e.lab.replicas import Replicas
from e2e.lab.webhook import ENFORCE
from e2e.scenarios.plane.test_webhook import SINGLE, deployment, pod, wait_until
from shared.seal import ANNOTATION

pytestmark = pytest.mark.slow

SETTLED = 1.0
"""Seconds in which controllers have done what follows from a command; measured 0.1 to 0.3."""


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace that enforces, with a Deployment and a pod, and what the webhook is asked about it."""

    namespace: Namespace
    replicas: Replicas

    def asked_by(self, *words: str) -> set[str]:
        """Phases and kinds of the reviews that a command of kubectl's brings about."""
        before = len(self._reviews())
        done = self.namespace.plane.kubectl_raw(*words, "-n", self.namespace.name)
        assert done.returncode == 0, done.stderr
        time.sleep(SETTLED)
        return {f"{phase} {kind}" for phase, kind in self._reviews()[before:]}

    def _reviews(self) -> list[tuple[str, str]]:
        log = self.replicas.log(self.replicas.numbers[0]).read_text()
        about = f'(?:namespace="{self.namespace.name}"|name="{self.namespace.name}")'
        return re.findall(rf"(?:allowed|denied) phase=(\w+) kind=(\w+) .*{about}", log)


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> Iterator[tuple[Installed, Replicas]]:
    """The chart, and one process that logs everything."""
    found = Installed.install(plane, {"webhook": {"verbose": True}})
    replicas = found.replicas()
    replicas.start(1)
    yield found, replicas
    replicas.stop()
    found.uninstall()
    plane.wait_settled()


@pytest.fixture
def place(installed: tuple[Installed, Replicas]) -> Iterator[Place]:
    """A fresh one."""
    namespace = Namespace.make(installed[0].plane, {ENFORCE: SINGLE})
    for item in (deployment("web", "1", "1"), pod("alone", "1", "1")):
        done = namespace.apply(item)
        assert done.returncode == 0, done.stderr
    namespace.wait("--for=create", "pod", "-l", "app=web")
    time.sleep(SETTLED)
    yield Place(namespace, installed[1])
    namespace.drop()


CHANGE = ("patch", "deployment", "web", "--type=json", "-p")
IMAGE = json.dumps([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/tool:2"}])

ASKED: list[tuple[str, tuple[str, ...], set[str]]] = [
    (
        "a Deployment is asked about once for all, and then its pods",
        ("create", "deployment", "more", "--image=x"),
        {"validate deployment", "mutate pod", "validate pod"},
    ),
    ("another template is asked about", (*CHANGE, IMAGE), {"validate deployment", "mutate pod", "validate pod"}),
    ("an annotation on a Deployment is not", ("annotate", "deployment", "web", "a=b"), set()),
    ("fewer replicas are not", ("scale", "deployment", "web", "--replicas=0"), set()),
    ("a label on a pod is not", ("label", "pod", "alone", "a=b"), set()),
    (
        "an intent that somebody writes on a pod is",
        ("annotate", "pod", "alone", f"{ANNOTATION}=x", "--overwrite"),
        {"mutate pod"},
    ),
    ("a pod that goes is not", ("delete", "pod", "alone", "--grace-period=0"), set()),
    ("a ConfigMap is not", ("create", "configmap", "settings"), set()),
]


@pytest.mark.parametrize(("what", "words", "asked"), ASKED, ids=[row[0] for row in ASKED])
def test_what_is_asked_about(place: Place, what: str, words: tuple[str, ...], asked: set[str]) -> None:
    assert place.asked_by(*words) == asked


def test_a_namespace_is_asked_about_for_our_labels_only_and_when_they_go_too(place: Place) -> None:
    label = ("label", "namespace", place.namespace.name)
    assert place.asked_by(*label, f"{ENFORCE}-") == {"validate namespace"}
    assert place.asked_by(*label, "team=blue") == set()
    assert place.asked_by("create", "deployment", "quiet", "--image=x") == set(), "nobody asks for anything here"
    assert place.asked_by(*label, f"{ENFORCE}=restricted") == {"validate namespace"}


def test_a_container_added_after_our_last_look_is_caught_by_validation_alone(place: Place) -> None:
    """The API server asks changing webhooks twice at most. Whoever adds one more the second time comes after us."""
    namespace = place.namespace
    namespace.plane.kubectl("label", "namespace", namespace.name, f"{LABEL}=yes")
    twice = Injector(namespace.plane, "100m", again=True)
    twice.start()
    try:
        wait_until(lambda: LATER in namespace.create_dry(pod("probe", "1", "1")).stderr)
        done = namespace.apply(pod("meshed", "1", "1"))
    finally:
        twice.stop()
    assert done.returncode == 1
    assert "meshed was changed after its topology intent was written, later was added; " in done.stderr
    assert "meshed" not in [item["metadata"]["name"] for item in namespace.list("pods")]
