"""Slice-wise training: 2D networks on volumes, whole-volume figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segexplorer.core.errors import SpecError
from segexplorer.core.events import RunFinished, StepDone, ValidationDone
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.functional.inputs import LossContext
from segexplorer.networks.unet import UNet
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.plan import resolve
from segexplorer.training.predict import load_predictor
from segexplorer.training.run import Run
from segexplorer.training.slices import Layout

SLICES = {
    "data": {"kind": "phantom", "size": 32, "count": 3},
    "split": {"validation_count": 1},
    "network": {"kind": "unet", "base_features": 4, "levels": 3},
    "sampling": {"patch_size": [32, 30, 1], "batch_size": 2, "steps_per_epoch": 3},
    "schedule": {"kind": "constant", "epochs": 1},
    "compute": {"threads": 1},
}


def test_a_patch_of_one_slice_makes_a_network_of_two_dimensions() -> None:
    layout = Layout.of((32, 32, 1))
    network = layout.build(UNet(base_features=4, levels=3), 1, 3)
    assert layout.divisor(UNet(levels=3)) == (4, 4, 1) and layout.flat((32, 32, 1)) == (32, 32)
    assert any(isinstance(m, torch.nn.Conv2d) for m in network.modules())
    assert not any(isinstance(m, torch.nn.Conv3d) for m in network.modules())
    assert network.eval()(torch.zeros(1, 1, 32, 32, 1)).shape == (1, 3, 32, 32, 1)
    assert Layout.of((32, 32, 32)).dimensions == Layout.of(None).dimensions == 3
    with pytest.raises(SpecError, match="a line"):
        Layout.of((32, 1, 1))


def test_single_slices_are_told_how_to_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = []
    for number in range(2):
        image, label = tmp_path / f"image{number}.nii.gz", tmp_path / f"label{number}.nii.gz"
        voxels = rng.normal(size=(20, 20, 1)).astype(np.float32)
        save_volume(Volume.from_array(voxels), image)
        save_volume(Volume.from_array((voxels > 0).astype(np.uint8)), label, integer=True)
        cases.append({"case": f"c{number}", "image": str(image), "label": str(label)})
    split = {"validation_count": 1}
    plan = resolve(Experiment.of({**SLICES, "split": split, "data": {"kind": "pairs", "pairs": cases}}))
    assert "slices" not in {p.code for p in plan.problems}
    cube = {"patch_size": [16, 16, 16]}
    plan = resolve(
        Experiment.of({**SLICES, "sampling": cube, "split": split, "data": {"kind": "pairs", "pairs": cases}})
    )
    told = next(p for p in plan.warnings if p.code == "slices")
    assert "[16, 16, 1]" in told.remedy


def test_the_context_of_a_slice_has_two_axes() -> None:
    maps = {"signed": torch.zeros(2, 3, 4, 1, 6)}
    spacing = [[1.0, 9.0, 3.0], [1.0, 9.0, 3.0]]
    flat = Layout.of((4, 1, 6)).drop_context(LossContext(distance_maps=maps, spacing=spacing))
    assert flat.distance_maps is not None and flat.distance_maps["signed"].shape == (2, 3, 4, 6)
    assert flat.spacing.tolist() == [[1.0, 3.0], [1.0, 3.0]]


@pytest.mark.parametrize("loss", ["squared_dice_ce_adaptive_region", "boundary_difference_over_union"])
def test_slices_train_and_whole_volumes_are_scored(loss: str, tmp_path: Path) -> None:
    experiment = Experiment.of({**SLICES, "loss": loss})
    run = Run(RunFolder.create(experiment, tmp_path / "run"))
    events = list(run)
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    assert sum(isinstance(e, StepDone) for e in events) == 3
    assert run.plan is not None and run.plan.patch == (32, 32, 1)
    validation = next(e for e in events if isinstance(e, ValidationDone))
    assert validation.scores
    if loss.startswith("chen2023"):
        patch = run.patch.last("patch")
        assert patch is not None and len(patch.regions.edges) == 3 and patch.regions.edges[2] == (0, 1)
    image = run.plan.refs[run.plan.ids("validation")[0]].open().images[0]
    assert load_predictor(tmp_path / "run", "last").predict([image]).shape == image.shape
