"""Which prediction `evaluate` scores against which truth, in folders of any format."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.errors import DataError
from segexplorer.frontends.cli.evaluate import pair


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def dicom(folder: Path, *names: str) -> None:
    for path in touch(folder, *names):
        path.write_bytes(bytes(128) + b"DICM")


def cases(prediction: Path, truth: Path) -> dict[str, tuple[str, str]]:
    found = pair(prediction, truth).pairs
    return {
        p.case: (p.prediction.relative_to(prediction).as_posix(), p.truth.relative_to(truth).as_posix())
        for p in found
    }


def test_folders_pair_by_name_in_any_format(tmp_path: Path) -> None:
    p, t = tmp_path / "p", tmp_path / "t"
    touch(p, "a_prediction.nii.gz", "b.seg.nrrd", "c.v2.mha", "d_pred.png", "e.mgz", "f.dcm", "summary.json")
    touch(t, "a.nii.gz", "b_mask.nii", "c.v2_seg.mgz", "d_mask.tif", "e.nhdr", "f.nrrd")
    touch(t, ".hidden.nii", "._a.nii.gz", "notes.txt", "f.raw")
    assert cases(p, t) == {
        "a": ("a_prediction.nii.gz", "a.nii.gz"),
        "b": ("b.seg.nrrd", "b_mask.nii"),
        "c.v2": ("c.v2.mha", "c.v2_seg.mgz"),
        "d": ("d_pred.png", "d_mask.tif"),
        "e": ("e.mgz", "e.nhdr"),
        "f": ("f.dcm", "f.nrrd"),
    }


def test_a_subfolder_is_a_case(tmp_path: Path) -> None:
    p, t = tmp_path / "p", tmp_path / "t"
    touch(p, "one.nii.gz", "two.nii.gz", "three.nii.gz")
    dicom(t, "one/IM0001", "one/IM0002.dcm")  # DICOM files need no suffix
    touch(t, "two/segmentation.nii.gz", "two/imaging.nii.gz", "three/labels.mha", "logs/log.txt")
    assert cases(p, t) == {
        "one": ("one.nii.gz", "one"),
        "three": ("three.nii.gz", "three/labels.mha"),
        "two": ("two.nii.gz", "two/segmentation.nii.gz"),
    }


def test_a_dicom_folder_is_one_volume(tmp_path: Path) -> None:
    (file,) = touch(tmp_path, "case_prediction.nii.gz")
    dicom(tmp_path / "series", "1.dcm", "2.dcm")
    dicom(tmp_path / "other", "x.dcm")
    (only,) = pair(file, tmp_path / "series").pairs
    assert (only.case, only.prediction, only.truth) == ("series", file, tmp_path / "series")
    (only,) = pair(tmp_path / "other", tmp_path / "series").pairs
    assert (only.prediction, only.truth) == (tmp_path / "other", tmp_path / "series")


def test_an_image_beside_its_mask_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "p", "a.png")
    touch(tmp_path / "t", "a.png", "a_mask.png")
    assert cases(tmp_path / "p", tmp_path / "t") == {"a": ("a.png", "a_mask.png")}


def test_predictions_without_truth_are_reported(tmp_path: Path) -> None:
    touch(tmp_path / "p", "a.nii.gz", "b.nii.gz")
    touch(tmp_path / "t", "a.nii.gz")
    found = pair(tmp_path / "p", tmp_path / "t")
    assert [p.case for p in found.pairs] == ["a"]
    assert found.extra == ("b.nii.gz",)


def test_a_truth_without_prediction_is_named_with_the_likely_one(tmp_path: Path) -> None:
    touch(tmp_path / "p", "a.nii.gz", "patient_02.nii.gz")
    touch(tmp_path / "t", "a.nii.gz", "patient_2.nii.gz", "z.nii.gz")
    with pytest.raises(DataError, match=r"no prediction for patient_2\.nii\.gz and 1 more of 3") as told:
        pair(tmp_path / "p", tmp_path / "t")
    assert "Is it patient_02.nii.gz?" in told.value.remedy


def test_two_files_for_one_case_are_not_guessed(tmp_path: Path) -> None:
    touch(tmp_path / "p", "a.nii.gz", "a.nrrd", "b.nii.gz", "b.nrrd")
    touch(tmp_path / "t", "a.nii.gz")
    with pytest.raises(DataError, match=r"p/a\.nii\.gz and p/a\.nrrd could both be the label of a"):
        pair(tmp_path / "p", tmp_path / "t")


def test_paths_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    (file,) = touch(tmp_path / "files", "a.nii.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There is no"):
        pair(tmp_path / "none", file)
    with pytest.raises(DataError, match="folder, the other a file"):
        pair(file, tmp_path / "files")
    with pytest.raises(DataError, match="holds no label files"):
        pair(tmp_path / "empty", tmp_path / "empty")
