"""Cross entropies summed over voxels, in one backward pass with the softmax.

Maps of the logits' size are most of a loss's memory, and passes over them most of its time. The first term that
asks for such a sum computes the softmax with it: one node of the graph, whose backward pass adds the slopes of
the sum, slab by slab in the processor's cache, to those that come back through the probabilities. So a compound
of overlap and cross entropy holds no maps but the probabilities and their gradients.

In order: the node and what it needs to know of a term (`VoxelTerm`); cross entropy and focal cross entropy, whose
slope in log p is written by hand; the two-sided cross entropy of classes against the rest, which weighs false
negatives against false positives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.class_sums import membership, narrow, slabs
from segexplorer.functional.inputs import LossInputs
from segexplorer.functional.softmax import SMALLEST, log_complements


class Slab:
    """n voxels of a sample: probabilities and memberships (C, n), and what terms derive from them."""

    def __init__(self, p: Tensor, own: Tensor, z: Tensor | None = None) -> None:
        self.p, self.own = p, own
        self.z = z
        """Logits, where probabilities may be too small for log p to be computed from them; else None."""

    @cached_property
    def hit(self) -> Tensor:
        """(C, n) p g."""
        return self.p * self.own

    @cached_property
    def rest_of_true(self) -> Tensor:
        """(n,) 1 - p of the own class, as the sum of the others: exact near 0."""
        return (self.p - self.hit).sum(0)

    @cached_property
    def log_true(self) -> Tensor:
        """(n,) log p of the own class, exact for any logits: log of the largest p, plus a difference."""
        if self.z is None:
            return self.hit.sum(0).log_()
        below = (self.z - self.z.amax(0)).mul_(self.own).sum(0)
        return below.add_(self.p.amax(0).log_()).clamp_(max=0)


class VoxelTerm(Protocol):
    """What n voxels cost, and its slope."""

    @property
    def needs_note(self) -> bool:
        """Whether the forward pass leaves one number per voxel to the backward pass."""

    def values(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (n,) values; fill the (n,) note where the term needs one."""

    def slopes(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (C, n) slopes in the logits, in a tensor of its own."""


def sum_of_others(x: Tensor) -> Tensor:
    """Return for each row of (C, n) the sum of all others; running sums, so that nothing cancels."""
    found, last = torch.empty_like(x), len(x) - 1
    before = [x[0]]  # sums of all up to a row
    for c in range(1, last):
        before.append(torch.add(before[-1], x[c], out=found[last] if c == last - 1 else None))
    after = x[last]
    for c in range(last - 1, 0, -1):
        torch.add(before[c - 1], after, out=found[c])
        after = torch.add(after, x[c], out=found[0] if c == 1 else None)
    if last == 1:
        found[0], found[1] = x[1], x[0]
    return found


def voxel_sum(inputs: LossInputs, term: VoxelTerm, factor: Tensor | None = None) -> Tensor:
    """Return the sum of a term over the kept voxels of inputs with integer labels; not for compilers.

    Parameters
    ----------
    factor
        (B, *spatial) weights of the voxels, without gradient, or None.
    """
    assert inputs.labels is not None
    if inputs.keep is not None:
        factor = inputs.keep if factor is None else factor * inputs.keep
    known = inputs.made_probs
    probs, total = _SoftmaxAndSum.apply(  # type: ignore[no-untyped-call]
        inputs.logits, known, inputs.labels, factor, term, inputs.wide_range
    )
    if known is None:
        inputs.made_probs = probs
    found: Tensor = total
    return found


class _SoftmaxAndSum(torch.autograd.Function):
    """Softmax and a sum over its voxels; where the probabilities are known already, only the sum."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        known: Tensor | None,
        labels: Tensor,
        factor: Tensor | None,
        term: VoxelTerm,
        wide_range: bool,
    ) -> tuple[Tensor | None, Tensor]:
        probs = torch.softmax(logits, 1) if known is None else known.detach()
        y = narrow(labels.flatten(1), logits.shape[1])
        weights = None if factor is None else factor.flatten(1)
        notes = torch.empty_like(logits[:, 0]).flatten(1) if term.needs_note else None
        z, p = logits.flatten(2), probs.flatten(2)
        # thousands of slabs one after the other: a running sum in float32 loses a digit or two
        total = logits.new_zeros((), dtype=torch.float64)
        for b, part in slabs(p):
            at = Slab(p[b, :, part], membership(y[b, part], p), z[b, :, part] if wide_range else None)
            values = term.values(at, None if notes is None else notes[b, part])
            total += values.sum() if weights is None else (values * weights[b, part]).sum()
        ctx.save_for_backward(probs, y, weights, notes)
        ctx.term = term
        ctx.set_materialize_grads(False)
        return (probs if known is None else None), total.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_probs: Tensor | None, of_total: Tensor | None) -> tuple[Tensor | None, ...]:
        probs, y, weights, notes = ctx.saved_tensors
        found: Tensor | None = None
        if of_probs is not None:
            found = torch.ops.aten._softmax_backward_data(of_probs, probs, 1, probs.dtype).contiguous()
        if of_total is None:
            return found, None, None, None, None, None
        if found is None:
            found = torch.empty_like(probs)
        p, out = probs.flatten(2), found.flatten(2)
        for b, part in slabs(p):
            at = Slab(p[b, :, part], membership(y[b, part], p))
            slopes = ctx.term.slopes(at, None if notes is None else notes[b, part])
            scale = of_total if weights is None else weights[b, part] * of_total
            if of_probs is None:
                torch.mul(slopes, scale, out=out[b, :, part])
            else:
                out[b, :, part].addcmul_(slopes, scale)
        return found, None, None, None, None, None


