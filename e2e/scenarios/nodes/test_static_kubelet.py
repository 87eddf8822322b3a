"""Beside the kubelet's own static CPU manager: whoever pins there is the kubelet, and the enforcer says so."""

from __future__ import annotations

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.kubelet import KubeletVariant
from e2e.lab.shapes import named
from e2e.lab.workload import HOLD, container, pod
from e2e.scenarios.enforcer.armed import alone, armed_node, told, until

pytestmark = pytest.mark.slow

TOLD_WITHIN = 60.0
"""Seconds until the kubelet's event is there."""


def test_beside_the_kubelets_own_static_cpu_manager_pods_with_an_intent_are_refused_with_the_way_out(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("armed")
    with armed_node(plane, folder, named("2x4"), variant=KubeletVariant.PEER) as armed:
        space = armed.enforced()
        assert space.apply(alone("refused", 2)).returncode == 0
        until(lambda: "static" in told(space, "refused"), TOLD_WITHIN, "no event names the kubelet's static policy")
        assert space.get("pod", "refused")["status"]["phase"] == "Pending"
        armed.cluster.runs(armed.namespace(), pod("plain", container("app", HOLD)))
        armed.clear()
