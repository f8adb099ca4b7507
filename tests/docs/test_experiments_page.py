"""docs/explanation/experiments.md names every file of a paper, and what it shows is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from segexplorer.core.papers import PAPERS
from segexplorer.training.experiment import Experiment, sample_configs

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs" / "explanation" / "experiments.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not TEXT.is_file():
        pytest.skip("docs/ is not here")
    return TEXT.read_text(encoding="utf-8")


def test_every_file_of_a_paper_is_named_and_every_named_file_is_there(text: str) -> None:
    files = {path.stem for path in sample_configs().glob("*.yaml")}
    of_papers = {stem for stem in files if stem.startswith(tuple(f"{p.prefix}_" for p in PAPERS.values()))}
    assert len(of_papers) > len(PAPERS)
    named = set(re.findall(r"`(?:sample_configs/)?(\w+)\.yaml`", text))
    assert not {stem for stem in of_papers - named if not stem.endswith("_deep")}
    assert named <= files


def test_every_paper_has_a_section_with_its_title_and_doi(text: str) -> None:
    for citation, paper in PAPERS.items():
        assert f"## {citation}: " in text
        assert f"[{paper.title}](https://doi.org/{paper.doi})" in text


def test_what_it_shows_is_an_experiment(text: str) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    experiment = Experiment.of({"data": {"kind": "phantom"}, **yaml.safe_load(shown)})
    assert experiment.preprocessing.crop.to == "body" and experiment.sampling.shift == 10
