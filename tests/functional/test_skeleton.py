"""The skeleton that remembers little has the values and slopes of the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from segexplorer.functional.skeleton import soft_skeleton


def plain(x: Tensor, iterations: int) -> Tensor:
    """Algorithm 1 of Shit 2021 in torch's pools alone, for three axes."""

    def erode(x: Tensor) -> Tensor:
        low = [-nnf.max_pool3d(-x, k, 1, p) for k, p in (((3, 1, 1), (1, 0, 0)), ((1, 3, 1), (0, 1, 0)))]
        low.append(-nnf.max_pool3d(-x, (1, 1, 3), 1, (0, 0, 1)))
        return torch.minimum(torch.minimum(low[0], low[1]), low[2])

    def opened(x: Tensor) -> Tensor:
        return nnf.max_pool3d(erode(x), 3, 1, 1)

    skeleton = torch.relu(x - opened(x))
    for _ in range(iterations):
        x = erode(x)
        rest = torch.relu(x - opened(x))
        skeleton = skeleton + torch.relu(rest - skeleton * rest)
    return skeleton


@pytest.mark.parametrize("saturated", [False, True])
def test_values_and_slopes(saturated: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand((2, 2, 7, 1, 9), dtype=torch.float64)
    x = (x.round() if saturated else x).requires_grad_()  # ties share their slope in the same way
    weights = torch.rand_like(x)
    results = []
    for function in (soft_skeleton, plain):
        found = function(x, 3)
        results.append((found.detach(), *torch.autograd.grad((found * weights).sum(), x)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(soft_skeleton(x, 3), results[1][0], rtol=0, atol=1e-14)
