"""What there is to measure of the certificates and keys that a process keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from webhook.authority import Slot
from webhook.bundles import Configuration


class Work(Enum):
    """The objects that are written; a metric's label."""

    AUTHORITIES = "authorities"
    SIGNING_KEY = "signing-key"
    PUBLIC_KEYS = "public-keys"
    CONFIGURATIONS = "configurations"
    LEASE = "lease"


@dataclass(slots=True)
class Figures:
    """What there is to measure; counts from the start of the process."""

    conflicts: Counter[Work] = field(default_factory=Counter)
    """Writes that came second."""
    repairs: Counter[Configuration] = field(default_factory=Counter)
    """Configurations that were given the bundle."""
    present: dict[Configuration, bool] = field(default_factory=dict)
    """Whether each was there at the last look."""
    ends: dict[Slot, datetime] = field(default_factory=dict)
    """Of the authorities."""
    public_keys: int = 0
    """That nodes believe."""
    synced: datetime | None = None
    """When everything was last seen in order, or put in order."""
    leading: bool = False

    def conflict(self, work: Work) -> Callable[[], None]:
        """Counts one when it is called."""
        return lambda: self.conflicts.update([work])
