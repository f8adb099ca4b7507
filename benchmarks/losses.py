"""Time and memory of the losses against MONAI's, forward and backward, interleaved in one run.

Usage: python benchmarks/losses.py [--size 96] [--classes 4] [--repeats 9] [--threads 1] [--inductor] [--small]

With one thread, processor time is measured, since others may use the machine; with more, wall time. The allocator
keeps freed pages: if glibc returns them and requests them again, the same loss takes 35 or 80 ms by chance.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from segexplorer import losses

KEEP_PAGES = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
GIVE_BACK = dict.fromkeys(KEEP_PAGES, "131072")
"""Each tensor in pages of its own, freed with it, so that the peak is that of the tensors that exist at a time."""
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def subjects() -> dict[str, tuple[Step, str]]:
    """Return name -> (loss, name of what it is compared with)."""
    from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss

    common = {"softmax": True, "to_onehot_y": True}
    return {
        "softmax floor": (lambda z, y: torch.softmax(z, 1)[:, 0].sum(), "MONAI Tversky"),
        "MONAI Tversky": (TverskyLoss(alpha=0.3, beta=0.7, **common), "MONAI Tversky"),
        "MONAI Dice": (DiceLoss(**common), "MONAI Dice"),
        "MONAI DiceCE": (DiceCELoss(**common), "MONAI DiceCE"),
        "MONAI Focal": (FocalLoss(use_softmax=True, to_onehot_y=True), "MONAI Focal"),
        "cross_entropy": (losses.create("cross_entropy"), "MONAI DiceCE"),
        "dice": (losses.create("dice"), "MONAI Tversky"),
        "jaccard": (losses.create("jaccard"), "MONAI Tversky"),
        "tversky": (losses.create("tversky"), "MONAI Tversky"),
        "focal_tversky": (losses.create("focal_tversky"), "MONAI Tversky"),
        "focal": (losses.create("focal"), "MONAI Focal"),
        "dice_focal": (losses.create("dice_focal"), "MONAI DiceCE"),
        "hybrid_focal": (losses.create("hybrid_focal"), "MONAI DiceCE"),
        "combo": (losses.create("combo"), "MONAI DiceCE"),
        "unified_focal": (losses.create("unified_focal"), "MONAI DiceCE"),
        "hytver": (losses.create("hytver"), "MONAI DiceCE"),
        "region_dice, grid 16": (losses.create("region_dice", grid=16), "MONAI Tversky"),
        "adaptive_region_tversky, grid 16": (
            losses.create("adaptive_region_tversky", grid=16),
            "MONAI Tversky",
        ),
        "dice_cross_entropy": (losses.create("dice_cross_entropy"), "MONAI DiceCE"),
        "squared_dice_ce_adaptive_region": (losses.create("squared_dice_ce_adaptive_region"), "MONAI DiceCE"),
    }


def data(size: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (2, classes, size^3) and labels."""
    torch.manual_seed(0)
    logits = torch.randn(2, classes, size, size, size, requires_grad=True)
    return logits, torch.randint(0, classes, (2, 1, size, size, size))


def step(loss: Step, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    logits.grad = None
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    loss(logits, labels).backward()
    return clock() - begun


def peak_megabytes(name: str, size: int, classes: int) -> float:
    """Return how much the peak resident memory of a fresh process grows over the inputs'."""
    chosen = ["--size", str(size), "--classes", str(classes)]
    call = [sys.executable, __file__, *chosen, "--threads", "1", "--memory-of", name]
    plain = {**os.environ, **GIVE_BACK}
    return float(subprocess.run(call, check=True, capture_output=True, text=True, env=plain).stdout)


def _peak_kilobytes() -> int:
    # ru_maxrss would be inherited from the parent process; VmHWM starts afresh with each program
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure_memory(name: str, size: int, classes: int) -> float:
    """Return the growth of this process's peak memory in MB during one step."""
    loss = subjects()[name][0]
    small, few = data(8, classes)
    step(loss, small, few)  # imports and first allocations do not count
    logits, labels = data(size, classes)
    before = _peak_kilobytes()
    step(loss, logits, labels)
    return (_peak_kilobytes() - before) / 1024


def compare_compiled(size: int) -> None:
    """Print how far torch.compile's inductor is from the plain loss, for every registered kind."""
    warnings.simplefilter("ignore")  # of dynamo's own graph breaks
    logits, labels = data(size, 4)
    for kind in losses.names():
        torch._dynamo.reset()
        results = []
        loss = losses.create(kind)
        for step_ in (loss, torch.compile(loss)):
            logits.grad = None
            value = step_(logits, labels)
            value.backward()
            assert logits.grad is not None
            results.append((value.item(), logits.grad.clone()))
        (value, gradient), (other, slope) = results
        error = (gradient - slope).abs().max().item() / max(gradient.abs().max().item(), 1e-30)
        print(f"{kind:34s} value {value:12.6f}  compiled {other:12.6f}  gradient differs by {error:.1e}")


def main() -> None:
    """Print one line per loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", default="")
    parser.add_argument("--inductor", action="store_true", help="compare compiled losses with plain ones")
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    chosen = parser.parse_args()
    if chosen.small:
        chosen.size, chosen.repeats = 12, 1
    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        print(measure_memory(chosen.memory_of, chosen.size, chosen.classes))
        return
    if chosen.inductor:
        compare_compiled(min(chosen.size, 24))
        return
    if (
        not chosen.small and KEEP_PAGES.items() - os.environ.items()
    ):  # read by the allocator when a program starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_PAGES})
    logits, labels = data(chosen.size, chosen.classes)
    table = subjects()
    times: dict[str, list[float]] = {name: [] for name in table}
    for round_ in range(chosen.repeats + 1):
        for name, (loss, _) in table.items():
            seconds = step(loss, logits, labels)
            if round_:  # the first round warms up
                times[name].append(seconds)
    median = {name: statistics.median(values) for name, values in times.items()}
    memory = {
        name: math.nan if chosen.small else peak_megabytes(name, chosen.size, chosen.classes)
        for name in table
    }
    shape = f"2x{chosen.classes}x{chosen.size}^3"
    print(f"{shape}, {chosen.threads} thread(s), median of {chosen.repeats} interleaved runs")
    for name, (_, rival) in table.items():
        print(
            f"{name:34s} {median[name] * 1e3:8.1f} ms  {median[name] / median[rival]:5.2f} of {rival:14s}"
            f" {memory[name]:7.0f} MB  {memory[name] / max(memory[rival], 1e-9):5.2f}"
        )


if __name__ == "__main__":
    main()
