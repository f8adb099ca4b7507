"""Curves from events: thinning, smoothing, resumed runs, marks, CSV."""

from __future__ import annotations

import csv
import io
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from segexplorer.core.colours import ClassColours
from segexplorer.core.events import (
    CaseScore,
    CheckpointSaved,
    EpochDone,
    ParameterApplied,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.viewmodels.curves import PLOTS, Curves, decimate, line_colour, line_title, smooth


def step(number: int, loss: float = 1.0, attempt: int = 1) -> StepDone:
    return StepDone(
        attempt=attempt,
        step=number,
        epoch=1,
        loss=loss,
        terms={"dice": (loss / 2, 1.0), "ce": (loss, 0.5)},
        learning_rate=1e-3,
        gradient_norm=2.0,
        seconds=0.1,
        samples=2,
    )


def validation(number: int, dice: float = 0.5, attempt: int = 1) -> ValidationDone:
    scores = tuple(
        CaseScore(
            case=case,
            class_name="liver",
            role="validation",
            state="scored",
            metrics={"dice": dice, "f2": dice, "sensitivity": 0.9},
            false_positive_ml=fp,
            false_negative_ml=1.0,
            truth_ml=10.0,
        )
        for case, fp in (("a", 2.0), ("b", 4.0))
    )
    return ValidationDone(
        attempt=attempt,
        step=number,
        epoch=1,
        loss=0.4,
        scores=scores,
        mean_dice=dice,
        class_dice={"liver": dice},
        n_used=2,
        n_absent=0,
        n_missed=0,
        best=True,
        seconds=1.0,
    )


def steps_of(curves: Curves, plot: str, name: str) -> list[int]:
    return [int(s) for s in curves.series(plot)[name][0]]


def test_events_become_named_curves() -> None:
    curves = Curves()
    curves.extend(
        [
            step(1, 2.0),
            step(2, 1.0),
            EpochDone(step=2, epoch=1, epochs=2, loss=1, terms={}, adaptive={"kappa": 3}),
        ]
    )
    curves.add(validation(2, 0.7))
    assert [p.key for p in curves.plots()] == [
        "loss",
        "weights",
        "validation_loss",
        "dice",
        "f2",
        "sensitivity",
        "specificity",
        "precision",
        "jaccard",
        "not_found",
        "error_volume",
        "learning_rate",
        "gradient_norm",
    ]
    assert {k: v[1].tolist() for k, v in curves.series("loss").items()} == {
        "total": [2.0, 1.0],
        "dice": [1.0, 0.5],
        "ce": [2.0, 1.0],
    }
    assert curves.series("weights")["ce"][1].tolist() == [0.5, 0.5]
    assert curves.series("weights")["kappa"][1].tolist() == [3.0]
    assert curves.series("dice")["liver"][1].tolist() == [0.7]
    assert curves.series("error_volume")["liver, extra"][1].tolist() == [3.0]


def test_every_plot_says_what_it_was_measured_on() -> None:
    for plot in PLOTS:
        assert plot.domain in plot.y_title
        assert plot.x_title == "optimiser step"
    domains = {p.key: p.domain for p in PLOTS}
    assert domains["loss"] == "training, patches"
    assert domains["dice"] == domains["validation_loss"] == "whole volumes"


def test_a_resume_drops_what_it_does_again() -> None:
    curves = Curves()
    curves.extend([*(step(n) for n in range(1, 11)), validation(5), validation(10)])
    curves.add(ParameterApplied(step=8, field="loss.alpha", value=0.7, previous=0.5))
    curves.add(StateChanged(attempt=2, step=6, state="preparing"))
    assert steps_of(curves, "loss", "total") == [1, 2, 3, 4, 5, 6]
    assert steps_of(curves, "validation_loss", "total") == [5]
    assert curves.marks() == ()
    curves.add(step(7, 9.0, attempt=2))
    assert steps_of(curves, "loss", "total") == [1, 2, 3, 4, 5, 6, 7]
    assert curves.series("loss")["total"][1][-1] == 9.0


def test_a_resume_known_only_by_its_steps_replaces_them() -> None:
    curves = Curves()
    curves.extend([*(step(n) for n in range(1, 6)), validation(5), step(4, 7.0, attempt=2)])
    assert steps_of(curves, "loss", "total") == [1, 2, 3, 4]
    assert curves.names("dice") == []


def test_a_validation_told_twice_counts_once() -> None:
    curves = Curves()
    curves.extend([validation(5, 0.5), validation(5, 0.6, attempt=2)])
    assert curves.series("dice")["mean"][1].tolist() == [0.6]


def test_marks_are_changes_and_the_last_best() -> None:
    curves = Curves()
    curves.add(CheckpointSaved(step=5, folder="a", pointers=("last", "best")))
    curves.add(CheckpointSaved(step=7, folder="b", pointers=("last",)))
    curves.add(ParameterApplied(step=6, field="loss.alpha", value=0.7, previous=0.5))
    curves.add(CheckpointSaved(step=9, folder="c", pointers=("last", "best")))
    assert [(m.step, m.kind) for m in curves.marks()] == [(6, "change"), (9, "best")]
    assert curves.marks()[0].text == "loss.alpha: 0.5 → 0.7"


def test_long_curves_are_bounded_and_keep_a_spike() -> None:
    curves = Curves(limit=200)
    curves.extend(step(n, 50.0 if n == 3333 else 1.0) for n in range(1, 5001))
    steps, values = curves.series("loss")["total"]
    assert len(steps) <= 200
    assert steps[values.argmax()] == 3333
    assert (steps[0], steps[-1]) == (1, 5000)


def test_csv_has_every_point_exactly() -> None:
    curves = Curves(limit=4)
    curves.extend(step(n, 1 / n) for n in range(1, 21))
    curves.add(ParameterApplied(step=3, field="loss.alpha", value=0.7, previous=0.5))
    rows = list(csv.DictReader(io.StringIO(curves.to_csv())))
    totals = [r for r in rows if (r["plot"], r["curve"]) == ("loss", "total")]
    assert [float(r["value"]) for r in totals] == [1 / n for n in range(1, 21)]
    assert {r["measured_on"] for r in totals} == {"training, patches"}
    assert rows[-1] == {
        "plot": "mark",
        "measured_on": "",
        "curve": "change",
        "step": "3",
        "value": "loss.alpha: 0.5 → 0.7",
    }


def test_revision_tells_whether_to_draw() -> None:
    curves = Curves()
    curves.add(StateChanged(state="running"))
    assert curves.revision == 0
    curves.add(step(1))
    assert curves.revision == curves.revision_of("training, patches") == 1
    assert curves.revision_of("whole volumes") == 0
    curves.add(ParameterApplied(step=1, field="loss.alpha", previous="0.5", value="0.7"))
    assert curves.revision_of("training, patches") == 2, "marks are drawn in every plot"
    assert curves.revision_of("whole volumes") == 1


numbers = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=300)


