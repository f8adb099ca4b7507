"""Cross entropy and focal cross entropy of a scene, summed over voxels, the slope in log p written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.context import Scene
from segexplorer.functional.voxel_sums import Slab, voxel_sum


def focal_sum(
    scene: Scene,
    gamma: float,
    weights: Tensor | None,
    *,
    background_only: bool = False,
    factor: Tensor | None = None,
) -> Tensor:
    """Return the sum over kept voxels and classes of -w_c g_c (1 - p_c)^gamma log p_c.

    Parameters
    ----------
    gamma
        Not below 0; 0 is cross entropy.
    weights
        (C,), or None for ones.
    background_only
        Whether foreground classes go without the factor (asymmetric unified focal loss).
    factor
        (B, *spatial) weights of the voxels, or None.
    """
    if scene.labels is None or torch.compiler.is_compiling():
        return _plain_sum(scene, gamma, weights, background_only, factor)
    return voxel_sum(scene, FocalTerm(gamma, weights, background_only), factor)


@dataclass(frozen=True)
class FocalTerm:
    """-w (1 - p)^gamma log p of each voxel's own class; its slope is that in log p times g - p."""

    gamma: float
    weights: Tensor | None = None
    background_only: bool = False

    @property
    def remembers(self) -> bool:
        """Whether slopes differ from voxel to voxel by more than the class's weight."""
        return self.gamma > 0

    def values(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (n,) values, and note the slopes in log p."""
        weights = self._weights(at)
        if note is None:
            value = -at.log_true
        else:
            value, slope = focal(at.log_true, at.rest_of_true, self.gamma)
            if self.background_only:
                background = at.own[0]
                value, slope = (value + at.log_true) * background - at.log_true, (slope + 1) * background - 1
            note.copy_(slope if weights is None else slope.mul_(weights))
        return value if weights is None else value.mul_(weights)

    def slopes(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (C, n) slopes in the logits."""
        if note is not None:
            return (at.own - at.p).mul_(note)
        found, weights = at.p - at.own, self._weights(at)
        return found if weights is None else found.mul_(weights)

    def _weights(self, at: Slab) -> Tensor | None:
        return None if self.weights is None else (at.own * self.weights.unsqueeze(1)).sum(0)


def focal(log_p: Tensor, rest: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return -(1 - p)^gamma log p and its slope in log p, for which d(1 - p) = -p dlog p.

    Parameters
    ----------
    log_p
        Logarithms of probabilities.
    rest
        1 - p, exact near 0.
    gamma
        Not below 0; 0 is cross entropy.
    """
    if gamma == 0:
        return -log_p, -torch.ones_like(log_p)
    # log1p(-rest) where p > 1/2, log p elsewhere; a sum, for a choice costs many times as much on a CPU
    exact = (-rest.clamp(max=0.5)).log1p_().add_((log_p + math.log(2)).clamp_(max=0))
    base = rest.clamp(min=1e-30)  # a power below 1 of nothing has no slope
    power = base**gamma if gamma in (1, 2) else base.log().mul_(gamma).exp_()  # pow is ten times slower
    slope = (exact / base).mul_(1 - rest).mul_(gamma).sub_(1).mul_(power)
    return power.mul_(exact).neg_(), slope


def _with_slope(plain: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Return a sum that is known, with the known slopes of its voxels in -`plain`."""
    if torch.compiler.is_compiling():
        return value - (slope * (plain - plain.detach())).sum()
    found: Tensor = _SumWithSlope.apply(plain, value, slope)  # type: ignore[no-untyped-call]
    return found


class _SumWithSlope(torch.autograd.Function):
    """A sum that is given, with the slopes of its voxels in -`plain`."""

    @staticmethod
    def forward(ctx: Any, plain: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * -grad, None, None


def _plain_sum(
    scene: Scene, gamma: float, weights: Tensor | None, background_only: bool, factor: Tensor | None
) -> Tensor:
    """For soft targets, and for compilers, which fuse by themselves."""
    logs, shares = scene.log_probs, scene.truth
    shares = shares if weights is None else shares * weights.view(-1, *(1,) * len(scene.spatial))
    for voxels in (factor, scene.keep):
        shares = shares if voxels is None else shares * voxels.unsqueeze(1)
    with torch.no_grad():
        value, slope = focal(logs, -torch.expm1(logs), gamma)
        if background_only:
            value[:, 1:], slope[:, 1:] = -logs[:, 1:], -1
        value, slope = (value * shares).sum(), slope * shares
    return _with_slope(-logs, value, slope)
