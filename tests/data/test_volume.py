"""Volumes: lazy, frozen, picklable, and what their values are taken for."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import Grid
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume

LPS = np.array([[-1.0, 0, 0, 40], [0, -2, 0, 50], [0, 0, 3, -10], [0, 0, 0, 1]])


def ct_like(seed: int = 0) -> np.ndarray:
    """Air around soft tissue with a little bone, HU."""
    rng = np.random.default_rng(seed)
    array = np.full((20, 20, 20), -1000.0)
    array[4:16, 4:16, 4:16] = 40
    array[9:11, 9:11, 4:16] = 700
    return (array + rng.normal(0, 10, array.shape)).astype(np.int16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(ct_like(), LPS), path)
    return path


def test_geometry_of_a_volume() -> None:
    volume = Volume.from_array(np.zeros((4, 5, 6)), affine=LPS)
    assert (volume.shape, volume.spacing, volume.orientation) == ((4, 5, 6), (1, 2, 3), "LPS")
    assert volume.voxel_ml == pytest.approx(0.006)
    assert Volume.from_array(np.zeros((4, 5, 6)), spacing=(1, 2, 3)).orientation == "RAS"


def test_opening_reads_no_voxels(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    from segexplorer.data.formats.voxels import RawArray

    whole = RawArray.read
    monkeypatch.setattr(RawArray, "read", lambda self, *given: read.append("voxels") or whole(self, *given))
    volume = open_volume(file)
    assert volume.orientation == "LPS" and "LPS" in repr(volume)
    assert not volume.loaded and read == []
    assert volume.array is volume.array and volume.loaded
    assert read == ["voxels"]


def test_a_volume_is_frozen() -> None:
    volume = Volume.from_array(np.zeros((2, 2, 2)))
    with pytest.raises(AttributeError, match="frozen"):
        volume.shape = (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2
    own = np.eye(4)
    other = Volume.from_array(np.zeros((2, 2, 2)), affine=own)
    own[0, 0] = 5
    assert other.affine[0, 0] == 1


def test_pickling_a_file_sends_no_voxels(file: Path) -> None:
    volume = open_volume(file)
    expected = volume.array
    sent = pickle.dumps(volume)
    assert len(sent) < 4000 < expected.nbytes
    back = pickle.loads(sent)
    assert not back.loaded
    assert np.array_equal(back.array, expected) and np.array_equal(back.affine, volume.affine)
    assert back.provenance == volume.provenance


def test_pickling_an_array_sends_it() -> None:
    volume = Volume.from_array(ct_like(), affine=LPS, modality="CT")
    back = pickle.loads(pickle.dumps(volume))
    assert np.array_equal(back.array, volume.array) and back.modality == "CT"


def test_with_array_keeps_the_grid_and_refuses_another_shape(file: Path) -> None:
    volume = open_volume(file)
    other = volume.with_array(np.ones(volume.shape, np.uint8))
    assert np.array_equal(other.affine, volume.affine)
    assert other.provenance.header == volume.provenance.header and other.provenance.path is None
    assert not volume.loaded
    with pytest.raises(DataError, match="does not fit"):
        volume.with_array(np.ones((1, 2, 3)))


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 6, 2)])
def test_only_three_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="3 axes"):
        Volume.from_array(np.zeros(shape))


def test_singular_affine_is_refused() -> None:
    with pytest.raises(DataError, match="singular"):
        Volume.from_array(np.zeros((2, 2, 2)), affine=np.diag([1.0, 1, 0, 1]))


def test_modality_is_guessed_from_values_and_can_be_corrected() -> None:
    rng = np.random.default_rng(0)
    assert Volume.from_array(ct_like()).modality == "CT"
    assert Volume.from_array(ct_like() + 1024).modality == "MR"
    assert Volume.from_array(ct_like()).with_modality("MR").modality == "MR"
    assert Volume.from_array(ct_like(), modality="unknown").modality == "unknown"
    assert Volume.from_array(rng.normal(size=(9, 9, 9))).modality == "unknown"  # z-scores
    assert Volume.from_array(rng.uniform(-4096, 4096, (9, 9, 9))).modality == "unknown"  # phase
    assert Volume.from_array(rng.rayleigh(300, (9, 9, 9))).modality == "MR"
    assert Volume.from_array(np.full((3, 3, 3), np.nan)).modality == "unknown"
    assert (
        Volume.from_array(rng.normal(0, 80, (20, 20, 20)) + 20).modality == "CT"
    )  # inside the belly: fat, no air


def test_the_guess_keeps_no_voxels(file: Path) -> None:
    volume = open_volume(file)
    assert volume.modality == "CT"
    assert not volume.loaded


def test_modality_of_real_scans(shared_data: Path) -> None:
    found = {
        path: open_volume(shared_data / path).modality
        for path in ("ct_abdomen_totalseg/example_ct.nii.gz", "ct_abdomen_totalseg/example_ct_sm.nii.gz")
    }
    assert set(found.values()) == {"CT"}
    for path in (
        "mr_abdomen_totalseg/example_mr_sm.nii.gz",
        "mr_brain_stroke/T2.nii.gz",
        "headers_real/anatomical.nii",
    ):
        assert open_volume(shared_data / path).modality == "MR", path
    for path in sorted((shared_data / "Task04_Hippocampus/imagesTr").glob("[!.]*.nii.gz")):
        assert open_volume(path).modality == "MR", path.name


def test_notes_tell_of_nan_and_of_a_ct_without_hounsfield_units() -> None:
    odd = ct_like().astype(np.float32)
    odd[0, 0, :3] = np.nan, np.inf, -np.inf
    (note,) = Volume.from_array(odd).notes
    assert note.startswith("3 voxels are NaN or infinite")
    (note,) = Volume.from_array(ct_like() + 2000, modality="CT").notes
    assert "not in Hounsfield units" in note
    assert Volume.from_array(ct_like(), modality="CT").notes == ()


def test_a_label_on_another_grid_is_found_by_world_position() -> None:
    label = np.zeros((6, 6, 6), np.uint8)
    label[1, 2, 3] = 7
    volume = Volume.from_array(label, affine=np.diag([-1.0, -1, 1, 1]))
    target = Grid((8, 8, 8), np.array([[1.0, 0, 0, -6], [0, 1, 0, -6], [0, 0, 1, 0], [0, 0, 0, 1]]))
    moved = volume.resampled(target, order=0)
    assert moved.array.dtype == np.uint8 and moved.shape == (8, 8, 8)
    assert np.argwhere(moved.array).tolist() == [[5, 4, 3]]  # world (-1, -2, 3)
    assert np.array_equal(moved.affine, target.affine)


def test_an_image_resampled_beyond_its_edge_is_filled_with_its_lowest_value() -> None:
    image = np.full((3, 3, 3), 50, np.int16)
    image[0] = -1000
    moved = Volume.from_array(image).resampled(Grid((9, 3, 3), np.eye(4)), order=1)
    assert moved.array[:3].tolist() == image.tolist() and (moved.array[3:] == -1000).all()
