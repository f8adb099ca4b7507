"""The focal cross entropy of a scene: its sum over voxels, and the slope in log p written by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.context import Scene
from segexplorer.functional.slabs import membership, narrow, slabs


def focal_sum(scene: Scene, gamma: float, weights: Tensor | None, *, background_only: bool = False) -> Tensor:
    """Return the sum over kept voxels and classes of -w_c g_c (1 - p_c)^gamma log p_c.

    Parameters
    ----------
    gamma
        Not below 0.
    weights
        (C,), or None for ones.
    background_only
        Whether foreground classes go without the factor (asymmetric unified focal loss).
    """
    if scene.labels is None:
        return _soft_sum(scene, gamma, weights, background_only)
    plain = scene.cross_entropies
    with torch.no_grad():
        value, slope = _voxels(scene, plain, gamma, weights, background_only)
    return _with_slope(plain, value, slope)


def _voxels(
    scene: Scene, plain: Tensor, gamma: float, weights: Tensor | None, background_only: bool
) -> tuple[Tensor, Tensor]:
    """Sum of the values, and (B, *spatial) slopes."""
    assert scene.labels is not None
    entropies, probs = plain.flatten(1), scene.probs.flatten(2)
    labels, count = narrow(scene.labels.flatten(1), scene.classes), scene.classes
    classes = torch.arange(count, dtype=labels.dtype, device=labels.device).unsqueeze(1)
    slopes, total = torch.empty_like(entropies), plain.new_zeros(())
    for b, part in slabs(entropies):
        log_p, y = -entropies[b, part], labels[b, part]
        own = membership(y, classes).to(plain.dtype)
        # 1 - p as the sum of the others, exact near 0
        value, slope = focal(log_p, ((1 - own) * probs[b, :, part]).sum(0), gamma)
        if background_only:
            value, slope = (value + log_p) * own[0] - log_p, (slope + 1) * own[0] - 1
        factor = None if weights is None else (own * weights.unsqueeze(1)).sum(0)
        if scene.keep is not None:
            kept = scene.keep.flatten(1)[b, part].to(plain.dtype)
            factor = kept if factor is None else factor * kept
        total += value.sum() if factor is None else (value * factor).sum()
        slopes[b, part] = slope if factor is None else slope * factor
    return total, slopes.view_as(plain)


def focal(log_p: Tensor, rest: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return -(1 - p)^gamma log p and its slope in log p, for which d(1 - p) = -p dlog p.

    Parameters
    ----------
    log_p
        Logarithms of probabilities.
    rest
        1 - p, exact near 0.
    gamma
        Not below 0.
    """
    # log1p(-rest) where p > 1/2, log p elsewhere; a sum, for a choice costs many times as much on a CPU
    exact = (-rest.clamp(max=0.5)).log1p_().add_((log_p + math.log(2)).clamp_(max=0))
    base = rest.clamp(min=1e-30)  # a power below 1 of nothing has no slope
    power = base**gamma if gamma in (0, 1, 2) else base.log().mul_(gamma).exp_()  # pow is ten times slower
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


def _soft_sum(scene: Scene, gamma: float, weights: Tensor | None, background_only: bool) -> Tensor:
    assert scene.soft is not None
    logs = scene.log_probs
    shares = scene.soft if weights is None else scene.soft * weights.view(-1, *(1,) * len(scene.spatial))
    shares = shares if scene.keep is None else shares * scene.keep.unsqueeze(1)
    with torch.no_grad():
        value, slope = focal(logs, -torch.expm1(logs), gamma)
        if background_only:
            value[:, 1:], slope[:, 1:] = -logs[:, 1:], -1
        value, slope = (value * shares).sum(), slope * shares
    return _with_slope(-logs, value, slope)
