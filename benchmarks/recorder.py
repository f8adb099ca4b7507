"""Cost of recording: milliseconds of `Recorder.step` and of `Recorder.watch`, beside a training step.

python benchmarks/recorder.py [--small]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from segexplorer import Recorder, losses, networks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    steps, size, rounds = (20, 16, 2) if small else (2000, 32, 5)
    label = np.zeros((size,) * 3, np.uint8)
    label[size // 4 : size // 2, size // 4 : size // 2, size // 4 : size // 2] = 1
    truth = torch.from_numpy(label[None, None].astype(np.int64))
    loss = losses.create("dice_cross_entropy")
    network = networks.spec("unet").of({}).build(dimensions=3, in_channels=1, out_channels=2)
    images = torch.randn(1, 1, size, size, size)
    trained: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        output = loss.evaluate(network(images), truth)
        output.value.backward()
        trained.append(time.perf_counter() - begun)
    logits = network(images).detach()
    with (
        tempfile.TemporaryDirectory() as folder,
        Recorder(Path(folder) / "run", ["lesion"], loss=loss) as recorder,
    ):
        begun = time.perf_counter()
        for _ in range(steps):
            recorder.step(output, learning_rate=0.1)
        step = (time.perf_counter() - begun) / steps
        watched: list[float] = []
        for _ in range(rounds):
            begun = time.perf_counter()
            recorder.watch("case", label=label, logits=logits)
            watched.append(time.perf_counter() - begun)
    one = float(np.median(trained))
    print(f"a training step of {size}^3 voxels: {1000 * one:.1f} ms")
    print(f"recording a step: {1000 * step:.3f} ms, {step / one:.2%} of it")
    print(f"recording a frame of {size}^3 voxels with its scores: {1000 * float(np.median(watched)):.1f} ms")


if __name__ == "__main__":
    main()
