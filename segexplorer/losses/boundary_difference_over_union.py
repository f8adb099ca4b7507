"""`boundary_difference_over_union`: overlap with a weight that follows the object's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class BoundaryDifferenceOverUnion(LossSpec):
    """(Q + G - 2 TP) / (Q + G - (1 + a) TP), a from the share of border voxels; batch scope.

    Of the S voxels of an object C lie at its border. A large, compact object has a near the cap: what both agree on
    hardly counts, and the loss looks at the rim. For thin or small objects a is negative: nearly Dice.
    """

    display_name: ClassVar[str] = "Boundary difference over union"
    formula: ClassVar[str] = r"L=\frac{Q+G-2TP+\epsilon}{Q+G-(1+a)TP+\epsilon},\ a=\min(1-2C/S,\,a_{\max})"
    reference: ClassVar[str] = "Sun 2023, arXiv:2308.00220"
    punishes: ClassVar[str] = "Differences near the boundary, for large objects more than for small ones."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["boundary_difference_over_union"] = "boundary_difference_over_union"
    max_alpha: float = parameter(0.8, title="Largest alpha", meaning="Cap of the weight.", ge=-1, lt=1)
    min_alpha: float = parameter(
        -1.0, title="Smallest alpha", meaning="Floor of the weight; 0 keeps the paper's range.", ge=-1, lt=1
    )
    eps: float = parameter(
        1e-5, title="Smoothing", meaning="Added to numerator and denominator.", gt=0, advanced=True
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        meaning="skip: left out of the mean; penalise: a constant 1 without gradient, as the authors' code has.",
        advanced=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Count border voxels of the target; the sums are taken as differences, exact at a perfect overlap."""
        import torch

        from segexplorer.functional.boundary import border_count
        from segexplorer.functional.masked import mean_over, pair

        p, g = pair(scene)
        hard = g.detach() > 0.5
        border = border_count(hard).to(p.dtype)
        size = hard.flatten(2).sum((0, 2)).to(p.dtype)
        # eps here too: without it the value is 6e-10 off the reference vector
        alpha = (1 - 2 * (border + self.eps) / (size + self.eps)).clamp(self.min_alpha, self.max_alpha)
        wrong = ((p - g) ** 2).flatten(2).sum((0, 2))
        product = (p * g).flatten(2).sum((0, 2))
        losses = (wrong + self.eps) / (wrong + (1 - alpha) * product + self.eps)
        counted = size > 0
        if self.absent == "penalise":
            counted = counted.any() & torch.ones_like(counted)
        return single(self.kind, mean_over(losses, counted))
