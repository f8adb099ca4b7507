"""`segexplorer.view` tells what is wrong before a window opens, and takes labels for labels."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError, MissingExtraError
from segexplorer.data.volume import Volume
from segexplorer.frontends import viewing


def test_missing_toolkit_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "segexplorer\[all\]"'):
        segexplorer.view()


def test_damaged_file_is_reported_without_a_window(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"scan\.nii\.gz"):
        segexplorer.view(path)


def test_scan_is_an_image_and_few_whole_numbers_are_a_label() -> None:
    scan = np.random.default_rng(0).normal(0, 300, (8, 8, 8)).astype(np.float32)
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:5, 2:5, 2:5] = 3
    kinds = [viewing.picture_of(Volume.from_array(array), 1).kind for array in (scan, label)]
    assert kinds == ["image", "labels"]
