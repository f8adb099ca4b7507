"""Mutual information of neighbourhoods: a lower bound from the covariance of prediction and truth.

Each window of r voxels per axis is a point of d = r^n coordinates. If the truth were Gaussian given the prediction,
its entropy would be half the log determinant of M = S_yy - S_yp (S_pp + a)^-1 S_py; the smaller, the more the
prediction says about the truth (Zhao 2019, arXiv:1910.12037).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

JITTER = 5e-4
"""a, added to the diagonals, as the authors do; an absent class has 1/2 log a."""
BLOCK = 2**16
"""Windows that are unfolded at a time: some 30 MB for 27 voxels each."""


def residual_entropy(probs: Tensor, truth: Tensor, radius: int) -> Tensor:
    """Return 1/2 logdet(M + a) / d of every map.

    M + a is the Schur complement of the joint matrix S + a, so that one Cholesky factor of it holds the
    determinant: no inverse is taken, and a constant prediction does no harm.

    Parameters
    ----------
    probs, truth
        (maps, *spatial), each axis at least `radius` long; the truth gets no gradient.
    radius
        Edge of a window in voxels.

    Returns
    -------
    Tensor
        (maps,) in float64, at least 1/2 log a.
    """
    pairs = zip(probs.unbind(), truth.unbind(), strict=True)
    joint = torch.stack([joint_covariance(p, g, radius) for p, g in pairs])
    half = joint.shape[-1] // 2
    diagonal = JITTER * torch.eye(2 * half, dtype=joint.dtype, device=joint.device)
    factor = torch.linalg.cholesky(joint + diagonal)
    logs: Tensor = factor.diagonal(dim1=-2, dim2=-1)[..., half:].log()
    return logs.sum(-1) / half


def joint_covariance(probs: Tensor, truth: Tensor, radius: int) -> Tensor:
    """Return the unnormalised covariance of all windows, (2d, 2d) in float64, the prediction's voxels first.

    Parameters
    ----------
    probs, truth
        (*spatial); the truth gets no gradient.
    """
    if torch.compiler.is_compiling():
        windows = _windows(torch.stack([probs, truth]).double(), radius)
        centred = windows - windows.mean(1, keepdim=True)
        return centred @ centred.T
    found: Tensor = _JointCovariance.apply(probs, truth, radius)  # type: ignore[no-untyped-call]
    return found


class _JointCovariance(torch.autograd.Function):
    """Unfolds some slabs at a time, forward and backward: all windows at once take d times the memory."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, truth: Tensor, radius: int) -> Tensor:
        images = torch.stack([probs, truth])
        size = 2 * radius**probs.ndim
        products = images.new_zeros((size, size), dtype=torch.float64)
        sums = images.new_zeros((size, 1), dtype=torch.float64)
        count = 0
        for slab in _slabs(probs.shape, radius):
            windows = _windows(images[:, slab].double(), radius)
            products.addmm_(windows, windows.T)
            sums += windows.sum(1, keepdim=True)
            count += windows.shape[1]
        ctx.save_for_backward(images, sums / count)
        ctx.radius = radius
        return products.addmm_(sums, sums.T, alpha=-1 / count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        images, mean = ctx.saved_tensors
        radius, dims = ctx.radius, images.ndim - 1
        of_probs = (above + above.T)[: radius**dims]
        found = torch.zeros_like(images[0], dtype=torch.float64)
        for slab in _slabs(found.shape, radius):
            part = images[:, slab]
            slope = of_probs @ (_windows(part.double(), radius) - mean)
            room = tuple(n - radius + 1 for n in part.shape[1:])
            target = found[slab]
            for offset, row in zip(product(range(radius), repeat=dims), slope.unbind(), strict=True):
                where = tuple(slice(o, o + n) for o, n in zip(offset, room, strict=True))
                target[where] += row.view(room)
        return found.to(images.dtype), None, None


def _slabs(shape: torch.Size, radius: int) -> Iterator[slice]:
    """Yield overlapping slices of the first axis, whose windows follow each other without a gap."""
    per_plane = 1
    for n in shape[1:]:
        per_plane *= n - radius + 1
    thick = max(1, BLOCK // per_plane)
    for start in range(0, shape[0] - radius + 1, thick):
        yield slice(start, min(start + thick + radius - 1, shape[0]))


def _windows(images: Tensor, radius: int) -> Tensor:
    """Return (k, *spatial) images as (k d, windows): the last axis of offsets and of windows runs fastest."""
    dims = images.ndim - 1
    views = images
    for axis in range(1, dims + 1):
        views = views.unfold(axis, radius, 1)
    order = (0, *range(dims + 1, 2 * dims + 1), *range(1, dims + 1))
    return views.permute(order).reshape(len(images) * radius**dims, -1)
