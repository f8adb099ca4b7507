"""Two-sided cross entropy of each foreground class, false negatives against false positives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.context import Scene
from segexplorer.functional.entropy import SMALLEST, log_complements
from segexplorer.functional.slabs import membership, narrow, slabs


def modified_cross_entropy(scene: Scene, positive_weight: float) -> Tensor:
    """Return the mean over kept voxels and foreground classes of -[b g log p + (1-b)(1-g) log(1-p)].

    Parameters
    ----------
    positive_weight
        b: weight of a class's own voxels; all others get one minus it. With two classes this is cross
        entropy with weights (1-b, b).
    """
    if scene.labels is not None and scene.classes == 2:
        weights = scene.logits.new_tensor([1 - positive_weight, positive_weight])
        own = weights.index_select(0, scene.labels.flatten()).view_as(scene.labels)
        return (scene.cross_entropies * own).sum() / scene.kept
    direct = scene.labels is not None and not torch.compiler.is_compiling()
    if direct and scene.probs.amin() > SMALLEST:
        arguments = (scene.logits, scene.probs, scene.labels, scene.keep, positive_weight)
        total: Tensor = _Direct.apply(*arguments)  # type: ignore[no-untyped-call]
        return total / (scene.kept * (scene.classes - 1))
    return _by_logarithms(scene, positive_weight).sum() / scene.kept


def _by_logarithms(scene: Scene, inside: float) -> Tensor:
    """(B, *spatial), from logarithms taken of the logits: for any logits, for soft targets, for compilers."""
    logs, complements = scene.log_probs[:, 1:], log_complements(scene.logits, scene.log_probs)[:, 1:]
    if scene.labels is None:
        assert scene.soft is not None
        truth = scene.soft[:, 1:]
    else:
        hot = torch.zeros_like(scene.logits).scatter_(1, scene.labels.unsqueeze(1), 1.0)
        truth = hot[:, 1:]
    return scene.kept_only(-(inside * truth * logs + (1 - inside) * (1 - truth) * complements).mean(1))


class _Direct(torch.autograd.Function):
    """Sum over voxels and foreground classes, and its gradient, from probabilities that are not tiny.

    With odds o_c = p_c / (1 - p_c) of the foreground classes that a voxel does not have:
    dV/dz_k = b [y > 0] (p_k - g_k) + (1-b) p_k ([k foreground, k != y] - sum_{c != k} o_c).
    1 - p_c and the sums without k are sums of the other classes, free of cancellation.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, probs: Tensor, labels: Tensor, keep: Tensor | None, inside: float
    ) -> Tensor:
        p, y = probs.flatten(2), narrow(labels.flatten(1), probs.shape[1])
        gradient, total = torch.empty_like(p), probs.new_zeros(())
        classes = torch.arange(p.shape[1], dtype=y.dtype, device=y.device).unsqueeze(1)
        others = 1 - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        for b, part in slabs(p):
            kept = None if keep is None else keep.flatten(1)[b, part].to(p.dtype)
            own = membership(y[b, part], classes).to(p.dtype)
            total += _slab(p[b, :, part], own, kept, inside, others, gradient[b, :, part])
        ctx.save_for_backward(gradient.view_as(probs))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None


def _slab(p: Tensor, own: Tensor, kept: Tensor | None, inside: float, others: Tensor, out: Tensor) -> Tensor:
    """Return the sum over (C, n) probabilities and memberships, and write its gradient."""
    outside = 1 - inside
    foreground = 1 - own[0]
    absent = 1 - own
    absent[0] = 0  # foreground classes that the voxel does not have
    rest = others @ p
    # one logarithm of the product: of its factors at most one is small
    product = torch.ones_like(foreground)
    for factor in torch.addcmul(1 - absent, absent, rest)[
        1:
    ]:  # a sum of which one part is 0: nothing is lost
        product.mul_(factor)
    value = product.log_().mul_(-outside)
    value.sub_((p * own).sum(0).log_().mul_(foreground), alpha=inside)
    odds = (p / rest).mul_(absent)
    foreground.mul_(inside)
    torch.sub(absent, others @ odds, out=out).mul_(outside).add_(foreground).mul_(p)
    out.addcmul_(own, foreground, value=-1)
    if kept is not None:
        out.mul_(kept)
        value.mul_(kept)
    return value.sum()
