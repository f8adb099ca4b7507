"""What Dice and Tversky share: which classes count, absent classes, and the mean over (sample, class)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from segexplorer.core.errors import LossInputError
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossSpec

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.functional.overlap import Overlap


class RatioLoss(LossSpec):
    """Base of global ratio losses; the ratio is taken per sample and class, then averaged."""

    include_background: bool = parameter(
        True, title="Include background", meaning="Whether class 0 counts like the others."
    )
    batch: bool = parameter(
        False,
        title="Sum over batch first",
        meaning="One ratio per class over the whole batch, in place of one per sample.",
        advanced=True,
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        meaning="Added to numerator and denominator.",
        gt=0,
        unit="voxels",
        advanced=True,
    )
    class_weights: tuple[float, ...] | None = parameter(
        None,
        title="Class weights",
        meaning="One per class, background first; divided by their sum.",
        advanced=True,
    )
    absent: Literal["penalise", "skip", "fp"] = parameter(
        "penalise",
        title="Absent classes",
        meaning="penalise: plain formula, nearly without gradient; skip: left out of the mean; "
        "fp: punished by their predicted volume, with a gradient.",
        advanced=True,
    )

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return checked_weights(value)

    def counts(self, scene: Scene, *, squared: bool = False) -> Overlap:
        """Return the overlap over the chosen scope, all classes."""
        counts = scene.overlap(squared=squared)
        return counts.over_batch() if self.batch else counts

    def scoped(self, sums: Tensor) -> Tensor:
        """Return (B, C) sums as they are, or summed over the batch where it counts as one sample."""
        return sums.sum(0, keepdim=True) if self.batch else sums

    def averaged(self, losses: Tensor, counts: Overlap, scene: Scene) -> Tensor:
        """Return the weighted mean of (B, C) losses over the pairs that count; 0 where none does."""
        import torch

        if self.absent == "fp":
            # smoothing of a thousandth of the sample keeps a gradient at any predicted volume
            smooth = (1e-3 * scene.kept / scene.logits.shape[0]).clamp(min=1)
            losses = torch.where(counts.truth > 0, losses, counts.predicted / (counts.predicted + smooth))
        weights = weights_of(self.class_weights, scene).expand_as(losses)
        if self.absent == "skip":
            weights = weights * (counts.truth > 0)
        if not self.include_background:
            losses, weights = losses[:, 1:], weights[:, 1:]
        total = weights.sum()
        return (weights * losses).sum() / torch.where(total > 0, total, torch.ones_like(total))


def checked_weights(given: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Return class weights as they are; a negative one would reward errors, zeros alone would train nothing."""
    if given is not None and (not given or min(given) < 0 or max(given) == 0):
        raise ValueError("must all be at least 0, and one of them above 0")
    return given


def weights_of(given: tuple[float, ...] | None, scene: Scene) -> Tensor:
    """Return (C,) class weights, ones where none are given.

    Raises
    ------
    LossInputError
        When their number is not that of the classes.
    """
    if given is None:
        return scene.logits.new_ones(scene.classes)
    if len(given) != scene.classes:
        raise LossInputError(
            f"There are {len(given)} class weights for {scene.classes} classes.",
            "Give one per class, background first.",
        )
    return scene.logits.new_tensor(given)


def dice_losses(counts: Overlap, eps: float, *, squared: bool = False) -> Tensor:
    """Return 1 - Dice per sample and class; written as errors over sum, exact near a perfect overlap."""
    if squared:
        assert counts.predicted_square is not None
        size = counts.predicted_square + counts.truth_square
        return 1 - (2 * counts.product + eps) / (size + eps)
    wrong = counts.fp + counts.fn
    return wrong / (2 * counts.tp + wrong + eps)


def tversky_losses(counts: Overlap, alpha: float, beta: float, eps: float) -> Tensor:
    """Return 1 - (TP + eps) / (TP + alpha FP + beta FN + eps) per sample and class, or per box."""
    wrong = alpha * counts.fp + beta * counts.fn
    return wrong / (counts.tp + wrong + eps)


def log_cosh(x: Tensor) -> Tensor:
    """Return ln cosh x, stable at any x."""
    import torch

    return x + torch.nn.functional.softplus(-2 * x) - math.log(2)
