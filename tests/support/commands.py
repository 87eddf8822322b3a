"""What a README tells people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def commands(readme: Path) -> list[str]:
    """Every command of its blocks that are marked as shell, in order; one that is continued is one."""
    return [command for block in blocks(readme) for command in _joined(block)]


def blocks(readme: Path) -> list[str]:
    """Those blocks."""
    return re.findall(r"^```shell\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _joined(block: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
