"""Rules that weigh the terms of a compound by what they are or were: `fixed`, `loss_proportion`,
`dynamic_weight_average`, and `uncertainty`, which learns its
weights. Weights that go by the epoch alone are in `weight_schedules`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import Numbers, Weighing, WeightingSpec, weightings

if TYPE_CHECKING:
    from torch import Tensor


@weightings.register
class Fixed(WeightingSpec):
    """The weights given with the terms."""

    display_name: ClassVar[str] = "Fixed"
    formula: ClassVar[str] = r"L=\sum_i g_iL_i"
    kind: Literal["fixed"] = "fixed"


@weightings.register
class LossProportion(WeightingSpec):
    """Each term's weight is its share of the last epoch's loss: w_i = mean L_i / sum_j mean L_j, no gradient.

    Starts with equal weights; keeps the previous ones when the sum is 0 or not finite.
    """

    display_name: ClassVar[str] = "Share of the last loss"
    formula: ClassVar[str] = r"w_i^{(t)}=\bar L_i^{(t-1)}\big/\textstyle\sum_j\bar L_j^{(t-1)}"
    reference: ClassVar[str] = "Zhang 2025, eq. 9-10 (adaptive TverskyCE)"
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

    def adapted(self, now: Weighing) -> tuple[float, ...]:
        """Return the terms' shares of the sum of their means."""
        total = sum(now.means)
        if not math.isfinite(total) or total <= 0 or min(now.means) < 0:
            return now.weights
        return tuple(m / total for m in now.means)

    def refuse(self, name: str, low: float) -> str:
        """Refuse terms that can be negative: a share of a sum would have no meaning."""
        return (
            f"loss_proportion cannot weigh {name}, which can be negative; use fixed weights"
            if low < 0
            else ""
        )


@weightings.register
class DynamicWeightAverage(WeightingSpec):
    """Terms that fall slowly gain weight: w_i = n softmax_i(r / T), r_i = L_i(t-1) / L_i(t-2), no gradient.

    L_i(t) are the means of epoch t; w = 1 in the first two epochs, as in the paper. The weights add up to the
    number n of terms and multiply those given. Kept as they were where a mean is 0 or not finite.
    """

    display_name: ClassVar[str] = "Dynamic weight average"
    formula: ClassVar[str] = (
        r"w_i^{(t)}=\frac{n\,e^{r_i/T}}{\sum_je^{r_j/T}},\quad r_i=\bar L_i^{(t-1)}/\bar L_i^{(t-2)}"
    )
    reference: ClassVar[str] = "Liu, Johns and Davison 2019, arXiv:1803.10704, eq. 7"
    scales: ClassVar[bool] = True
    kind: Literal["dynamic_weight_average"] = "dynamic_weight_average"
    temperature: float = parameter(
        2.0,
        title="Temperature",
        meaning="The higher, the more equal the weights; the paper's 2. Low ones let the slowest term take all.",
        gt=0,
        le=100,
        live=True,
    )

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return "epoch": one batch says too little of how fast a term falls."""
        return "epoch"

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return ones."""
        return (1.0,) * len(given)

    def adapted(self, now: Weighing) -> tuple[float, ...]:
        """Return the softmax of the rates at which the terms fell."""
        if not (now.means and now.before and min(now.before) > 0 and min(now.means) >= 0):
            return now.weights
        rates = [m / b / self.temperature for m, b in zip(now.means, now.before, strict=True)]
        if not all(map(math.isfinite, rates)):
            return now.weights
        powers = [math.exp(r - max(rates)) for r in rates]
        return tuple(len(powers) * p / sum(powers) for p in powers)

    def refuse(self, name: str, low: float) -> str:
        """Refuse terms that can be negative: the ratio of two epochs would have no meaning."""
        return (
            f"dynamic_weight_average cannot weigh {name}, which can be negative; use fixed weights"
            if low < 0
            else ""
        )


@weightings.register
class Uncertainty(WeightingSpec):
    """Weights learned with the network: L = sum_i exp(-s_i) L_i + s_i / 2, s_i the log variance of task i.

    The form for classification (the paper's eq. 10): a term that is hard to make small is taken for noisy and gets
    less weight, while s_i / 2 keeps the weights from going to 0. Starts at s = 0, the given weights, which multiply
    the terms throughout. The sum of s_i / 2 is an entry of its own among the terms, and can be negative.
    """

    display_name: ClassVar[str] = "Uncertainty (learned)"
    formula: ClassVar[str] = r"L=\sum_i e^{-s_i}L_i+\tfrac12s_i,\quad s_i=\log\sigma_i^2"
    reference: ClassVar[str] = "Kendall, Gal and Cipolla 2018, arXiv:1705.07115, eq. 10"
    scales: ClassVar[bool] = True
    penalty_name: ClassVar[str] = "log_variances"
    kind: Literal["uncertainty"] = "uncertainty"

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return ones."""
        return (1.0,) * len(given)

    def learned(self, terms: int) -> Numbers:
        """Return log variances of 0."""
        return {"log_variances": (0.0,) * terms}

    def learned_weights(self, learned: Mapping[str, Tensor]) -> Tensor:
        """Return the precisions."""
        return (-learned["log_variances"]).exp()

    def penalty(self, learned: Mapping[str, Tensor]) -> Tensor:
        """Return half the sum of the log variances: the logarithms of all sigma."""
        return learned["log_variances"].sum() / 2

    def refuse(self, name: str, low: float) -> str:
        """Refuse terms that can be negative: their weight would grow without end."""
        return (
            f"uncertainty cannot weigh {name}, which can be negative: its learned weight would grow without end; "
            "use fixed weights"
            if low < 0
            else ""
        )

    def misfit(self, given: tuple[float, ...]) -> str:
        """Refuse terms without a weight: nothing would keep their log variances from falling without end."""
        return (
            "uncertainty multiplies the weights given with the terms, which must all be above 0"
            if min(given) <= 0
            else ""
        )
