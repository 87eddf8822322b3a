"""The process's connection to its API server: in a pod the service account's, elsewhere a kubeconfig's."""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes.aio import client, config

from webhook.cluster.kubeconfig import given, in_pod, usable


async def connect() -> client.ApiClient:
    """A client, to be closed by whoever asked for it. Raises InputError where nothing says which cluster."""
    configuration = client.Configuration()
    with usable(config.ConfigException):
        if in_pod():
            config.load_incluster_config(client_configuration=configuration)
        else:
            if not any(Path(path).exists() for path in given().split(os.pathsep)):
                raise FileNotFoundError("it is not there")
            await config.load_kube_config(given(), client_configuration=configuration)
    return client.ApiClient(configuration)
