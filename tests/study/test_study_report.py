"""The page about a study: the comparison's own numbers, without names unless they are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import segexplorer
from segexplorer.core.errors import SpecError
from segexplorer.study import compare_groups
from segexplorer.study.render import differences_cells, means_cells
from segexplorer.viewmodels.study_report import is_study, study_report
from tests.study.test_compare import score

RunMaker = Callable[..., Path]
PATIENTS = [f"Maier_{i}" for i in range(8)]


@pytest.fixture
def study(make_run: RunMaker, tmp_path: Path) -> Path:
    """Two losses with two seeds each, eight cases, one class; the focal runs are better by .1."""
    for seed in (0, 1):
        for name, loss, gain in (("Maier_dice", "dice", 0.0), ("Maier_focal", "focal", 0.1)):
            scores = [
                score(case, "liver", 0.6 + 0.02 * i + 0.01 * seed * (-1) ** i + gain)
                for i, case in enumerate(PATIENTS)
            ]
            make_run(f"{name}_{seed}", scores, loss=loss, seed=seed)
    return tmp_path


def test_tables_are_those_of_the_comparison(study: Path) -> None:
    report = study_report(study, named=True)
    (group,) = report.groups
    (comparison,) = compare_groups(sorted(study.glob("Maier*"))).comparisons
    means, differences = group.tables[:2]
    expected = [
        [f"{text} *" if star else text for text, _, star in row] for row in means_cells(comparison, "liver")
    ]
    assert [list(row[1:-1]) for row in means.rows] == expected
    assert list(differences.rows) == differences_cells(comparison, "liver")
    assert [row[2] for row in report.runs.rows] == ["0", "1", "0", "1"]
    assert "crossed random factors" in report.methods
    assert "Random seeds: 0, 1" in report.methods


def test_a_study_without_names(study: Path, tmp_path: Path) -> None:
    out = tmp_path.parent / f"{tmp_path.name}-pages"
    out.mkdir()
    plain = segexplorer.report(study, out / "plain.html").read_text("utf-8")
    named = segexplorer.report(study, out / "named.html", names=True).read_text("utf-8")
    assert "Maier" not in plain
    assert "Maier_focal_1" in named
    assert "run_004" in plain
    # the figures are the same
    numbers = [re.findall(r"[+-]0\.1\d\d", text) for text in (plain, named)]
    assert numbers[0] == numbers[1] != []


def test_a_run_is_no_study(study: Path) -> None:
    assert is_study(study)
    assert not is_study(study / "Maier_dice_0")
    assert not is_study(study / "nowhere")


def test_a_study_without_a_finished_run_is_a_sentence(make_run: RunMaker, tmp_path: Path) -> None:
    make_run("going", [score("a", "liver", 0.5)], finished=False)
    with pytest.raises(SpecError, match="No run of"):
        segexplorer.report(tmp_path, tmp_path / "r.html")
