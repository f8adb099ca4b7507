"""The generated parts of docs/ say what the package declares."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

import segexplorer
from segexplorer import losses, metrics, networks
from segexplorer.core.registry import families
from segexplorer.data import datasets
from segexplorer.frontends.cli.app import app
from segexplorer.losses.base import weightings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
STALE = "A page of docs/reference is out of date. Run: make pages"
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if "<!-- begin " in path.read_text(encoding="utf-8")
]


def entries(page: str, level: int = 3) -> dict[str, str]:
    """Return what a page says under every heading that is a name in code."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    pattern = rf"^{'#' * level} `([\w.]+)`\n(.*?)(?=^#{{2,{level}}} |\Z)"
    return dict(re.findall(pattern, text, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    path = ROOT / "scripts" / "write_pages.py"
    found = importlib.util.spec_from_file_location("write_pages", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_up_to_date(writer: ModuleType, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == writer.filled(text), f"{page} is out of date. Run: make pages"


def test_every_block_is_on_some_page(writer: ModuleType) -> None:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"<!-- begin ([\w-]+) -->", text)) == set(writer.BLOCKS)


def test_a_page_cannot_ask_for_what_nobody_prints(writer: ModuleType) -> None:
    with pytest.raises(KeyError, match="no-such-block"):
        writer.filled("<!-- begin no-such-block -->\n<!-- end no-such-block -->")


def ours(specs: dict[str, type]) -> set[str]:
    return {kind for kind, spec in specs.items() if spec.__module__.startswith("segexplorer.")}


def test_every_kind_has_an_entry() -> None:
    assert set(entries("losses.md")) == ours(losses.registry.specs()), STALE
    assert set(entries("weightings.md", 2)) == ours(weightings.specs()), STALE
    assert set(entries("networks.md")) == ours(networks.registry.specs()), STALE
    assert set(entries("datasets.md")) == ours(datasets.registry.specs()), STALE
    own = [name for name in metrics.names() if not metrics.registry.package_of(name)]
    assert list(entries("metrics.md")) == own, STALE
    elsewhere = {**entries("experiment.md"), **entries("other-kinds.md")}
    for family, registry in families().items():
        without_window = not registry.base.__module__.startswith("segexplorer.frontends.")
        if without_window and not (REFERENCE / f"{family}.md").is_file():
            assert ours(registry.specs()) <= set(elsewhere), STALE


def test_every_command_and_public_name_has_an_entry() -> None:
    group = typer.main.get_command(app)
    shown = {name for name, command in group.commands.items() if not command.hidden}  # type: ignore[attr-defined]
    assert set(entries("command-line.md")) == shown, STALE
    assert set(entries("python.md", 2)) == {f"segexplorer.{name}" for name in segexplorer.__all__}, STALE


def test_losses_and_metrics_show_formula_and_source() -> None:
    for name, entry in {**entries("losses.md"), **entries("metrics.md")}.items():
        assert entry.count("$$") == 2 and "**Reference:**" in entry, name
    assert "Near 1 by volume" in entries("metrics.md")["specificity"]


def test_presets_of_papers_are_listed() -> None:
    text = (REFERENCE / "losses.md").read_text() + (REFERENCE / "networks.md").read_text()
    own = {
        n: p for n, p in networks.registry.presets().items() if type(p.spec).__module__.startswith("segex")
    }
    for preset in (*losses.presets(), *own):
        assert f"`{preset}`" in text


def test_what_is_written_by_hand_is_still_there() -> None:
    missing = (REFERENCE / "losses.md").read_text().split("not included")[1]
    for name in ("Conditional boundary", "InverseForm", "Hayder", "Active boundary", "Shape-aware"):
        assert name in missing
    chosen = (REFERENCE / "metrics.md").read_text().split("## Which HD95?")[1].split("\n## ")[0]
    for name in ("hd95", "hd95_pooled", "hd95_mean", "assd", "assd_mean", "asd", "hd"):
        assert f"`{name}`" in chosen
