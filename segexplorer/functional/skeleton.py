"""Soft skeletons by repeated erosion and opening (Shit 2021, arXiv:2003.07311, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _pool(x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    pools = (nn.functional.max_pool1d, nn.functional.max_pool2d, nn.functional.max_pool3d)
    padding = tuple(k // 2 for k in kernel)
    found: Tensor = pools[len(kernel) - 1](x, kernel, 1, padding)
    return found


def _erode(x: Tensor) -> Tensor:
    axes = x.ndim - 2
    found = x
    for axis in range(axes):
        kernel = tuple(3 if a == axis else 1 for a in range(axes))
        found = torch.minimum(found, -_pool(-x, kernel)) if axis else -_pool(-x, kernel)
    return found


def soft_skeleton(x: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of (B, C, *spatial) values from 0 to 1, after `iterations` erosions."""
    cube = (3,) * (x.ndim - 2)
    eroded = _erode(x)
    skeleton = torch.relu(x - _pool(eroded, cube))
    for _ in range(iterations):
        x, eroded = eroded, _erode(eroded)
        rest = torch.relu(x - _pool(eroded, cube))
        skeleton = skeleton + torch.relu(rest - skeleton * rest)
    return skeleton
