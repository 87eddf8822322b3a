"""The cluster: the only module that speaks to an API server.

What it gives are values: the machines that nodes publish as NodeResourceTopology objects, read as a whole, in pages.
Nothing here is on the path of an admission.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from shared.errors import InputError
from shared.noderesourcetopology import from_object
from shared.topology import Machine

GROUP, API_VERSION, PLURAL = "topology.node.k8s.io", "v1alpha2", "noderesourcetopologies"

PAGE = 500
"""Objects asked for at a time."""

TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to read one page."""


def connect() -> client.ApiClient:
    """A client of the current kubeconfig's cluster, or, in a pod, of its own. Raises InputError if there is neither."""
    configuration = client.Configuration()
    given = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(given, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, TypeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--cluster: {given} is no usable kubeconfig: {reason}; set KUBECONFIG, or use --nodes or --machine"
        ) from error
    configuration.retries = 1
    return client.ApiClient(configuration)


def read_cluster(api: client.ApiClient | None = None) -> list[Machine]:
    """Every node that has published its topology. Raises InputError when the cluster cannot be asked."""
    return [from_object(obj) for obj in _topologies(api or connect())]


def _topologies(api: client.ApiClient) -> list[Any]:
    custom = client.CustomObjectsApi(api)
    found: list[Any] = []
    token = ""
    while True:
        extra = {"_continue": token} if token else {}
        page = _asked(api, partial(custom.list_cluster_custom_object, GROUP, API_VERSION, PLURAL, limit=PAGE, **extra))
        found += page.get("items") or []
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def _asked(api: client.ApiClient, call: Callable[..., Any]) -> Any:
    host = api.configuration.host
    try:
        return call(_request_timeout=TIMEOUT)
    except ApiException as error:
        if error.status == 404:
            raise InputError(
                f"--cluster: {host} knows no NodeResourceTopology ({GROUP}/{API_VERSION}); install its CRD and a "
                "publisher (NFD, or Armistice's enforcer), or use --nodes or --machine"
            ) from error
        told = f"{error.status} {error.reason}"
        raise InputError(f"--cluster: {host} refuses to list NodeResourceTopology objects: {told}") from error
    except HTTPError as error:
        raise InputError(f"--cluster: {host} cannot be reached: {error}") from error
