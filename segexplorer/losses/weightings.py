"""Rules that weigh the terms of a compound.

- `fixed`: the weights given with the terms.
- `loss_proportion` and `dynamic_weight_average` follow the terms' own values in the last epochs or steps.
- `uncertainty` learns its weights along with the network.
- `scheduled` follows the epoch alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator, model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import Numbers, WeightingSpec, WeightingState, weightings

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
        "epoch", title="Adapts after", description="Whether weights follow the mean of an epoch or each step."
    )

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return the granularity."""
        return self.granularity

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return equal weights."""
        return (1 / len(given),) * len(given)

    def adapted(self, now: WeightingState) -> tuple[float, ...]:
        """Return the terms' shares of the sum of their means."""
        total = sum(now.means)
        if not math.isfinite(total) or total <= 0 or min(now.means) < 0:
            return now.weights
        return tuple(m / total for m in now.means)

    def limits(self, terms: int) -> tuple[float, float]:
        """Return 0 to 1: at the ends, one term is all of the loss."""
        return 0.0, 1.0

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
        description="The higher, the more equal the weights; the paper uses 2. A low temperature gives nearly all "
        "weight to the term that falls slowest.",
        scale="log",
        typical=(0.1, 100),
        gt=0,
        le=100,
        live=True,
    )

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return "epoch": one batch says too little about how fast a term falls."""
        return "epoch"

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return ones."""
        return (1.0,) * len(given)

    def adapted(self, now: WeightingState) -> tuple[float, ...]:
        """Return the softmax of the rates at which the terms fell."""
        if not (now.means and now.before and min(now.before) > 0 and min(now.means) >= 0):
            return now.weights
        rates = [m / b / self.temperature for m, b in zip(now.means, now.before, strict=True)]
        if not all(map(math.isfinite, rates)):
            return now.weights
        powers = [math.exp(r - max(rates)) for r in rates]
        return tuple(len(powers) * p / sum(powers) for p in powers)

    def limits(self, terms: int) -> tuple[float, float]:
        """Return 0 to the number of terms: at the ends, one term has all the weight."""
        return 0.0, float(terms)

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

    The form for classification (the paper's eq. 10): a term that is hard to reduce counts as noisy and gets less
    weight, while s_i / 2 keeps the weights from going to 0. Training starts at s = 0, that is with the given
    weights, which multiply the terms throughout. The sum of s_i / 2 is an entry of its own among the terms and can
    be negative.
    """

    display_name: ClassVar[str] = "Uncertainty (learned)"
    formula: ClassVar[str] = r"L=\sum_i(e^{-s_i}L_i+\tfrac12s_i),\quad s_i=\log\sigma_i^2"
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

    def limits(self, terms: int) -> tuple[float, float]:
        """Return 0 to infinity: at 0 a term was given up as noise."""
        return 0.0, math.inf

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


LEAST_REGION_WEIGHT = 0.1
"""Smallest weight of the region losses in Kervadec's own schedule."""
LEAST_SHARE = 0.01
"""Smallest weight of the terms that decline when a sum is rebalanced."""


@weightings.register
class Scheduled(WeightingSpec):
    """Weights by the epoch, which multiply those given with the terms.

    With t = (epoch - begin) / length, from 0 to 1:

    - `hand_over`: linear from the first term to the last, one after the other; of two: 1 - t and t.
    - `kervadec`: the last term's weight rises by 1 / length with each epoch, without limit, and that of the others
      falls as fast, down to 0.1: region losses first, then more and more of a boundary loss.
    - `rebalance`: 1 - t for all but the last, at least 0.01, and one minus it for the last.
    - `cascade`: one term at a time, each for `length` epochs, the last for good (focal, then WSDice: Oshah 2025).
    - `table`: rows of an epoch and the terms' weights there, linear in between.
    """

    display_name: ClassVar[str] = "Scheduled by epoch"
    formula: ClassVar[str] = r"L^{(e)}=\sum_i g_i\,w_i(e)\,L_i"
    reference: ClassVar[str] = (
        "Kervadec 2019, arXiv:1812.07032 (kervadec, rebalance); "
        "Wang 2020, doi:10.1109/ACCESS.2020.3020475 (cascade)"
    )
    scales: ClassVar[bool] = True
    kind: Literal["scheduled"] = "scheduled"
    schedule: Literal["hand_over", "kervadec", "rebalance", "cascade", "table"] = parameter(
        "hand_over",
        title="Schedule",
        description="hand_over: linear from the first term to the last. kervadec: the last one rises, the others "
        "fall to 0.1. rebalance: the same with a sum of 1. cascade: one after the other. table: your own rows.",
    )
    begin: int = parameter(
        1,
        title="First epoch of the change",
        description="Before it, the first weights apply.",
        ge=1,
        live=True,
    )
    length: int = parameter(
        100,
        title="Length",
        description="Epochs that the change takes; of each stage in a cascade.",
        unit="epochs",
        ge=1,
        live=True,
    )
    table: tuple[tuple[float, ...], ...] = parameter(
        (),
        title="Rows of the table",
        description="Each row is an epoch, then one weight per term; linear in between, constant outside.",
        advanced=True,
    )

    @field_validator("table")
    @classmethod
    def _rows(cls, value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if any(len(row) < 2 or len(row) != len(value[0]) for row in value):
            raise ValueError("each row must be an epoch and one weight per term")
        if any(min(row[1:]) < 0 or max(row[1:]) <= 0 for row in value):
            raise ValueError("weights must be at least 0, and one of each row above 0")
        epochs = [row[0] for row in value]
        if any(later <= earlier for earlier, later in pairwise(epochs)):
            raise ValueError("the epochs must increase from row to row")
        return value

    @model_validator(mode="after")
    def _table_where_used(self) -> Scheduled:
        if (self.schedule == "table") != bool(self.table):
            raise ValueError("a schedule of rows needs a table, and only that schedule does")
        return self

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return "epoch"."""
        return "epoch"

    def at(self, epoch: int, terms: int) -> tuple[float, ...]:
        """Return the weights of an epoch, counted from 1."""
        if self.schedule == "table":
            return self._interpolated(epoch)
        done = max(epoch - self.begin, 0)
        t = min(done / self.length, 1.0)
        match self.schedule:
            case "hand_over":
                return tuple(max(0.0, 1 - abs(t * (terms - 1) - i)) for i in range(terms))
            case "kervadec":
                return (*(max(LEAST_REGION_WEIGHT, 1 - t),) * (terms - 1), (done + 1) / self.length)
            case "rebalance":
                share = max(LEAST_SHARE, 1 - t)
                return (*(share,) * (terms - 1), 1 - share)
            case _:
                stage = min(done // self.length, terms - 1)
                return tuple(float(i == stage) for i in range(terms))

    def _interpolated(self, epoch: int) -> tuple[float, ...]:
        later = next((i for i, row in enumerate(self.table) if row[0] > epoch), len(self.table))
        before, after = self.table[max(later - 1, 0)], self.table[min(later, len(self.table) - 1)]
        if before is after:
            return before[1:]
        t = (epoch - before[0]) / (after[0] - before[0])
        return tuple((1 - t) * a + t * b for a, b in zip(before[1:], after[1:], strict=True))

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return the weights of epoch 1."""
        return self.at(1, len(given))

    def adapted(self, now: WeightingState) -> tuple[float, ...]:
        """Return the weights of the epoch to come."""
        return self.at(now.epoch + 1, len(now.given))

    def edited(self, now: WeightingState) -> tuple[float, ...]:
        """Return the weights of the present epoch under the changed schedule."""
        return self.at(now.epoch + 1, len(now.given))

    def misfit(self, given: tuple[float, ...]) -> str:
        """Refuse one term alone, terms without a weight, and rows for another number of terms."""
        if len(given) < 2:
            return "scheduled weights need at least 2 terms"
        if self.table and len(self.table[0]) != len(given) + 1:
            return f"the table has {len(self.table[0]) - 1} weights per row for {len(given)} terms"
        if min(given) <= 0:
            return "scheduled weights multiply those given with the terms, which must all be above 0"
        return ""