def focal_sum(
    inputs: LossInputs,
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
    if inputs.labels is None or torch.compiler.is_compiling():
        return _plain_sum(inputs, gamma, weights, background_only, factor)
    return voxel_sum(inputs, FocalTerm(gamma, weights, background_only), factor)


@dataclass(frozen=True)
class FocalTerm:
    """-w (1 - p)^gamma log p of each voxel's own class; its slope is that in log p times g - p."""

    gamma: float
    weights: Tensor | None = None
    background_only: bool = False

    @property
    def needs_note(self) -> bool:
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
    # log1p(-rest) where p > 1/2, log p elsewhere; a sum, because torch.where is many times slower on a CPU
    exact = (-rest.clamp(max=0.5)).log1p_().add_((log_p + math.log(2)).clamp_(max=0))
    base = rest.clamp(min=1e-30)  # the slope of a power below 1 is infinite at 0
    power = base**gamma if gamma in (1, 2) else base.log().mul_(gamma).exp_()  # pow is ten times slower
    slope = (exact / base).mul_(1 - rest).mul_(gamma).sub_(1).mul_(power)
    return power.mul_(exact).neg_(), slope


def _with_slope(plain: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Return a sum whose value and slopes in -`plain`, voxel by voxel, are known."""
    if torch.compiler.is_compiling():
        return value - (slope * (plain - plain.detach())).sum()
    found: Tensor = _SumWithSlope.apply(plain, value, slope)  # type: ignore[no-untyped-call]
    return found


class _SumWithSlope(torch.autograd.Function):
    """The given sum; its backward pass uses the given slopes in -`plain`."""

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
    inputs: LossInputs, gamma: float, weights: Tensor | None, background_only: bool, factor: Tensor | None
) -> Tensor:
    """The same sum for soft targets, and for compilers, which fuse operations themselves."""
    logs, shares = inputs.log_probs, inputs.truth
    shares = shares if weights is None else shares * weights.view(-1, *(1,) * len(inputs.spatial))
    for voxels in (factor, inputs.keep):
        shares = shares if voxels is None else shares * voxels.unsqueeze(1)
    with torch.no_grad():
        value, slope = focal(logs, -torch.expm1(logs), gamma)
        if background_only:
            value[:, 1:], slope[:, 1:] = -logs[:, 1:], -1
        value, slope = (value * shares).sum(), slope * shares
    return _with_slope(-logs, value, slope)


def modified_cross_entropy(inputs: LossInputs, positive_weight: float) -> Tensor:
    """Return the mean over kept voxels and foreground classes of -[b g log p + (1-b)(1-g) log(1-p)].

    Parameters
    ----------
    positive_weight
        b: weight of a class's own voxels; all others get one minus it. With two classes this is cross
        entropy with weights (1-b, b).
    """
    if inputs.labels is not None and inputs.classes == 2:
        weights = inputs.logits.new_tensor([1 - positive_weight, positive_weight])
        return focal_sum(inputs, 0, weights) / inputs.kept
    direct = inputs.labels is not None and not torch.compiler.is_compiling()
    if direct and (not inputs.wide_range or inputs.probs.amin() > SMALLEST):
        return voxel_sum(inputs, TwoSided(positive_weight)) / (inputs.kept * (inputs.classes - 1))
    return two_sided(inputs, positive_weight, first=1).mean(1).sum() / inputs.kept


def two_sided(inputs: LossInputs, inside: float, *, first: int) -> Tensor:
    """Return -[b g log p + (1-b)(1-g) log(1-p)] of the classes from `first` on, (B, C - first, *spatial).

    0 on ignored voxels. From logarithms of the logits: for any logits, for soft targets, for compilers.
    """
    logs, truth = inputs.log_probs[:, first:], inputs.truth[:, first:]
    complements = log_complements(inputs.logits, inputs.log_probs)[:, first:]
    found = -(inside * truth * logs + (1 - inside) * (1 - truth) * complements)
    return inputs.kept_only(found.movedim(1, 0)).movedim(0, 1)


@dataclass(frozen=True)
class TwoSided:
    """The sum over foreground classes, from probabilities that are not tiny.

    With odds o_c = p_c / (1 - p_c) of the foreground classes that a voxel does not have:
    dV/dz_k = b [y > 0] (p_k - g_k) + (1-b) p_k ([k foreground, k != y] - sum_{c != k} o_c).
    1 - p_c and the sums without k are sums of the other classes, free of cancellation.
    """

    inside: float
    needs_note = False

    def values(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (n,) sums over the foreground classes."""
        # one logarithm of the product serves all classes, for at most one of its factors is small; each factor is a
        # sum of two parts, one of which is 0
        own, rest = at.own[1:], sum_of_others(at.p)[1:]
        product = torch.addcmul(own, 1 - own, rest).prod(0)
        missed = at.log_true * (1 - at.own[0])
        return product.log_().mul_(self.inside - 1).sub_(missed, alpha=self.inside)

    def slopes(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (C, n) slopes in the logits."""
        outside, own = 1 - self.inside, at.own
        odds = at.p / sum_of_others(at.p)
        odds.addcmul_(odds, own, value=-1)[0] = 0
        found = sum_of_others(odds).mul_(-outside).add_(own[0], alpha=-self.inside).add_(self.inside)
        found[1:] += outside
        found[1:].sub_(own[1:], alpha=outside)
        found.mul_(at.p)[1:].sub_(own[1:], alpha=self.inside)
        return found
