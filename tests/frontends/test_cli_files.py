"""Which files `predict` writes, and what it refuses before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli.predict import PATTERN
from segexplorer.frontends.cli.predict import output_paths as paths_of_outputs
from segexplorer.frontends.cli.prediction_inputs import cases_to_predict


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def output_paths(images: list[Path], output: Path, *, overwrite: bool, name: str = PATTERN) -> list[Path]:
    refs = cases_to_predict(images, 1, together=False, select=None)
    return paths_of_outputs(refs, output, name=name, overwrite=overwrite)


def test_one_image_goes_to_the_file_named(tmp_path: Path) -> None:
    (image,) = touch(tmp_path, "ct.nii.gz")
    assert output_paths([image], tmp_path / "out.nii.gz", overwrite=False) == [tmp_path / "out.nii.gz"]


def test_images_go_to_a_folder_under_their_names(tmp_path: Path) -> None:
    images = touch(tmp_path, "a.nii.gz", "b.nii", "c.v2.nii.gz")
    names = [path.name for path in output_paths(images, tmp_path / "out", overwrite=False)]
    assert names == ["a_prediction.nii.gz", "b_prediction.nii.gz", "c.v2_prediction.nii.gz"]


def test_names_as_challenges_ask_for_them(tmp_path: Path) -> None:
    images = touch(tmp_path, "a.nii.gz", "b.nii")
    names = [p.name for p in output_paths(images, tmp_path / "out", overwrite=False, name="{case}.mha")]
    assert names == ["a.mha", "b.mha"]
    for wrong in ("out.nii.gz", "{case}", "{case}.txt", "../{case}.nii.gz"):
        with pytest.raises(SpecError, match="no name of a file for each case"):
            output_paths(images, tmp_path / "out", overwrite=False, name=wrong)


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    image, output = touch(tmp_path, "ct.nii.gz", "out.nii.gz")
    with pytest.raises(SpecError, match="exists already"):
        output_paths([image], output, overwrite=False)
    assert output_paths([image], output, overwrite=True) == [output]
    with pytest.raises(SpecError, match="the image itself"):
        output_paths([image], image, overwrite=True)


def test_several_images_need_a_folder_and_different_names(tmp_path: Path) -> None:
    images = touch(tmp_path, "a.nii.gz", "b.nii.gz")
    with pytest.raises(SpecError, match="one file for 2 images"):
        output_paths(images, tmp_path / "out.nii.gz", overwrite=False)
    same = [*touch(tmp_path / "one", "ct.nii.gz"), *touch(tmp_path / "two", "ct.nii.gz")]
    with pytest.raises(SpecError, match="Two cases are called ct"):
        output_paths(same, tmp_path / "out", overwrite=False)


def test_a_file_that_cannot_be_written_is_no_folder_to_be_made(tmp_path: Path) -> None:
    image, report = touch(tmp_path, "ct.nii.gz", "report")
    with pytest.raises(SpecError, match=r"p\.txt is neither a folder nor a file.*\.nii\.gz"):
        output_paths([image], tmp_path / "p.txt", overwrite=False)
    with pytest.raises(SpecError, match="report is neither"):
        output_paths([image], report, overwrite=True)
    (tmp_path / "p.txt").mkdir()
    for folder in (tmp_path / "p.txt", tmp_path / "threshold_0.5"):
        assert output_paths([image], folder, overwrite=False) == [folder / "ct_prediction.nii.gz"]
