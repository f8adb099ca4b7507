"""What the README promises of its loss and of its two commands; `docs/test_blocks.py` runs its blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def blocks(file: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (ROOT / file).read_text(), flags=re.DOTALL | re.MULTILINE
    )


def test_readme_loss_is_a_drop_in() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md", "python")[-1], "README.md", "exec"), names)
    assert names["logits"].grad.isfinite().all()
    assert names["logits"].grad.abs().sum() > 0
    total = sum(float(value) * float(weight) for value, weight in names["output"].terms.values())
    assert total == pytest.approx(float(names["output"].value.detach()), rel=1e-5)


def test_readme_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "docs"} <= named <= targets
