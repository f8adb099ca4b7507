"""A DICOM SEG is scored against a volume, on the volume's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import segexplorer
from segexplorer.data.io import open_volume, save_volume


def test_segments_of_a_part_of_the_image_are_scored_on_all_of_it(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    folder = shared_data / "ct_dicom_seg_dcmqi"
    image = open_volume(folder)
    liver = open_volume(folder / "liver.dcm", label=True, like=image)
    assert liver.shape == image.shape
    wrong = np.array(liver.array)
    wrong[: wrong.shape[0] // 2] = 0
    save_volume(image.with_array(wrong), tmp_path / "prediction.nii.gz", integer=True)
    scores = segexplorer.evaluate(tmp_path / "prediction.nii.gz", folder / "liver.dcm")
    expected = 2 * np.count_nonzero(wrong) / (np.count_nonzero(wrong) + np.count_nonzero(liver.array))
    assert scores[0].metrics["dice"] == pytest.approx(expected)
