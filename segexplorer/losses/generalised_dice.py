"""`generalised_dice`: one Dice over all classes, each weighed by its volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, weights_of

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class GeneralisedDice(RatioLoss):
    """Mean over samples of 1 - (2 sum_c w_c TP + eps) / (sum_c w_c (P + G) + eps)."""

    display_name: ClassVar[str] = "Generalised Dice"
    formula: ClassVar[str] = (
        r"L=1-\frac{2\sum_c w_c\sum pg+\epsilon}{\sum_c w_c\sum(p+g)+\epsilon},\quad w_c=\frac1{(\sum g)^2}"
    )
    reference: ClassVar[str] = "Sudre 2017, arXiv:1707.03237"
    punishes: ClassVar[str] = "Lack of overlap of all classes together, small classes much more per voxel."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["generalised_dice"] = "generalised_dice"
    weighting: Literal["square", "simple", "uniform"] = parameter(
        "square",
        title="Weight of a class",
        meaning="One over its squared volume, one over its volume, or all alike.",
    )
    absent: Literal["penalise", "skip"] = parameter(
        "penalise",
        title="Absent classes",
        meaning="penalise: they get the largest weight that a present class has; skip: none.",
        advanced=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        import torch

        counts = self.counts(scene)
        volumes = counts.truth.detach()
        power = {"square": 2, "simple": 1, "uniform": 0}[self.weighting]
        present = volumes > 0
        weights = torch.where(present, 1 / volumes.clamp(min=1e-12) ** power, torch.zeros_like(volumes))
        if not self.include_background:
            present = torch.cat([torch.zeros_like(present[:, :1]), present[:, 1:]], 1)
        if self.absent == "penalise":
            largest = torch.where(present, weights, torch.zeros_like(weights)).amax(1, keepdim=True)
            largest = torch.where(largest > 0, largest, torch.ones_like(largest))
            weights = torch.where(volumes > 0, weights, largest)
        weights = weights * weights_of(self.class_weights, scene)
        if not self.include_background:
            weights = torch.cat([torch.zeros_like(weights[:, :1]), weights[:, 1:]], 1)
        wrong = (weights * (counts.fp + counts.fn)).sum(1)
        both = (weights * 2 * counts.tp).sum(1)
        return single(self.kind, (wrong / (both + wrong + self.eps)).mean())
