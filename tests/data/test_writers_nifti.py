"""Writing NIfTI: the geometry comes back to the last bit, no text is passed on, and nothing is lost on failure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError, DiskError
from segexplorer.data.formats import registry
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume

GEOMETRY = (
    *("sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
TEXTS = ("descrip", "intent_name", "db_name", "aux_file")


def all_48() -> list[np.ndarray]:
    from itertools import permutations, product

    return [np.eye(3)[:, list(p)] * s for p in permutations(range(3)) for s in product((1, -1), repeat=3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("turn", range(48))
def test_save_and_load_is_the_identity_for_all_48_orientations(folder: Path, turn: int, suffix: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = all_48()[turn] * (0.5, 1.25, 3)
    affine[:3, 3] = 7.5, -100.25, 31
    array = np.random.default_rng(turn).integers(-1000, 3000, (3, 4, 5)).astype(np.int16)
    back = open_volume(save_volume(Volume.from_array(array, affine=affine), folder / f"turn{suffix}"))
    assert np.array_equal(back.array, array) and back.array.dtype == np.int16
    assert np.array_equal(back.affine, affine) and back.notes == ()
    # and another reader, following the qform alone, sees the same
    np.testing.assert_allclose(nib.load(folder / f"turn{suffix}").header.get_qform(), affine, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 9), st.tuples(*[st.floats(-500, 500)] * 3))
def test_any_affine_comes_back_within_float32(folder: Path, numbers: Any, origin: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(numbers, (3, 3)) + 3 * np.eye(3)
    affine[:3, 3] = origin
    volume = Volume.from_array(np.zeros((3, 4, 5), np.uint8), affine=affine)
    back = open_volume(save_volume(volume, folder / "any.nii"))
    assert np.array_equal(back.affine, affine.astype(np.float32))


def test_every_shared_header_is_written_back_to_the_last_bit(shared_data: Path, tmp_path: Path) -> None:
    written = 0
    for name in ("headers_real", "headers_derived"):
        for path in sorted((shared_data / name).iterdir()):
            known = registry.format_of(path)
            if known is None or known.name != "NIfTI":
                continue
            try:
                volume = open_volume(path)
                prediction = volume.with_array((np.nan_to_num(volume.array) > 0).astype(np.int64))
            except DataError:
                continue
            back = open_volume(save_volume(prediction, tmp_path / "out.nii.gz", integer=True))
            assert np.array_equal(back.affine, volume.affine), path.name
            assert np.array_equal(back.array, prediction.array) and back.array.dtype == np.uint8
            told = tuple(note for note in volume.provenance.notes if "single slice" not in note)
            assert back.provenance.notes == told, path.name
            old, new = nib.load(path).header, nib.load(tmp_path / "out.nii.gz").header
            for field in GEOMETRY:
                assert np.array_equal(old[field], new[field]), (path.name, field)
            assert np.array_equal(old["pixdim"][:4], new["pixdim"][:4]), path.name
            assert old.get_xyzt_units()[0] == new.get_xyzt_units()[0], path.name
            assert back.provenance.format == volume.provenance.format, path.name
            written += 1
    assert written > 35


def test_a_sheared_volume_gets_no_qform(tmp_path: Path) -> None:
    affine = np.array([[1.0, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    save_volume(Volume.from_array(np.zeros((3, 4, 5)), affine=affine), tmp_path / "tilt.nii")
    header = nib.load(tmp_path / "tilt.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    assert np.array_equal(header.get_sform(), affine)


def test_no_text_of_the_input_is_passed_on(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4))
    for field, size in zip(TEXTS, (80, 16, 18, 24), strict=True):
        image.header[field] = b"MUELLER^ANNA"[:size]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"MUELLER^ANNA"))
    nib.save(image, tmp_path / "in.nii")
    assert b"MUELLER" in (tmp_path / "in.nii").read_bytes()
    volume = open_volume(tmp_path / "in.nii")
    assert "MUELLER" not in repr(volume.provenance)
    save_volume(volume.with_array(volume.array), tmp_path / "out.nii")
    assert b"MUELLER" not in (tmp_path / "out.nii").read_bytes()


@pytest.mark.parametrize("dtype", [bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
def test_every_type_of_voxel_keeps_its_values(tmp_path: Path, dtype: Any) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 2 if dtype is bool else np.arange(24).reshape(2, 3, 4)).astype(
        dtype
    )
    back = open_volume(save_volume(Volume.from_array(array), tmp_path / "x.nii.gz"))
    assert np.array_equal(back.array, array)
    assert back.array.dtype.kind == ("u" if dtype is bool else "i" if dtype == "u8" else array.dtype.kind)


@pytest.mark.parametrize(
    ("top", "kind"), [(1, "u1"), (255, "u1"), (256, "i2"), (40_000, "u2"), (70_000, "i4")]
)
def test_labels_take_the_smallest_type(tmp_path: Path, top: int, kind: str) -> None:
    array = np.zeros((2, 2, 2), np.float32)
    array[0, 0, 0] = top
    back = open_volume(save_volume(Volume.from_array(array), tmp_path / "l.nii.gz", integer=True), label=True)
    assert back.array.dtype == np.dtype(kind) and back.array[0, 0, 0] == top


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0**40])
def test_labels_that_are_none_are_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError):
        save_volume(Volume.from_array(np.full((2, 2, 2), value)), tmp_path / "l.nii", integer=True)
    assert list(tmp_path.iterdir()) == []


def test_complex_voxels_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="complex"):
        save_volume(Volume.from_array(np.zeros((2, 2, 2), complex)), tmp_path / "c.nii")


def test_nan_is_written_as_it_is(tmp_path: Path) -> None:
    array = np.array([[[np.nan, np.inf, -np.inf, 1]]], np.float32)
    back = open_volume(save_volume(Volume.from_array(array.repeat(2, 0)), tmp_path / "n.nii.gz"))
    assert np.array_equal(back.array, array.repeat(2, 0), equal_nan=True)


def test_a_side_beyond_nifti_1_becomes_nifti_2(tmp_path: Path) -> None:
    array = np.zeros((40_000, 2, 2), np.uint8)
    array[-1] = 3
    back = open_volume(save_volume(Volume.from_array(array), tmp_path / "long.nii.gz"))
    assert back.provenance.format == "NIfTI-2" and np.array_equal(back.array, array)


def test_equal_volumes_make_equal_files(tmp_path: Path) -> None:
    volume = Volume.from_array(np.arange(24).reshape(2, 3, 4))
    first, second = (save_volume(volume, tmp_path / f"{n}.nii.gz").read_bytes() for n in "ab")
    assert first == second


@pytest.mark.parametrize("name", ["out.hdr", "out.img.gz", "out.png", "out", "absent/out.nii"])
def test_where_nothing_can_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        save_volume(Volume.from_array(np.zeros((2, 2, 2))), tmp_path / name)
    assert caught.value.remedy and list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.nii").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        save_volume(Volume.from_array(np.zeros((2, 2, 2))), tmp_path / "out.nii")


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 20 kB: the write itself fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_no_space_left_is_a_sentence_and_keeps_what_was_there(
    tmp_path: Path, suffix: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"label{suffix}"
    save_volume(Volume.from_array(np.ones((3, 3, 3), np.uint8)), path)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 2**15, (50, 50, 50))
    request.getfixturevalue("full_disk")
    with pytest.raises(DiskError, match="no space left") as caught:
        save_volume(Volume.from_array(noise), path)
    assert "unharmed" in caught.value.remedy
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_failing_sync_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskError, match="no space left"):
        save_volume(Volume.from_array(np.zeros((2, 2, 2))), tmp_path / "x.nii")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_volume(Volume.from_array(np.ones((3, 3, 3), np.uint8)), tmp_path / "x.nii.gz")
    before = path.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_volume(Volume.from_array(np.zeros((3, 3, 3))), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
