"""Stars and measured rates: what is shipped is what the script measures, and no loss beats itself too often."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from segexplorer.study.designs import HIGHEST_RATE, Design, aa_rate, measured, withheld

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script that `make study` runs."""
    found = importlib.util.spec_from_file_location("measure_rates", ROOT / "scripts" / "measure_rates.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def rows(**wanted: object) -> list[dict[str, object]]:
    return [row for row in measured()["aa"] if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(
    ("population", "cases", "seeds", "folds"),
    [("normal", 8, 3, 1), ("skewed", 16, 5, 1), ("collapsing seeds", 8, 2, 1), ("10 % failing", 16, 3, 2)],
)
def test_a_measured_anew_cell_agrees_with_the_shipped_one(
    script: ModuleType, population: str, cases: int, seeds: int, folds: int
) -> None:
    (row,) = rows(population=population, cases=cases, seeds=seeds, folds=folds)
    spread = float(row["spread"])  # type: ignore[arg-type]
    studies = 5000
    rate, over_cases = script.aa_rates(population, seeds, cases, spread, folds, studies, entropy=99)
    error = math.sqrt(float(row["rate"]) / studies)  # type: ignore[arg-type]
    assert abs(rate - float(row["rate"])) < 4 * error + 1e-3  # type: ignore[arg-type]
    assert over_cases <= float(row["over_cases"]) + 4 * math.sqrt(0.25 / 4000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "population", ["normal", "skewed", "collapsing seeds", "10 % failing", "30 % failing"]
)
@pytest.mark.parametrize(("cases", "seeds"), [(6, 3), (11, 4), (20, 7)])
def test_a_condition_seldom_has_a_star_against_itself(
    script: ModuleType, population: str, cases: int, seeds: int
) -> None:
    """Designs between the measured ones, with a spread of seeds that was not measured."""
    failing = script.POPULATIONS[population][0]
    assert withheld(Design(cases, seeds, failing=failing)) == ""
    rate, _ = script.aa_rates(population, seeds, cases, 1.7, studies=4000, entropy=7)
    assert rate <= HIGHEST_RATE + 3 * math.sqrt(HIGHEST_RATE / 4000)


def test_a_shipped_coverage_agrees_with_the_one_measured_anew(script: ModuleType) -> None:
    (row,) = (
        r for r in measured()["coverage"] if (r["population"], r["cases"], r["seeds"]) == ("normal", 8, 3)
    )
    found = [script.coverage("normal", 3, 8, s, 0.02, 2000)[0] for s in script.SPREADS]
    assert min(found) == pytest.approx(row["crossed"], abs=0.02)


def test_cases_alone_are_no_measure_of_a_loss() -> None:
    """With one seed, Wilcoxon's test over cases tells a loss from itself half of the time."""
    (one,) = rows(population="normal", cases=16, seeds=1, folds=1)
    assert one["rate"] is None and float(one["over_cases"]) > 0.4  # type: ignore[arg-type]


def test_every_design_is_judged_by_the_nearest_measured_one_below() -> None:
    assert aa_rate(Design(8, 3)) == max(r["rate"] for r in rows(cases=8, seeds=3, folds=1, failing=0.0))  # type: ignore[type-var]
    assert aa_rate(Design(15, 4)) == aa_rate(Design(8, 3))
    assert aa_rate(Design(1000, 99, folds=10)) == aa_rate(Design(30, 10, folds=5))
    assert aa_rate(Design(8, 3, failing=0.02)) == aa_rate(Design(8, 3, failing=0.1)) >= aa_rate(Design(8, 3))
    for none in (Design(4, 3), Design(8, 3, failing=0.31), Design(8, 1)):
        assert math.isnan(aa_rate(none)) and withheld(none)


def test_why_there_is_no_star_is_a_clause() -> None:
    assert withheld(Design(30, 1)) == "a star needs at least 3 seeds of each condition, and there is one"
    assert withheld(Design(30, 2)) == "a star needs at least 3 seeds of each condition, and there are 2"
    assert withheld(Design(4, 5)) == "no A/A rate was measured for 4 cases, 5 seeds"
    assert withheld(Design(30, 5, failing=0.5)) == (
        "no A/A rate was measured for 30 cases, 5 seeds and 50 % failing scores"
    )


def test_every_design_with_a_star_was_measured_to_deserve_it() -> None:
    for row in measured()["aa"]:
        design = Design(row["cases"], row["seeds"], row["folds"], row["failing"])
        assert (withheld(design) == "") == (row["seeds"] >= 3 and aa_rate(design) <= HIGHEST_RATE)
    assert np.mean([withheld(Design(n, 3)) == "" for n in (5, 8, 16, 30)]) == 1
