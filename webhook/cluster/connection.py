"""The process's connection to its API server: in a pod the service account's, elsewhere a kubeconfig's."""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes.aio import client, config
from yaml import YAMLError

from shared.errors import InputError


async def connect() -> client.ApiClient:
    """A client, to be closed by whoever asked for it. Raises InputError where nothing says which cluster."""
    configuration = client.Configuration()
    given = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            if not any(Path(path).exists() for path in given.split(os.pathsep)):
                raise ValueError("it is not there")
            await config.load_kube_config(given, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, TypeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--cluster: {given} is no usable kubeconfig: {reason}; set KUBECONFIG") from error
    return client.ApiClient(configuration)
