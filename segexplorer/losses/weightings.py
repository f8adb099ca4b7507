"""Rules that weigh the terms of a compound: `fixed`, `loss_proportion`."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import WeightingSpec, weightings


@weightings.register
class Fixed(WeightingSpec):
    """The weights given with the terms."""

    display_name: ClassVar[str] = "Fixed"
    kind: Literal["fixed"] = "fixed"


@weightings.register
class LossProportion(WeightingSpec):
    """Each term's weight is its share of the last epoch's loss: w_i = mean L_i / sum_j mean L_j, no gradient.

    Starts with equal weights; keeps the previous ones when the sum is 0 or not finite (losses.md 6.1).
    """

    display_name: ClassVar[str] = "Share of the last loss"
    reference: ClassVar[str] = "paper 000, eq. 9-10 (adaptive TverskyCE)"
    kind: Literal["loss_proportion"] = "loss_proportion"
    granularity: Literal["epoch", "step"] = parameter(
        "epoch", title="Adapts after", meaning="Whether weights follow the mean of an epoch or each step."
    )

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return the granularity."""
        return self.granularity

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return equal weights."""
        return (1 / len(given),) * len(given)

    def adapted(self, weights: tuple[float, ...], means: tuple[float, ...]) -> tuple[float, ...]:
        """Return the terms' shares of the sum of their means."""
        total = sum(means)
        if not math.isfinite(total) or total <= 0 or min(means) < 0:
            return weights
        return tuple(m / total for m in means)

    def refuse(self, name: str, low: float) -> str:
        """Refuse terms that can be negative: a share of a sum would have no meaning."""
        return (
            f"loss_proportion cannot weigh {name}, which can be negative; use fixed weights"
            if low < 0
            else ""
        )
