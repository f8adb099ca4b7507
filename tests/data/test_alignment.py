"""Labels and channels come onto the image's grid: put in order without being asked, resampled only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef
from segexplorer.data.checks import check_case
from segexplorer.data.grid import aligned, same_places
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.training.plan import resolve

RNG = np.random.default_rng(3)


def turned_volume(order: list[int], flips: tuple[int, ...]) -> tuple[Volume, Volume]:
    """Return a volume, and the same voxels at the same places in another index order."""
    array = RNG.integers(0, 9, (5, 4, 3)).astype(np.uint8)
    affine = np.array([[0.0, -2, 0, 7], [1.5, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1]])
    other = array.transpose(order)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, np.argsort(order)].T @ np.diag(flips)
    ends = np.array(other.shape) - 1
    matrix[:3, 3] = np.eye(3)[:, np.argsort(order)].T @ np.where(np.array(flips) < 0, ends, 0)
    other = other[tuple(slice(None, None, f) for f in flips)]
    return Volume.from_array(array, affine=affine), Volume.from_array(other, affine=affine @ matrix)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-1, 1))] * 3))
def test_the_same_places_in_another_order_are_put_in_order(order: list[int], flips: tuple[int, ...]) -> None:
    image, label = turned_volume(order, flips)
    assert same_places(image, label)
    found = aligned(label, image, label=True)
    assert found.shape == image.shape and np.allclose(found.affine, image.affine)
    assert np.array_equal(found.array, image.array)


def test_what_was_put_in_order_is_said_and_nothing_is_said_otherwise() -> None:
    image, label = turned_volume([1, 0, 2], (1, -1, 1))
    case = CaseRef("a", (image, label), label).open()
    notes = [p.message for p in check_case(case, None) if p.code == "geometry"]
    assert len(notes) == 2 and all("put in the first image's order" in note for note in notes)
    assert aligned(image, image, label=True) is image


@pytest.fixture
def shifted(tmp_path: Path) -> dict[str, Any]:
    """A folder of three cases whose labels have voxels half as large."""
    for n in range(3):
        image = Volume.from_array(RNG.normal(100, 9, (16, 16, 16)).astype(np.float32), spacing=(2, 2, 2))
        fine = np.zeros((32, 32, 32), np.uint8)
        fine[8:20, 8:20, 8:20] = 1
        affine = np.diag([1.0, 1, 1, 1])
        affine[:3, 3] = -0.5
        for folder, volume in (("images", image), ("labels", Volume.from_array(fine, affine=affine))):
            (tmp_path / folder).mkdir(exist_ok=True)
            save_volume(volume, tmp_path / folder / f"c{n}.nii.gz", integer=folder == "labels")
    return {"kind": "folder", "root": str(tmp_path)}


def test_another_grid_is_refused_until_resampling_is_asked_for(shifted: dict[str, Any]) -> None:
    base = {"network": {"kind": "unet"}, "loss": "dice"}
    with pytest.raises(
        DataError, match=r"different grids: .*covers 100 % of the image.*data\.resample: true"
    ):
        resolve(segexplorer.Experiment.of({**base, "data": shifted}))
    plan = resolve(segexplorer.Experiment.of({**base, "data": {**shifted, "resample": True}}))
    case = plan.refs["c0"].open()
    assert case.label is not None and case.label.shape == (16, 16, 16)
    expected = np.zeros((16, 16, 16), np.uint8)
    expected[4:10, 4:10, 4:10] = 1
    assert np.array_equal(case.label.array, expected)
    assert "resampled onto the first image's grid (nearest voxel)" in " ".join(case.label.notes)
    plain = segexplorer.Experiment.of({**base, "data": shifted}).data.cases()[0]
    assert plain.fingerprint() != plan.refs["c0"].fingerprint()
