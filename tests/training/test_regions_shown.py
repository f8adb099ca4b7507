"""The maps that a run shows: the same regions as in training, at their places, with what they were measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import RegionReport, StepDone
from segexplorer.core.regions import BoxRegions, MapRegions
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import HistoryFrame, HistoryWriter, open_run
from segexplorer.training.plan import region_problems, resolve
from segexplorer.training.run import Run
from segexplorer.training.slices import Layout
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.stored_frames import read_frame_facts
from segexplorer.viewmodels import watched_case

MakeRun = Callable[..., Run]
MIRRORED = {
    "flips": {"left_right": 1, "head_foot": 1},
    "placement": {"probability": 0},
    "elastic": {"probability": 0},
}
TURNED = {"placement": {"probability": 1, "rotation": 30}, "elastic": {"probability": 0}}


def numbers(report: RegionReport) -> np.ndarray:
    """The number of each voxel's region in the whole volume, -1 where there is none."""
    places = report.regions.numbers()
    return np.where(places < 0, -1, report.regions.ids[places])


def shown_by(run: Run) -> tuple[list[PatchSnapshot], WatchedSnapshot]:
    patches = []
    for event in run:
        if isinstance(event, StepDone):
            patches += run.patch.take().values()
    watched = run.watched.last("train")
    assert watched is not None and run.state == "finished"
    return patches, watched


@pytest.mark.parametrize(
    ("loss", "augmentation"),
    [({"grid": 7}, {"enabled": False}), ({"box_size": 5}, MIRRORED), ({"grid": 7}, TURNED)],
)
def test_patch_and_whole_case_show_the_same_regions_at_the_same_places(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, loss: Mapping[str, Any], augmentation: Any
) -> None:
    monkeypatch.setattr("segexplorer.training.engine.PATCH_SECONDS", 0.0)
    run = make_run(
        loss={"kind": "adaptive_region_tversky", **loss},
        augmentation=augmentation,
        schedule__epochs=1,
        sampling__patch_size=(12, 12, 12),
    )
    patches, watched = shown_by(run)
    assert watched.regions is not None and len(patches) == 3
    whole = numbers(watched.regions)
    assert whole.shape == (32, 32, 32) and watched.regions.scope == "whole case, evaluation mode, step 3"
    for patch in patches:
        window = tuple(slice(o, o + n) for o, n in zip(patch.origin, patch.shape, strict=True))
        np.testing.assert_array_equal(numbers(patch.regions), whole[window])
        assert patch.regions.scope == f"this patch, step {patch.step}"
        assert np.isfinite(patch.regions.values["fp"]).any()
        picture = watched_case.patch_picture(patch, 1)
        assert picture.data.shape == patch.shape[::-1]
        assert picture.colour_scale is not None
        assert picture.colour_scale.scope == f"{patch.case}, this patch, step {patch.step}"
    frame = open_run(run.folder).watched("train")[-1].load()
    assert frame.regions is not None and frame.regions.scope == watched.regions.scope
    np.testing.assert_array_equal(numbers(frame.regions), whole)


def test_a_number_of_a_patch_is_drawn_on_its_own_region() -> None:
    """A mirrored patch at (3, 0, 0): its numbers go to the regions they belong to in the volume, NaN to others."""
    volume = BoxRegions.of(((0, 4, 8, 12), (0, 2), (0, 2)))
    seen = volume.patch((3, 0, 0), (6, 2, 2)).mirrored((True, False, False))
    assert seen.ids.tolist() == [2, 1, 0]
    report = RegionReport.of({"fp": np.array([[1, 2, 3]], np.float32)}, seen, "this patch, step 4")
    placed = report.placed(volume.patch((3, 0, 0), (6, 2, 2)))
    assert placed.paint("fp")[0, :, 0, 0].tolist() == [3, 2, 2, 2, 2, 1] and placed.scope == report.scope
    elsewhere = report.placed(BoxRegions.of(((0, 1, 2, 3, 4), (0, 2), (0, 2))))
    assert np.array_equal(elsewhere.values["fp"], [[3, 2, 1, np.nan]], equal_nan=True)


