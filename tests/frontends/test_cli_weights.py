"""Everything takes the same weights of a run, the best by validation unless asked for the last, and says which."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import typer

import segexplorer
from segexplorer.frontends.cli.app import app, run
from segexplorer.study import compare, compare_groups
from segexplorer.study.runs import read_run
from segexplorer.training.exporters import export_run
from segexplorer.training.predict import load_predictor
from segexplorer.training.predict import predict as predict_case
from segexplorer.training.scores import DEFAULT_WEIGHTS


def test_every_command_takes_the_same_checkpoints_with_the_same_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = typer.main.get_command(app)
    options = {
        name: option
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for option in command.params
        if option.name == "checkpoint"
    }
    assert set(options) >= {"predict", "evaluate", "export", "compare"}
    for name, option in options.items():
        assert run([name, "--checkpoint", "newest"]) == 2
        refusal = capsys.readouterr().err
        assert set(re.findall(r"'(\w+)'", refusal)) == {"newest", "best", "last"}, name
        # the recorded scores of a split are shown whatever weights they are of
        assert option.default == (None if name == "evaluate" else DEFAULT_WEIGHTS), name


def test_every_function_has_the_same_default() -> None:
    for function in (
        segexplorer.predict,
        predict_case,
        load_predictor,
        export_run,
        compare,
        compare_groups,
        read_run,
    ):
        assert inspect.signature(function).parameters["checkpoint"].default == DEFAULT_WEIGHTS, function


def test_every_command_says_which_weights_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = segexplorer.Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "schedule": {"kind": "constant", "epochs": 3},
            "compute": {"device": "cpu", "threads": 1},
        }
    )
    folder = tmp_path / "first"
    segexplorer.train(experiment, folder)
    case = experiment.data.cases()[0].open()
    segexplorer.save_volume(case.images[0], tmp_path / "image.nii.gz")
    found = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
    assert found["state"] == "finished"
    record = segexplorer.open_run(folder)
    best = [e.step for e in record.events() if type(e).__name__ == "ValidationDone" and e.best][-1]
    steps = {"best": best, "last": 3}
    capsys.readouterr()
    for pointer, step in steps.items():
        chosen = [] if pointer == "best" else ["--checkpoint", pointer]
        output = str(tmp_path / f"{pointer}.nii.gz")
        assert run(["predict", str(folder), str(tmp_path / "image.nii.gz"), "-o", output, *chosen]) == 0
        assert f"Weights: {pointer} of first (step {step})" in capsys.readouterr().err
        bundle = str(tmp_path / f"bundle_{pointer}")
        assert run(["export", str(folder), "-f", "monai-bundle", "-o", bundle, *chosen]) == 0
        assert f"Exporting the {pointer} weights (step {step}) of" in capsys.readouterr().err
        again = ["--again"] if pointer == "last" else []
        assert run(["evaluate", str(folder), "--split", "validation", *again, *chosen]) == 0
        assert f"of first, {pointer} weights (step {step})" in capsys.readouterr().out
        assert run(["compare", str(folder), *chosen]) == 0
        assert f'Checkpoint "{pointer}"' in " ".join(capsys.readouterr().out.split())
    predicted = segexplorer.predict(folder, case.images[0])
    assert predicted.provenance.notes[-1] == f"Predicted with the best weights (step {best})."
