"""`tversky`: Dice with separate penalties for false positives and false negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, tversky_losses

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.functional.overlap import Overlap
    from segexplorer.losses.module import Loss

FALSE_POSITIVES = "Penalty for false positives (over-segmentation)"
FALSE_NEGATIVES = "Penalty for false negatives (under-segmentation)"


class TverskyRatio(RatioLoss):
    """Base of the losses made of the Tversky index."""

    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
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
        called="beta in Abraham 2019; 1 - delta in Yeung 2022",
    )
    beta: float = parameter(
        0.7,
        title=FALSE_NEGATIVES,
        meaning="Weight of false negatives. Higher: the network marks more.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
        called="alpha in Abraham 2019; delta in Yeung 2022",
    )

    @model_validator(mode="after")
    def _punish_something(self) -> TverskyRatio:
        if self.alpha + self.beta <= 0:
            raise ValueError("alpha and beta must not both be 0")
        return self

    def ratios(self, scene: Scene) -> tuple[Tensor, Overlap]:
        """Return 1 - index per sample and class, and the counts it comes from."""
        counts = self.counts(scene)
        return tversky_losses(counts, self.alpha, self.beta, self.eps), counts


@registry.register
class Tversky(TverskyRatio):
    """Mean of 1 - (TP + eps) / (TP + alpha FP + beta FN + eps) over foreground classes."""

    display_name: ClassVar[str] = "Tversky"
    formula: ClassVar[str] = r"L=1-\frac{TP+\epsilon}{TP+\alpha FP+\beta FN+\epsilon}"
    reference: ClassVar[str] = "Salehi 2017, arXiv:1706.05721"
    punishes: ClassVar[str] = "Lack of overlap; false positives by alpha and false negatives by beta."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Chen 2023")
    kind: Literal["tversky"] = "tversky"

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh the errors; a ratio of errors, exact near a perfect overlap."""
        losses, counts = self.ratios(scene)
        return single(self.kind, self.averaged(losses, counts, scene))
