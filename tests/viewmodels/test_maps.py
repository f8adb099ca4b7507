"""Regional FP-FN balance: values, masks, opacity, colours, and the sentence under the cursor."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.viewmodels.regions import box_at, millilitres, read_out, region_picture

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
    opacity = region_picture(report(), 1, 0.001, full_ml=3.3).opacity.ravel()
    assert opacity[0] == pytest.approx(1.0)
    assert 0.2 < opacity[2] < 0.5
    assert opacity[[1, 3]].tolist() == [0, 0]


def test_painting_repeats_boxes_and_never_interpolates() -> None:
    picture = region_picture(report(), 1, 0.001)
    values, opacity = picture.paint()
    assert values.shape == opacity.shape == (5, 3, 4)
    assert np.unique(values[:2, :, :1]).tolist() == [picture.values[0, 0, 0]]
    assert np.isnan(values[:2, :, 1:]).all()
    assert np.unique(values[2:, :, :1]).tolist() == [-0.5]
    painted = picture.rgba()
    assert painted.shape == (5, 3, 4, 4)
    assert (painted[..., 3] == opacity).all()


def test_extra_is_vermillion_and_missed_is_blue_whatever_is_shown() -> None:
    only = {
        "fp": np.array([[100.0, 0.0]], np.float32),
        "fn": np.array([[0.0, 100.0]], np.float32),
        "alpha": np.array([[1.0, 0.0]], np.float32),
        "beta": np.array([[0.0, 1.0]], np.float32),
    }
    extremes = RegionReport(only, ((0, 1), (0, 1), (0, 1, 2)))
    for quantity in ("balance", "alpha", "beta"):
        boxes = region_picture(extremes, 0, 1.0, quantity=quantity).box_colours()[0, 0, :, :3]
        assert boxes[0] == pytest.approx(colours.rgba(colours.FALSE_POSITIVE)[:3]), quantity
        assert boxes[1] == pytest.approx(colours.rgba(colours.FALSE_NEGATIVE)[:3]), quantity


def test_limits_of_penalties_lie_about_their_middle() -> None:
    alpha, beta = (region_picture(report(), 1, 0.001, quantity=q) for q in ("alpha", "beta"))
    assert alpha.limits == beta.limits == pytest.approx((0.32, 0.68))


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
