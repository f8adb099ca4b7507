"""`boundary`: probabilities, weighted by signed distance from the boundary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class Boundary(LossSpec):
    """Mean of p phi over the classes, phi signed distances in mm, detached.

    phi is positive outside of the object and negative inside: probability outside raises the loss, inside it lowers
    it, so that the best value is below 0 and depends on the object's size.
    In training the distances are those of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Boundary"
    formula: ClassVar[str] = r"L=\frac1{|K|M}\sum_{c\in K,i}p_{ic}\,\phi_{ic}"
    reference: ClassVar[str] = "Kervadec 2019, arXiv:1812.07032"
    punishes: ClassVar[str] = (
        "Probability outside the object, in proportion to its distance; never use it alone."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    requires: ClassVar[tuple[str, ...]] = ("signed distances",)
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    kind: Literal["boundary"] = "boundary"
    include_background: bool = parameter(
        False, title="Include background", meaning="Whether class 0 counts in the mean."
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Linear in p: the gradient is the distance itself."""
        from segexplorer.functional.boundary import maps, signed_distance
        from segexplorer.functional.masked import pair, spacing_of

        first = 0 if self.include_background else 1
        p, g = pair(scene)
        signed = (scene.context.distance_maps or {}).get("signed distances")
        if signed is None:
            known = g.detach() > 0.5
            if scene.keep is not None:
                known[:, 0] |= ~scene.keep  # ignored voxels are background, as in the maps of whole volumes
            signed = maps(known, signed_distance, spacing_of(scene))
        p, signed = p[:, first:], signed[:, first:].to(p.dtype)
        return single(self.kind, (p * signed).sum() / (scene.kept * p.shape[1]))
