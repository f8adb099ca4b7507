"""Regional FP-FN balance: values, masks, opacity, colours, and the sentence under the cursor."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.losses.base import penalty_range
from segexplorer.training.experiment import Experiment
from segexplorer.viewmodels.regions import (
    Quantity,
    Scale,
    box_at,
    map_colours,
    millilitres,
    read_out,
    region_picture,
)

NAN = float("nan")
EDGES = ((0, 2, 5), (0, 3), (0, 1, 4))  # 2 x 1 x 2 boxes of unequal size


def report() -> RegionReport:
    background = [0, 0, 0, 0]
    rows = {
        "fp": [3100, 0, 10, NAN],
        "fn": [200, 0, 30, NAN],
        "alpha": [0.68, 0.5, 0.35, NAN],
        "beta": [0.32, 0.5, 0.65, NAN],
    }
    return RegionReport({name: np.array([background, row], np.float32) for name, row in rows.items()}, EDGES)


def test_balance_is_the_share_of_extra_less_missed() -> None:
    picture = region_picture(report(), 1, 0.001)
    flat = picture.values.ravel()
    assert flat[0] == pytest.approx(2900 / 3300)
    assert flat[2] == pytest.approx(-0.5)
    assert np.isnan(flat[[1, 3]]).all()  # no error at all; skipped by the loss
    assert picture.limits == (-1.0, 1.0)


def test_boxes_below_the_threshold_are_masked() -> None:
    picture = region_picture(report(), 1, 0.001, threshold_ml=0.1)
    assert np.isfinite(picture.values.ravel()).tolist() == [True, False, False, False]
    assert (picture.opacity.ravel() > 0).tolist() == [True, False, False, False]


def test_opacity_grows_with_the_error_volume_and_is_nothing_where_masked() -> None:
    # boxes of 6, 18, 9 and 27 voxels: a tenth of the median is 1.35 voxels
    values = {"fp": np.array([[0.0, 0.34, 1.35, 5.0]], np.float32), "fn": np.zeros((1, 4), np.float32)}
    picture = region_picture(RegionReport(values, EDGES), 0, 0.001)
    assert picture.full_ml == pytest.approx(0.00135)
    assert picture.opacity.ravel() == pytest.approx([0, 0.5, 1, 1], abs=0.01)
    alphas = map_colours("balance")[picture.colour_indices(), 3]
    assert alphas == pytest.approx([0, 0.5, 1, 1])


def test_painting_repeats_boxes_and_never_interpolates() -> None:
    picture = region_picture(report(), 1, 0.001)
    painted = picture.paint()
    assert painted.shape == (5, 3, 4) and painted.dtype == np.uint8
    assert len(np.unique(painted[:2, :, :1])) == 1
    assert (painted[:2, :, 1:] == 0).all()
    assert {picture.names[int(i)] for i in np.unique(painted[2:, :, :1])} == {"balance -0.47"}


def test_colours_go_from_missed_to_extra_and_are_not_those_of_errors() -> None:
    only = {
        "fp": np.array([[100.0, 0.0]], np.float32),
        "fn": np.array([[0.0, 100.0]], np.float32),
        "alpha": np.array([[1.0, 0.0]], np.float32),
        "beta": np.array([[0.0, 1.0]], np.float32),
    }
    extremes = RegionReport(only, ((0, 1), (0, 1), (0, 1, 2)))
    quantities: tuple[Quantity, ...] = ("balance", "alpha", "beta")
    for quantity in quantities:
        drawn = map_colours(quantity)[region_picture(extremes, 0, 1.0, quantity=quantity).colour_indices()]
        assert drawn[0] == pytest.approx(colours.rgba(colours.EXTRA_PREVAILS)), quantity
        assert drawn[1] == pytest.approx(colours.rgba(colours.MISSED_PREVAILS)), quantity


def test_limits_and_opacity_are_the_same_in_every_frame() -> None:
    early, late = report(), report()
    late.values["alpha"][1] = [0.5, 0.5, 0.49, NAN]
    late.values["beta"][1] = [0.5, 0.5, 0.51, NAN]
    late.values["fp"][1] /= 100
    for limits, expected in (((0.3, 0.7), (0.3, 0.7)), (None, (0.0, 1.0))):
        pictures = [region_picture(r, 1, 0.001, quantity="alpha", limits=limits) for r in (early, late)]
        assert pictures[0].limits == pictures[1].limits == pytest.approx(expected)
        assert pictures[0].full_ml == pictures[1].full_ml
    assert region_picture(early, 1, 0.001, limits=(0.3, 0.7)).limits == (-1, 1)


def test_the_loss_says_between_which_limits_its_penalties_are() -> None:
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom"},
            "loss": {
                "kind": "weighted_sum",
                "terms": [
                    {"loss": "dice"},
                    {"loss": {"kind": "adaptive_region_tversky", "a": 0.2, "b": 0.6}},
                ],
            },
        }
    )
    assert penalty_range(experiment.loss) == pytest.approx((0.2, 0.8))
    assert penalty_range(Experiment.of({"data": {"kind": "phantom"}, "loss": "dice"}).loss) is None


def test_the_scale_has_numbers_and_says_what_its_ends_mean() -> None:
    balance, beta = Scale("balance", "t", "s", full_ml=0.31), Scale("beta", "t", "s", (0.3, 0.7))
    assert balance.ticks == ("−1", "0", "+1") and balance.ends == ("missed", "extra")
    assert beta.ticks == ("0.30", "0.50", "0.70") and beta.ends == ("extra", "missed")
    assert "full at 0.3 ml" in balance.note


def test_the_sentence_under_the_cursor() -> None:
    assert read_out(report(), 1, (1, 1, 0), 0.001) == "3.1 ml extra, 0.2 ml missed: FP penalty .68, FN .32"
    assert read_out(report(), 1, (4, 2, 3), 0.001) == "the loss skips this class here"
    assert read_out(report(), 1, (9, 1, 0), 0.001) == ""
    without = RegionReport({k: report().values[k] for k in ("fp", "fn")}, EDGES)
    assert read_out(without, 1, (1, 1, 0), 0.001) == "3.1 ml extra, 0.2 ml missed"


def test_boxes_are_found_by_voxel_centres() -> None:
    assert box_at(EDGES, (0, 0, 0)) == 0
    assert box_at(EDGES, (1.49, 0, 0.4)) == 0
    assert box_at(EDGES, (1.5, 0, 0.6)) == 3
    assert box_at(EDGES, (-0.5, 0, 0)) == 0
    assert box_at(EDGES, (-0.6, 0, 0)) is None
    assert box_at(EDGES, (4.6, 0, 0)) is None


@pytest.mark.parametrize(
    ("volume", "text"), [(0, "0.0 ml"), (0.024, "0.02 ml"), (3.14, "3.1 ml"), (41.2, "41 ml")]
)
def test_volumes_have_sensible_digits(volume: float, text: str) -> None:
    assert millilitres(volume) == text


def test_what_the_report_lacks_is_named() -> None:
    with pytest.raises(DataError, match="no alpha"):
        without = RegionReport({k: report().values[k] for k in ("fp", "fn")}, EDGES)
        region_picture(without, 1, 0.001, quantity="alpha")
    with pytest.raises(DataError, match="2 classes"):
        region_picture(report(), 2, 0.001)
