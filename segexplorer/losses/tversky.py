"""`tversky`: Dice with separate penalties for false positives and false negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss

FALSE_POSITIVES = "Penalty for false positives (over-segmentation)"
FALSE_NEGATIVES = "Penalty for false negatives (under-segmentation)"


@registry.register
class Tversky(RatioLoss):
    """Mean of 1 - (TP + eps) / (TP + alpha FP + beta FN + eps) over foreground classes (losses.md 4.3)."""

    display_name: ClassVar[str] = "Tversky"
    formula: ClassVar[str] = r"L=1-\frac{TP+\epsilon}{TP+\alpha FP+\beta FN+\epsilon}"
    reference: ClassVar[str] = "Salehi 2017, arXiv:1706.05721"
    punishes: ClassVar[str] = "Lack of overlap; false positives by alpha and false negatives by beta."
    family: ClassVar[str] = "region"
    papers: ClassVar[tuple[str, ...]] = ("000", "001", "002", "004")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["tversky"] = "tversky"
    include_background: bool = parameter(
        False,
        title="Include background",
        meaning="With two classes a false positive of one is a false negative of the other: "
        "counting both would cancel alpha against beta.",
    )
    alpha: float = parameter(
        0.3,
        title=FALSE_POSITIVES,
        meaning="Weight of false positives. Higher: the network marks less.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
        called="beta in Abraham 2019; 1 - delta in paper 002",
    )
    beta: float = parameter(
        0.7,
        title=FALSE_NEGATIVES,
        meaning="Weight of false negatives. Higher: the network marks more.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
        called="alpha in Abraham 2019; delta in paper 002",
    )

    @model_validator(mode="after")
    def _punish_something(self) -> Tversky:
        if self.alpha + self.beta <= 0:
            raise ValueError("alpha and beta must not both be 0")
        return self

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh the errors; a ratio of errors, exact near a perfect overlap."""
        counts = self.counts(scene)
        wrong = self.alpha * counts.fp + self.beta * counts.fn
        losses = wrong / (counts.tp + wrong + self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))
