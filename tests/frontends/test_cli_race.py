"""`segexplorer fork` and `segexplorer race` from start to end: cost first, then training, then sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.frontends.cli.app import run as run_cli
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.fork import fork_of
from segexplorer.training.history import open_run
from segexplorer.training.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps in two epochs."""
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1, "classes": {"liver": 1}},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "dice_cross_entropy",
            "schedule": {"kind": "constant", "epochs": 2},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert list(Run(RunFolder.create(experiment, folder)))[-1].state == "finished"
    return folder


def test_a_dry_run_says_the_cost_and_makes_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["-o", str(tmp_path / "new"), "--dry-run", "--json"]
    assert run_cli(["fork", str(trained), "--step", "3", "--set", "loss.kind=dice", *where]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "1 step has to be trained again first" in shown.err and json.loads(shown.out)["replay_steps"] == 1
    assert run_cli(["race", str(trained), "--step", "2", "--set", "loss.kind=dice", *where]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "3 lanes of 50 steps" in shown.err and json.loads(shown.out)["lanes"]["B"] == "dice"
    assert not list(tmp_path.iterdir())


def test_a_fork_is_trained_and_told_like_a_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fork"
    code = run_cli(
        [
            "fork",
            str(trained),
            "--step",
            "3",
            "--set",
            "loss.kind=dice",
            "--steps",
            "2",
            "-o",
            str(out),
            "--json",
        ]
    )
    shown = capsys.readouterr()
    assert code == ExitCode.DONE, shown.err
    assert json.loads(shown.out)["step"] == 5
    assert "forked at step 3" in shown.err
    file = fork_of(out)
    assert file is not None and file.source == "run" and open_run(out).experiment.loss.kind == "dice"
    assert run_cli(["fork", str(trained), "-o", str(out)]) == ExitCode.MISTAKE
    assert "never overwritten" in capsys.readouterr().err


def test_a_race_says_what_differs_and_can_be_compared(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "race"
    given = [
        "--step",
        "2",
        "--steps",
        "2",
        "--every",
        "1",
        "--set",
        "loss.kind=cross_entropy",
        "-o",
        str(out),
    ]
    assert run_cli(["race", str(trained), *given]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "Dice of liver at step 4: A" in shown.out and "Race folder" in shown.err
    assert run_cli(["race", str(out), "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["step"] == 4 and set(told["classes"]["liver"]["dice"]) == {"A", "B", "control"}
    assert set(told["classes"]["liver"]["apart_ml"]) == {"A and B", "A and control", "B and control"}
    assert run_cli(["compare", str(out), "--checkpoint", "last"]) == ExitCode.DONE
    assert "cross_entropy" in capsys.readouterr().out
    assert run_cli(["race", str(out), "--set", "loss.kind=dice"]) == ExitCode.MISTAKE
    assert "is a race already" in capsys.readouterr().err


def test_mistakes_end_in_a_sentence(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["race", str(trained)], "nothing is changed"),
        (["race", str(trained), "--set", "network.levels=3"], "cannot change in a fork"),
        (["fork", str(trained), "--step", "99"], "there is no step 99"),
        (["fork", str(trained.parent)], "is not a run folder"),
    ):
        assert run_cli(arguments) == ExitCode.MISTAKE
        assert words in capsys.readouterr().err


def test_planning_a_fork_loads_no_torch(trained: Path) -> None:
    code = (
        "import sys; from segexplorer.frontends.cli.app import run;"
        f"run(['fork', {str(trained)!r}, '--step', '3', '--dry-run']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
