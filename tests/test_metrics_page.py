"""docs/metrics.md says what the metrics declare and do."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from segexplorer import metrics

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    path = ROOT / "scripts" / "write_metrics_page.py"
    found = importlib.util.spec_from_file_location("write_metrics_page", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(writer: ModuleType) -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == writer.page(), (
        "run: python scripts/write_metrics_page.py"
    )


def test_every_metric_has_an_entry_with_formula_and_source(writer: ModuleType) -> None:
    text = writer.page()
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert list(entries) == metrics.names()
    for name, entry in entries.items():
        assert "$$" in entry and "Reference: " in entry, name
        assert metrics.spec(name).title in entry
    assert "Near 1 by volume" in entries["specificity"]


def test_every_definition_of_hd95_is_told_apart(writer: ModuleType) -> None:
    chosen = writer.page().split("## Which HD95?")[1].split("##")[0]
    for name in ("hd95", "hd95_pooled", "hd95_mean", "assd", "assd_mean", "asd", "hd"):
        assert f"`{name}`" in chosen
