"""Every sample configuration loads, comes back unchanged from YAML, and trains for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.events import RunFinished, StepDone
from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

FOLDER = Path(__file__).resolve().parents[1] / "sample_configs"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_sample_configurations() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_it_comes_back_from_yaml(file: Path, tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(file)
    again = tmp_path / "again.yaml"
    experiment.save(again)
    assert Experiment.from_yaml(again) == experiment


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_it_trains_for_two_steps(
    file: Path, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEXPLORER_DATA", str(shared_data))
    experiment = Experiment.from_yaml(file)
    small = {
        "sampling.steps_per_epoch": 2,
        "sampling.batch_size": 1,
        "schedule.epochs": 1,
        "network.base_features": 4,
        "compute.threads": 1,
        "validation.every_epochs": 1,
        "validation.overlap": 0.0,
    }
    if experiment.data.plain()["kind"] == "phantom":
        small |= {"data.size": 48, "data.count": 2, "split.validation_count": 1}
    else:
        small |= {"validation.keep_probabilities": False}
    run = Run(RunFolder.create(replace_values(experiment, small), tmp_path / "run"))
    events = list(run)
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    assert sum(isinstance(e, StepDone) for e in events) == 2
