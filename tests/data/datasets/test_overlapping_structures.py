"""Structures of which a voxel may be several: none is painted over where classes overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.datasets import registry
from segexplorer.data.volume import Volume

BOXES = {"lesion": (3, 5), "liver": (1, 7), "vessel": (4, 9)}


def write(root: Path, names: dict[str, tuple[int, int]]) -> None:
    for name, (first, end) in names.items():
        mask = np.zeros((10, 4, 4), np.uint8)
        mask[first:end] = 1
        path = root / "s0" / "segmentations" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        segexplorer.save_volume(Volume.from_array(mask, affine=np.eye(4)), path, integer=True)
    image = Volume.from_array(np.zeros((10, 4, 4), np.float32), affine=np.eye(4))
    segexplorer.save_volume(image, root / "s0" / "ct.nii.gz")


def test_every_structure_keeps_all_its_voxels(tmp_path: Path) -> None:
    write(tmp_path, BOXES)
    data = registry.parse({"kind": "structure_files", "root": str(tmp_path), "overlapping": True})
    classes = data.class_map()
    label = data.cases()[0].open().label
    assert label is not None
    indices = classes.encode(np.asarray(label.array))
    for index, name in enumerate(classes.names, start=1):
        first, end = BOXES[name]
        assert np.flatnonzero(classes.scheme.mask(indices, index)[:, 0, 0]).tolist() == list(
            range(first, end)
        )
    assert np.array_equal(classes.encode(classes.decode(indices)), indices)
    painted = registry.parse({"kind": "structure_files", "root": str(tmp_path)})
    lost = painted.class_map().encode(np.asarray(painted.cases()[0].open().label.array))  # type: ignore[union-attr]
    assert (lost == 1).sum() < (BOXES["lesion"][1] - BOXES["lesion"][0]) * 16  # the later one wins


def test_structures_are_merged_by_their_own_values(tmp_path: Path) -> None:
    write(tmp_path, BOXES)
    settings = {"classes": {"liver": 2, "tubes": [1, 3]}, "overlapping": True}
    data = registry.parse({"kind": "structure_files", "root": str(tmp_path), **settings})
    classes = data.class_map()
    label = data.cases()[0].open().label
    assert label is not None
    indices = classes.encode(np.asarray(label.array))
    assert np.flatnonzero(classes.scheme.mask(indices, 2)[:, 0, 0]).tolist() == list(range(3, 9))


def test_too_many_structures_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {f"rib_{n}": (1, 3) for n in range(8)})
    data = registry.parse({"kind": "structure_files", "root": str(tmp_path), "overlapping": True})
    with pytest.raises(DataError, match=r"Name at most 7 in data\.order"):
        data.class_map()
