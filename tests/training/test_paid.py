"""What some steps paid: the difference of two frames, region by region, against numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.core.regions import MapRegions
from segexplorer.training.paid import compare_snapshots
from segexplorer.training.run import Run
from segexplorer.training.snapshots import WatchedSnapshot

EDGES = ((0, 4, 8), (0, 8), (0, 8))
AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])
"""Voxels of 10 cubic millimetres."""


def snapshot(step: int, fp: list[list[float]], fn: list[list[float]], case: str = "case") -> WatchedSnapshot:
    values = {"fp": np.array(fp, np.float32), "fn": np.array(fn, np.float32)}
    return WatchedSnapshot(
        case=case,
        role="validation",
        step=step,
        index=0,
        class_names=("liver", "lesion"),
        affine=np.eye(4),
        prediction=np.zeros((8, 8, 8), np.uint8),
        regions=RegionReport(values, EDGES),
        regions_affine=AFFINE,
    )


BEFORE = snapshot(10, [[9, 9], [100, 0], [np.nan, 5]], [[9, 9], [300, 0], [np.nan, 50]])
AFTER = snapshot(30, [[1, 1], [50, 40], [np.nan, 5]], [[1, 1], [100, 0], [np.nan, 40]])


def test_changes_are_in_ml_with_their_place_the_most_improved_first() -> None:
    found = compare_snapshots(BEFORE, AFTER)
    assert [(c.class_name, c.region) for c in found.changes] == [("liver", 0), ("lesion", 1), ("liver", 1)]
    best, _, worst = found.changes
    assert (best.extra_ml, best.missed_ml) == pytest.approx((-0.5, -2.0))
    assert worst.change_ml == pytest.approx(0.4)
    assert best.box == ((0, 4), (0, 8), (0, 8)) and best.world == pytest.approx((3.0, 7.0, 8.75))
    assert found.improved("lesion") == (found.changes[1],) and found.paid() == (worst,)
    assert found.rows()[0]["box"] == "0-3 x 0-7 x 0-7"
    assert found.sentence("liver") == (
        "From step 10 to 30, liver has 2.5 ml fewer errors in 1 region and 0.4 ml more in 1 region; "
        "most improved: at (3, 7, 9) mm, -2.5 ml, mostly missed; "
        "most paid: at (11, 7, 9) mm, +0.4 ml, mostly extra."
    )
    assert "lesion" not in found.sentence("liver") and "the case has 2.6 ml fewer" in found.sentence()
    assert found.report.paint("change").shape == (3, 8, 8, 8)
    assert found.report.values["change"][1].tolist() == pytest.approx([-2.5, 0.4])


def test_nothing_changed_is_said() -> None:
    assert compare_snapshots(BEFORE, replace(BEFORE, step=20)).sentence() == (
        "From step 10 to 20, nothing changed in the case."
    )


def test_regions_of_any_shape() -> None:
    labels = np.zeros((8, 8, 8), np.int32)
    labels[4:] = 1
    regions = MapRegions(labels, np.array([7, 9]))
    one, two = (
        replace(s, regions=RegionReport.of(s.regions.values, regions)) for s in (BEFORE, AFTER) if s.regions
    )
    worst = compare_snapshots(one, two).paid()[0]
    assert worst.region == 9 and worst.box is None and worst.world == pytest.approx((11.0, 7.0, 8.75))
    with pytest.raises(DataError, match="divided the case differently"):
        compare_snapshots(BEFORE, two)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="two cases"):
        compare_snapshots(BEFORE, replace(AFTER, case="other"))
    with pytest.raises(DataError, match="no numbers per region"):
        compare_snapshots(BEFORE, replace(AFTER, regions=None))


def test_frames_of_a_run(make_run: Callable[..., Run]) -> None:
    run = make_run(loss="chen2023_adaptive_region", data__classes={"liver": 1})
    list(run)
    found = segexplorer.what_was_paid(run)
    assert (found.before, found.after) == (3, 6) and found.class_names == ("liver",)
    total = sum(c.change_ml for c in found.changes)
    frames = segexplorer.open_run(run.folder).watched("validation")
    errors = [
        sum(float(np.nansum(f.load().regions.values[name][1])) for name in ("fp", "fn"))  # type: ignore[union-attr]
        for f in frames
    ]
    ml = abs(np.linalg.det(found.affine[:3, :3])) / 1000
    assert total == pytest.approx((errors[1] - errors[0]) * ml, rel=0.02, abs=0.05)
    with pytest.raises(DataError, match="no frame of step 5"):
        segexplorer.what_was_paid(run, before=5)
