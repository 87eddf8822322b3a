"""AdmissionReviews as an API server sends them: pods of a ReplicaSet after Istio's injection, about 10 KB each."""

from __future__ import annotations

import json
import random
from typing import Any

CPUS = ("1", "2", "4", "8", "250m", "500m", "1500m", "3")
MEMORIES = tuple(f"{n}Mi" for n in (256, 512, 768, 1000, 1024, 1500, 2048, 3000, 4096, 6000, 8192, 12000))
TEAMS = 40
SETTINGS = 24


def reviews(count: int, seed: int = 1) -> list[bytes]:
    """Distinct reviews: names, namespaces, images and amounts differ, and so does what the proxy asks for."""
    chance = random.Random(seed)
    return [json.dumps(_review(number, chance), separators=(",", ":")).encode() for number in range(count)]


def replicas(bodies: list[bytes], each: int) -> list[bytes]:
    """Every pod as often as its workload has replicas, one right after the other, each with a uid of its own."""
    return [body.replace(b'"uid":"', b'"uid":"%02x' % number, 1) for body in bodies for number in range(each)]


def _review(number: int, chance: random.Random) -> dict[str, Any]:
    app = f"app-{number:04}"
    namespace = f"team-{number % TEAMS}"
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    user = "system:serviceaccount:kube-system:replicaset-controller"
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": f"{chance.getrandbits(24):06x}-1111-4222-8333-{number:012x}",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": user, "groups": ["system:serviceaccounts", "system:authenticated"]},
            "object": _pod(app, namespace, chance),
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _pod(app: str, namespace: str, chance: random.Random) -> dict[str, Any]:
    even = chance.random() < 0.5
    requests = {"cpu": chance.choice(CPUS), "memory": chance.choice(MEMORIES)}
    proxy = {"cpu": f"{chance.randrange(50, 500, 10)}m", "memory": f"{chance.randrange(64, 512, 8)}Mi"}
    digest = f"{chance.getrandbits(40):010x}"
    labels = {
        "app": app,
        "pod-template-hash": digest,
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": app,
        "service.istio.io/canonical-revision": "latest",
    }
    annotations = {
        "istio.io/rev": "default",
        "kubectl.kubernetes.io/default-container": app,
        "kubectl.kubernetes.io/default-logs-container": app,
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": "15020",
        "prometheus.io/scrape": "true",
        "sidecar.istio.io/status": '{"initContainers":["istio-init","istio-proxy"],"containers":null,"volumes":'
        '["workload-socket","istio-envoy","istio-data","istio-podinfo","istio-token","istiod-ca-cert"]}',
    }
    main = {
        "name": app,
        "image": f"registry.example/{namespace}/{app}@sha256:{chance.getrandbits(256):064x}",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}-of-{app}"} for n in range(SETTINGS)],
        "resources": {"requests": requests, "limits": requests if even else {"memory": "16Gi"}},
        "volumeMounts": _mounts(),
        "livenessProbe": _probe("/app-health/livez"),
        "readinessProbe": _probe("/app-health/readyz"),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": f"{app}-{digest}-",
            "namespace": namespace,
            "creationTimestamp": None,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{app}-{digest}",
                    "uid": f"{chance.getrandbits(32):08x}-5555-4666-8777-000000000000",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [_managed(labels, annotations)],
        },
        "spec": {
            "volumes": _volumes(),
            "initContainers": [_istio_init(proxy), _istio_proxy(app, proxy)],
            "containers": [main],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": app,
            "serviceAccount": app,
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{key}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                }
                for key in ("not-ready", "unreachable")
            ],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    }


def _istio_init(proxy: dict[str, str]) -> dict[str, Any]:
    return {
        "name": "istio-init",
        "image": "registry.example/istio/proxyv2:1.28.0",
        "args": ["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*"],
        "resources": {"requests": proxy, "limits": {"cpu": "2", "memory": "1Gi"}},
        "volumeMounts": _mounts()[-1:],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "readOnlyRootFilesystem": False,
            "allowPrivilegeEscalation": False,
        },
    }


def _istio_proxy(app: str, proxy: dict[str, str]) -> dict[str, Any]:
    fields = ("POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "SERVICE_ACCOUNT", "HOST_IP")
    env = [{"name": f, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}} for f in fields]
    plain = ("PILOT_CERT_PROVIDER", "CA_ADDR", "ISTIO_META_APP_CONTAINERS", "ISTIO_META_CLUSTER_ID", "TRUST_DOMAIN")
    env += [{"name": name, "value": f"{app}.{name.lower()}"} for name in plain]
    return {
        "name": "istio-proxy",
        "image": "registry.example/istio/proxyv2:1.28.0",
        "restartPolicy": "Always",
        "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "env": env,
        "resources": {"requests": proxy, "limits": {"cpu": "2", "memory": "1Gi"}},
        "volumeMounts": _mounts(),
        "readinessProbe": _probe("/healthz/ready"),
        "startupProbe": _probe("/healthz/ready"),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "runAsUser": 1337,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
        },
    }


def _probe(path: str) -> dict[str, Any]:
    get = {"path": path, "port": 15020, "scheme": "HTTP"}
    return {"httpGet": get, "timeoutSeconds": 3, "periodSeconds": 15, "successThreshold": 1, "failureThreshold": 4}


def _mounts() -> list[dict[str, Any]]:
    return [
        {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
        {"name": "istio-envoy", "mountPath": "/etc/istio/proxy"},
        {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
        {
            "name": "kube-api-access-x7k2p",
            "readOnly": True,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        },
    ]


def _volumes() -> list[dict[str, Any]]:
    token = {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}
    return [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-token", "projected": {"sources": [token], "defaultMode": 420}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert", "defaultMode": 420}},
        {"name": "kube-api-access-x7k2p", "projected": {"sources": [token], "defaultMode": 420}},
    ]


def _managed(labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    owned: dict[str, Any] = {"f:labels": {f"f:{key}": {} for key in labels}}
    owned["f:annotations"] = {f"f:{key}": {} for key in annotations}
    spec: dict[str, Any] = {
        f"f:{key}": {} for key in ("dnsPolicy", "enableServiceLinks", "restartPolicy", "schedulerName")
    }
    settings: dict[str, Any] = {
        f'k:{{"name":"SETTING_{n}"}}': {".": {}, "f:name": {}, "f:value": {}} for n in range(SETTINGS)
    }
    spec["f:containers"] = {"f:env": settings}
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": owned, "f:spec": spec},
    }
