"""Time of an optimiser step whose regions belong to the volume, against regions that restart at every patch.

    python benchmarks/region_steps.py [--steps 8] [--patch 64] [--batch 2] [--threads 1] [--small]

Same network, batches, loss and optimiser; steps alternate. "patch" divides each patch by itself, which needs
nothing from the sampler; "volume" carries the regions of the volume with the patches: as boxes, and as a map
where a patch is rotated or deformed. Prints medians of sampling and of the step, and their ratios, in CPU time,
which other processes do not disturb; a loader samples beside the steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from segexplorer.data.sampler import Sampler
from segexplorer.losses.base import partitions_in
from segexplorer.training.experiment import Experiment
from segexplorer.training.learner import Learner
from segexplorer.training.plan import resolve

AUGMENTATIONS: Mapping[str, Any] = {
    "none": {"enabled": False},
    "default": {},
    "every patch rotated": {"placement": {"probability": 1}, "elastic": {"probability": 0}},
    "every patch deformed": {"placement": {"probability": 1}, "elastic": {"probability": 1}},
}


def experiment(patch: int, batch: int, threads: int, augmentation: Any) -> Experiment:
    """The phantom under the adaptive region loss (Chen 2023)."""
    return Experiment.of(
        {
            "data": {"kind": "phantom", "count": 4, "size": patch + 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [patch] * 3, "batch_size": batch, "steps_per_epoch": 1000},
            "network": {"kind": "unet", "base_features": 16, "levels": 4},
            "loss": "chen2023_adaptive_region",
            "augmentation": augmentation,
            "compute": {"device": "cpu", "threads": threads, "precision": "float32"},
        }
    )


def measure(chosen: Experiment, steps: int) -> dict[tuple[str, str], float]:
    """Return medians in seconds of ("patch" or "volume", "sampling" or "step")."""
    plan = resolve(chosen)
    learner = Learner(
        chosen, plan.runtime, channels=plan.channels, classes=len(plan.class_names) + 1, steps=1000
    )
    taken: dict[tuple[str, str], list[float]] = {}
    store = plan.open_store()
    given = (store, plan.ids("train"), plan.sampling, chosen.augmentation, chosen.seed)
    samplers = {"patch": Sampler(*given), "volume": Sampler(*given, partitions_in(chosen.loss))}
    for index in range(steps + 1):
        for name in (list(samplers), list(samplers)[::-1])[index % 2]:
            begun = time.process_time()
            batch = samplers[name].batch(1, index)
            sampled = time.process_time()
            if name == "patch":
                batch = dataclasses.replace(
                    batch, moved=True
                )  # without positions each patch is divided by itself
            with plan.runtime.active():
                learner.step(batch, index, 1)
            done = time.process_time()
            if index:
                taken.setdefault((name, "sampling"), []).append(sampled - begun)
                taken.setdefault((name, "step"), []).append(done - sampled)
    return {key: statistics.median(values) for key, values in taken.items()}


def main() -> None:
    """Print a line per augmentation."""
    parser = argparse.ArgumentParser()
    for name, default in (("--steps", 8), ("--patch", 64), ("--batch", 2), ("--threads", 1)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.steps, options.patch, options.batch = 1, 16, 1
    torch.set_num_threads(options.threads)
    titles = ("sampling ms: patch, volume", "step ms: patch, volume")
    print(f"{'augmentation':22s} {titles[0]:>28s} {titles[1]:>26s}  ratio (step, both)")
    for name, augmentation in AUGMENTATIONS.items():
        found = measure(
            experiment(options.patch, options.batch, options.threads, augmentation), options.steps
        )
        sampling = [1000 * found[side, "sampling"] for side in ("patch", "volume")]
        step = [1000 * found[side, "step"] for side in ("patch", "volume")]
        both = (sampling[1] + step[1]) / (sampling[0] + step[0])
        print(
            f"{name:22s} {sampling[0]:14.0f} {sampling[1]:13.0f} {step[0]:13.0f} {step[1]:12.0f}"
            f"  {step[1] / step[0]:.3f}, {both:.3f}"
        )


if __name__ == "__main__":
    main()
