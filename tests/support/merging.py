"""YAML that comes to much more than it says."""

from __future__ import annotations


def merging(levels: int) -> str:
    """A flow sequence of mappings, each of which merges the one before nine times: a few characters more for each
    level, and nine times the entries."""
    lines = [f"&a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels + 1)]
    return f"[{', '.join(['&a0 {x: y}', *lines])}]"
