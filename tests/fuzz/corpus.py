"""Where findings are kept: ``corpus/TARGET/NAME.input`` the bytes, ``NAME.txt`` what was wrong and how to repeat it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.fuzz.run import Finding

CORPUS = Path(__file__).parent / "corpus"


def keep(finding: Finding, corpus: Path = CORPUS) -> Path:
    """Write a finding down; its file."""
    kind = re.sub("[^a-z0-9]+", "-", finding.kind.lower()).strip("-")[:40]
    name = f"{kind}-{hashlib.sha256(finding.data).hexdigest()[:8]}"
    folder = corpus / finding.target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.input"
    path.write_bytes(finding.data)
    path.with_suffix(".txt").write_text(
        f"{' '.join(finding.text.split())}\n\n"
        f"Found as input {finding.number} of seed {finding.seed}. Again, this input alone:\n\n"
        f"    python -m tests.fuzz {finding.target} --input tests/fuzz/corpus/{finding.target}/{path.name}\n",
        encoding="utf-8",
    )
    return path


def kept(target: str, corpus: Path = CORPUS) -> list[Path]:
    """Every input that is kept for a target."""
    return sorted((corpus / target).glob("*.input"))
