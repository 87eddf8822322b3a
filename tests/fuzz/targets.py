"""Every target by its name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import demands, frames, intents, live, quantities, reviews, sysfs
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    module.TARGET.name: module.TARGET for module in (reviews, live, demands, frames, sysfs, quantities, intents)
}
