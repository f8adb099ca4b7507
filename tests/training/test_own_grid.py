"""Predictions brought back tile by tile are those that `restore` makes of all voxels at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.transforms import Preprocessing, fit
from segexplorer.data.volume import Volume
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.training.own_grid import OwnGrid
from segexplorer.training.sliding_window import TILE_BYTES, Tile, stream_logits
from tests.training.test_windows import CPU, Mixing

CLASSES = ClassMap.from_classes({"a": 1, "b": 2}, "background")
TURNED = np.array([[0, -1.5, 0, 4], [0, 0, 2.0, -7], [-1.0, 0, 0, 9], [0, 0, 0, 1]])
"""Axes in another order, two of them reversed."""


def volume(shape: tuple[int, ...], seed: int = 0) -> Volume:
    generator = np.random.default_rng(seed)
    array = generator.normal(size=shape).astype(np.float32) * 100
    array[:3], array[:, -4:] = 0, 0  # what a crop cuts off
    return Volume.from_array(array, affine=TURNED, modality="CT")


@pytest.mark.parametrize("small", [False, True], ids=["roomy", "columns"])
@pytest.mark.parametrize("crop", [None, {"to": "nonzero", "margin": 0.0}])
@pytest.mark.parametrize("spacing", [None, (2.3, 1.1, 1.7), (0.8, 1.5, 3.0)])
def test_tile_by_tile_is_all_at_once(spacing: Any, crop: Any, small: bool) -> None:
    image = volume((23, 19, 30))
    settings: dict[str, Any] = {"spacing": spacing}
    if crop is not None:
        settings["crop"] = crop
    fitted = fit(Preprocessing.of(settings), [CaseRef("case", (image,))])
    prepared = fitted.apply(Case("case", (image,), None), CLASSES)
    truth = (np.random.default_rng(1).random(image.shape) * 3.2).astype(np.uint8)
    truth[truth == 3] = 255
    counts = CalibrationCounts(CLASSES.names)
    grid = OwnGrid(fitted, prepared.grid, 3, keep=(0, 2), everything=True, calibration=counts, truth=truth)
    assert grid.halo == int(prepared.resampled)
    patch = (8, 8, 8)
    own = 12 * 3 * 512 + 2 * TILE_BYTES
    whole = torch.zeros(1, 3, *prepared.image.shape[1:])
    columns = set()
    for item in stream_logits(
        Mixing(3),
        torch.from_numpy(prepared.image[None] / 100),
        classes=3,
        patch=patch,
        overlap=0.5,
        runtime=CPU,
        memory=own + 20_000 if small else None,
        halo=grid.halo,
    ):
        if isinstance(item, Tile):
            columns.add(item.start[1:])
            whole[(slice(None), slice(None), *item.place)] = item.core_logits
            grid.add(item)
    assert (len(columns) > 1) == small
    probabilities = fitted.restore(whole[0].softmax(0).numpy(), prepared.grid, order=1)
    if prepared.resampled:
        labels = probabilities.argmax(0)
    else:
        labels = fitted.restore(whole[0].argmax(0).numpy(), prepared.grid, order=0)
    found = grid.probabilities()
    assert found is not None and found.shape == (3, *image.shape)
    np.testing.assert_allclose(found, probabilities, rtol=1e-6, atol=1e-6)
    assert np.mean(grid.labels() != labels) < 1e-4  # of two equal probabilities either may be the largest
    kept = grid.kept()
    assert kept is not None
    assert np.abs(kept.astype(int) - np.round(probabilities[[0, 2]] * 255).astype(int)).max() <= 1
    expected = CalibrationCounts(CLASSES.names)
    expected.add(probabilities, labels, truth, np.linalg.norm(TURNED[:3, :3], axis=0))
    for ours, theirs in zip(counts.reliability(), expected.reliability(), strict=True):
        assert (ours.class_name, ours.region) == (theirs.class_name, theirs.region)
        assert ours.brier == pytest.approx(theirs.brier, rel=1e-5)
        np.testing.assert_allclose(ours.counts, theirs.counts, atol=3)
