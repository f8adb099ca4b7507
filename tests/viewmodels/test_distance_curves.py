"""Curves of surface distances: means over found structures, and what they leave out told, never drawn as 0."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from segexplorer import metrics
from segexplorer.core.events import StateChanged, ValidationDone
from segexplorer.viewmodels.curves import NO_DISTANCES, NONE_FOUND, PLOTS, Curves

SHAPE, SPACING = (8, 8, 8), (1.0, 1.0, 2.0)
DIAGONAL = math.sqrt(8**2 + 8**2 + 16**2)
PLOT = {plot.key: plot for plot in PLOTS}


def volume(**boxes: slice) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    for value, name in enumerate(("liver", "lesion"), start=1):
        if name in boxes:
            array[boxes[name], 2:4, 2:4] = value
    return array


TRUTH = volume(liver=slice(1, 4), lesion=slice(5, 7))


def validation(
    step: int, *predictions: np.ndarray, surfaces: bool = True, attempt: int = 1
) -> ValidationDone:
    scores = tuple(
        score
        for case, found in enumerate(predictions)
        for score in metrics.score_case(
            found, TRUTH, ("liver", "lesion"), SPACING, case=str(case), surfaces=surfaces
        )
    )
    return ValidationDone(
        attempt=attempt,
        step=step,
        epoch=1,
        loss=0.4,
        scores=scores,
        mean_dice=0.5,
        class_dice={"liver": 0.5, "lesion": 0.5},
        n_used=2,
        n_absent=0,
        n_missed=0,
        best=False,
        seconds=1.0,
    )


SHIFTED = volume(liver=slice(2, 5), lesion=slice(5, 7))
WITHOUT_LESION = volume(liver=slice(1, 4))


def test_distances_have_axes_of_their_own_in_mm() -> None:
    ratios = [plot for plot in PLOTS if plot.limits == (0.0, 1.0)]
    assert {plot.key for plot in ratios} == set(metrics.METRICS)
    for key in ("hd95", "hd95_penalised", "assd"):
        assert PLOT[key].title.endswith(", mm") and PLOT[key].limits is None
        assert PLOT[key].domain == "whole volumes"


def test_a_missed_structure_is_a_gap_and_told_and_never_0() -> None:
    curves = Curves()
    curves.add(validation(10, TRUTH, SHIFTED))
    curves.add(validation(20, TRUTH, WITHOUT_LESION))
    curves.add(validation(30, WITHOUT_LESION, WITHOUT_LESION))
    series = curves.series("hd95")
    assert series["liver"][1].tolist() == [0.5, 0.0, 0.0]
    assert series["lesion"][1] == pytest.approx([0.0, 0.0, math.nan], nan_ok=True)
    penalised = curves.series("hd95_penalised")["lesion"][1]
    assert penalised == pytest.approx([0.0, DIAGONAL / 2, DIAGONAL])
    # the mean of step 20 leaves one lesion out, that of step 30 both: 0 mm is no praise there
    assert {n: s.tolist() for n, (s, _) in curves.partial("hd95").items()} == {
        "mean": [20.0, 30.0],
        "lesion": [20.0],
    }
    assert curves.partial("hd95_penalised") == curves.partial("dice") == {}
    assert curves.remark("hd95") == "× some left out, last: lesion: missed in 2"
    assert curves.remark("hd95_penalised") == "counted as the diagonal, last: lesion: missed in 2"
    assert curves.remark("dice") == ""
    assert curves.series("not_found")["lesion, missed"][1].tolist() == [0, 1, 2]
    assert curves.series("not_found")["lesion, spurious"][1].tolist() == [0, 0, 0]


def test_crosses_of_earlier_means_are_explained() -> None:
    curves = Curves()
    curves.extend([validation(10, TRUTH, WITHOUT_LESION), validation(20, TRUTH, SHIFTED)])
    assert curves.remark("assd") == "× some left out"  # in the mean of step 10, which is crossed
    assert curves.remark("assd_penalised") == curves.remark("hd95_penalised") == ""
    assert curves.why_empty(PLOT["assd"]) == ""
    assert {n: s.tolist() for n, (s, _) in curves.partial("assd").items()} == {
        "mean": [10.0],
        "lesion": [10.0],
    }


def test_an_empty_plot_says_why() -> None:
    curves = Curves()
    assert "first validation" in curves.why_empty(PLOT["hd95"])
    assert "training starts" in curves.why_empty(PLOT["loss"])
    curves.add(validation(10, TRUTH, surfaces=False))
    assert curves.why_empty(PLOT["hd95"]) == NO_DISTANCES and curves.why_empty(PLOT["dice"]) == ""
    assert "hd95" not in {plot.key for plot in curves.plots()}
    nothing = Curves()
    nothing.add(validation(10, np.zeros(SHAPE, np.uint8)))
    assert nothing.why_empty(PLOT["hd95"]) == NONE_FOUND
    assert nothing.remark("hd95") == "× some left out, last: liver: missed in 1; lesion: missed in 1"


def test_a_resume_forgets_what_it_does_again() -> None:
    curves = Curves()
    curves.extend([validation(10, TRUTH), validation(20, WITHOUT_LESION)])
    curves.add(StateChanged(attempt=2, step=15, state="preparing"))
    assert curves.partial("hd95") == {} and curves.remark("hd95") == ""
    assert curves.series("hd95")["mean"][0].tolist() == [10]


def test_the_csv_has_the_distances() -> None:
    curves = Curves()
    curves.add(validation(10, SHIFTED))
    rows = list(csv.DictReader(io.StringIO(curves.to_csv())))
    (liver,) = [r for r in rows if (r["plot"], r["curve"]) == ("assd", "liver")]
    (score, _) = validation(10, SHIFTED).scores
    assert float(liver["value"]) == score.metrics["assd"] > 0