@settings(max_examples=50, deadline=None)
@given(numbers, st.integers(4, 60))
def test_decimation_keeps_extremes_order_and_bounds(values: list[float], limit: int) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    kept_x, kept_y = decimate(x, y, limit)
    assert len(kept_x) <= max(limit, 1)
    assert (np.diff(kept_x) > 0).all()
    assert (kept_x[0], kept_x[-1]) == (x[0], x[-1])
    assert np.array_equal(kept_y, y[kept_x.astype(int)], equal_nan=True)
    if np.isfinite(y).any():
        assert np.nanmin(kept_y) == np.nanmin(y)
        assert np.nanmax(kept_y) == np.nanmax(y)


@settings(max_examples=30, deadline=None)
@given(numbers, st.floats(0, 0.99))
def test_smoothing_is_the_weighted_mean_of_what_came(values: list[float], weight: float) -> None:
    y = np.array(values)
    result = smooth(y, weight)
    assert (np.isnan(result) == np.isnan(y)).all()
    seen = y[np.isfinite(y)]
    for t in range(min(len(seen), 20)):
        weights = weight ** np.arange(t, -1, -1.0)
        expected = (weights * seen[: t + 1]).sum() / weights.sum()
        assert result[np.isfinite(y)][t] == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_impossible_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        smooth(np.ones(3), 1.0)


def test_a_term_has_one_colour_in_every_plot_and_its_neighbours_are_far_from_it() -> None:
    model, palette = Curves(), ClassColours(("liver",))
    model.extend([step(1), step(2)])
    drawn = {key: model.series(key) for key in ("loss", "weights")}
    colours = {
        key: {name: line_colour(name, names, palette) for name in names} for key, names in drawn.items()
    }
    assert colours["loss"].pop("total") is None
    assert colours["loss"] == colours["weights"] and set(colours["loss"]) == {"dice", "ce"}
    terms = [f"term {n}" for n in range(12)]
    found = [line_colour(name, ["total", *terms], palette) or "" for name in terms]
    assert len(set(found)) == len(terms)
    lab = [rgb2lab(np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)]]) / 255)[0] for text in found]
    for terms_drawn, least in ((3, 40), (4, 35), (5, 25)):
        assert min(deltaE_ciede2000(*pair) for pair in combinations(lab[:terms_drawn], 2)) > least


def test_a_legend_calls_a_class_by_its_name_and_a_term_by_words() -> None:
    palette = ClassColours(("left_kidney",))
    assert line_title("left_kidney, missed", palette) == "left_kidney, missed"
    assert line_title("cross_entropy", palette) == "cross entropy"
