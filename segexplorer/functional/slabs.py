"""Work on a volume in slabs that stay in a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

SLAB = 1 << 15
"""Voxels at a time on a CPU."""


def slabs(volume: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield (sample, range of voxels) over a (B, ..., N) tensor; whole samples off the CPU and for compilers."""
    voxels = volume.shape[-1]
    whole = volume.device.type != "cpu" or torch.compiler.is_compiling()
    width = max(voxels, 1) if whole else SLAB
    for sample in range(volume.shape[0]):
        for start in range(0, voxels, width):
            yield sample, slice(start, start + width)


def narrow(labels: Tensor, classes: int) -> Tensor:
    """Return class indices in as few bytes as they need; comparing bytes is many times faster."""
    return labels.to(torch.uint8) if classes <= 256 else labels


def membership(labels: Tensor, like: Tensor) -> Tensor:
    """Return (C, n) ones where (n,) narrowed labels are the class, zeros elsewhere; C and type of `like`."""
    classes = torch.arange(like.shape[1], dtype=labels.dtype, device=labels.device).unsqueeze(1)
    found = torch.empty((len(classes), len(labels)), dtype=like.dtype, device=like.device)
    return torch.eq(labels.unsqueeze(0), classes, out=found)
