"""What a cell shows of our objects: the facts that matter, and nothing of a file as markup."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.core.events import CaseScore
from segexplorer.data.volume import Volume
from segexplorer.metrics import distributions
from segexplorer.study.compare import GroupedComparison
from segexplorer.study.comparison import Comparison, ConditionSummary, Difference
from segexplorer.study.result_comparison import SetComparison, SetDifference
from segexplorer.training.experiment import Experiment
from tests.frontends.notebook.conftest import EXPERIMENT


@pytest.fixture
def shown() -> Any:
    """IPython's own way from an object to its HTML."""
    pytest.importorskip("IPython")
    from IPython.core.formatters import DisplayFormatter

    from segexplorer.frontends.notebook.reprs import register

    class Shell:
        display_formatter = DisplayFormatter()

    register(Shell())

    def html(thing: Any) -> str:
        found, _ = Shell.display_formatter.format(thing)
        return str(found.get("text/html", ""))

    return html


def test_volumes_cases_and_data_sets(shown: Any) -> None:
    experiment = Experiment.of(EXPERIMENT)
    case = experiment.data.cases()[0].open()
    image = shown(case.images[0])
    assert "32 × 32 × 32 voxels" in image and "data:image/png;base64," in image
    assert "label 1" in shown(case) and "Volume (ml)" in shown(case)
    assert "3 cases" in shown(experiment.data) and case.id in shown(experiment.data)
    empty = Volume.from_array(np.ones((4, 4, 4), np.uint8), affine=np.eye(4))
    label = empty.with_array(empty.array, label_names={1: "<b>x</b>"})
    assert "data:image/png" in shown(label) and "<b>x</b>" not in shown(label)


def test_an_experiment_shows_what_differs(shown: Any) -> None:
    html = shown(Experiment.of(EXPERIMENT))
    assert "sampling.patch_size" in html and "<details>" in html
    assert "validation.overlap" in html and "validation.select_best" not in html.partition("<details>")[0]


def test_runs_and_scores(shown: Any, finished: Path) -> None:
    html = shown(segexplorer.open_run(finished))
    assert "finished" in html and "<svg" in html and "Dice" in html


def test_a_loss_shows_its_terms(shown: Any) -> None:
    import torch

    loss = segexplorer.losses.create("dice_cross_entropy")
    output = loss.evaluate(torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4, dtype=torch.long))
    assert "cross_entropy" in shown(output) and "Product" in shown(output)


def scored(case: str, dice: float, class_name: str = "liver") -> CaseScore:
    return CaseScore(
        case=case,
        class_name=class_name,
        role="validation",
        state="scored",
        metrics={"dice": dice},
        truth_ml=9.0,
        false_positive_ml=1.0,
        false_negative_ml=1.0,
    )


def summary(label: str, shift: float) -> ConditionSummary:
    found = [scored(f"case {n}", 0.5 + shift + 0.01 * n) for n in range(6)]
    return ConditionSummary(
        label=label,
        runs=(label,),
        seeds=(0, 1, 2),
        n_cases=6,
        n_scores=18,
        minutes=1.0,
        gradient_norm=1.0,
        steps=10,
        batch_size=1,
        seed_means={"dice": {0: 0.5, 1: 0.5, 2: 0.5}},
        seed_sd={"dice": 0.01},
        case_means={"dice": {}},
        distributions=tuple(distributions(found, ("dice",))),
    )


def difference(**facts: Any) -> Difference:
    counts = dict.fromkeys([f.name for f in fields(Difference) if f.name.startswith("n_")], 0)
    numbers = {f.name: math.nan for f in fields(Difference) if f.type == "float"}
    known: dict[str, Any] = {
        "condition": "<b>B</b>",
        "reference": "A",
        "class_name": "liver",
        "metric": "dice",
    }
    return Difference(**{**counts, **numbers, "seed_means": {}, "withheld": "", **known, **facts})


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({}, "how far other trainings and cases would differ is not known"),
        (
            {"low": -0.1, "high": 0.3, "p_holm": 0.4},
            "no difference is shown, which does not show that there is none",
        ),
        ({"low": 0.05, "high": 0.15, "p_holm": 0.001, "better": "condition"}, "p = 0.001: better."),
        ({"low": 0.05, "high": 0.15, "p_holm": 0.0001, "better": "condition"}, "p &lt; 0.001: better."),
        (
            {"low": 0.05, "high": 0.15, "p_holm": 0.01, "withheld": "it is too small"},
            "no star, since it is too small.",
        ),
        (
            {"low": -0.01, "high": 0.01, "p_holm": 0.9, "p_equivalence_holm": 0.01, "margin": 0.05},
            "equivalent within ±0.05",
        ),
    ],
)
def test_a_comparison_of_conditions_says_what_it_shows(
    shown: Any, facts: dict[str, Any], sentence: str
) -> None:
    row = difference(mean=0.1, n_pairs=6, n_tests=1, **facts)
    conditions = (summary("A", 0.0), summary("<b>B</b>", 0.1))
    made = Comparison("last", "validation", "A", ("dice",), conditions, (row,), (), ("Beside <i>it</i>.",))
    for thing in (made, GroupedComparison((made,), (summary("C", 0.0),), ("dice",), ("Apart.",))):
        html = shown(thing)
        assert sentence in html and "+0.100" in html and "<b>0.6" in html
        assert "Beside &lt;i&gt;it&lt;/i&gt;." in html and "<i>it" not in html and "<b>B" not in html
    assert "C: no other condition can be compared with it." in html and "Apart." in html


def test_sets_of_results_side_by_side(shown: Any) -> None:
    sides = {"first": 0.0, "<b>second</b>": 0.1}
    found = {
        label: tuple(distributions([scored(f"case {n}", 0.5 + shift) for n in range(6)], ("dice",)))
        for label, shift in sides.items()
    }
    row = SetDifference(
        "<b>second</b>",
        "first",
        "liver",
        "dice",
        6,
        6,
        0,
        0.1,
        0.05,
        0.15,
        0.03,
        5,
        1,
        p_holm=0.03,
        n_tests=1,
    )
    html = shown(SetComparison("first", ("case 0",), ("dice",), found, (row,), ("Of these networks alone.",)))
    assert (
        "&lt;b&gt;second&lt;/b&gt; against first: Dice +0.100, 95 % interval over cases [0.050, 0.150]"
        in html
    )
    assert "better in 5 of 6 cases, worse in 1." in html and "Of these networks alone." in html
    assert "reference" in html and "<b>second" not in html


def test_a_race_shows_its_lanes(shown: Any, finished: Path, tmp_path: Path) -> None:
    race = segexplorer.race(finished, {"loss": "cross_entropy"}, steps=2, output=tmp_path / "race")
    html = shown(race)
    assert "cross_entropy" in html and "control" in html and "By Dice, B is" in html
    assert "A and B" in shown(race.difference())


def test_scores_of_a_case(shown: Any) -> None:
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:6, 2:6, 2:6] = 1
    truth = Volume.from_array(label, affine=np.eye(4))
    found = segexplorer.evaluate(truth, truth, {"<b>": 1}, surfaces=False)
    html = shown(found)
    assert isinstance(found, tuple) and "Dice (DSC)" in html and "1.000" in html and "&lt;b&gt;" in html
    assert "No class" in shown(type(found)())


def test_importing_the_package_in_ipython_is_enough_and_loads_nothing_heavy() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance();"
        "import segexplorer, sys;"
        "f = s.display_formatter.formatters['text/html'];"
        "print(('segexplorer.data.volume', 'Volume') in f.deferred_printers,"
        " [m for m in ('torch', 'ipywidgets', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "True []"
