"""Which containers of a pod are sidecars, and why.

Three answers, strongest first: an init container with ``restartPolicy: Always`` is one by definition (KEP-753); the
annotation ``armistice.dev/sidecars`` names some; and a name in the table below is known to belong to one.

A table of names alone misfires, so it holds only names that are nobody's main container, or names together with the
image that settles it; a container that ``kubectl.kubernetes.io/default-container`` calls the main one is never taken
for a sidecar by its name, and neither is the last app container that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from shared.pod import Container, Pod
from shared.value import value

SIDECARS_ANNOTATION = "armistice.dev/sidecars"
DEFAULT_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"


class Role(Enum):
    """What a container is to its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    APP = "app"


@value
class WellKnown:
    """A family of injected or conventional sidecars."""

    names: tuple[str, ...]
    source: str
    """The project whose manifests or injector use the names."""
    images: tuple[str, ...] = ()
    """When not empty, the name counts only with an image whose repository ends so."""
    prefix: bool = False
    """Whether a name may go on after ``name-`` (``kube-rbac-proxy-main``)."""


WELL_KNOWN: tuple[WellKnown, ...] = (
    WellKnown(("istio-proxy",), "istio/istio injection template"),
    WellKnown(("linkerd-proxy",), "linkerd/linkerd2 proxy injector"),
    WellKnown(("consul-dataplane",), "hashicorp/consul-k8s connect-inject"),
    WellKnown(("daprd",), "dapr/dapr sidecar injector"),
    WellKnown(("shutdown-manager",), "envoyproxy/gateway infrastructure"),
    WellKnown(("vault-agent",), "hashicorp/vault-k8s agent-inject"),
    WellKnown(
        ("datadog-agent-injected", "trace-agent", "process-agent", "system-probe", "agent-data-plane"),
        "DataDog/helm-charts and datadog-operator",
    ),
    WellKnown(("cloud-sql-proxy", "cloudsql-proxy"), "GoogleCloudPlatform/cloud-sql-proxy examples"),
    WellKnown(("gke-gcsfuse-sidecar", "gke-gcsfuse-metadata-prefetch"), "GoogleCloudPlatform/gcs-fuse-csi-driver"),
    WellKnown(("otc-container",), "open-telemetry/opentelemetry-operator"),
    WellKnown(("aws-otel-collector",), "aws-observability/aws-otel-collector examples"),
    WellKnown(("fluentbit", "fluent-bit"), "ray-project/kuberay samples, fluent/fluent-bit"),
    WellKnown(("filebeat", "metricbeat"), "elastic/beats"),
    WellKnown(("jaeger-agent",), "jaegertracing/jaeger-operator"),
    WellKnown(("telegraf",), "influxdata/telegraf-operator"),
    WellKnown(("queue-proxy",), "knative/serving"),
    WellKnown(("agent", "logger", "router"), "kserve/kserve", images=("kserve/agent", "kserve/router")),
    WellKnown(("training-server", "prediction-server"), "kserve/kserve llm-d latency predictor"),
    WellKnown(("tokenizer",), "kserve/kserve llm-d endpoint picker"),
    WellKnown(("routing-proxy",), "llm-d/llm-d-modelservice"),
    WellKnown(("lora-adapter-syncer",), "kubernetes-sigs/gateway-api-inference-extension"),
    WellKnown(("tcpx-daemon", "tcpxo-daemon"), "GoogleCloudPlatform/container-engine-accelerators"),
    WellKnown(("config-reloader", "prometheus-config-reloader"), "prometheus-operator/prometheus-operator"),
    WellKnown(("kube-rbac-proxy",), "brancz/kube-rbac-proxy", prefix=True),
    WellKnown(("thanos-sidecar", "prom-label-proxy"), "thanos-io/thanos, openshift/cluster-monitoring-operator"),
    WellKnown(
        ("grafana-sc-dashboard", "grafana-sc-datasources", "grafana-sc-alerts"), "grafana/helm-charts (k8s-sidecar)"
    ),
    WellKnown(
        (
            "csi-provisioner",
            "csi-attacher",
            "csi-resizer",
            "csi-snapshotter",
            "liveness-probe",
            "node-driver-registrar",
        ),
        "kubernetes-csi",
    ),
    WellKnown(("log-collector", "watch-active"), "rook/rook"),
    WellKnown(("medusa", "server-system-logger", "vector-agent"), "k8ssandra/k8ssandra-operator, cass-operator"),
    WellKnown(("mysqld-exporter",), "prometheus/mysqld_exporter in planetscale/vitess-operator"),
    WellKnown(("logrotate", "backup-agent", "pmm-client", "pxc-monit", "proxysql-monit"), "percona operators"),
    WellKnown(("logs",), "percona/percona-xtradb-cluster-operator", images=("fluentbit", "logcollector")),
    WellKnown(("pgbackrest", "pgbackrest-config", "replication-cert-copy"), "percona/percona-postgresql-operator"),
    WellKnown(("plugin-barman-cloud",), "cloudnative-pg/plugin-barman-cloud"),
    WellKnown(("xtrabackup",), "kubernetes/website MySQL StatefulSet"),
    WellKnown(("guest-console-log",), "kubevirt/kubevirt"),
    WellKnown(("routectl", "pfcp-agent", "pfcpiface"), "omec-project/upf"),
    WellKnown(("mongodb-agent", "mongodb-agent-monitoring"), "mongodb/mongodb-kubernetes"),
    WellKnown(("oauth2-proxy",), "oauth2-proxy/oauth2-proxy"),
    WellKnown(("git-sync", "scheduler-log-groomer"), "apache/airflow chart"),
)


