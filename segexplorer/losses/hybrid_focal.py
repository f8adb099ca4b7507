"""`hybrid_focal`: the focal loss and focal Tversky."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import registry
from segexplorer.losses.compound import Compound, CompoundTerm
from segexplorer.losses.focal import Focal
from segexplorer.losses.focal_tversky import FocalTversky
from segexplorer.losses.tversky import FALSE_NEGATIVES, FALSE_POSITIVES


@registry.register
class HybridFocal(Compound):
    """lam focal + (1 - lam) focal Tversky (the hybrid focal loss of Yeung 2022)."""

    display_name: ClassVar[str] = "Hybrid focal"
    formula: ClassVar[str] = r"L=\lambda L_{focal}+(1-\lambda)L_{FT}"
    reference: ClassVar[str] = "Yeung 2022, section 2: hybrid focal loss"
    punishes: ClassVar[str] = "Wrong and uncertain voxels, and lack of overlap with penalties alpha and beta."
    papers: ClassVar[tuple[str, ...]] = ("Yeung 2022", "Oshah 2025")
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["hybrid_focal"] = "hybrid_focal"
    lam: float = parameter(
        0.5,
        title="Weight of focal",
        meaning="Factor of the focal loss; focal Tversky gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Yeung 2022",
    )
    foreground_weight: float | None = parameter(
        0.25,
        title="Weight of foreground",
        meaning="In the focal loss; background gets one minus it. Empty: all alike.",
        ge=0,
        le=1,
        called="alpha in Yeung 2022",
    )
    gamma: float = parameter(
        2.0, title="Focus gamma", meaning="Of the focal loss.", ge=0, le=10, step=0.1, live=True
    )
    alpha: float = parameter(
        0.3,
        title=FALSE_POSITIVES,
        meaning="Weight of false positives in the Tversky term.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
    )
    beta: float = parameter(
        0.7,
        title=FALSE_NEGATIVES,
        meaning="Weight of false negatives in the Tversky term.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
    )
    exponent: float = parameter(
        0.75, title="Exponent", meaning="Of the Tversky term.", gt=0, le=4, step=0.05, live=True
    )

    include_background: bool = parameter(
        True,
        title="Include background",
        meaning="Whether class 0 counts in the Tversky term, as in Yeung 2022.",
        advanced=True,
    )

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return focal and focal Tversky."""
        tversky = FocalTversky(
            alpha=self.alpha,
            beta=self.beta,
            exponent=self.exponent,
            include_background=self.include_background,
        )
        focal = Focal(gamma=self.gamma, foreground_weight=self.foreground_weight)
        return (
            CompoundTerm("focal", focal, self.lam),
            CompoundTerm("focal_tversky", tversky, 1 - self.lam),
        )
