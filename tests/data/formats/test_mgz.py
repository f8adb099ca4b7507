"""FreeSurfer's volumes against nibabel: packed and plain, frames, headers that know no place."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.io import open_volume

AFFINE = np.array([[-1.0, 0, 0, 40], [0, 0, 1, 50], [0, -1, 0, -10], [0, 0, 0, 1]])
FRAMES = np.random.default_rng(0).integers(0, 99, (4, 5, 6, 3)).astype(np.int16)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_volume(path).array  # noqa: B018
    return caught.value.message


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_voxels_and_places_are_those_of_nibabel(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"orig{suffix}"
    reference = nib.MGHImage(FRAMES[..., 0].astype(dtype), AFFINE)
    nib.save(reference, path)
    volume = open_volume(path)
    assert not volume.loaded and volume.orientation == "LIA" and volume.notes == ()
    np.testing.assert_array_equal(volume.affine, reference.affine)
    assert np.array_equal(volume.array, np.asarray(reference.dataobj))
    assert volume.array.dtype == dtype and volume.array.dtype.isnative


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_a_frame_is_chosen(tmp_path: Path, suffix: str) -> None:
    nib.save(nib.MGHImage(FRAMES, AFFINE), tmp_path / f"bold{suffix}")
    assert "holds 3 volumes" in refusal(tmp_path / f"bold{suffix}")
    for k in range(3):
        assert np.array_equal(open_volume(tmp_path / f"bold{suffix}", select=k).array, FRAMES[..., k])


def test_a_header_that_knows_no_place_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.mgh"
    nib.save(nib.MGHImage(FRAMES[..., 0], AFFINE), path)
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)
    path.write_bytes(content)
    volume = open_volume(path)
    # of the centre (dims / 2) and 1 mm: surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
    np.testing.assert_array_equal(volume.affine @ [2, 2.5, 3, 1], [0, 0, 0, 1])
    assert volume.spacing == (1, 1, 1)
    assert "LIA" in volume.notes[0] and volume.orientation == "LIA"


def test_broken_files_end_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(FRAMES[..., 0], AFFINE), path)
    content = path.read_bytes()
    for kept in (0, 10, 100, len(content) // 2):
        path.write_bytes(content[:kept])
        assert any(word in refusal(path) for word in ("empty", "not a readable", "cut off"))
    path.write_text("no image")
    assert "not a readable MGH" in refusal(path)
