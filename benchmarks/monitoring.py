"""Cost of recording gradients of terms and references: a training step with it beside one without, alternating.

Prints, for each loss, milliseconds of both sorts of steps and what recording every 50th step (the default) adds to
the time of training; and milliseconds of a step whose batch is kept for *Last patch* in the tab Why. A step that
nobody asks about is the plain one: it keeps nothing, and asks one flag.

    python benchmarks/monitoring.py [--small]
"""

from __future__ import annotations

import argparse
import statistics
import time

from segexplorer.data.sampler import Sampler
from segexplorer.losses.base import partitions_in
from segexplorer.training.experiment import Experiment, Monitoring
from segexplorer.training.learner import Learner
from segexplorer.training.plan import resolve
from segexplorer.training.trained_patch import trained_patch

LOSSES = ("dice_cross_entropy", "adaptive_tversky_cross_entropy", "chen2023_adaptive_region", "unified_focal")


def measure(loss: str, patch: int, features: int, rounds: int) -> None:
    """Print the line of a loss."""
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 2, "size": max(32, patch), "classes": {"liver": 1}},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [patch] * 3, "batch_size": 2, "steps_per_epoch": 10},
            "network": {"kind": "unet", "base_features": features, "levels": 3},
            "loss": loss,
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    plan = resolve(experiment)
    learner = Learner(experiment, plan.runtime, channels=1, classes=2, steps=plan.steps)
    store = plan.open_store()  # phantoms fit into memory, so nothing is written
    sampler = Sampler(
        store, plan.ids("train"), plan.sampling, experiment.augmentation, 0, partitions_in(experiment.loss)
    )
    batch = sampler.batch(1, 0)
    seconds: dict[str, list[float]] = {"plain": [], "measured": [], "kept": []}
    with plan.runtime.active():
        learner.step(batch, 0, 1, measure=True)
        for number in range(1, rounds + 1):
            for sort, spent in seconds.items():
                begun = time.process_time()
                result = learner.step(batch, number, 1, measure=sort == "measured", keep=sort == "kept")
                if result.seen is not None:
                    trained_patch(
                        batch,
                        result.seen,
                        step=number,
                        loss=experiment.loss,
                        affine=store.open(batch.cases[0]).affine,
                        class_names=plan.class_names,
                        scheme=plan.classes.scheme,
                        layout=learner.layout,
                    )
                spent.append(time.process_time() - begun)
    plain, both, kept = (statistics.median(spent) for spent in seconds.values())
    every = Monitoring().gradients_every
    share = (both - plain) / plain / every
    print(
        f"{loss}, {patch}^3, {features} features: {1000 * plain:.0f} ms, with recording {1000 * both:.0f} ms; "
        f"every {every} steps {share:.2%}; with the last patch kept {1000 * kept:.0f} ms",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    for loss in LOSSES[:1] if small else LOSSES:
        measure(loss, 16 if small else 32, 4 if small else 8, 2 if small else 9)


if __name__ == "__main__":
    main()
