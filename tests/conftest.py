"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.support.phases"]

if "CI" not in os.environ:  # there hypothesis has a profile of its own: no deadline, and always the same examples
    settings.register_profile("here", deadline=None)
    settings.load_profile("here")
