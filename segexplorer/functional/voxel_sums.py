"""Sums over voxels of what a voxel's probabilities cost, in one backward pass with the softmax.

Maps of the logits' size are most of a loss's memory, and passes over them most of its time. The first term that
asks for such a sum makes the softmax with it: one node, whose backward pass adds the slopes of the sum, slab by
slab in the processor's cache, to those that come back through the probabilities. So a compound of overlap and cross
entropy holds no maps but the probabilities and their gradients.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.context import Scene
from segexplorer.functional.slabs import membership, narrow, slabs


class Slab:
    """n voxels of a sample: probabilities and memberships (C, n), and what terms make of them."""

    def __init__(self, p: Tensor, own: Tensor, z: Tensor | None = None) -> None:
        self.p, self.own = p, own
        self.z = z
        """Logits, where log p cannot be taken of p."""

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
        """(n,) log p of the own class, at any logits; the greatest p is at least 1 / C and loses nothing."""
        if self.z is None:
            return self.hit.sum(0).log_()
        below = (self.z - self.z.amax(0)).mul_(self.own).sum(0)
        return below.add_(self.p.amax(0).log_()).clamp_(max=0)


class VoxelTerm(Protocol):
    """What n voxels cost, and the slope of it."""

    @property
    def remembers(self) -> bool:
        """Whether the forward pass leaves one number per voxel to the backward pass."""

    def values(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (n,) values; fill the (n,) note where the term remembers."""

    def slopes(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (C, n) slopes in the logits, in a tensor of its own."""


def sum_of_others(x: Tensor) -> Tensor:
    """Return for each row of (C, n) the sum of all others, by running sums: none is taken away, no digit lost."""
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


def voxel_sum(scene: Scene, term: VoxelTerm, factor: Tensor | None = None) -> Tensor:
    """Return the sum of a term over the kept voxels of a scene with labels; not for compilers.

    Parameters
    ----------
    factor
        (B, *spatial) weights of the voxels, without gradient, or None.
    """
    assert scene.labels is not None
    if scene.keep is not None:
        factor = scene.keep if factor is None else factor * scene.keep
    known = scene.made_probs
    probs, total = _SoftmaxAndSum.apply(  # type: ignore[no-untyped-call]
        scene.logits, known, scene.labels, factor, term, scene.wide_range
    )
    if known is None:
        scene.made_probs = probs
    found: Tensor = total
    return found


class _SoftmaxAndSum(torch.autograd.Function):
    """Where the probabilities are known already, they are no part of this node."""

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
        notes = torch.empty_like(logits[:, 0]).flatten(1) if term.remembers else None
        total, z, p = logits.new_zeros(()), logits.flatten(2), probs.flatten(2)
        for b, part in slabs(p):
            at = Slab(p[b, :, part], membership(y[b, part], p), z[b, :, part] if wide_range else None)
            values = term.values(at, None if notes is None else notes[b, part])
            total += values.sum() if weights is None else (values * weights[b, part]).sum()
        ctx.save_for_backward(probs, y, weights, notes)
        ctx.term = term
        ctx.set_materialize_grads(False)
        return (probs if known is None else None), total

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
