"""The papers are described in one place, and everything that cites one means a paper that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.papers import PAPERS, full_reference
from segexplorer.core.registry import Registry
from segexplorer.losses import registry as losses
from segexplorer.metrics import ALL_METRICS
from segexplorer.networks import registry as networks

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/losses.md"


@pytest.mark.parametrize("registry", [losses, networks], ids=["losses", "networks"])
def test_kinds_cite_known_papers(registry: Registry) -> None:  # type: ignore[type-arg]
    own = [spec for spec in registry.specs().values() if spec.__module__.startswith("segexplorer.")]
    cited = {citation for spec in own for citation in spec.papers}
    assert cited == set(PAPERS)


@pytest.mark.parametrize("registry", [losses, networks], ids=["losses", "networks"])
def test_presets_are_named_after_their_paper(registry: Registry) -> None:  # type: ignore[type-arg]
    presets = {name: preset for name, preset in registry.presets().items() if preset.group in PAPERS}
    assert presets
    for name, preset in presets.items():
        paper = PAPERS[preset.group]
        assert name.startswith(f"{paper.prefix}_")
        assert preset.display_name.endswith(f" ({paper.citation})")


def test_metrics_cite_known_papers() -> None:
    cited = [entry for metric in ALL_METRICS.values() for entry in metric.papers]
    assert cited and all(entry.startswith(tuple(PAPERS)) for entry in cited)


def test_how_a_paper_is_written() -> None:
    paper = PAPERS["Chen 2023"]
    assert (paper.prefix, paper.heading) == ("chen2023", "Adaptive region loss (Chen 2023)")
    assert full_reference("Chen 2023") == (
        "Chen 2023: Adaptive Region-Specific Loss for Improved Medical Image Segmentation, "
        "doi:10.1109/TPAMI.2023.3289667"
    )
    assert full_reference("Somebody 1999") == "Somebody 1999"


def test_the_page_of_losses_links_every_paper() -> None:
    if not PAGE.is_file():
        pytest.skip("the documentation is not here")
    text = PAGE.read_text(encoding="utf-8")
    assert [paper.citation for paper in PAPERS.values() if f"https://doi.org/{paper.doi}" not in text] == []
