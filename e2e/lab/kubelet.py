"""What a node is told: the kubelet's configuration and the files of its settings disk. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from e2e.lab import images

SERVICE_ADDRESS = "10.0.0.1"
"""Of the service `kubernetes`, the first of the control plane's range."""

GUEST_PKI = "/run/lab/pki"
"""Where the node finds its certificates."""


class KubeletVariant(Enum):
    """How the kubelet is set."""

    NONE = "none"
    """The default: `cpuManagerPolicy: none`. What Armistice runs beside."""
    PEER = "peer"
    """Static CPU and memory managers, `single-numa-node`, pod scope, pod-level resource managers: the peer."""

    @property
    def feature_gates(self) -> Mapping[str, bool]:
        """For the kubelet and for the control plane."""
        return {"PodLevelResourceManagers": True} if self is KubeletVariant.PEER else {}


class Runtime(Enum):
    """The OCI runtime under containerd."""

    RUNC = "runc"
    """What users run."""
    CRUN = "crun"
    """Starts containers sooner, which an emulated CPU feels."""


class Containerd(Enum):
    """Which containerd a node runs, and so which NRI: what they say and check differs."""

    OLD = "1.7"
    """Debian trixie's, with its kernel; NRI 0.8. The last before CRI's RuntimeConfig, which a kubelet from 1.36 on
    demands (KEP-4033): its node runs the oldest kubelet that the lab has."""
    DEBIAN = "2.1"
    """Debian forky's; NRI 0.8."""
    NEW = "2.4"
    """Built from source; NRI 0.12, with a call for each event and the validator of required plugins."""

    @property
    def suite(self) -> str:
        """The Debian that the node is made of."""
        return "trixie" if self is Containerd.OLD else "forky"

    @property
    def kubelet(self) -> str:
        """What the lab's tools call the kubelet that works with it."""
        return "kubelet@1.35" if self is Containerd.OLD else "kubelet"

    @property
    def programs(self) -> tuple[str, ...]:
        """What is put over the suite's own programs, as the lab's tools call it."""
        return ("containerd", "containerd-shim-runc-v2") if self is Containerd.NEW else ()


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node, as its settings disk tells it."""

    name: str
    address: str
    gateway: str
    """Where the guest sees the run's namespace."""
    port: int
    """The API server's."""
    pods: str
    """The pods' addresses, CIDR."""
    variant: KubeletVariant
    runtime: Runtime = Runtime.RUNC
    containerd: Containerd = Containerd.DEBIAN


def kubelet_configuration(variant: KubeletVariant) -> dict[str, object]:
    """The KubeletConfiguration (kubelet.config.k8s.io/v1beta1) of a variant."""
    return _BASE | (_PEER if variant is KubeletVariant.PEER else {})


_BASE: dict[str, object] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "cgroupDriver": "systemd",
    "failSwapOn": False,
    "resolvConf": "",
    "clusterDNS": ["10.0.0.10"],  # there is none; without the field every pod gets a warning
    "clusterDomain": "cluster.local",
    "authentication": {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": f"{GUEST_PKI}/ca.crt"},
    },
    "authorization": {"mode": "Webhook"},
    "tlsCertFile": f"{GUEST_PKI}/server.crt",
    "tlsPrivateKeyFile": f"{GUEST_PKI}/server.key",
    "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    "imageGCHighThresholdPercent": 100,
    "cpuManagerPolicy": "none",
    # A scenario that kills the same container dozens of times would wait 5 minutes for each start otherwise.
    "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
}

_PEER: dict[str, object] = {
    "featureGates": dict(KubeletVariant.PEER.feature_gates),
    "cpuManagerPolicy": "static",
    "memoryManagerPolicy": "Static",
    "topologyManagerPolicy": "single-numa-node",
    "topologyManagerScope": "pod",
    "reservedSystemCPUs": "0",
    "kubeReserved": {"memory": "256Mi"},
    "systemReserved": {"memory": "156Mi"},
    # The kubelet demands the exact sum of what is reserved above and the eviction threshold.
    "reservedMemory": [{"numaNode": 0, "limits": {"memory": "462Mi"}}],
}