def test_regions_of_any_shape_are_painted_and_read_out_where_they_are() -> None:
    labels = np.array([[[7, 7], [-1, 3]]])
    regions = MapRegions.of(labels)
    values = {"fp": np.array([[0, 0], [1, 2]], np.float32), "fn": np.zeros((2, 2), np.float32)}
    report = RegionReport.of(values, regions)
    assert regions.ids.tolist() == [3, 7] and report.counts == (2,)
    np.testing.assert_array_equal(report.paint("fp")[1], [[[2, 2], [np.nan, 1]]])
    picture = watched_case.maps.region_picture(report, 1, 1.0)
    painted = picture.paint()
    assert painted.shape == (1, 2, 2) and painted[0, 1, 0] == 0
    assert painted[0, 0, 0] == painted[0, 0, 1] == painted.max() and painted[0, 1, 1] > 0
    assert watched_case.maps.read_out(report, 1, (0, 0, 1), 1.0).startswith("2.0 ml extra")
    assert watched_case.maps.read_out(report, 1, (0, 1, 0), 1.0) == ""


def test_a_partial_prediction_leaves_the_map_with_the_step_it_belongs_to() -> None:
    report = RegionReport(
        {"fp": np.ones((2, 1), np.float32), "fn": np.zeros((2, 1), np.float32)},
        ((0, 2),) * 3,
        scope="whole case, evaluation mode, step 3",
    )
    snapshot = WatchedSnapshot(
        case="one",
        role="train",
        step=9,
        index=0,
        class_names=("liver",),
        affine=np.eye(4),
        prediction=np.zeros((2, 2, 2), np.uint8),
        regions=report,
        regions_affine=np.eye(4),
        partial=True,
    )
    picture = watched_case.balance_picture(snapshot, 1)
    assert picture.colour_scale is not None
    assert picture.colour_scale.title == "FP-FN balance, liver"
    assert picture.colour_scale.scope == "whole case, evaluation mode, step 3"
    assert "step 9" not in picture.name
    assert "evaluation mode" in watched_case.under_cursor(snapshot, 1, (0, 0, 0))


def problems(loss: Any, patch: Any, shape: tuple[int, int, int] = (64, 64, 64)) -> list[str]:
    spec = Experiment.of({"data": {"kind": "phantom"}, "loss": loss}).loss
    found = region_problems(spec, patch, Layout.of(patch), [shape, shape])
    return [f"{p.message} {p.remedy}" for p in found]


@pytest.mark.parametrize(
    ("loss", "patch", "said"),
    [
        (
            {"kind": "region_dice", "box_size": 48},
            (32, 32, 32),
            "48 × 48 × 48 voxels, and a patch of 32 × 32 × 32",
        ),
        ({"kind": "region_dice", "grid": 1}, (48, 48, 48), "never sees a whole one"),
        ({"kind": "region_dice", "box_size": 24}, (24, 24, 24), "sees 13 % of a box of Region Dice"),
        ({"kind": "region_dice", "grid": 32}, (32, 32, 32), "about 7 voxels of a box"),
        (
            {"terms": [{"loss": {"kind": "region_dice", "grid": 2}}], "kind": "weighted_sum"},
            (16, 16, 16),
            "32 × 32",
        ),
    ],
)
def test_the_plan_says_where_patches_see_too_little_of_a_region(loss: Any, patch: Any, said: str) -> None:
    found = problems(loss, patch)
    assert len(found) == 1 and said in found[0] and "boxes" in found[0]


@pytest.mark.parametrize("patch", [None, (64, 64, 64), (48, 48, 48), (48, 48, 1)])
def test_boxes_that_patches_see_well_are_not_mentioned(patch: Any) -> None:
    assert problems({"kind": "region_dice", "box_size": 8}, patch) == []
    assert problems("dice", patch) == []


def test_a_partition_that_does_not_fit_the_volumes_is_refused_before_training(tiny: Experiment) -> None:
    wrong = Experiment.of({**tiny.plain(), "loss": {"kind": "region_dice", "grid": [4, 4]}})
    with pytest.raises(SegExplorerError, match="3 spatial axes"):
        resolve(wrong)


