"""Golden texts: what a person sees, kept beside the tests and reviewed like code.

``ARMISTICE_WRITE_GOLDEN=1 pytest ...`` writes them anew; the diff is then read before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "golden"
SWITCH = "ARMISTICE_WRITE_GOLDEN"


def check_golden(name: str, text: str) -> None:
    """Compare a text with the golden one; spaces at the ends of lines do not count."""
    found = "".join(line.rstrip() + "\n" for line in text.splitlines())
    path = FOLDER / name
    if os.environ.get(SWITCH):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert path.exists(), f"{path} is missing; {SWITCH}=1 writes it"
    assert found == path.read_text(encoding="utf-8")