def node_files(settings: NodeSettings) -> dict[str, str]:
    """What is laid over the node's root at boot, by path."""
    return {
        "etc/lab/node.env": node_environment(settings),
        "etc/lab/node.nft": firewall(settings),
        "etc/lab/kubelet.yaml": json.dumps(kubelet_configuration(settings.variant), indent=1),
        "etc/lab/kubeconfig": json.dumps(kubeconfig(settings), indent=1),
        "etc/containerd/config.toml": containerd_configuration(settings.runtime, settings.containerd),
        "etc/cni/net.d/10-lab.conflist": json.dumps(network(settings), indent=1),
        "etc/hosts": f"127.0.0.1 localhost\n{settings.address} {settings.name}\n",
        "etc/hostname": f"{settings.name}\n",
    }


def node_environment(settings: NodeSettings) -> str:
    """Variables for the node's own scripts and units."""
    labels = f"armistice.lab/kubelet={settings.variant.value}"
    values = {"NODE": settings.name, "ADDRESS": settings.address, "GATEWAY": settings.gateway, "LABELS": labels}
    return "".join(f"{name}={value}\n" for name, value in values.items())


def kubeconfig(settings: NodeSettings) -> dict[str, object]:
    """The kubelet's way to the API server."""
    server = f"https://{settings.gateway}:{settings.port}"
    user = {"client-certificate": f"{GUEST_PKI}/client.crt", "client-key": f"{GUEST_PKI}/client.key"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": f"{GUEST_PKI}/ca.crt"}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    }


def containerd_configuration(runtime: Runtime, version: Containerd = Containerd.DEBIAN) -> str:
    """Our pause image, one runtime, systemd's cgroups, NRI on."""
    return _containerd_1(runtime) if version is Containerd.OLD else _containerd_2(runtime, version)


def _containerd_1(runtime: Runtime) -> str:
    cri = "io.containerd.grpc.v1.cri"
    return f"""version = 2
[plugins.'{cri}']
  sandbox_image = '{images.PAUSE}'
[plugins.'{cri}'.containerd]
  default_runtime_name = '{runtime.value}'
[plugins.'{cri}'.containerd.runtimes.{runtime.value}]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'{cri}'.containerd.runtimes.{runtime.value}.options]
    BinaryName = '{runtime.value}'
    SystemdCgroup = true
[plugins.'{cri}'.cni]
  bin_dir = '/usr/lib/cni'
  conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.nri.v1.nri']
  disable = false
"""


def _containerd_2(runtime: Runtime, version: Containerd) -> str:
    cri = "io.containerd.cri.v1"
    validator = "  [plugins.'io.containerd.nri.v1.nri'.default_validator]\n    enable = true\n"
    return f"""version = 3
[plugins.'{cri}.images'.pinned_images]
  sandbox = '{images.PAUSE}'
[plugins.'{cri}.runtime'.containerd]
  default_runtime_name = '{runtime.value}'
[plugins.'{cri}.runtime'.containerd.runtimes.{runtime.value}]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'{cri}.runtime'.containerd.runtimes.{runtime.value}.options]
    BinaryName = '{runtime.value}'
    SystemdCgroup = true
[plugins.'{cri}.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.nri.v1.nri']
  disable = false
{validator if version is Containerd.NEW else ""}"""


def network(settings: NodeSettings) -> dict[str, object]:
    """One CNI plugin: a pair of virtual cables for each pod."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": settings.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": plugins}


def firewall(settings: NodeSettings) -> str:
    """Pods reach the API server under the service's address, and the outside as their node; there is no kube-proxy."""
    service = f"ip daddr {SERVICE_ADDRESS} tcp dport 443 dnat to {settings.gateway}:{settings.port}"
    return f"""table ip lab {{
  chain prerouting {{ type nat hook prerouting priority dstnat; {service}; }}
  chain output {{ type nat hook output priority dstnat; {service}; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {settings.pods} ip daddr != {settings.pods} masquerade
  }}
}}
"""
