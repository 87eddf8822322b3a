"""The cluster, read once for a person's command.

What it gives are values: Nodes, and the machines that they publish as NodeResourceTopology objects, read as a whole, in
pages. Nothing here is on the path of an admission.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from shared.errors import InputError
from shared.noderesourcetopology import from_object
from shared.topology import Machine
from webhook.cluster.kubeconfig import given, in_pod, usable
from webhook.nodes import ClusterNode


@dataclass(frozen=True, slots=True)
class Resource:
    """What can be listed."""

    kind: str
    path: str
    absent: str
    """How an API server is described that does not know it."""


class Absent(InputError):
    """The API server does not know a resource."""


MACHINES_INSTEAD = "--nodes or --machine"
"""Options that name machines where no cluster is asked."""

TOPOLOGIES = Resource(
    "NodeResourceTopology",
    "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies",
    "NodeResourceTopology (topology.node.k8s.io/v1alpha2); install its CRD and a publisher (NFD, or Armistice's "
    f"enforcer), or use {MACHINES_INSTEAD}",
)
NODES = Resource("Node", "/api/v1/nodes", "Node; it is no Kubernetes API server")
NAMESPACES = Resource("Namespace", "/api/v1/namespaces", "namespace of that name")
CONFIG_MAPS = Resource("ConfigMap", "/api/v1/configmaps", "ConfigMap; it is no Kubernetes API server")
_REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
MUTATING = Resource("MutatingWebhookConfiguration", f"{_REGISTRATION}/mutatingwebhookconfigurations", "webhooks")
VALIDATING = Resource("ValidatingWebhookConfiguration", f"{_REGISTRATION}/validatingwebhookconfigurations", "webhooks")

PAGE = 500
"""Objects asked for at a time."""

TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to read one page."""


def connect(instead: str = MACHINES_INSTEAD) -> client.ApiClient:
    """A client of the current kubeconfig's cluster, or, in a pod, of its own. Raises InputError if there is neither:
    ``instead`` says what a person can give in place of a cluster."""
    configuration = client.Configuration()
    with usable(config.ConfigException, f", or use {instead}"):
        if in_pod():
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(given(), client_configuration=configuration)
    configuration.retries = 1
    return client.ApiClient(configuration)


def read_cluster(api: client.ApiClient | None = None) -> list[Machine]:
    """Every node that has published its topology. Raises InputError when the cluster cannot be asked."""
    return [from_object(obj) for obj in listed(api or connect(), TOPOLOGIES)]


def read_cluster_nodes(api: client.ApiClient | None = None) -> list[ClusterNode]:
    """Every Node. Raises InputError when the cluster cannot be asked."""
    return [ClusterNode.from_object(obj) for obj in listed(api or connect(), NODES)]


def listed(api: client.ApiClient, resource: Resource, labels: str = "") -> list[Any]:
    """Every object of a resource, or those with certain labels. Raises InputError when the cluster cannot be asked."""
    found: list[Any] = []
    token = ""
    while True:
        query = [("limit", str(PAGE)), ("labelSelector", labels), ("continue", token)]
        page = _asked(api, resource, resource.path, [(key, text) for key, text in query if text])
        found += page.get("items") or []
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def read_one(api: client.ApiClient, resource: Resource, name: str) -> Any:
    """One object by its name. Raises Absent where it is not there, InputError when the cluster cannot be asked."""
    return _asked(api, resource, f"{resource.path}/{quote(name, safe='')}", [])


def _asked(api: client.ApiClient, resource: Resource, path: str, query: list[tuple[str, str]]) -> Any:
    host = api.configuration.host
    accept = {"Accept": "application/json"}
    method, url, headers, _, _ = api.param_serialize(
        "GET", path, query_params=query, header_params=accept, auth_settings=["BearerToken"]
    )
    try:
        response = api.call_api(method, url, headers, _request_timeout=TIMEOUT)
        content = response.read()
    except HTTPError as error:
        raise InputError(f"--cluster: {host} cannot be reached: {error}") from error
    if response.status == 404:
        raise Absent(f"--cluster: {host} knows no {resource.absent}")
    if response.status != 200:
        told = f"{response.status} {response.reason}"
        raise InputError(f"--cluster: {host} refuses to list {resource.kind} objects: {told}")
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"--cluster: {host} answers with something that is not JSON: {error}") from error
