"""What the README shows is run as it is written there, on a tiny phantom."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import segexplorer
from segexplorer.frontends.cli.app import run as run_cli

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "adaptive_tversky_cross_entropy",
    "schedule": {"kind": "polynomial", "epochs": 1},
    "compute": {"device": "cpu", "threads": 1},
}


def blocks(file: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (ROOT / file).read_text(), flags=re.DOTALL | re.MULTILINE
    )


def test_readme_goes_from_experiment_to_error_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segexplorer, "view", lambda *things: shown.extend(things))
    Path("experiment.yaml").write_text(yaml.safe_dump(TINY))
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), names)
    printed = capsys.readouterr().out
    experiment = segexplorer.Experiment.from_yaml("experiment.yaml")
    assert "RunFinished" in printed
    assert all(name in printed for name in experiment.data.class_values())
    assert segexplorer.open_run("runs/first").state == "finished"
    image, label, prediction = shown
    errors = segexplorer.open_volume("errors.nii.gz", label=True)
    assert errors.shape == image.shape == label.shape == prediction.shape
    assert set(errors.array.ravel().tolist()) <= {0, 1, 2, 3, 4}
    if importlib.util.find_spec("plotly") and importlib.util.find_spec("ipyniivue"):
        exec(compile(blocks("README.md", "python")[1], "README.md", "exec"), names)
        assert names["run"].state == "finished" and not names["training"].is_alive()
        assert names["run"].experiment.loss.alpha == 0.6


def test_readme_loss_is_a_drop_in() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md", "python")[2], "README.md", "exec"), names)
    assert names["logits"].grad.isfinite().all()
    assert names["logits"].grad.abs().sum() > 0
    total = sum(float(value) * float(weight) for value, weight in names["output"].terms.values())
    assert total == pytest.approx(float(names["output"].value.detach()), rel=1e-5)


def test_readme_commands_are_ours(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("README.md", "") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("segexplorer ")]
    assert len(commands) >= 8
    for command in commands:
        assert run_cli([command[0], "--help"]) == 0
        told = capsys.readouterr().out
        assert all(word in told for word in command if word.startswith("-")), command


def test_readme_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "docs"} <= named <= targets
