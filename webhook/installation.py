"""One installation's names: of everything that the webhook keeps in the cluster, all of them made of the one name.

The chart renders the same names, with its full name for ours. No name is put together anywhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InputError

NAMESPACE = "POD_NAMESPACE"
"""Environment variable, set by the chart: the namespace that Armistice runs in."""

IDENTITY = "POD_NAME"
"""Environment variable, set by the chart: which of the replicas this is."""

PRIVATE_KEY = "intent.key"
"""Field of the Secret with the key that signs intents."""

PUBLIC_KEYS = "intent.pub"
"""Field of the ConfigMap with every public key that nodes believe."""

LONGEST = 50
"""Characters of a name: with what is put after it, it has to be a label of DNS (63), and the chart adds words too."""

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Installation:
    """Where one installation keeps what."""

    name: str
    namespace: str
    identity: str
    """Of this process among the replicas."""

    @classmethod
    def of(cls, name: str, environment: Mapping[str, str]) -> Installation:
        """From the flag and the environment. Raises InputError where either cannot be used."""
        if not _LABEL.fullmatch(name) or len(name) > LONGEST:
            raise InputError(
                f"--installation {name}: names begin with a letter and hold up to {LONGEST} of a-z, 0-9 and '-'; "
                "give the chart's full name"
            )
        namespace = environment.get(NAMESPACE, "")
        if not namespace:
            raise InputError(
                f"--installation {name}: {NAMESPACE} is not set, so that nobody knows where its Secrets are; "
                "set it to the namespace that Armistice runs in"
            )
        return cls(name, namespace, environment.get(IDENTITY) or os.uname().nodename)

    @property
    def labels(self) -> Mapping[str, str]:
        """Of every object that the webhook makes: whoever takes the installation away finds them by these."""
        lead = "app.kubernetes.io/"
        return {f"{lead}name": "armistice", f"{lead}instance": self.name, f"{lead}managed-by": "armistice-webhook"}

    def labelled(self, bare: dict[str, Any]) -> dict[str, Any]:
        """An object that is to be made, with the labels."""
        return {**bare, "metadata": {**bare["metadata"], "labels": dict(self.labels)}}

    @property
    def account(self) -> str:
        """The ServiceAccount of the replicas. It owns all that they make, so that it goes when the chart does."""
        return f"{self.name}-webhook"

    @property
    def authorities(self) -> str:
        """The Secret with the two certificate authorities."""
        return f"{self.name}-ca"

    @property
    def signing(self) -> str:
        """The Secret with the key that signs intents."""
        return f"{self.name}-signing"

    @property
    def keys(self) -> str:
        """The ConfigMap with the public keys, which nodes mount."""
        return f"{self.name}-keys"

    @property
    def lease(self) -> str:
        """The Lease of the replica that writes."""
        return f"{self.name}-webhook"

    @property
    def configuration(self) -> str:
        """Both webhook configurations. The API server asks webhooks by name: ours comes after those that inject."""
        return f"zz-{self.name}"

    @property
    def dns_names(self) -> tuple[str, ...]:
        """What the API server, and whoever is in the cluster, calls the Service. The first is the API server's."""
        service = f"{self.name}-webhook"
        long = f"{service}.{self.namespace}.svc"
        return long, service, f"{service}.{self.namespace}", f"{long}.cluster.local"
