"""Real manifests, weighed by hand: the sums stand beside the figures, nothing here was computed by the code under test.

Millicores, bytes, pieces. The files lie beside the checkout (see ``tests/support/data.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.allocator import offer
from shared.catalogue import machine
from shared.defaulting import with_defaults
from shared.demand import weigh, whole, without_sidecars
from shared.documents import objects, read_documents
from shared.intent import make
from shared.ledger import Ledger
from shared.placement import Misfit
from shared.pod import Pod
from shared.policy import Placing
from tests.support.data import REFERENCE, reference
from webhook.pod import find_template, parse_pod

MIB = 2**20
GIB = 2**30
MB = 10**6

Amounts = dict[str, int]
MANIFESTS = "manifests"


@dataclass(frozen=True)
class Weighed:
    """What one manifest comes to."""

    name: str
    demand: Amounts
    without: Amounts
    """Without its sidecars."""
    qos: str
    placement: str
    roles: str
    """Every container in the kubelet's order."""
    slices: Amounts = field(default_factory=dict)


BY_HAND = [
    Weighed(
        "adot-collector-sidecar", {"cpu": 32, "memory": 24 * MIB}, {}, "Burstable", "bound",
        "app aws-otel-emitter, sidecar aws-otel-collector",
    ),
    Weighed(  # limits become requests
        "asapd-lite-hugepages-daemonset",
        {"memory": 1024 * MIB, "hugepages-2Mi": 8192 * MIB}, {"memory": 1024 * MIB, "hugepages-2Mi": 8192 * MIB},
        "Burstable", "bound", "app asapd-lite, app netslo-ebpf-manager",
    ),
    Weighed(
        "cloudsql-proxy-classic-job", {"cpu": 1000, "memory": 2 * GIB}, {}, "Burstable", "bound",
        "app my-application, sidecar cloud-sql-proxy",
    ),
    Weighed(
        "cloudsql-proxy-native-healthcheck", {"cpu": 1000, "memory": 2 * GIB}, {}, "Burstable", "bound",
        "sidecar cloud-sql-proxy, app my-application",
    ),
    Weighed(
        "cloudsql-wordpress",
        {"cpu": 400, "memory": 296 * MIB},  # 200 + 200; 256 + 40
        {"cpu": 200, "memory": 256 * MIB}, "Burstable", "bound", "app wordpress, sidecar cloudsql-proxy",
    ),
    Weighed(
        "datadog-agent-adp-daemonset",
        {"cpu": 400, "memory": 856 * MIB},  # 200 + 100 + 100; 256 + 400 + 200; init containers 100 and 200 at most
        {"cpu": 200, "memory": 256 * MIB}, "Burstable", "bound",  # seccomp-setup has no limits
        "init init-volume, init init-config, init seccomp-setup, app agent, sidecar system-probe, "
        "sidecar agent-data-plane",
    ),
    Weighed(
        "datadog-injected-fargate-redis", {"cpu": 200, "memory": 256 * MIB}, {}, "Burstable", "bound",
        "app redis, sidecar datadog-agent-injected",
    ),
    Weighed(  # memory 1000Mi with a limit of 2000Mi: not Guaranteed, and not eligible
        "dpdk-testpmd-virt-2nics",
        {"cpu": 1000, "memory": 1000 * MIB, "hugepages-1Gi": 2 * GIB,
         "openshift.io/intelnics_radio_downlink": 1, "openshift.io/intelnics_radio_uplink": 1},
        {"cpu": 1000, "memory": 1000 * MIB, "hugepages-1Gi": 2 * GIB,
         "openshift.io/intelnics_radio_downlink": 1, "openshift.io/intelnics_radio_uplink": 1},
        "Burstable", "bound", "app testpmd",
    ),
    Weighed(
        "dpdk-testpmd-x710-4gi-hugepages",
        {"memory": GIB, "hugepages-1Gi": 4 * GIB, "intel.com/intel_x710vfio": 2},
        {"memory": GIB, "hugepages-1Gi": 4 * GIB, "intel.com/intel_x710vfio": 2},
        "Burstable", "bound", "app testpmd",
    ),
    Weighed(
        "ebs-csi-node",
        {"cpu": 30, "memory": 104 * MIB},  # 3 x 10; 40 + 32 + 32
        {"cpu": 10, "memory": 40 * MIB}, "Burstable", "bound",
        "app ebs-plugin, sidecar node-driver-registrar, sidecar liveness-probe",
    ),
    Weighed(
        "elasticsearch-eck",
        {"cpu": 500, "memory": 2 * GIB},  # CPU: the larger init container; memory: the app, over 196 MiB
        {"cpu": 500, "memory": 2 * GIB}, "Burstable", "bound",
        "init elastic-internal-init-filesystem, init elastic-internal-init-keystore, app elasticsearch",
    ),
    Weighed(
        "envoy-gateway-daemonset",
        {"cpu": 210, "memory": 1056 * MIB},  # 200 + 10; 1024 + 32
        {"cpu": 200, "memory": GIB}, "Burstable", "bound", "app envoy, sidecar shutdown-manager",
    ),
    Weighed(
        "envoy-gateway-limit-only",
        {"cpu": 410, "memory": 32 * MIB},  # the limit of 400 is the request, + 10
        {"cpu": 400}, "Burstable", "bound", "app envoy, sidecar shutdown-manager",
    ),
    Weighed(
        "gcsfuse-injected-dlio-50cpu",
        {"cpu": 50_250, "memory": 306 * GIB, "ephemeral-storage": 5 * GIB},  # 50,000 + 250; 300 + 6
        {"cpu": 50_000, "memory": 300 * GIB}, "Burstable", "bound", "sidecar gke-gcsfuse-sidecar, app dlio-tester",
    ),
    Weighed(
        "gcsfuse-triton-gpu-metadata-prefetch",
        {"cpu": 4260, "memory": 16_650 * MIB, "ephemeral-storage": 5130 * MIB, "nvidia.com/gpu": 1},
        # 4000 + 250 + 10; 16384 + 256 + 10; 5120 + 10
        {"cpu": 4000, "memory": 16 * GIB, "nvidia.com/gpu": 1}, "Burstable", "exclusive",
        "sidecar gke-gcsfuse-sidecar, sidecar gke-gcsfuse-metadata-prefetch, app triton-server", {"triton-server": 4},
    ),
    Weighed(
        "istio-classic-sidecar-cronjob",
        {"cpu": 100, "memory": 128 * MIB},  # the proxy, or istio-init before it
        {"cpu": 100, "memory": 128 * MIB},  # istio-init
        "Burstable", "bound", "init istio-init, app hello, sidecar istio-proxy",
    ),
    Weighed(
        "istio-native-sidecar-deployment",
        {"cpu": 100, "memory": 128 * MIB},  # istio-init runs before the proxy, never beside it
        {"cpu": 100, "memory": 128 * MIB}, "Burstable", "bound", "init istio-init, sidecar istio-proxy, app hello",
    ),
    Weighed(
        "istio-proxy-override-3cpu",
        {"cpu": 123, "memory": 128 * MIB},  # the larger of 100 before and 123 from then on
        {"cpu": 100, "memory": 128 * MIB}, "Burstable", "bound", "init istio-init, sidecar istio-proxy, app hello",
    ),
    Weighed(
        "istio-proxy-partial-resources",
        {"cpu": 100, "memory": 500 * MIB, "ephemeral-storage": GIB},  # memory: limits of 500Mi become requests
        {"cpu": 100, "memory": 500 * MIB, "ephemeral-storage": GIB}, "Burstable", "bound",
        "init istio-init, sidecar istio-proxy, init existing-init, app hello",
    ),
    Weighed(
        "k8s-pod-level-managers-container-scope",
        {"cpu": 4000, "memory": 4 * GIB}, {"cpu": 4000, "memory": 4 * GIB},  # spec.resources
        "Guaranteed", "exclusive", "sidecar infrastructure-sidecar, app worker-1, app worker-2",
        {"infrastructure-sidecar": 2},
    ),
    Weighed(
        "k8s-pod-level-managers-pod-scope",
        {"cpu": 4000, "memory": 4 * GIB}, {"cpu": 4000, "memory": 4 * GIB}, "Guaranteed", "exclusive",
        "sidecar metrics-sidecar, sidecar logging-sidecar, app main-app", {"main-app": 2},
    ),
    Weighed(
        "k8s-pod-level-resize",
        {"cpu": 200, "memory": 200 * MIB}, {"cpu": 200, "memory": 200 * MIB}, "Guaranteed", "exclusive",
        "app pause, app nginx-server",
    ),
    Weighed(
        "k8ssandra-cassandra-medusa-vector",
        # CPU: server-config-init's 1000, over 100 + 100 + 200 of the containers
        # memory: 64,000,000 + 100 MiB + 128 MiB = 64,000,000 + 104,857,600 + 134,217,728, over its 256,000,000
        {"cpu": 1000, "memory": 303_075_328},
        {"cpu": 1000, "memory": 256 * MB}, "Burstable", "bound",
        "init server-config-init, init medusa-restore, app cassandra, sidecar server-system-logger, sidecar medusa, "
        "sidecar vector-agent",
    ),
    Weighed(
        "kserve-epp-tokenizer",
        {"cpu": 1256, "memory": 2548 * MIB},  # 1000 + 256; 2048 + 500
        {"cpu": 1000, "memory": 2 * GIB}, "Burstable", "bound", "app main, sidecar tokenizer",
    ),
    Weighed(
        "kserve-scheduler-prediction-8cpu-sidecar",
        {"cpu": 10_000, "memory": 8 * GIB},  # 2000 + 8000; 4 + 4
        {}, "Burstable", "bound", "app main, sidecar training-server, sidecar prediction-server",
    ),
    Weighed(
        "kserve-transformer-collocation",
        {"cpu": 200, "memory": 512 * MIB}, {"cpu": 200, "memory": 512 * MIB}, "Burstable", "bound",
        "app kserve-container, app transformer-container",
    ),
    Weighed(
        "kube-prometheus-kube-state-metrics",
        {"cpu": 40, "memory": 230 * MIB},  # 10 + 20 + 10; 190 + 20 + 20
        {"cpu": 10, "memory": 190 * MIB}, "Burstable", "bound",
        "app kube-state-metrics, sidecar kube-rbac-proxy-main, sidecar kube-rbac-proxy-self",
    ),
    Weighed(  # a device is no quality of service
        "kubeflow-pytorchjob-mnist-nccl", {"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 1}, "BestEffort", "none",
        "app pytorch",
    ),
    Weighed(
        "linkerd-ha-destination",
        {"cpu": 200, "memory": 70 * MIB},  # proxy 100 + destination 100; 20 + 50; linkerd-init before is less
        {"cpu": 100, "memory": 50 * MIB}, "Burstable", "bound",
        "init linkerd-init, sidecar linkerd-proxy, app destination, app sp-validator, app policy",
    ),
    Weighed(
        "linkerd-native-default-no-requests",
        {"cpu": 100, "memory": 20 * MIB}, {"cpu": 100, "memory": 20 * MIB}, "Burstable", "bound",
        "init linkerd-init, sidecar linkerd-proxy, app vote-bot",
    ),
    Weighed(
        "llmd-vllm-decode-xpu-routing-proxy",
        {"cpu": 4000, "memory": 12 * GIB, "gpu.intel.com/i915": 1},
        {"cpu": 4000, "memory": 12 * GIB, "gpu.intel.com/i915": 1}, "Burstable", "bound",
        "sidecar routing-proxy, app vllm",
    ),
    Weighed(
        "llmd-vllm-prefill-gpu",
        {"cpu": 16_000, "memory": 16 * GIB, "nvidia.com/gpu": 1},
        {"cpu": 16_000, "memory": 16 * GIB, "nvidia.com/gpu": 1}, "Guaranteed", "exclusive", "app vllm", {"vllm": 16},
    ),
    Weighed(
        "nccl-efa-32-hugepages-mpi",
        {"memory": 32_000 * MIB, "hugepages-2Mi": 5120 * MIB, "nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 32},
        {"memory": 32_000 * MIB, "hugepages-2Mi": 5120 * MIB, "nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 32},
        "Burstable", "bound", "app nccl-tests-worker",
    ),
    Weighed(
        "nccl-tcpxo-8gpu", {"nvidia.com/gpu": 8}, {"nvidia.com/gpu": 8}, "BestEffort", "none",
        "sidecar tcpxo-daemon, app nccl-test",
    ),
    Weighed(
        "nvidia-driver-native-sidecar-ds", {"cpu": 150}, {"cpu": 150}, "Burstable", "bound",
        "init nvidia-driver-installer, sidecar nvidia-persistenced-installer, app pause",
    ),
    Weighed(
        "openshift-thanos-querier-5-sidecars",
        {"cpu": 15, "memory": 87 * MIB},  # 10 + 5 x 1; 12 + 5 x 15
        {"cpu": 10, "memory": 12 * MIB}, "Burstable", "bound",
        "app thanos-query, sidecar kube-rbac-proxy-web, sidecar kube-rbac-proxy, sidecar prom-label-proxy, "
        "sidecar kube-rbac-proxy-rules, sidecar kube-rbac-proxy-metrics",
    ),
    Weighed(
        "otel-demo-grafana-3-sidecars",
        {"cpu": 450, "memory": 1068 * MIB},  # limits: 3 x 150; 3 x 256 + 300
        {"memory": 300 * MIB}, "Burstable", "bound",
        "sidecar grafana-sc-alerts, sidecar grafana-sc-dashboard, sidecar grafana-sc-datasources, app grafana",
    ),
    Weighed(
        "percona-mongodb-cfg",
        {"cpu": 700, "memory": 1_273_741_824},  # 300 + 200 + 200; 1,073,741,824 + 2 x 100,000,000
        {"cpu": 500, "memory": 1_173_741_824},  # "logs" is too common a name without Percona's image
        "Burstable", "bound", "init mongo-init, app mongod, sidecar backup-agent, app logs, sidecar logrotate",
    ),
    Weighed(
        "percona-pxc",
        {"cpu": 1000, "memory": 1200 * MB},  # 200 + 200 + 600; 100 + 100 + 1000; pxc-init's limits 50 and 50
        {"cpu": 800, "memory": 1100 * MB}, "Burstable", "bound", "init pxc-init, app logs, sidecar logrotate, app pxc",
    ),
    Weighed(
        "ray-head-fluentbit",
        {"cpu": 1100, "memory": 2176 * MIB},  # 1000 + 100; 2048 + 128
        {"cpu": 1000, "memory": 2 * GIB}, "Burstable", "bound", "app ray-head, sidecar fluentbit",
    ),
    Weighed(
        "ray-head-redis-sidecar", {"cpu": 4000, "memory": 8 * GIB}, {"cpu": 4000, "memory": 8 * GIB}, "Burstable",
        "exclusive", "app ray-head, app redis", {"ray-head": 4},
    ),
    Weighed(
        "rook-ceph-osd",
        {"cpu": 1100, "memory": 4196 * MIB},  # 1000 + 100; 4096 + 100
        {"cpu": 1000, "memory": 4 * GIB}, "Burstable", "bound", "app osd, sidecar log-collector",
    ),
    Weighed(
        "sdcore-upf-chart",
        {"cpu": 2768, "memory": 2432 * MIB, "hugepages-1Gi": 2 * GIB},  # 2000 + 3 x 256; 2048 + 3 x 128
        {"cpu": 2256, "memory": 2176 * MIB, "hugepages-1Gi": 2 * GIB},  # 2000 + 256; 2048 + 128
        "Guaranteed", "exclusive", "app bessd, sidecar routectl, app web, sidecar pfcp-agent", {"bessd": 2},
    ),
    Weighed(
        "vault-agent-injected",
        {"cpu": 250, "memory": 64 * MIB}, {"cpu": 250, "memory": 64 * MIB},  # vault-agent-init, before either
        "Burstable", "bound", "init vault-agent-init, app app, sidecar vault-agent",
    ),
    Weighed(
        "vitess-operator-vttablet",
        {"cpu": 210, "memory": 800 * MIB},  # 100 + 100 + 10; 256 + 512 + 32
        {"cpu": 200, "memory": 768 * MIB}, "Burstable", "bound",
        "init init-vt-root, init init-mysql-socket, app vttablet, app mysqld, sidecar mysqld-exporter",
    ),
    Weighed(
        "vllm-lora-syncer-native", {"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 1}, "BestEffort", "none",
        "sidecar lora-adapter-syncer, app vllm",
    ),
    Weighed(  # a CPU request without a limit; memory by its limit
        "vllm-lws-8gpu-125cpu",
        {"cpu": 125_000, "memory": 1124 * GIB, "ephemeral-storage": 800 * GIB, "nvidia.com/gpu": 8},
        {"cpu": 125_000, "memory": 1124 * GIB, "ephemeral-storage": 800 * GIB, "nvidia.com/gpu": 8},
        "Burstable", "bound", "app vllm-leader",
    ),
]  # fmt: skip


def settled(path: Path) -> Pod:
    """The pod of a file's one object, with its defaults."""
    (found,) = objects(read_documents(path))
    assert isinstance(found, dict)
    template = find_template(found)
    assert template is not None
    return with_defaults(parse_pod(template))


@pytest.mark.parametrize("expected", BY_HAND, ids=[row.name for row in BY_HAND])
def test_a_real_manifest_comes_to_what_was_worked_out_by_hand(expected: Weighed) -> None:
    pod = settled(reference(f"{MANIFESTS}/{expected.name}.yaml"))
    found = weigh(pod)
    assert whole(found.total) == expected.demand
    assert whole(without_sidecars(pod)) == expected.without
    assert (found.qos.value, found.placement.value) == (expected.qos, expected.placement)
    assert ", ".join(f"{one.role.value} {one.name}" for one in found.containers) == expected.roles
    assert {one.name: one.exclusive_cpus for one in found.containers if one.eligible} == expected.slices


def every_manifest() -> list[str]:
    return sorted(path.name for path in (REFERENCE / MANIFESTS).glob("*.yaml"))


@pytest.mark.parametrize("name", every_manifest())
def test_every_manifest_weighs_and_finds_a_place_or_a_reason(name: str) -> None:
    intent = make(weigh(settled(reference(f"{MANIFESTS}/{name}"))), Placing())
    ledger = Ledger.of(machine("dgx-h100"))
    answer = offer(ledger, name, intent)
    if isinstance(answer, Misfit):
        assert answer.message
    else:
        assert ledger.commit(answer).release(name) == ledger


def test_all_sixty_manifests_are_there() -> None:
    reference(MANIFESTS)
    assert len(every_manifest()) == 60
