"""Which containers are sidecars, and why."""

from __future__ import annotations

from typing import Any

import pytest

from shared.pod import Container, Pod
from shared.sidecars import WELL_KNOWN, Role, cast, declared, undeclarable, well_known
from tests.support.pods import container, pod

NATIVE = container("mesh", restartable=True)


def named(*names: str, **more: Any) -> Pod:
    return pod(*(container(name) for name in names), **more)


def annotated(value: str) -> dict[str, str]:
    return {"armistice.dev/sidecars": value}


MAIN = {"kubectl.kubernetes.io/default-container": "istio-proxy"}

Found = dict[str, str]
"""Container to its role, with the reason after a colon where it has one."""

CASTS: list[tuple[str, Pod, Found]] = [
    ("an ordinary container is the app", named("web"), {"web": "app"}),
    ("a restartable init container is a sidecar by definition", pod(init=(NATIVE,)),
     {"mesh": "sidecar: restartPolicy Always", "app": "app"}),
    ("whatever it is called", pod(init=(container("web", restartable=True),)),
     {"web": "sidecar: restartPolicy Always", "app": "app"}),
    ("another init container is not", pod(init=(container("setup"),)), {"setup": "init", "app": "app"}),
    ("not even under a sidecar's name", pod(init=(container("istio-proxy"),)), {"istio-proxy": "init", "app": "app"}),
    ("not even when the annotation names it", pod(init=(container("setup"),), annotations=annotated("setup")),
     {"setup": "init", "app": "app"}),
    ("a well-known name", named("web", "istio-proxy"),
     {"web": "app", "istio-proxy": "sidecar: well-known: istio-proxy"}),
    ("several", named("istio-proxy", "web", "daprd"),
     {"istio-proxy": "sidecar: well-known: istio-proxy", "web": "app", "daprd": "sidecar: well-known: daprd"}),
    ("a name that only begins so is somebody else's", named("web", "istio-proxy-2"),
     {"web": "app", "istio-proxy-2": "app"}),
    ("but for families that go on after a dash", named("web", "kube-rbac-proxy-main"),
     {"web": "app", "kube-rbac-proxy-main": "sidecar: well-known: kube-rbac-proxy-main"}),
    ("with the dash", named("web", "kube-rbac-proxying"), {"web": "app", "kube-rbac-proxying": "app"}),
    ("case counts", named("web", "Istio-Proxy"), {"web": "app", "Istio-Proxy": "app"}),
    ("declared by annotation", named("web", "helper", annotations=annotated("helper")),
     {"web": "app", "helper": "sidecar: annotation"}),
    ("spaces and empty names in it do no harm", named("web", "a", "b", annotations=annotated(" a ,, b,")),
     {"web": "app", "a": "sidecar: annotation", "b": "sidecar: annotation"}),
    ("the annotation is the stronger reason", named("web", "istio-proxy", annotations=annotated("istio-proxy")),
     {"web": "app", "istio-proxy": "sidecar: annotation"}),
    ("restartPolicy is stronger still", pod(init=(NATIVE,), annotations=annotated("mesh")),
     {"mesh": "sidecar: restartPolicy Always", "app": "app"}),
    ("the default container is the main one, whatever its name", named("istio-proxy", "web", annotations=MAIN),
     {"istio-proxy": "app", "web": "app"}),
    ("unless the annotation calls it a sidecar",
     named("istio-proxy", "web", annotations={**MAIN, **annotated("istio-proxy")}),
     {"istio-proxy": "sidecar: annotation", "web": "app"}),
    ("a lone proxy is the app: a gateway", named("istio-proxy"), {"istio-proxy": "app"}),
    ("where all names are well-known, all are apps", named("trace-agent", "process-agent"),
     {"trace-agent": "app", "process-agent": "app"}),
    ("the last one that is not declared is the app", named("web", "istio-proxy", annotations=annotated("web")),
     {"web": "sidecar: annotation", "istio-proxy": "app"}),
    ("who declares every container has no app", named("web", annotations=annotated("web")),
     {"web": "sidecar: annotation"}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "expected"), CASTS, ids=[row[0] for row in CASTS])
def test_every_container_has_a_role(about: str, given: Pod, expected: Found) -> None:
    found = {one.container.name: ": ".join(filter(None, (one.role.value, one.why))) for one in cast(given)}
    assert found == expected


def test_the_order_is_the_kubelets() -> None:
    given = pod(container("istio-proxy"), container("web"), init=(container("a"), NATIVE, container("b")))
    assert [(one.container.name, one.role) for one in cast(given)] == [
        ("a", Role.INIT), ("mesh", Role.SIDECAR), ("b", Role.INIT), ("istio-proxy", Role.SIDECAR), ("web", Role.APP),
    ]  # fmt: skip


IMAGES: list[tuple[str, str, str, bool]] = [
    ("a name that many use needs its image", "agent", "docker.io/kserve/agent:v0.15", True),
    ("by digest", "agent", "kserve/agent@sha256:0123", True),
    ("by tag and digest", "router", "ghcr.io/kserve/router:1@sha256:0123", True),
    ("from a registry with a port", "agent", "registry.example:5000/kserve/agent", True),
    ("another's image", "agent", "datadog/agent:7", False),
    ("no image at all", "agent", "", False),
    ("Percona's log container", "logs", "percona/fluentbit:4", True),
    ("in its own repository", "logs", "registry.example/percona-xtradb-cluster-operator/logcollector:1.14", True),
    ("an app that is called logs", "logs", "registry.example/logs:0", False),
    ("a name that is nobody else's needs no image", "istio-proxy", "registry.example/own-build:1", True),
]


@pytest.mark.parametrize(("about", "name", "image", "expected"), IMAGES, ids=[row[0] for row in IMAGES])
def test_ambiguous_names_need_their_image(about: str, name: str, image: str, expected: bool) -> None:
    assert (well_known(container(name, image=image)) is not None) is expected


AMBIGUOUS = [
    "agent",
    "collector",
    "logs",
    "web",
    "main",
    "proxy",
    "server",
    "app",
    "envoy",
    "redis",
    "nginx",
    "sidecar",
]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_name_that_is_often_the_main_container_is_no_sidecar_by_itself(name: str) -> None:
    assert well_known(Container(name)) is None


def test_every_row_names_its_source_and_no_name_stands_twice_alone() -> None:
    assert all(row.source and row.names for row in WELL_KNOWN)
    alone = [name for row in WELL_KNOWN if not row.images for name in row.names]
    assert sorted(alone) == sorted(set(alone))


def test_a_declared_name_without_a_container_is_told() -> None:
    given = named("web", annotations=annotated("wbe, web"), init=(container("setup"),))
    assert declared(given) == ("wbe", "web")
    assert undeclarable(given) == ("wbe",)
    assert undeclarable(named("web")) == ()
