"""The files of the Helm chart, as tests read them without helm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts/armistice"
TEMPLATES = CHART / "templates"

README = CHART / "README.md"


def chart() -> dict[str, Any]:
    """Chart.yaml."""
    return dict(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8")))


def values() -> dict[str, Any]:
    """values.yaml: what counts where nothing is set."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))


def schema() -> dict[str, Any]:
    """values.schema.json."""
    return dict(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


def whole(value: Any) -> bool:
    """Whether a value is set as one: no map, or a map that people fill (or replace) as Kubernetes has it."""
    return not isinstance(value, dict) or not value or bool({"requests", "limits"} & set(value))


def leaves(found: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its path, such as ``webhook.replicas``."""
    for key, value in found.items():
        name = f"{path}.{key}" if path else key
        if whole(value) or key == "nodeSelector":
            yield name, value
        else:
            yield from leaves(value, name)


def templates() -> list[Path]:
    """Every file that becomes an object."""
    return sorted(TEMPLATES.rglob("*.yaml"))


def sources() -> dict[Path, str]:
    """Every template, helpers and notes among them."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.rglob("*.*"))}


def table(text: str) -> list[tuple[str, str, str]]:
    """The rows of a README's table of values: path, default, and what it is."""
    return re.findall(r"^\| `([A-Za-z.]+)` \| `([^`]*)` \| (.+) \|$", text, re.MULTILINE)