@value
class Cast:
    """One container with its role."""

    container: Container
    role: Role
    why: str
    """What made it a sidecar; empty for the others."""


def cast(pod: Pod) -> tuple[Cast, ...]:
    """Every container with its role, in the order the kubelet starts them: init containers, then the rest."""
    inits = tuple(_cast_init(container) for container in pod.init_containers)
    return inits + tuple(_cast_containers(pod))


def declared(pod: Pod) -> tuple[str, ...]:
    """The names in the pod's ``armistice.dev/sidecars`` annotation."""
    text = pod.annotations.get(SIDECARS_ANNOTATION)
    if text is None:
        return ()
    return tuple(name.strip() for name in text.split(",") if name.strip())


def undeclarable(pod: Pod) -> tuple[str, ...]:
    """Declared names that are no container of the pod: a typing error, worth a word to the person."""
    wanted = declared(pod)
    if not wanted:
        return ()
    names = {container.name for container in (*pod.init_containers, *pod.containers)}
    return tuple(name for name in wanted if name not in names)


def _cast_init(container: Container) -> Cast:
    if container.restartable:
        return Cast(container, Role.SIDECAR, "restartPolicy Always")
    return Cast(container, Role.INIT, "")


def _cast_containers(pod: Pod) -> Iterator[Cast]:
    named = set(declared(pod))
    main = pod.annotations.get(DEFAULT_CONTAINER_ANNOTATION)
    known = {c.name for c in pod.containers if c.name not in named and c.name != main and well_known(c)}
    if all(c.name in named or c.name in known for c in pod.containers):
        known = set()  # somebody has to be the app
    for container in pod.containers:
        if container.name in named:
            yield Cast(container, Role.SIDECAR, "annotation")
        elif container.name in known:
            yield Cast(container, Role.SIDECAR, f"well-known: {container.name}")
        else:
            yield Cast(container, Role.APP, "")


def well_known(container: Container) -> WellKnown | None:
    """The row of :data:`WELL_KNOWN` that the container matches."""
    for row in _BY_NAME.get(container.name, ()):
        if not row.images or _repository(container.image).endswith(row.images):
            return row
    return next((row for row in _PREFIXES if container.name.startswith(f"{row.names[0]}-")), None)


def _repository(image: str) -> str:
    """An image reference without digest and tag."""
    image = image.partition("@")[0]
    head, slash, tail = image.rpartition("/")
    return head + slash + tail.partition(":")[0]


_BY_NAME: dict[str, tuple[WellKnown, ...]] = {}
for _row in WELL_KNOWN:
    for _name in _row.names:
        _BY_NAME[_name] = (*_BY_NAME.get(_name, ()), _row)
_PREFIXES = tuple(row for row in WELL_KNOWN if row.prefix)
