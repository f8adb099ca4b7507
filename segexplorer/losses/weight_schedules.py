"""The weighting rule `scheduled`: weights of terms that go by the epoch alone."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import Weighing, WeightingSpec, weightings

LEAST_REGION_WEIGHT = 0.1
"""Of Kervadec's own schedule."""
LEAST_SHARE = 0.01
"""Of the terms that give way when a sum is rebalanced."""


@weightings.register
class Scheduled(WeightingSpec):
    """Weights by the epoch, which multiply those given with the terms.

    With t = (epoch - begin) / length, from 0 to 1:

    - `hand_over`: linear from the first term to the last, one after the other; of two: 1 - t and t.
    - `kervadec`: the last term's weight rises by 1 / length with each epoch, without end, that of the others falls
      as fast, down to 0.1: region losses first, then more and more of a boundary loss.
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
        meaning="hand_over: linear from the first term to the last. kervadec: the last one rises, the others fall "
        "to 0.1. rebalance: the same with a sum of 1. cascade: one after the other. table: your own rows.",
    )
    begin: int = parameter(
        1, title="First epoch of the change", meaning="Until then the first weights hold.", ge=1, live=True
    )
    length: int = parameter(
        100,
        title="Length",
        meaning="Epochs that the change takes; of each stage in a cascade.",
        unit="epochs",
        ge=1,
        live=True,
    )
    table: tuple[tuple[float, ...], ...] = parameter(
        (),
        title="Rows of the table",
        meaning="Each: an epoch, then one weight per term; linear in between, constant outside.",
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

    def adapted(self, now: Weighing) -> tuple[float, ...]:
        """Return the weights of the epoch to come."""
        return self.at(now.epoch + 1, len(now.given))

    def edited(self, now: Weighing) -> tuple[float, ...]:
        """Return what the changed schedule says of the present epoch."""
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
