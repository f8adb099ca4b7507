"""Logarithms of probabilities, voxel by voxel, exact where a clamp would take the gradient away."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST = 1e-30
"""Below it a probability in float32 loses digits; its logarithm is then taken from the logits."""


def softmax_and_log_true(logits: Tensor, labels: Tensor, *, wide_range: bool = True) -> tuple[Tensor, Tensor]:
    """Return the softmax, and log p of each voxel's own class, with one backward pass for both.

    Parameters
    ----------
    logits
        (B, C, *spatial).
    labels
        (B, *spatial) class indices.
    wide_range
        Whether a probability may be too small for its logarithm.

    Returns
    -------
    tuple of Tensor
        (B, C, *spatial) probabilities and (B, *spatial) logarithms, at most 0.
    """
    if torch.compiler.is_compiling():
        logs = torch.log_softmax(logits, 1)
        return logs.exp(), logs.gather(1, labels.unsqueeze(1)).squeeze(1)
    probs, found = _SoftmaxAndLogTrue.apply(logits, labels, wide_range)  # type: ignore[no-untyped-call]
    return probs, found


class _SoftmaxAndLogTrue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, wide_range: bool) -> tuple[Tensor, Tensor]:
        probs, index = torch.softmax(logits, 1), labels.unsqueeze(1)
        if not wide_range:
            log_true = probs.gather(1, index).log_()
        else:  # the greatest probability is at least 1 / C, so its logarithm loses nothing
            below = logits.gather(1, index).sub_(logits.amax(1, keepdim=True))
            log_true = below.add_(probs.amax(1, keepdim=True).log_()).clamp_(max=0)
        ctx.save_for_backward(probs, index)
        ctx.set_materialize_grads(False)
        return probs, log_true.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_probs: Tensor | None, of_log: Tensor | None) -> tuple[Tensor | None, ...]:
        probs, index = ctx.saved_tensors
        found: Tensor | None = None
        if of_probs is not None:
            found = torch.ops.aten._softmax_backward_data(of_probs, probs, 1, probs.dtype)
        if of_log is not None:
            spread = of_log.unsqueeze(1)
            found = probs * -spread if found is None else found.addcmul_(probs, spread, value=-1)
            found.scatter_add_(1, index, spread.expand_as(index))
        return found, None, None


def log_complements(logits: Tensor, log_probs: Tensor) -> Tensor:
    """Return log(1 - p) of every class, (B, C, *spatial), finite and with a gradient at any logits.

    At most one class has p above 1/2, the one of the greatest logit: there 1 - p is the mass of the rest,
    whose logarithm is taken from the logits; elsewhere log1p(-p) loses nothing.
    """
    top = logits.detach().argmax(1, keepdim=True)
    rest = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True) - logits.logsumexp(1, keepdim=True)
    others = log_probs.scatter(1, top, -torch.inf).exp()
    return torch.log1p(-others).scatter(1, top, rest)


def root_free_power(base: Tensor, exponent: float) -> Tensor:
    """Return base^exponent, 0 without a gradient where the base is below 1e-8: its slope has no bound there."""
    tiny = 1e-8
    return torch.where(base > tiny, base.clamp(min=tiny) ** exponent, torch.zeros_like(base))


def with_background(outputs: Any) -> Any:
    """Return logits (B, 1 + C, *spatial) of the outputs for C overlapping classes, or those of several levels.

    The background's are 0, as `core.label_scheme` says.
    """
    if isinstance(outputs, (tuple, list)):
        return type(outputs)(with_background(level) for level in outputs)
    return torch.cat([torch.zeros_like(outputs[:, :1]), outputs], 1)
