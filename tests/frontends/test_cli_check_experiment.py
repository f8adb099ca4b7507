"""`segexplorer check CONFIG`: what is missing for an experiment, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An experiment on five small CTs, cropped to the body."""
    for n in range(5):
        image = np.full((30, 30, 20), -1000, np.int16)
        image[8:24, 6:22, 2:] = 40
        label = np.zeros(image.shape, np.uint8)
        label[10:14, 10:14, 5:9] = 1
        for folder, voxels in (("images", image + n), ("labels", label)):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            volume = Volume.from_array(voxels.astype(np.int16), spacing=(3, 3, 3))
            save_volume(volume, tmp_path / "set" / folder / f"case{n}.nii.gz", integer=True)
    return written(tmp_path)


def written(folder: Path, **changes: Any) -> Path:
    experiment = {
        "data": {"kind": "folder", "root": str(folder / "set"), "classes": {"organ": 1}},
        "split": {"validation_count": 1},
        "preprocessing": {"crop": {"to": "body", "margin": 0}},
        **changes,
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def problems(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_label_outside_the_crop_is_reported_with_its_volume(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = problems(capsys, file)
    assert code == 0 and found["facts"]["Cropping"] == "to the body, 0 mm around"
    assert "cut_off" not in {p["code"] for p in found["problems"]}
    label = np.zeros((30, 30, 20), np.uint8)
    label[10:14, 10:14, 0:6] = 1  # two slices below the body: 32 voxels of 27 mm3
    path = file.parent / "set/labels/case3.nii.gz"
    save_volume(Volume.from_array(label, spacing=(3, 3, 3)), path, integer=True)
    code, found = problems(capsys, file)
    (warned,) = [p for p in found["problems"] if p["code"] == "cut_off"]
    assert code == 0 and warned["case"] == "case3" and "0.864 ml of organ" in warned["message"]
    assert "cut_off" not in {p["code"] for p in problems(capsys, file, "--quick")[1]["problems"]}


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, network_weights={"path": str(tmp_path / "encoder.pt")})
    code, found = problems(capsys, file)
    told = [p["message"] for p in found["problems"] if p["severity"] == "error"]
    assert code == 2 and found["facts"]["Data"] == "Folder"
    assert any(str(tmp_path / "set") in text for text in told) and any("encoder.pt" in text for text in told)


def test_cases_are_listed_where_the_split_does_not_fit_them(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(file.parent, split={"validation_count": 5})
    code, found = problems(capsys, file)
    (error,) = [p for p in found["problems"] if p["severity"] == "error"]
    assert code == 2 and len(found["cases"]) == 5
    assert "of 5 labelled cases 5 validate" in error["message"] and "validation_count" in error["remedy"]


@pytest.mark.parametrize("table", ["nowhere/cases.csv", "set"])
def test_a_table_that_cannot_be_written_names_a_cure(
    file: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(file), "--quick", "--csv", str(file.parent / table)]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and "--csv cases.csv" in error.replace("\n", " ")


def test_settings_are_those_that_train_would_take(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = problems(capsys, file, "--set", "preprocessing.crop=none")
    assert code == 0 and "Cropping" not in found["facts"]
    code, found = problems(capsys, file, "--set", f"data.root={file.parent / 'elsewhere'}")
    assert code == 2 and "elsewhere" in found["problems"][0]["message"]
    assert run(["check", str(file), "--set", "los=dice"]) == 2
    assert "loss" in capsys.readouterr().err


def test_the_time_of_training_is_measured_on_request(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["sampling.patch_size=[16, 16, 16]", "network.base_features=4", "network.levels=2"]
    code, found = problems(capsys, file, "--time", *(part for s in small for part in ("--set", s)))
    assert (
        code == 0 and "per epoch" in found["facts"]["Time"] and "measured: 3 steps" in found["facts"]["Time"]
    )
    assert run(["check", str(file.parent / "set"), "--time"]) == 2
    assert "no experiment" in capsys.readouterr().err


def test_what_training_would_refuse_is_no_surprise(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = problems(capsys, file, "--set", "sampling.patch_size=[1, 1, 16]")
    assert code == 2 and "is a line" in found["problems"][-1]["message"]
    study = written(file.parent, matrix={"loss": ["dice", "nonsense"]})
    code, found = problems(capsys, study)
    assert code == 2 and "nonsense" in found["problems"][-1]["message"]


def test_a_case_that_is_left_out_cannot_stand_in_the_way(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = file.parent / "set/labels/case3.nii.gz"
    save_volume(Volume.from_array(np.ones((9, 9, 9), np.uint8)), broken, integer=True)
    assert problems(capsys, file)[0] == 2
    code, found = problems(capsys, file, "--set", "split.excluded=[case3]")
    assert code == 0 and "case3" not in {row["case"] for row in found["cases"]}
