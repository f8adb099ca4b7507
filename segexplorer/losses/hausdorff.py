"""`hausdorff`: squared errors, weighted by distance from the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class Hausdorff(LossSpec):
    """Mean of (p - g)^2 (d_p^a + d_g^a) over foreground classes, distances in mm, detached.

    d_p and d_g are each voxel's distance from the boundary of the prediction (p above 1/2) and of the truth, a the
    exponent.
    In training the target's distances are those of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Hausdorff distance"
    formula: ClassVar[str] = r"L=\frac1{|K|M}\sum_{c\in K,i}(p-g)^2\,(d_p^{a}+d_g^{a})"
    reference: ClassVar[str] = "Karimi and Salcudean 2019, arXiv:1904.10030"
    punishes: ClassVar[str] = "Errors, the more the farther they lie from the boundary."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    requires: ClassVar[tuple[str, ...]] = ("unsigned distances",)
    kind: Literal["hausdorff"] = "hausdorff"
    exponent: float = parameter(
        2.0, title="Exponent", meaning="Power of the distances.", gt=0, le=8, live=True
    )
    one_sided: bool = parameter(
        False, title="Target's distances only", meaning="Leaves out the distances of the prediction; faster."
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh the squared errors; one phase only gives no distances."""
        from segexplorer.functional.boundary import maps, unsigned_distance
        from segexplorer.functional.masked import pair, spacing_of

        p, g = (x[:, 1:] for x in pair(scene))
        spacing = spacing_of(scene)
        given = (scene.context.distance_maps or {}).get("unsigned distances")
        truth = maps(g.detach() > 0.5, unsigned_distance, spacing) if given is None else given[:, 1:]
        weight = truth.to(p.dtype) ** self.exponent
        if not self.one_sided:
            predicted = maps(p.detach() > 0.5, unsigned_distance, spacing)
            weight = weight + predicted.to(p.dtype) ** self.exponent
        value = ((p - g) ** 2 * weight).sum() / (scene.kept * p.shape[1])
        return single(self.kind, value)
