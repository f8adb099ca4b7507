"""The Tversky index and its relatives: overlap with separate penalties for false positives and false negatives.

- `tversky`: one minus the Tversky index.
- `focal_tversky`: its power, class by class.
- `log_cosh_tversky`: the logarithm of its hyperbolic cosine.
- `asymmetric_similarity`: one minus the F_b score.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.overlap import ClassReduction, RatioLoss, class_reduction, log_cosh, tversky_losses

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
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
        description="With two classes a false positive of one is a false negative of the other: "
        "counting both would cancel alpha against beta.",
    )
    alpha: float = parameter(
        0.3,
        title=FALSE_POSITIVES,
        description="Weight of false positives. Higher: the network marks less.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
        called="beta in Abraham 2019; 1 - delta in Yeung 2022",
    )
    beta: float = parameter(
        0.7,
        title=FALSE_NEGATIVES,
        description="Weight of false negatives. Higher: the network marks more.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
        called="alpha in Abraham 2019; delta in Yeung 2022",
    )

    @model_validator(mode="after")
    def _penalise_something(self) -> TverskyRatio:
        if self.alpha + self.beta <= 0:
            raise ValueError("alpha and beta must not both be 0")
        return self

    def ratios(self, inputs: LossInputs) -> tuple[Tensor, Overlap]:
        """Return 1 - index per sample and class, and the counts it comes from."""
        counts = self.counts(inputs)
        return tversky_losses(counts, self.alpha, self.beta, self.eps), counts


class SummableTversky(TverskyRatio):
    """Base of the losses whose classes may be added up instead of averaged."""

    class_reduction: ClassReduction = class_reduction()

    def adds_classes_up(self) -> bool:
        """Whether classes are summed."""
        return self.class_reduction == "sum"

    def bounds(self) -> tuple[float, float]:
        """Return 0 to 1; a sum over classes has no upper end."""
        return (0.0, math.inf) if self.adds_classes_up() else self.value_range


@registry.register
class Tversky(SummableTversky):
    """Mean of 1 - (TP + eps) / (TP + alpha FP + beta FN + eps) over foreground classes."""

    display_name: ClassVar[str] = "Tversky"
    formula: ClassVar[str] = r"L=1-\frac{TP+\epsilon}{TP+\alpha FP+\beta FN+\epsilon}"
    reference: ClassVar[str] = "Salehi 2017, arXiv:1706.05721"
    penalises: ClassVar[str] = "Lack of overlap; false positives by alpha and false negatives by beta."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Chen 2023")
    purposes: ClassVar[tuple[str, ...]] = (
        "small_structures",
        "false_negatives",
        "false_positives",
        "class_imbalance",
    )
    kind: Literal["tversky"] = "tversky"

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh the errors; a ratio of errors, exact near a perfect overlap."""
        losses, counts = self.ratios(inputs)
        return single(self.kind, self.averaged(losses, counts, inputs))


@registry.register
class FocalTversky(SummableTversky):
    """Mean over samples and foreground classes of (1 - TI)^exponent, power before mean."""

    display_name: ClassVar[str] = "Focal Tversky"
    formula: ClassVar[str] = (
        r"L=\frac1{|K|}\sum_c(1-TI_c)^{e},\quad TI=\frac{TP+\epsilon}{TP+\alpha FP+\beta FN+\epsilon}"
    )
    reference: ClassVar[str] = "Abraham 2019, arXiv:1810.07842; Yeung 2022, eq. 12"
    penalises: ClassVar[str] = (
        "Lack of overlap; with an exponent below 1, small remaining errors more strongly."
    )
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    purposes: ClassVar[tuple[str, ...]] = ("small_structures", "false_negatives", "class_imbalance")
    kind: Literal["focal_tversky"] = "focal_tversky"
    exponent: float = parameter(
        0.75,
        title="Exponent",
        description="Below 1 nearly perfect classes keep a strong gradient; above 1 poor ones count "
        "more. 1: Tversky.",
        gt=0,
        le=4,
        step=0.05,
        live=True,
        called="1 / gamma in Abraham 2019 and Yeung 2022 (gamma 4/3)",
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        from segexplorer.functional.softmax import root_free_power

        losses, counts = self.ratios(inputs)
        powers = root_free_power(losses, self.exponent)
        return single(self.kind, self.averaged(powers, counts, inputs))


@registry.register
class LogCoshTversky(TverskyRatio):
    """Mean over samples and foreground classes of ln cosh(1 - TI)."""

    display_name: ClassVar[str] = "Log-cosh Tversky"
    formula: ClassVar[str] = r"L=\ln\cosh(1-TI)"
    reference: ClassVar[str] = (
        "Nasalwai 2021 (accelerated Tversky loss), in the most direct reading of its abstract"
    )
    penalises: ClassVar[str] = (
        "Lack of overlap, gently where it is nearly perfect; surplus by alpha, missed by beta."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.log(math.cosh(1.0)))
    purposes: ClassVar[tuple[str, ...]] = ("false_negatives", "false_positives")
    kind: Literal["log_cosh_tversky"] = "log_cosh_tversky"

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        losses, counts = self.ratios(inputs)
        return single(self.kind, self.averaged(log_cosh(losses), counts, inputs))


@registry.register
class AsymmetricSimilarity(RatioLoss):
    """Tversky with alpha = 1 / (1 + b^2), beta = b^2 / (1 + b^2) over foreground classes."""

    display_name: ClassVar[str] = "Asymmetric similarity"
    formula: ClassVar[str] = r"L=1-\frac{(1+b^2)TP}{(1+b^2)TP+b^2 FN+FP}"
    reference: ClassVar[str] = "Hashemi 2019, doi:10.1109/ACCESS.2018.2886371 (arXiv:1803.11078)"
    penalises: ClassVar[str] = "Lack of overlap; false negatives b^2 times as much as false positives."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("small_structures", "false_negatives", "class_imbalance")
    kind: Literal["asymmetric_similarity"] = "asymmetric_similarity"
    include_background: bool = parameter(
        False, title="Include background", description="Counting it would cancel b with two classes."
    )
    b: float = parameter(
        1.5,
        title="Recall over precision b",
        description="Above 1 missed voxels cost more (recall), below 1 surplus ones (precision); 1 is Dice.",
        ge=0,
        le=10,
        step=0.1,
        live=True,
        called="beta in Hashemi 2019",
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(inputs)
        alpha = 1 / (1 + self.b**2)
        losses = tversky_losses(counts, alpha, 1 - alpha, self.eps)
        return single(self.kind, self.averaged(losses, counts, inputs))
