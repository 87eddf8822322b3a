"""The ``caBundle`` of each webhook in a configuration: what is there, and the patch that puts it right."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from webhook.fields import decoded

Json = dict[str, Any]


class Configuration(Enum):
    """The two; the value is a metric's label."""

    MUTATING = "mutating"
    VALIDATING = "validating"

    @property
    def kind(self) -> str:
        """As the API server has it."""
        return f"{self.value.capitalize()}WebhookConfiguration"


def bundles(configuration: Mapping[str, Any] | None) -> dict[str, bytes]:
    """By the webhook's name; empty where the configuration is not there. What cannot be read is an empty bundle."""
    return {name: bundle for _, name, bundle in _webhooks(configuration)}


def repair(configuration: Mapping[str, Any], wanted: Callable[[bytes], bytes]) -> list[Json]:
    """The patch that gives every webhook the bundle that is wanted where the present one stands; empty if all have it.

    Only ``caBundle`` is touched, and only where the webhook's name is still the one that was read.
    """
    operations: list[Json] = []
    for index, name, present in _webhooks(configuration):
        bundle = wanted(present)
        if bundle != present:
            where = f"/webhooks/{index}"
            text = base64.b64encode(bundle).decode()
            operations.append({"op": "test", "path": f"{where}/name", "value": name})
            operations.append({"op": "add", "path": f"{where}/clientConfig/caBundle", "value": text})
    return operations


def _webhooks(configuration: Mapping[str, Any] | None) -> Iterator[tuple[int, str, bytes]]:
    for index, webhook in enumerate((configuration or {}).get("webhooks") or ()):
        yield index, str(webhook.get("name")), decoded((webhook.get("clientConfig") or {}).get("caBundle"))
