"""A run that was trained for a second, to be exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

EXPERIMENT = Experiment.of(
    {
        "name": "named by me",
        "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "loss": "adaptive_tversky_cross_entropy",
        "schedule": {"kind": "polynomial", "epochs": 1},
        "optimiser": {"kind": "adamw", "learning_rate": 0.01},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
)
WHOLE = {"sampling.patch_size": None}
SLICES = {"sampling.patch_size": [16, 16, 1]}
RESAMPLED = {"preprocessing.spacing": [5.0, 5.0, 6.0], "validation.mirror": True}
VARIANTS = {"patches": {}, "whole": WHOLE, "slices": SLICES, "resampled": RESAMPLED}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs by the name of what is particular about them."""
    runs = {}
    for name, changes in VARIANTS.items():
        folder = RunFolder.create(replace_values(EXPERIMENT, changes), tmp_path_factory.mktemp("runs") / name)
        runs[name] = Run(folder)
        end = list(runs[name])[-1]
        assert runs[name].state == "finished", end
    return runs


@pytest.fixture
def image_file(trained: dict[str, Run], tmp_path: Path) -> Path:
    """The image of the validation case as a file, in a folder of its own."""
    from segexplorer.data.io import save_volume

    run = trained["patches"]
    assert run.plan is not None
    image = run.plan.refs[run.plan.ids("validation")[0]].open().images[0]
    (tmp_path / "images").mkdir()
    return save_volume(image, tmp_path / "images" / "abdomen.nii.gz")
