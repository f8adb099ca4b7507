"""A training experiment that takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run


@pytest.fixture
def tiny() -> Experiment:
    """Three phantoms of 32^3, six steps of 16^3 patches, two validations."""
    return Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "adaptive_tversky_cross_entropy",
            "schedule": {"kind": "polynomial", "epochs": 2},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )


@pytest.fixture
def make_run(tmp_path: Path, tiny: Experiment) -> Callable[..., Run]:
    """Make a run of the tiny experiment with some settings changed."""

    def make(name: str = "run", **settings: Any) -> Run:
        changed = {k.replace("__", "."): v for k, v in settings.items()}
        return Run(RunFolder.create(replace_values(tiny, changed), tmp_path / name))

    return make
