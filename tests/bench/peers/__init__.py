"""Programs in Go that others wrote, or that use what others wrote, to be measured beside ours."""

from __future__ import annotations

from pathlib import Path

PEERS = Path(__file__).resolve().parent
"""The folder of their Go modules; ``e2e.lab.tools`` builds them by the versions in there."""
