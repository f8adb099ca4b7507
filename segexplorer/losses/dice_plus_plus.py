"""`dice_plus_plus`: Dice with an exponent on its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, dice_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class DicePlusPlus(RatioLoss):
    """Mean over samples and classes of 1 - (2 TP + eps) / (2 TP + sum (g(1-p))^gamma + sum ((1-g)p)^gamma + eps).

    For hard labels gamma = 1 is linear Dice and gamma = 2 squared Dice.
    """

    display_name: ClassVar[str] = "Dice++"
    formula: ClassVar[str] = (
        r"L=1-\frac{2\sum pg+\epsilon}{2\sum pg+\sum(g(1-p))^\gamma+\sum((1-g)p)^\gamma+\epsilon}"
    )
    reference: ClassVar[str] = (
        "Yeung 2022, Journal of Digital Imaging 36(2):739-752 (calibrating the Dice loss)"
    )
    punishes: ClassVar[str] = "Lack of overlap, hesitant errors less than confident ones."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["dice_plus_plus"] = "dice_plus_plus"
    gamma: float = parameter(
        2.0,
        title="Exponent of errors",
        meaning="Above 1, small errors weigh little: probabilities become better calibrated. 1: Dice.",
        ge=1,
        le=6,
        step=0.5,
        live=True,
    )
    eps: float = parameter(
        1e-7, title="Smoothing", meaning="Added to numerator and denominator.", gt=0, advanced=True
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        if scene.soft is None and self.gamma in (1.0, 2.0):
            counts = self.counts(scene, squared=self.gamma == 2)
            losses = dice_losses(counts, self.eps, squared=self.gamma == 2)
            return single(self.kind, self.averaged(losses, counts, scene))
        from segexplorer.functional.masked import pair

        counts = self.counts(scene)
        probs, truth = pair(scene)
        # a power's slope at 0 is taken from the clamp, not from 0^(gamma - 1)
        missed = (truth * (1 - probs)).clamp(min=1e-12) ** self.gamma
        surplus = ((1 - truth) * probs).clamp(min=1e-12) ** self.gamma
        errors = self.scoped((missed + surplus).flatten(2).sum(-1))
        losses = errors / (2 * counts.product + errors + self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))
