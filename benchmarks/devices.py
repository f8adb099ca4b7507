"""Speed and equality of training on several devices of this machine against one, on phantoms.

Both runs make the same steps of the same batches. Printed are the median seconds of a step after the first few,
their ratio, and the largest relative differences of losses and gradient norms.

    python benchmarks/devices.py [--devices 2] [--patch 64] [--batch 4] [--features 16] [--steps 30]
        [--normalisation batch] [--small]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from segexplorer.core.events import RunFinished, StepDone
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
from segexplorer.training.team import launch

FIRST = 5
"""Steps that are not timed: cases are prepared, and memory is found."""


def steps_of(experiment: Experiment, folder: Path, devices: int, backend: str | None) -> list[StepDone]:
    """Train, and return the steps."""
    run = Run(RunFolder.create(experiment, folder))
    run.team = launch(devices, backend=backend) if devices > 1 else None
    steps = []
    try:
        for event in run:
            if isinstance(event, StepDone):
                steps.append(event)
            if isinstance(event, RunFinished) and event.error:
                raise SystemExit(f"{event.error} {event.remedy}")
    finally:
        if run.team is not None:
            run.team.end(0)
    return steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--normalisation", default="batch")
    parser.add_argument("--loss", default="dice_cross_entropy")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--backend", default=None, help="of torch.distributed")
    parser.add_argument("--small", action="store_true", help="a few steps of small patches")
    given = parser.parse_args()
    if given.small:
        given.patch, given.features, given.steps, given.batch = 16, 4, FIRST + 2, 2
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 4, "size": max(32, given.patch), "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {
                "patch_size": [given.patch] * 3,
                "batch_size": given.batch,
                "steps_per_epoch": given.steps,
            },
            "network": {
                "kind": "unet",
                "base_features": given.features,
                "levels": 3,
                "normalisation": given.normalisation,
            },
            "loss": given.loss,
            "schedule": {"epochs": 1},
            "validation": {"watch_every_seconds": None},
            "compute": {"threads": 1, "device": given.device, "precision": given.precision},
        }
    )
    with tempfile.TemporaryDirectory() as place:
        one = steps_of(experiment, Path(place) / "one", 1, None)
        many = steps_of(experiment, Path(place) / "many", given.devices, given.backend)
    seconds = [float(np.median([e.seconds for e in steps[FIRST:]])) for steps in (one, many)]
    print(f"1 device {seconds[0]:.3f} s a step, {given.devices} devices {seconds[1]:.3f} s: ", end="")
    print(f"{seconds[0] / seconds[1]:.2f} times as fast")
    for name in ("loss", "gradient_norm"):
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(one, many, strict=True)]
        apart = [abs(a - b) / abs(a) for a, b in pairs]
        print(f"{name}: relative difference {apart[0]:.1e} at the first step, {max(apart):.1e} at most")


if __name__ == "__main__":
    main()
