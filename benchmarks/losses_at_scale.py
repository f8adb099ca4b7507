"""Every loss on one volume of 300^3 voxels: value and gradient in float32 against float64, time and memory.

Usage: python benchmarks/losses_at_scale.py [--size 300] [--classes 2] [--threads 1] [--kinds dice tversky ...]
                                            [--without cl_dice ...] [--json FILE] [--small]

A float32 counter stops at 2^24 = 16,777,216 voxels, which a volume of 257^3 exceeds. The reference is the same
formula in float64 throughout: `error` is that of the value, `norm` that of the gradient's length, `grad` the
largest difference relative to the largest slope. Time is processor time of a forward and a backward pass in
float32, memory the growth of the peak over the inputs' (Linux; "-" elsewhere). Distance maps come with the context,
as in training. All losses at 300^3 take more than half an hour on one core, and some 8 GB: `--kinds`, `--without`
and `--size` choose less. Rows are printed as they come.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segexplorer import losses
from segexplorer.functional import boundary
from segexplorer.functional.inputs import LossContext

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def labels_of(size: int, classes: int) -> torch.Tensor:
    """Return (1, 1, size^3) labels: a ball of each foreground class, a lesion of 0.003 % of the volume last."""
    axes = np.meshgrid(*[np.arange(size, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    found = np.zeros((size,) * 3, np.int64)
    for number in range(1, classes):
        last = number == classes - 1
        radius = size * (0.02 if last else 0.3 / number)
        centre = [size * (0.3 + 0.37 * ((number * step) % 1)) for step in (0.618, 0.414, 0.732)]
        found[sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2] = number
    return torch.from_numpy(found)[None, None]


def volume(size: int, classes: int, needed: set[str]) -> tuple[torch.Tensor, torch.Tensor, LossContext]:
    """Return logits (1, classes, size^3) that mostly agree with the labels, the labels, and the maps needed."""
    labels = labels_of(size, classes)
    logits = torch.randn((1, classes, size, size, size), generator=torch.Generator().manual_seed(0))
    logits.scatter_add_(1, labels, torch.full(labels.shape, 3.0))
    masks = torch.cat([labels == c for c in range(classes)], 1)
    makers = {
        "signed distances": lambda: boundary.maps(masks, boundary.signed_distance),
        "unsigned distances": lambda: boundary.maps(masks, boundary.unsigned_distance),
        "nearness": lambda: boundary.nearness(labels[:, 0])[:, None],
    }
    maps = {name: make().float() for name, make in makers.items() if name in needed}
    return logits, labels, LossContext(distance_maps=maps or None)


def kilobytes(name: str) -> int:
    """Return a figure of /proc/self/status; 0 where there is none."""
    if not STATUS.exists():
        return 0
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def evaluated(kind: str, logits: torch.Tensor, labels: torch.Tensor, context: LossContext) -> tuple[Any, ...]:
    """Return value, gradient, seconds, and the growth of the peak memory in MB."""
    loss = losses.create(kind)
    leaf = logits.detach().requires_grad_()
    gc.collect()
    if CLEAR.exists():
        CLEAR.write_text("5")  # the peak starts afresh
    before, begun = kilobytes("VmRSS"), time.process_time()
    value = loss(leaf, labels, context)
    value.backward()
    seconds = time.process_time() - begun
    assert leaf.grad is not None
    return value.item(), leaf.grad, seconds, (kilobytes("VmHWM") - before) / 1024


def row(kind: str, logits: torch.Tensor, labels: torch.Tensor, context: LossContext) -> dict[str, Any]:
    """Return one line of the table."""
    value, gradient, seconds, memory = evaluated(kind, logits, labels, context)
    exact, reference, _, _ = evaluated(kind, logits.double(), labels, context)
    norm, exact_norm = gradient.double().norm().item(), reference.norm().item()
    largest = (reference - gradient).abs().max().item() / max(reference.abs().max().item(), 1e-300)
    return {
        "kind": kind,
        "value": value,
        "value_error": abs(value - exact) / max(abs(exact), 1e-300),
        "norm": norm,
        "norm_error": abs(norm - exact_norm) / max(exact_norm, 1e-300),
        "gradient_error": largest,
        "seconds": seconds,
        "memory_mb": memory if memory > 0 else math.nan,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=None, choices=losses.names(), metavar="KIND")
    parser.add_argument("--without", nargs="*", default=(), choices=losses.names(), metavar="KIND")
    parser.add_argument("--json", type=Path, default=None, help="also write the rows into this file")
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    chosen = parser.parse_args()
    if chosen.small:
        chosen.size, chosen.kinds = 24, ["dice", "tversky"]
    torch.set_num_threads(chosen.threads)
    kinds = [kind for kind in chosen.kinds or losses.names() if kind not in chosen.without]
    needed = {name for kind in kinds for name in losses.parse(kind).needs()}
    logits, labels, context = volume(chosen.size, chosen.classes, needed)
    counts = np.bincount(labels.numpy().ravel()).tolist()
    print(
        f"1 x {chosen.classes} x {chosen.size}^3 values, voxels of each class {counts}, {chosen.threads} thread(s)"
    )
    print(
        f"{'loss':34s} {'value':>12s} {'error':>8s} {'gradient':>11s} {'norm':>8s} {'grad':>8s} {'time':>8s} memory"
    )
    rows = []
    for kind in kinds:
        found = row(kind, logits, labels, context)
        rows.append(found)
        memory = "-" if math.isnan(found["memory_mb"]) else f"{found['memory_mb']:.0f} MB"
        print(
            f"{kind:34s} {found['value']:12.6g} {found['value_error']:8.0e} {found['norm']:11.4e} "
            f"{found['norm_error']:8.0e} {found['gradient_error']:8.0e} {found['seconds']:6.1f} s {memory}",
            flush=True,
        )
    worst = max(rows, key=lambda r: r["value_error"])
    print(f"largest relative error of a value: {worst['value_error']:.0e} ({worst['kind']})")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
