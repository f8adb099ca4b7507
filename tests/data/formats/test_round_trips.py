"""What is read in one format and written in another keeps its voxels and their places: 48 orientations and more."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer.data.formats import registry
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume

SHAPE = (3, 4, 5)
SOURCES = (".nii.gz", ".nrrd", ".mha")
TARGETS = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha")
TURNS = [np.eye(3)[:, list(p)] * s for p in permutations(range(3)) for s in product((1, -1), repeat=3)]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand files need not reach the disk."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def affine_of(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.5, 1.25, 3)
    affine[:3, 3] = 7.5, -100.25, 31
    return affine


def itk_view(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Affine (RAS) and voxels (i, j, k) as SimpleITK has them."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine, sitk.GetArrayFromImage(image).T


def test_the_list_of_targets_is_that_of_the_table() -> None:
    assert set(TARGETS) | {".dcm"} == set(registry.writable_suffixes())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_an_identity_prediction_lies_on_its_image_in_all_48_orientations(
    folder: Path, source: str, target: str
) -> None:
    for number, turn in enumerate(TURNS):
        affine = affine_of(turn)
        array = np.random.default_rng(number).integers(0, 200, SHAPE).astype(np.int16)
        image = open_volume(save_volume(Volume.from_array(array, affine=affine), folder / f"in{source}"))
        assert np.array_equal(image.affine, affine) and np.array_equal(image.array, array)
        prediction = image.with_array(image.array.astype(np.int64))
        path = save_volume(prediction, folder / f"out{TARGETS.index(target)}{target}", integer=True)
        back = open_volume(path, label=True)
        assert np.array_equal(back.affine, affine), (number, target)
        assert np.array_equal(back.array, array) and back.array.dtype == np.uint8
        if number % 6 == 0:
            their_affine, theirs = itk_view(path)
            assert np.array_equal(theirs, array)
            np.testing.assert_allclose(their_affine, affine, atol=1e-5)


@pytest.mark.parametrize("target", [".nrrd", ".mha"])
@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 9), st.tuples(*[st.floats(-500, 500)] * 3))
def test_oblique_and_sheared_grids_come_back(
    folder: Path, target: str, numbers: tuple[float, ...], origin: tuple[float, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(numbers, (3, 3)) + 3 * np.eye(3)
    affine[:3, 3] = origin
    volume = Volume.from_array(np.zeros(SHAPE, np.uint8), affine=affine)
    back = open_volume(save_volume(volume, folder / f"any{target}"))
    np.testing.assert_allclose(back.affine, affine, rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize("target", TARGETS)
def test_every_real_volume_lies_where_it_lay(shared_data: Path, folder: Path, target: str) -> None:
    """Sheared, oblique, left-handed, micrometres, NaN: the foreground of each goes through every format."""
    paths = [
        *sorted((shared_data / "headers_derived").glob("[01]*.nii*")),
        shared_data / "headers_real/shear.nii.gz",
        shared_data / "headers_real/someones_epi.nii.gz",
        shared_data / "headers_real/mha.mha",
        shared_data / "mr_tumour_nrrd/brain1_label.nrrd",
        shared_data / "mr_spinalcord_sct/t2.nii.gz",
    ]
    done = 0
    for path in paths:
        if not path.exists() or path.name.startswith("16"):
            continue
        volume = open_volume(path)
        if np.prod(volume.shape) > 2e6:
            continue
        marks = (np.nan_to_num(volume.array, posinf=0, neginf=0) > 0).astype(np.uint8)
        back = open_volume(
            save_volume(volume.with_array(marks), folder / f"real{target}", integer=True), label=True
        )
        assert np.array_equal(back.array, marks), path.name
        np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4, err_msg=path.name)
        done += 1
    assert done > 15


@pytest.mark.parametrize("target", [".nrrd", ".mha"])
@pytest.mark.parametrize(
    "dtype", [bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i2"]
)
def test_every_type_of_voxel_keeps_its_values(folder: Path, target: str, dtype: str) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % (2 if dtype is bool else 99)).astype(dtype)
    path = save_volume(Volume.from_array(array), folder / f"type{target}")
    assert np.array_equal(open_volume(path).array, array)
    assert np.array_equal(itk_view(path)[1], array)


@pytest.mark.parametrize("target", [".nrrd", ".mha"])
def test_large_integers_are_exact_and_nan_stays(folder: Path, target: str) -> None:
    large = np.array([[[2**53 + 1, -(2**62)]]]).repeat(2, 0)
    back = open_volume(save_volume(Volume.from_array(large), folder / f"large{target}"))
    assert back.array.dtype == np.int64 and np.array_equal(back.array, large)
    odd = np.array([[[np.nan, np.inf, -np.inf, 1]]], np.float32).repeat(2, 0)
    back = open_volume(save_volume(Volume.from_array(odd), folder / f"odd{target}"))
    assert np.array_equal(back.array, odd, equal_nan=True)


@pytest.mark.parametrize("target", TARGETS)
def test_equal_volumes_make_equal_files_without_names_or_times(tmp_path: Path, target: str) -> None:
    volume = Volume.from_array(np.arange(24).reshape(2, 3, 4))
    first = save_volume(volume, tmp_path / f"MUELLER{target}", integer=True).read_bytes()
    second = save_volume(volume, tmp_path / f"b{target}", integer=True).read_bytes()
    assert first == second and b"MUELLER" not in first


@pytest.mark.parametrize("name", ["out.mhd", "out.nhdr", "out.mgz", "out.jpg", "out", "absent/out.nrrd"])
def test_what_cannot_be_written_is_reported(tmp_path: Path, name: str) -> None:
    from segexplorer.core.errors import DataError

    with pytest.raises(DataError) as caught:
        save_volume(Volume.from_array(np.zeros((2, 2, 2))), tmp_path / name)
    assert caught.value.remedy and list(tmp_path.iterdir()) == []


def test_names_of_classes_go_through_a_segmentation_of_slicer(tmp_path: Path) -> None:
    names = {2: "liver", 5: "left kidney of two \\ three"}
    labels = np.array([0, 2, 5, 2] * 6).reshape(2, 3, 4)
    volume = Volume.from_array(labels)
    back = open_volume(save_volume(volume, tmp_path / "a.seg.nrrd", integer=True, names=names), label=True)
    assert back.label_names == names
    # a copy on the same grid keeps them, and so does the next file
    again = save_volume(back.with_array(back.array), tmp_path / "b.seg.nrrd", integer=True)
    assert open_volume(again, label=True).label_names == names
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image.GetMetaData("Segment0_Name") == "liver"
    assert image.GetMetaData("Segment1_LabelValue") == "5"
    assert image.GetMetaData("Segment0_Extent") == "0 1 0 2 0 3"
