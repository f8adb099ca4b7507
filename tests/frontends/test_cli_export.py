"""`segexplorer export`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segexplorer.frontends.cli.app import run
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 2, "size": 32},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "steps_per_epoch": 2},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "schedule": {"kind": "constant", "epochs": 1},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    made = Run(RunFolder.create(experiment, folder))
    list(made)
    assert made.state == "finished"
    return folder


def test_a_bundle_is_written_and_its_path_printed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "bundle"
    arguments = [
        "export",
        str(trained),
        "--format",
        "monai-bundle",
        "-o",
        str(target),
        "--set",
        "title=Abdomen",
    ]
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert json.loads((target / "configs" / "metadata.json").read_text())["name"] == "Abdomen"
    assert run(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-f", "monai"], "There is no exporter 'monai'. Did you mean monai_bundle?"),
        (["-f", "onnx", "--set", "opset=2"], "opset must be at least 18"),
        (["-f", "onnx", "--set", "patch=3"], "has no setting 'patch'"),
        (
            ["-f", "onnx", "--set", "a.b=3"],
            "An exporter has no setting 'a.b'. See: segexplorer describe exporters",
        ),
    ],
)
def test_mistakes_are_answered_in_a_sentence(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert run(["export", str(trained), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(tmp_path), "-f", "onnx", "-o", str(tmp_path / "out")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_sinks_and_exporters_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "exporters", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kind": "monai_bundle", "display_name": "MONAI bundle"} in listed
    assert {row["kind"] for row in listed} >= {"monai_bundle", "onnx"}
    assert run(["list", "sinks", "--json"]) == 0
    assert {row["kind"] for row in json.loads(capsys.readouterr().out)} >= {"tensorboard", "wandb"}
    assert run(["describe", "sinks", "tensorboard"]) == 0
    described = capsys.readouterr().out
    assert "every_steps" in described and "https://www.tensorflow.org/tensorboard" in described
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "sinks.tensorboard" in schema["$defs"] and "exporters" not in schema["$defs"]
