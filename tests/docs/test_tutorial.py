"""What the tutorial shows are the files and cases that it names, and pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from segexplorer.training.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("tutorial", "how-to", "explanation")
    for path in (ROOT / "docs" / folder).glob("*.md")
)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in found if name == language]


def test_the_tutorial_shows_the_file_that_it_names() -> None:
    (shown,) = blocks("docs/tutorial/on-the-command-line.md", "yaml")
    file = Experiment.from_yaml(ROOT / "sample_configs" / "chen2023_phantom.yaml")
    assert Experiment.of(yaml.safe_load(shown)) == file


def test_the_tutorial_saves_a_validation_case() -> None:
    (shown,) = blocks("docs/tutorial/on-the-command-line.md", "python")
    (number,) = re.findall(r"cases\(\)\[(\d+)\]", shown)
    from segexplorer.training.plan import resolve

    plan = resolve(Experiment.from_yaml(ROOT / "sample_configs" / "chen2023_phantom.yaml"))
    chosen = plan.experiment.data.cases()[int(number)].id
    assert plan.roles[chosen] == "validation"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_there_and_described(page: str) -> None:
    for words, address in re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / page).read_text(), re.DOTALL):
        assert words.strip() and ((ROOT / page).parent / address).is_file(), address
