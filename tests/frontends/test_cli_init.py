"""`segexplorer init` and `segexplorer configs`: files that are accepted as they are, and never replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segexplorer.data.datasets import parse
from segexplorer.data.io import save_volume
from segexplorer.frontends.cli.app import run
from segexplorer.training.experiment import Experiment, sample_configs, shipped_experiments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("Ordner mit Umläuten")
    for ref in parse({"kind": "phantom", "anatomy": "mr_brain", "count": 3, "size": 32}).cases():
        case = ref.open()
        assert case.label is not None
        for part, volume in (("images", case.images[0]), ("labels", case.label)):
            (root / part).mkdir(exist_ok=True)
            save_volume(volume, root / part / f"{ref.id}.nii.gz", integer=part == "labels")
    return root


def test_what_init_writes_is_accepted_by_check(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    assert run(["init", str(folder), "-o", str(file), "--quick", "--task", "lesions"]) == 0
    told = capsys.readouterr().out
    assert f"segexplorer train {file}" in told.replace("\n", "") and "3 with a label" in told
    assert Experiment.from_yaml(file).validation.metrics[0] == "lesions"
    assert run(["check", str(file)]) == 0
    assert run(["init", str(folder), "-o", str(file), "--quick"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_json_holds_settings_and_reasons(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "e.yaml"
    classes = "{ventricles: 3, lesion: 5}"
    assert (
        run(["init", str(folder), "-o", str(file), "--minutes", "0.1", "--classes", classes, "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(file) and found["experiment"]["data"]["classes"] == {
        "ventricles": 3,
        "lesion": 5,
    }
    assert found["seconds"]["total"] >= found["seconds"]["first_validation"] > 0
    assert "sampling.patch_size" in found["reasons"]
    assert "# Time: about" in file.read_text(encoding="utf-8")


def test_mistakes_end_with_a_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "e.yaml")
    assert run(["init", str(tmp_path / "nowhere"), "-o", file]) == 2
    assert run(["init", str(folder), "-o", file, "--quick", "--minutes", "3"]) == 2
    assert run(["init", str(folder), "-o", file, "--task", "bones"]) == 2
    told = capsys.readouterr().err
    assert "There is no" in told and "--quick" in told and "bones" in told
    assert not Path(file).exists()


def test_every_shipped_experiment_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["configs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == sorted(path.stem for path in sample_configs().glob("*.yaml"))
    assert all(len(one["title"]) > 20 for one in found)
    assert run(["configs"]) == 0
    told = capsys.readouterr().out
    assert all(one.name in told for one in shipped_experiments())


def test_a_shipped_experiment_is_printed_or_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = (sample_configs() / "yeung2022_phantom.yaml").read_text(encoding="utf-8")
    assert run(["configs", "yeung2022_phantom"]) == 0
    assert capsys.readouterr().out.strip() == original.strip()
    file = tmp_path / "mine.yaml"
    assert run(["configs", "yeung2022_phantom.yaml", "-o", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == original
    assert run(["configs", "yeung2022_phantom", "-o", str(file)]) == 2
    assert run(["configs", "yeung2022_fantom"]) == 2
    assert run(["configs", "-o", str(file)]) == 2
    assert "yeung2022_phantom" in capsys.readouterr().err
