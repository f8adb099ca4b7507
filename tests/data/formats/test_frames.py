"""One frame of a file with several: chosen by number, read alone, scaled as nibabel scales it."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexplorer.core.errors import DataError
from segexplorer.data.formats import registry
from segexplorer.data.formats.voxels import SeveralVolumesError, choose_frame
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_every_choice_that_is_offered_is_taken_and_they_differ(extra: list[int]) -> None:
    try:
        assert choose_frame(extra, None, "a.nii") == (0,) * len(extra)
        assert max(extra) == 1
    except SeveralVolumesError as several:
        found = [choose_frame(extra, choice, "a.nii") for choice in several.choices()]
        assert len(set(found)) == len(found) == np.prod(extra)
        assert all(0 <= i < n for index in found for i, n in zip(index, extra, strict=True))


@pytest.mark.parametrize("select", [3, -1, "3", "one", "1, 1", "", "0, 0, 0"])
def test_what_is_no_choice_is_reported(select: int | str) -> None:
    with pytest.raises(DataError, match="no frame") as caught:
        choose_frame([3], select, "a.nii")
    assert "from 0 to 2" in caught.value.remedy


def test_a_file_with_one_volume_takes_no_other_choice() -> None:
    assert choose_frame([], 0, "a.nii") == () and choose_frame([1], "0", "a.nii") == (0,)
    with pytest.raises(DataError, match="no frame 1"):
        choose_frame([], 1, "a.nii")


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("4d/dmri.nii.gz", (0, 3, "6")),
        ("headers_real/functional.nii", (0, 19)),
        ("headers_real/example4d.nii.gz", (1,)),
        ("headers_real/example_nifti2.nii.gz", (0, 1)),
        ("headers_derived/16_4d_three_frames.nii.gz", (0, 1, 2)),
        ("headers_real/5D_small.nii", (0, 2)),
    ],
)
def test_real_frames_are_those_of_nibabel(
    shared_data: Path, name: str, choices: tuple[int | str, ...]
) -> None:
    reference = nib.load(shared_data / name)
    frames = reference.get_fdata().reshape(*reference.shape[:3], -1, order="F")
    for choice in choices:
        volume = open_volume(shared_data / name, select=choice)
        assert np.array_equal(volume.affine, reference.affine)
        np.testing.assert_allclose(volume.array, frames[..., int(choice)], rtol=1e-6, err_msg=name)


def test_only_the_frame_is_held_in_memory(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 99, (40, 40, 40, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(frames, np.eye(4)), tmp_path / "a.nii")
    np.asarray(
        open_volume(tmp_path / "a.nii", select=0).array
    )  # what is imported on first use is not counted
    tracemalloc.start()
    array = open_volume(tmp_path / "a.nii", select=13).array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(array, frames[..., 13]) and peak < 3 * array.nbytes


def test_a_prediction_of_a_frame_is_one_volume(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 3), np.int16), affine), tmp_path / "a.nii.gz")
    frame = open_volume(tmp_path / "a.nii.gz", select=1)
    back = open_volume(save_volume(frame.with_array(frame.array), tmp_path / "b.nii.gz", integer=True))
    assert back.shape == (4, 5, 6) and np.array_equal(back.affine, affine)


def extended(path: Path, length: int) -> Path:
    """A NIfTI file with one extension, which claims this length."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 24))
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[352:356] = struct.pack("<i", length)
    path.write_bytes(content)
    return path


def test_an_extension_is_passed_over_and_must_not_be_longer_than_the_file(tmp_path: Path) -> None:
    good = extended(tmp_path / "good.nii", 32)
    assert np.array_equal(open_volume(good).array.ravel(), np.arange(60))
    tracemalloc.start()
    with pytest.raises(DataError, match="claims 1,500,000,000 bytes"):
        open_volume(extended(tmp_path / "bad.nii", 1_500_000_000))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_resampling_keeps_the_names_of_labels() -> None:
    marks = Volume.from_array(np.ones((2, 2, 2), np.uint8)).with_array(
        np.ones((2, 2, 2), np.uint8), label_names={1: "liver"}
    )
    assert marks.resampled(Volume.from_array(np.zeros((3, 3, 3))), order=0).label_names == {1: "liver"}


# --- the table ---


def test_every_format_is_declared_with_its_functions_and_no_suffix_twice() -> None:
    suffixes = registry.readable_suffixes()
    assert len(set(suffixes)) == len(suffixes)
    for known in registry.formats.values():
        assert bool(known.reader) == bool(known.suffixes) and bool(known.writer) == bool(known.writes)


def test_a_suffix_cannot_be_taken_from_another_format() -> None:
    with pytest.raises(TypeError, match=r"\.nii is read by the format NIfTI already"):
        registry.formats.register(registry.Format(name="mine", suffixes=(".nii", ".mine"), reader=print))
    assert "mine" not in registry.formats


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("A.B.SEG.NRRD", ".seg.nrrd"),
        ("a.b.nrrd", ".nrrd"),
        ("scan.txt", ".txt"),
        ("noname", ""),
    ],
)
def test_the_longest_suffix_decides(name: str, suffix: str) -> None:
    assert registry.suffix_of(Path(name)) == suffix