def test_regions_in_the_shape_of_organs_train_are_kept_and_shown(make_run: MakeRun) -> None:
    """A whole run: patches, the watched case, the history and the pictures have the structures of the truth."""
    run = make_run(
        loss={
            "kind": "adaptive_region_tversky",
            "partition": {"kind": "structures", "margin": 4},
            "penalty_rule": {"kind": "power", "exponent": 2},
        },
        augmentation=TURNED,
        schedule__epochs=1,
    )
    patches, watched = shown_by(run)
    assert watched.regions is not None and isinstance(watched.regions.regions, MapRegions) and patches
    whole = numbers(watched.regions)
    assert watched.truth is not None and whole.shape == watched.truth.shape and len(np.unique(whole)) > 2
    for number in np.unique(whole[watched.truth > 0]):
        inside = whole == number
        classes = np.unique(watched.truth[inside & (watched.truth > 0)])
        assert number == 0 or len(classes) == 1, "a region holds structures of one class"
    (frame,) = open_run(run.folder).watched("train")
    kept = frame.load()
    assert kept.regions is not None and isinstance(kept.regions.regions, MapRegions)
    np.testing.assert_array_equal(numbers(kept.regions), whole)
    for name, values in watched.regions.values.items():
        np.testing.assert_array_equal(kept.regions.values[name], values)
    assert kept.regions.scope == "whole case, evaluation mode, step 3"
    picture = watched_case.balance_picture(kept, 1)
    painted = picture.data > 0
    assert painted.any() and not painted.all()
    same = [patch for patch in patches if patch.case == watched.case]
    assert same
    for patch in same:
        window = tuple(slice(o, o + n) for o, n in zip(patch.origin, patch.shape, strict=True))
        np.testing.assert_array_equal(numbers(patch.regions), whole[window])


@pytest.mark.parametrize("damage", ["number of no region", "two regions of one number", "too few values"])
def test_a_damaged_map_of_regions_is_refused(tmp_path: Path, damage: str) -> None:
    """What a folder from somebody else may claim."""
    labels, ids = np.zeros((4, 4, 4), np.int32), np.arange(2)
    labels[2:] = 1
    values = {"fp": np.ones((2, 2), np.float32), "fn": np.ones((2, 2), np.float32)}
    if damage == "number of no region":
        labels[0, 0, 0] = 7
    elif damage == "two regions of one number":
        ids = np.zeros(2, np.int64)
    else:
        values = {name: rows[:, :1] for name, rows in values.items()}
    snapshot = WatchedSnapshot(
        case="one",
        role="train",
        step=1,
        index=0,
        class_names=("liver",),
        affine=np.eye(4),
        prediction=np.zeros((4, 4, 4), np.uint8),
        regions=RegionReport.of(values, MapRegions(labels, ids)),
        regions_affine=np.eye(4),
    )
    HistoryWriter(tmp_path).write(snapshot, attempt=1)
    facts = read_frame_facts(tmp_path, "train", "0")
    assert facts is not None
    with pytest.raises(DataError, match="is damaged"):
        HistoryFrame("train", 0, 1, 1, tmp_path, facts).load()


def test_a_map_larger_than_what_is_read_again_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.training.history.MAX_MAP", 63)
    report = RegionReport.of(
        {"fp": np.ones((2, 1), np.float32)}, MapRegions.of(np.zeros((4, 4, 4), np.int32))
    )
    snapshot = WatchedSnapshot(
        case="one",
        role="train",
        step=1,
        index=0,
        class_names=("liver",),
        affine=np.eye(4),
        prediction=np.zeros((4, 4, 4), np.uint8),
        regions=report,
        regions_affine=np.eye(4),
    )
    HistoryWriter(tmp_path).write(snapshot, attempt=1)
    facts = read_frame_facts(tmp_path, "train", "0")
    assert facts is not None
    assert HistoryFrame("train", 0, 1, 1, tmp_path, facts).load().regions is None
