"""Whether classes overlap is found out where descriptions or labels say it, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.datasets import DatasetSpec, recognise, recognised_dataset, registry
from segexplorer.data.label_overlap import find_overlap, shared_by_classes
from segexplorer.data.volume import Volume

SHAPE = (20, 10, 8)


def span(first: int, end: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[first:end] = 1
    return mask


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    segexplorer.save_volume(Volume.from_array(values, affine=np.eye(4)), path)


def structures(root: Path, masks: dict[str, np.ndarray], cases: int = 2) -> DatasetSpec:
    for case in range(cases):
        image(root / f"s{case}" / "ct.nii.gz")
        for name, mask in masks.items():
            path = root / f"s{case}" / "segmentations" / f"{name}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            segexplorer.save_volume(Volume.from_array(mask, affine=np.eye(4)), path, integer=True)
    return recognised_dataset(recognise(root))


def channels(root: Path, masks: list[np.ndarray], cases: int = 2) -> DatasetSpec:
    for case in range(cases):
        image(root / "images" / f"{case}.nii.gz")
        (root / "labels").mkdir(exist_ok=True)
        four = nibabel.Nifti1Image(np.stack(masks, -1), np.eye(4))
        nibabel.save(four, root / "labels" / f"{case}.nii.gz")
    return recognised_dataset(recognise(root))


def test_masks_of_structures_within_each_other_overlap(tmp_path: Path) -> None:
    data = structures(tmp_path, {"liver": span(2, 14), "vessels": span(5, 8), "stomach": span(14, 18)})
    found = find_overlap(data)
    assert found.reason.startswith("vessels is within liver (median of 2 cases)")
    assert found.settings == {"overlapping": True} and found.problem is None
    assert find_overlap(type(data).of({**data.plain(), **found.settings})).settings == {}


def test_neighbours_that_share_a_border_do_not(tmp_path: Path) -> None:
    assert not find_overlap(
        structures(tmp_path / "a", {"liver": span(2, 13), "stomach": span(13, 19)})
    ).reason
    # one slice of eleven and twelve
    masks = {"liver": span(1, 12), "stomach": span(11, 20), "spleen": span(0, 1)}
    masks["stomach"][11:12, 1:] = 0
    assert not find_overlap(structures(tmp_path / "b", masks)).reason


def test_too_many_structures_are_said_and_left(tmp_path: Path) -> None:
    masks = {f"rib {n}": span(n, n + 1) for n in range(8)}
    found = find_overlap(structures(tmp_path, {**masks, "lung": span(0, 12)}))
    assert not found.settings and found.problem is not None
    assert "at most 7" in found.problem.remedy and "is within lung" in found.problem.message


@pytest.mark.parametrize("background", [False, True])
def test_volumes_of_a_one_hot_label_that_overlap(tmp_path: Path, background: bool) -> None:
    masks = [span(2, 14), span(4, 10), span(8, 16)]
    outside = [1 - np.maximum.reduce(masks)] if background else []
    data = channels(tmp_path, [*outside, *masks])
    found = find_overlap(data)
    assert "class 2 is within class 1" in found.reason
    overlapping = type(data).of({**data.plain(), **found.settings})
    label = overlapping.cases()[0].open().label
    assert label is not None
    classes = overlapping.class_map()
    assert classes.names == ("class 1", "class 2", "class 3")
    indices = classes.encode(np.asarray(label.array))
    for index, mask in enumerate(masks, start=1):
        assert np.array_equal(classes.scheme.mask(indices, index), mask == 1)
    # without the setting, the later one wins
    plain = data.cases()[0].open().label
    assert plain is not None
    last = np.asarray(plain.array) == len(outside) + 3
    assert last.sum() == masks[2].sum() and not (last & (masks[2] == 0)).any()


def test_volumes_that_exclude_each_other_and_label_maps_do_not_overlap(tmp_path: Path) -> None:
    first = channels(tmp_path / "a", [span(0, 5), span(5, 9), span(9, 20)])
    assert find_overlap(first).settings == {}
    image(tmp_path / "b" / "images" / "0.nii.gz")
    (tmp_path / "b" / "labels").mkdir()
    label = Volume.from_array(span(1, 9) + span(3, 5), affine=np.eye(4))
    segexplorer.save_volume(label, tmp_path / "b" / "labels" / "0.nii.gz", integer=True)
    assert find_overlap(recognised_dataset(recognise(tmp_path / "b"))).settings == {}


def test_too_many_volumes_have_no_sums(tmp_path: Path) -> None:
    data = channels(tmp_path, [span(0, 12), *(span(n, n + 1) for n in range(8))], cases=1)
    with pytest.raises(DataError, match="holds 9 classes, too many to overlap"):
        np.asarray(type(data).of({**data.plain(), "overlapping": True}).cases()[0].open().label.array)


def test_descriptions_say_it(tmp_path: Path) -> None:
    image(tmp_path / "imagesTr" / "a_0000.nii.gz")
    (tmp_path / "labelsTr").mkdir()
    segexplorer.save_volume(
        Volume.from_array(span(1, 9) + span(3, 5), affine=np.eye(4)),
        tmp_path / "labelsTr" / "a.nii.gz",
        integer=True,
    )
    about = {
        "channel_names": {"0": "MR"},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "regions_class_order": [1, 2],
    }
    labels = {"background": 0, "whole tumour": [1, 2], "core": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({**about, "labels": labels}))
    found = find_overlap(recognised_dataset(recognise(tmp_path)))
    assert found.reason == "dataset.json gives regions: whole tumour and core share the label value 2."
    (tmp_path / "dataset.json").write_text(
        json.dumps({**about, "labels": {"background": 0, "edge": 1, "core": 2}})
    )
    assert find_overlap(recognised_dataset(recognise(tmp_path))).reason == ""
    brats = registry.parse({"kind": "brats", "root": str(tmp_path)})
    assert "BraTS scores three regions" in find_overlap(brats).reason
    # who chose classes knows whether they overlap
    chosen = type(brats).of({**brats.plain(), "classes": {"enhancing": 4}})
    assert find_overlap(chosen).settings == {}
    assert shared_by_classes({"whole": [1, 2], "core": 2}) == "whole and core share the label value 2."
    assert shared_by_classes({"edge": 1, "core": [2]}) == ""
