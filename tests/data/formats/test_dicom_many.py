"""The files that pydicom brings for its own tests: each ends in the right voxels or in one sentence."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.files import looks_like_dicom
from segexplorer.data.io import open_volume

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"


def theirs(path: Path) -> np.ndarray | None:
    """(frames, rows, columns) as pydicom decodes and rescales it; None where it cannot, or is meant otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path, force=True)
        if data.get("PhotometricInterpretation") != "MONOCHROME2":
            return None
        try:
            raw = data.pixel_array
        except RuntimeError:  # an encoding that needs another package
            return None
    slope = data.get("DoseGridScaling") or data.get("RescaleSlope") or 1
    values = raw * float(slope) + float(data.get("RescaleIntercept") or 0)
    return np.asarray(values.reshape(-1, *values.shape[-2:]))


def test_pydicoms_own_files(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pydicom")
    ends: Counter[str] = Counter()
    for path in sorted(FOLDER.rglob("*")):
        if not path.is_file() or not looks_like_dicom(path.read_bytes()[:200]):
            continue
        try:
            array = open_volume(path).array
        except DataError as error:
            assert error.message.endswith(".") and error.remedy, path.name
            ends["refused"] += 1
            continue
        ends["read"] += 1
        expected = theirs(path)
        if expected is not None:
            np.testing.assert_allclose(array.transpose(2, 1, 0), expected, rtol=1e-6, err_msg=path.name)
            ends["equal"] += 1
    assert ends["equal"] >= 45 and ends["refused"] >= 90, ends
