"""`log_cosh_dice`: the logarithm of the hyperbolic cosine of Dice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, dice_losses, log_cosh

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class LogCoshDice(RatioLoss):
    """Mean over samples and classes of ln cosh(1 - Dice)."""

    display_name: ClassVar[str] = "Log-cosh Dice"
    formula: ClassVar[str] = r"L=\ln\cosh(1-D)"
    reference: ClassVar[str] = "Jadon 2020, arXiv:2006.14822"
    punishes: ClassVar[str] = "Lack of overlap, gently where it is nearly perfect."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, math.log(math.cosh(1.0)))
    kind: Literal["log_cosh_dice"] = "log_cosh_dice"

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(scene)
        losses = log_cosh(dice_losses(counts, self.eps))
        return single(self.kind, self.averaged(losses, counts, scene))
