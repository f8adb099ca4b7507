"""Cropping to the body or to what is not zero: where the box lies, that it is undone, that no loss is silent."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError, SpecError
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.io import open_volume
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import CaseGrid, FittedPreprocessing, Preprocessing, fit
from segexplorer.data.transforms.cropping import Cropping, cut_off
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"organ": 1, "other": 2})
SHAPE, SPACING = (40, 44, 24), (4.0, 3.0, 5.0)
BODY = ((8, 32), (10, 34), (3, 24))
"""Of a patient who reaches the top of the volume."""
AIR, FAT = -1000, -80
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def scan() -> tuple[np.ndarray, np.ndarray]:
    """A CT (x, y, z) with a patient on a mattress on a table; its label."""
    image = np.full(SHAPE, AIR, np.int16)
    image[2:38, 5:7] = 200
    image[2:38, 7:10] = -900
    image[tuple(slice(*ends) for ends in BODY)] = FAT
    image[18:22, 20:24, 8:14] = AIR  # bowel gas
    label = np.zeros(SHAPE, np.uint8)
    label[12:18, 14:20, 6:12] = 1
    label[22:28, 22:26, 18:24] = 2
    return image, label


def stored(
    image: np.ndarray,
    label: np.ndarray | None,
    order: tuple[int, ...] = (0, 1, 2),
    flips: tuple[int, ...] = (1, 1, 1),
    spacing: tuple[float, float, float] = SPACING,
) -> Case:
    """A case as a scanner might store it: index axis i runs along world axis order[i], upwards or downwards."""
    steps = tuple(slice(None, None, flip) for flip in flips)
    affine = np.zeros((4, 4))
    affine[:, 3] = (-30, 55, 7, 1)
    for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
        affine[world, axis] = flip * spacing[world]
        if flip < 0:
            affine[world, 3] += spacing[world] * (image.shape[world] - 1)
    volumes = [
        None if a is None else Volume.from_array(a.transpose(order)[steps].copy(), affine=affine)
        for a in (image, label)
    ]
    assert volumes[0] is not None
    return Case("case", (volumes[0],), volumes[1], "case")


def fitted_on(case: Case, **preprocessing: object) -> FittedPreprocessing:
    rule = {"kind": "ct_window", "window": "custom", "low": -1000, "high": 1000}
    return fit(Preprocessing.of({"intensity": rule, **preprocessing}), [case])


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_is_cropped_to_the_same_body_and_goes_back_exactly(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    image, label = scan()
    case = stored(image, label, order, flips)
    assert case.label is not None
    fitted = fitted_on(case, crop={"to": "body", "margin": 0})
    prepared = fitted.apply(case, CLASSES)
    inside = tuple(slice(*ends) for ends in BODY)
    assert prepared.label is not None and np.array_equal(prepared.label, label[inside])
    assert prepared.image[0] == pytest.approx((image[inside] + 1000) / 2000)
    # the corner voxel lies where it lay
    assert prepared.affine[:3, 3] == pytest.approx(
        np.array((-30, 55, 7)) + np.array([first for first, _ in BODY]) * SPACING
    )
    back = fitted.restore(prepared.label, prepared.grid, order=0)
    assert back.dtype == np.uint8 and np.array_equal(back, case.label.array)
    sure = np.stack([prepared.label == k for k in range(3)]).astype(np.float32)
    restored = fitted.restore(sure, prepared.grid, order=1)
    assert np.array_equal(restored.argmax(0), case.label.array) and np.array_equal(
        restored.sum(0), np.ones(back.shape)
    )


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::9])
@pytest.mark.parametrize("grid", [{"spacing": [2, 3, 2.5]}, {"resize": [48, 24, 42]}])
def test_a_cropped_and_resampled_case_comes_back_to_its_own_grid(
    order: tuple[int, ...], flips: tuple[int, ...], grid: dict[str, object]
) -> None:
    case = stored(*scan(), order, flips)
    assert case.label is not None
    fitted = fitted_on(case, crop={"to": "body", "margin": 0}, **grid)
    prepared = fitted.apply(case, CLASSES)
    assert prepared.label is not None and prepared.label.shape == (48, 24, 42) and prepared.resampled
    assert np.array_equal(fitted.restore(prepared.label, prepared.grid, order=0), case.label.array)
    shape = fitted.prepared_shape(CaseRef("case", case.images))
    assert all(most >= n for most, n in zip(shape, prepared.label.shape, strict=True))


@pytest.mark.parametrize(("margin", "voxels"), [(0, (0, 0, 0)), (5, (2, 2, 1)), (400, (40, 44, 24))])
def test_the_margin_is_in_millimetres_and_ends_at_the_image(
    margin: float, voxels: tuple[int, int, int]
) -> None:
    box = Cropping(to="body", margin=margin).box(stored(*scan()))
    expected = tuple(
        (max(0, first - more), min(n, end + more))
        for (first, end), more, n in zip(BODY, voxels, SHAPE, strict=True)
    )
    assert box == expected


def test_a_wire_to_the_table_does_not_bring_it_in() -> None:
    image, _ = scan()
    image[20, 7:10, 10] = 3000
    box = Cropping(to="body", margin=0).box(stored(image, None))
    assert box[0] == BODY[0] and box[2] == BODY[2]
    assert box[1][1] == BODY[1][1] and 7 <= box[1][0] <= BODY[1][0]


def test_a_table_alone_is_thinner_than_a_body_and_two_legs_are_kept() -> None:
    image = np.full(SHAPE, AIR, np.int16)
    image[6:14, 14:28], image[26:34, 16:30] = FAT, FAT
    image[36:40, 10:14, :3] = FAT  # a hand
    image[2:38, 4:6] = 200  # a table that touches nothing
    box = Cropping(to="body", margin=0).box(stored(image, None))
    assert box == ((6, 34), (14, 30), (0, 24))


@pytest.mark.parametrize("value", [AIR, 0, 40])
@pytest.mark.parametrize("to", ["body", "nonzero"])
def test_an_image_of_one_value_is_kept_whole(value: int, to: str) -> None:
    image = np.full((9, 8, 7), value, np.int16)
    case = stored(image, None)
    assert Cropping.of({"to": to}).box(case) == ((0, 9), (0, 8), (0, 7))


def test_a_single_slice_and_a_single_voxel_have_a_body() -> None:
    image, _ = scan()
    assert Cropping(to="body", margin=0).box(stored(image[:, :, 10:11], None)) == (*BODY[:2], (0, 1))
    dot = np.full((5, 5, 5), AIR, np.int16)
    dot[2, 3, 4] = 50
    assert Cropping(to="body", margin=0).box(stored(dot, None)) == ((2, 3), (3, 4), (4, 5))


@settings(max_examples=25, deadline=None)
@given(
    corners=st.tuples(*[st.tuples(st.integers(0, 11), st.integers(0, 11)) for _ in range(4)]),
    second=st.booleans(),
)
def test_the_box_of_several_channels_holds_what_is_not_zero_in_any(
    corners: tuple[tuple[int, int], ...], second: bool
) -> None:
    images = [np.zeros((12, 12, 12), np.float32), np.zeros((12, 12, 12), np.float32)]
    for place, (x, y) in enumerate(corners):
        images[place % 2 if second else 0][x, y, 3 + place] = -1.0
    case = Case("case", tuple(Volume.from_array(image) for image in images))
    marked = np.argwhere((images[0] != 0) | (images[1] != 0))
    expected = tuple(zip(marked.min(0).tolist(), (marked.max(0) + 1).tolist(), strict=True))
    assert Cropping(to="nonzero", margin=0).box(case) == expected


def test_what_the_box_cuts_off_the_label_is_told_in_millilitres() -> None:
    image, label = scan()
    label[2:6, 20:25, 10:12] = 2  # in the air beside the patient: 40 voxels of 60 mm3
    case = stored(image, label)
    crop = Cropping(to="body", margin=0)
    problem = cut_off(case, crop, CLASSES)
    assert problem is not None and problem.severity == "warning" and "2.4 ml of other" in problem.message
    assert "organ" not in problem.message and "margin" in problem.remedy
    prepared = fitted_on(case, crop={"to": "body", "margin": 0}).apply(case, CLASSES)
    assert len(prepared.notes) == 1 and prepared.notes[0].startswith("case: ")
    assert "2.4 ml of other" in prepared.notes[0]
    assert prepared.label is not None and (prepared.label == 2).sum() == (label == 2).sum() - 40
    assert cut_off(case, Cropping(to="body", margin=24), CLASSES) is None
    assert cut_off(case, Cropping(), CLASSES) is None


def test_a_name_alone_is_enough_and_a_checkpoint_crops_alike() -> None:
    case = stored(*scan())
    fitted = fitted_on(case, crop="body")
    assert fitted.crop == Cropping(to="body", margin=5.0)
    again = FittedPreprocessing.of(json.loads(json.dumps(fitted.plain())))
    assert again == fitted
    assert np.array_equal(again.apply(case, CLASSES).affine, fitted.apply(case, CLASSES).affine)
    with pytest.raises(SpecError, match="body"):
        Preprocessing.of({"crop": "skin"})


def test_a_body_is_not_looked_for_in_mr() -> None:
    case = Case("case", (Volume.from_array(np.full((8, 8, 8), 3.0), modality="MR"),))
    with pytest.raises(DataError, match=r"no CT.*nonzero"):
        fit(Preprocessing.of({"crop": "body"}), [case])


def test_the_store_keeps_the_box_and_distances_lie_in_it(tmp_path: Path) -> None:
    image, label = scan()
    case = stored(image, label, (2, 0, 1), (1, -1, 1))
    ref = CaseRef("case", case.images, case.label, "case")
    fitted = fitted_on(case, crop={"to": "body", "margin": 0})
    fresh = PreprocessedCache([ref], fitted, CLASSES, 2**24, tmp_path, ("signed distances",))
    first, distances = fresh.get("case"), fresh.maps("case")["signed distances"]
    cached = PreprocessedCache([ref], fitted, CLASSES, 2**24, tmp_path).get("case")
    assert isinstance(cached.grid, CaseGrid) and isinstance(first.grid, CaseGrid)
    assert cached.grid.box == first.grid.box == BODY
    assert cached.label is not None and case.label is not None
    assert np.array_equal(fitted.restore(cached.label, cached.grid, order=0), case.label.array)
    uncropped = PreprocessedCache([ref], fitted_on(case), CLASSES, 2**24, None, ("signed distances",))
    expected = uncropped.maps("case")["signed distances"][(..., *(slice(*ends) for ends in BODY))]
    assert np.array_equal(distances[1:], expected[1:])


@pytest.mark.parametrize(
    ("image", "label", "fewer"),
    [
        ("ct_abdomen_totalseg/example_ct.nii.gz", "ct_abdomen_totalseg/example_ct_labels.nii.gz", 0.95),
        ("ct_dicom_totalseg/dicom", "ct_dicom_totalseg/labels.nii.gz", 0.6),
    ],
)
def test_real_scans_lose_air_and_table_but_no_organ(
    shared_data: Path, image: str, label: str, fewer: float
) -> None:
    ref = CaseRef("ct", (shared_data / image,), shared_data / label, resample=True)
    case = ref.open()
    assert case.label is not None
    values = {f"organ {v}": int(v) for v in np.unique(case.label.array) if v}
    classes = ClassMap.from_classes(values)
    crop = Cropping(to="body", margin=0)
    assert cut_off(case, crop, classes) is None
    fitted = fitted_on(case, crop=crop.plain())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = fitted.apply(case, classes)
    assert prepared.label is not None and prepared.label.size < fewer * case.label.array.size
    back = fitted.restore(prepared.label, prepared.grid, order=0)
    assert np.array_equal(classes.decode(back), case.label.array)
    # what is left of the back of the box is table and air: nothing there reaches the body's 12 mm
    canonical, affine = geometry.canonical(case.images[0].array, case.images[0].affine)
    behind = round(float((np.linalg.inv(affine) @ prepared.affine[:, 3])[1]))
    below = canonical[:, : max(behind - 1, 0)] > crop.above
    assert below.sum(axis=1).max(initial=0) * case.images[0].spacing[1] < 25


def test_a_skull_stripped_brain_is_cropped_to_itself(shared_data: Path) -> None:
    file = shared_data / "mr_brain_mni152/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"
    case = Case("gm", (open_volume(file),))
    fitted = fit(Preprocessing.of({"crop": {"to": "nonzero", "margin": 0}}), [case])
    prepared = fitted.apply(case, CLASSES)
    assert prepared.image[0].size < 0.75 * case.images[0].array.size
    ones = np.ones(prepared.image.shape[1:], np.uint8)
    kept = fitted.restore(ones, prepared.grid, order=0) == 1
    assert not case.images[0].array[~kept].any() and kept.any()
