"""`region_mutual_information`: the neighbourhood of each voxel counts, not the voxel alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.errors import LossInputError
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class RegionMutualInformation(LossSpec):
    """w CE + (1 - w) sum_c 1/2 log det(M_c + a) / d, mean over samples.

    M is what remains of the covariance of the truth's windows once the prediction's are known; the second term, the
    negated lower bound of their mutual information, is negative where the prediction tells much, at least
    1/2 log a = -3.8 per class, which an absent class has too. Costs d = radius^n products per voxel: the dearest
    loss here; `pool` makes it cheaper. The authors' cross entropy is that of each class against the rest, of
    sigmoids, summed over classes; here it is the softmax one, mean over kept voxels, unless `cross_entropy` is
    "binary".
    """

    display_name: ClassVar[str] = "Region mutual information"
    formula: ClassVar[str] = (
        r"L=w\,L_{CE}+(1-w)\sum_c\tfrac1{2d}\log\det(M_c+a),\quad "
        r"M=\Sigma_{yy}-\Sigma_{yp}(\Sigma_{pp}+a)^{-1}\Sigma_{yp}^{\top}"
    )
    reference: ClassVar[str] = "Zhao 2019, arXiv:1910.12037"
    punishes: ClassVar[str] = (
        "Neighbourhoods whose pattern the prediction does not tell, and every wrong voxel."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    kind: Literal["region_mutual_information"] = "region_mutual_information"
    radius: int = parameter(
        3, title="Window", meaning="Edge of a neighbourhood; 1 is the voxel alone.", unit="voxels", ge=1, le=5
    )
    pool: int = parameter(
        1,
        title="Pooling",
        meaning="Largest value of each block of so many voxels per axis, before windows are taken; "
        "1: none, 3: much cheaper.",
        unit="voxels",
        ge=1,
        le=8,
    )
    cross_entropy_weight: float = parameter(
        0.5,
        title="Weight of cross entropy",
        meaning="The bound on mutual information gets one minus it; 0: the bound alone.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Zhao 2019",
    )

    cross_entropy: Literal["softmax", "binary"] = parameter(
        "softmax",
        title="Cross entropy",
        meaning="softmax: of the true class. binary: of each class against the rest, summed over classes, as the "
        "paper's; with two classes twice the softmax one.",
        advanced=True,
    )

    def has_cross_entropy(self) -> bool:
        """Whether cross entropy has a weight."""
        return self.cross_entropy_weight > 0

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Add up both terms; the samples without a kept voxel do not count."""
        from segexplorer.functional.focal import focal_sum
        from segexplorer.functional.modified_entropy import two_sided

        weight = self.cross_entropy_weight
        terms: dict[str, tuple[Tensor, Tensor | float]] = {}
        if weight > 0:  # before the bound, for it makes the softmax with its sum
            binary = self.cross_entropy == "binary"
            total = 2 * two_sided(scene, 0.5, first=0).sum() if binary else focal_sum(scene, 0, None)
            entropy = total / scene.kept
            terms["cross_entropy"] = (entropy.detach(), weight)
        bound = self.bound(scene)
        terms["mutual_information"] = (bound.detach(), 1 - weight)
        value = (1 - weight) * bound
        return LossOutput(weight * entropy + value if weight > 0 else value, terms)

    def bound(self, scene: Scene) -> Tensor:
        """Return the sum over classes of the negated bound, mean over samples.

        Raises
        ------
        LossInputError
            When an axis is shorter than the window.
        """
        from segexplorer.functional.masked import mean_over, pair
        from segexplorer.functional.mutual_information import residual_entropy

        p, g = (self.pooled(x) for x in pair(scene))
        if min(p.shape[2:]) < self.radius:
            raise LossInputError(
                f"Windows of {self.radius} voxels do not fit into {tuple(p.shape[2:])} (after pooling).",
                "Use a smaller radius or pool, larger patches, or no deep supervision.",
            )
        found = residual_entropy(p.flatten(0, 1), g.detach().flatten(0, 1), self.radius)
        samples = found.view(p.shape[:2]).sum(1).to(p.dtype)
        kept = samples.new_ones(samples.shape) if scene.keep is None else scene.keep.flatten(1).any(1)
        return mean_over(samples, kept)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the largest value of each block, (B, C, *spatial)."""
        import torch

        if self.pool == 1:
            return maps
        functions = {
            1: torch.nn.functional.max_pool1d,
            2: torch.nn.functional.max_pool2d,
            3: torch.nn.functional.max_pool3d,
        }
        found: Tensor = functions[maps.ndim - 2](maps, self.pool, self.pool, padding=self.pool // 2)
        return found
