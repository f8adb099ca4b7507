"""Soft skeletons by repeated erosion and opening (Shit 2021, arXiv:2003.07311, algorithm 1).

torch's pools keep eight bytes per voxel for the way back, four pools an erosion. So an erosion keeps its input
alone and is done once more on the way back, map by map; without a gradient neighbours are compared axis by axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def soft_skeleton(x: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of (B, C, *spatial) values from 0 to 1, after `iterations` erosions."""
    skeleton = torch.zeros_like(x)
    for _ in range(iterations + 1):
        x, skeleton = _thinned(x, skeleton)
    return skeleton


def _thinned(x: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _thin(x, skeleton)
    eroded, grown = _Thin.apply(x, skeleton)  # type: ignore[no-untyped-call]
    return eroded, grown


def _thin(x: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eroded values, and the skeleton with what an opening takes away."""
    eroded = _erode(x)
    rest = torch.relu(x - _dilate(eroded))
    return eroded, skeleton + torch.relu(rest - skeleton * rest)


class _Thin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, skeleton)
        return _thin(x, skeleton)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        maps = zip(*(tensor.flatten(0, 1).split(1) for tensor in (*ctx.saved_tensors, *grads)), strict=True)
        found = [_slopes(*(part.unsqueeze(1) for part in parts)) for parts in maps]
        return tuple(torch.cat(parts).view_as(grads[0]) for parts in zip(*found, strict=True))


def _slopes(x: Tensor, skeleton: Tensor, *grads: Tensor) -> tuple[Tensor, ...]:
    """Return the slopes in both inputs of `_thin`, which is done once more, with its graph."""
    inputs = [x.detach().requires_grad_(), skeleton.detach().requires_grad_()]
    with torch.enable_grad():
        outputs = _thin(*inputs)
    return torch.autograd.grad(outputs, inputs, grads)


def _erode(x: Tensor) -> Tensor:
    """Return the smallest value of each voxel and its face neighbours."""
    axes = range(2, x.ndim)
    if not torch.is_grad_enabled():
        return _of_neighbours(torch.minimum, x, axes)
    found = x
    for axis in axes:
        kernel = tuple(3 if a == axis else 1 for a in axes)
        found = torch.minimum(found, -_pool(-x, kernel)) if axis > 2 else -_pool(-x, kernel)
    return found


def _dilate(x: Tensor) -> Tensor:
    """Return the largest value of each cube of three voxels."""
    if torch.is_grad_enabled():
        return _pool(x, (3,) * (x.ndim - 2))
    for axis in range(2, x.ndim):
        x = _of_neighbours(torch.maximum, x, (axis,))
    return x


def _pool(x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    pools = (nn.functional.max_pool1d, nn.functional.max_pool2d, nn.functional.max_pool3d)
    padding = tuple(k // 2 for k in kernel)
    found: Tensor = pools[len(kernel) - 1](x, kernel, 1, padding)
    return found


def _of_neighbours(extreme: Callable[..., Tensor], x: Tensor, axes: Iterable[int]) -> Tensor:
    """Return the extreme of each voxel and its neighbours along the axes; several times as fast as a pool."""
    found = x.clone()
    for axis in axes:
        length = x.shape[axis] - 1
        for here, there in ((1, 0), (0, 1)):
            part = found.narrow(axis, here, length)
            extreme(part, x.narrow(axis, there, length), out=part)
    return found
