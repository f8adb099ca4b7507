"""Time of an optimiser step: the engine with everything on against a bare torch loop, interleaved in one run.

    python benchmarks/step_time.py [--steps 120] [--threads 1] [--patch 48] [--device cpu] [--small]

Same network, data, loss, optimiser and precision in both. The engine side writes its run folder, emits every
event and shows region maps. Prints medians and their ratio (aim: at most 1.05).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from segexplorer.core.events import RunFinished, StepDone
from segexplorer.losses.base import partitions_in
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.learner import context_of
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run


def experiment(patch: int, threads: int, device: str) -> Experiment:
    """The phantom under the adaptive region loss (Chen 2023)."""
    return Experiment.of(
        {
            "data": {"kind": "phantom", "count": 4, "size": max(64, patch), "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [patch] * 3, "batch_size": 2, "steps_per_epoch": 100_000},
            "network": {"kind": "unet"},
            "loss": "squared_dice_ce_adaptive_region",
            "optimiser": {"kind": "adamw"},
            "compute": {"device": device, "threads": threads},
        }
    )


def bare_steps(chosen: Experiment) -> Iterator[float]:
    """Yield the seconds of each step of a bare loop."""
    from segexplorer.data.sampler import Sampler

    plan = resolve(chosen)
    runtime = plan.runtime
    torch.manual_seed(chosen.seed)
    outputs = len(plan.class_names) + 1
    network = chosen.network.build(dimensions=3, in_channels=plan.channels, out_channels=outputs)
    network = runtime.place_network(network, 3).train()
    loss = chosen.loss.build().to(runtime.device)
    optimiser = chosen.optimiser.build([{"params": list(network.parameters())}])
    store = plan.open_store()
    partitions = partitions_in(chosen.loss)
    sampler = Sampler(store, plan.ids("train"), plan.sampling, chosen.augmentation, chosen.seed, partitions)
    index = 0
    while True:
        begun = time.perf_counter()
        batch = sampler.batch(1, index)
        images = runtime.place(torch.from_numpy(batch.images))
        labels = torch.from_numpy(batch.labels).to(runtime.device)
        with runtime.autocast():
            logits = network(images)
        value = loss(logits, labels, context_of(batch, 1, runtime.device))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        float(value.detach())  # every loop reads its loss
        index += 1
        yield time.perf_counter() - begun


def engine_steps(chosen: Experiment, folder: Path) -> Iterator[float]:
    """Yield the seconds between the engine's steps, as the code around it sees them."""
    begun = time.perf_counter()
    for event in Run(RunFolder.create(chosen, folder)):
        if isinstance(event, StepDone):
            now = time.perf_counter()
            yield now - begun
            begun = time.perf_counter()
        elif isinstance(event, RunFinished) and event.error:
            raise SystemExit(event.error)


def main() -> int:
    """Interleave blocks of ten steps and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.steps, options.patch = 10, 16
    chosen = experiment(options.patch, options.threads, options.device)
    torch.set_num_threads(options.threads)
    times: dict[str, list[float]] = {"bare": [], "engine": []}
    with tempfile.TemporaryDirectory() as scratch:
        sides = {"bare": bare_steps(chosen), "engine": engine_steps(chosen, Path(scratch) / "run")}
        for block in range(options.steps // 10 + 1):
            for name, side in sides.items():
                for number in range(10):
                    seconds = next(side)
                    # the first step of a block waits for nothing or has a batch ready from before: left out
                    if block > 0 and number > 0:
                        times[name].append(seconds)
        for side in sides.values():
            side.close()  # type: ignore[attr-defined]
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:7s} median {value * 1000:7.1f} ms over {len(times[name])} steps")
    print(f"engine / bare = {medians['engine'] / medians['bare']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
