"""docs/losses.md says what the losses declare."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from segexplorer import losses

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    path = ROOT / "scripts" / "write_losses_page.py"
    found = importlib.util.spec_from_file_location("write_losses_page", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(writer: ModuleType) -> None:
    assert (ROOT / "docs" / "losses.md").read_text() == writer.page(), (
        "run: python scripts/write_losses_page.py"
    )


def test_the_page_holds_every_loss_and_says_what_is_missing(writer: ModuleType) -> None:
    text = writer.page()
    assert set(re.findall(r"^### (\w+)$", text, re.M)) == set(losses.names())
    for missing in ("Conditional boundary", "InverseForm", "Hayder", "Active boundary", "Shape-aware"):
        assert missing in text.split("## Named by the papers, and not here")[1]
    for preset in losses.presets():
        assert f"`{preset}`" in text
