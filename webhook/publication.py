"""Which public keys nodes believe, and since when: what stands in the ConfigMap that they mount, as values.

A key signs only when every node has it. Nobody tells us when that is, so that each key carries the time at which it was
published, and waits:

1. The new private key appears in the Secret: because the webhook made it, or an admin put it there.
2. Its public key is added to the ConfigMap, with the time. The keys before stay, and stay believed.
3. After the delay every replica signs with the new one, all by the same time. Until then they sign with the one before.
4. The public keys of before go only when an admin removes them: running pods may carry intents of theirs for months.

The very first key waits for nobody: no node believes another one meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import InputError
from shared.seal import KeyRing, key_id
from webhook.installation import PUBLIC_KEYS
from webhook.keys import pem_of

Json = dict[str, Any]

DELAY = timedelta(minutes=3)
"""A kubelet looks after a ConfigMap's mount every 60 to 90 s (``syncFrequency`` and its jitter), what it knows of the
ConfigMap may be 60 s old, and the enforcer reads the mount every 10 s: 160 s."""

SINCE = "published.armistice.dev/"
"""Annotation of the ConfigMap, with the key's id behind it: when the key was published."""

_BLOCK = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Publication:
    """What the ConfigMap says."""

    ring: KeyRing
    since: Mapping[str, datetime]
    """When each key was published, by its id; nothing for one of which it is not written."""

    @classmethod
    def of(cls, config_map: Mapping[str, Any] | None) -> Publication:
        """What a ConfigMap says; nothing where there is none."""
        text = str(((config_map or {}).get("data") or {}).get(PUBLIC_KEYS, ""))
        return cls.read(text, _annotations(config_map))

    @classmethod
    def read(cls, text: str, annotations: Mapping[str, str]) -> Publication:
        """The same. Blocks that cannot be read are passed over: they are no reason to lose the others."""
        public: list[bytes] = []
        for block in _BLOCK.findall(text):
            try:
                public += KeyRing.from_pem(block.encode(), "the ConfigMap").keys.values()
            except InputError:
                continue
        ring = KeyRing.of(public)
        times = {name: _time(annotations.get(SINCE + name, "")) for name in ring.keys}
        return cls(ring, {name: when for name, when in times.items() if when is not None})

    def with_keys(self, public: Iterable[bytes], now: datetime) -> Publication:
        """With these keys too; whatever has no time yet is published now."""
        ring = KeyRing({**self.ring.keys, **{key_id(raw): raw for raw in public}})
        return Publication(ring, {name: self.since.get(name, now) for name in ring.keys})

    @property
    def text(self) -> str:
        """As nodes read it: always in the same order, so that equal keys are equal text."""
        return "".join(pem_of(self.ring.keys[name]).decode() for name in sorted(self.ring.keys))

    @property
    def annotations(self) -> dict[str, str]:
        """The times."""
        return {SINCE + name: when.strftime(_FORMAT) for name, when in sorted(self.since.items())}

    def is_in(self, config_map: Mapping[str, Any]) -> bool:
        """Whether a ConfigMap says exactly this."""
        times = {name: text for name, text in _annotations(config_map).items() if name.startswith(SINCE)}
        return (config_map.get("data") or {}).get(PUBLIC_KEYS) == self.text and times == self.annotations

    def into(self, config_map: Json) -> Json:
        """The ConfigMap that says this, and whatever else it says."""
        others = {name: text for name, text in _annotations(config_map).items() if not name.startswith(SINCE)}
        return {
            **config_map,
            "metadata": {**config_map["metadata"], "annotations": {**others, **self.annotations}},
            "data": {**(config_map.get("data") or {}), PUBLIC_KEYS: self.text},
        }

    def usable_at(self, name: str, delay: timedelta) -> datetime | None:
        """From when on a key may sign; None while it is not published."""
        if name not in self.ring.keys:
            return None
        if len(self.ring.keys) == 1:
            return datetime.min.replace(tzinfo=UTC)
        when = self.since.get(name)
        return None if when is None else when + delay


def _annotations(config_map: Mapping[str, Any] | None) -> dict[str, str]:
    return dict(((config_map or {}).get("metadata") or {}).get("annotations") or {})


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
