"""The project's version, as pyproject.toml has it: asking the installed package's metadata takes 2 MiB of modules."""

from __future__ import annotations

VERSION = "0.1.0"
