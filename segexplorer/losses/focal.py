"""`focal`: cross entropy that leaves well-classified voxels aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single
from segexplorer.losses.ratio import checked_weights, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class Focal(LossSpec):
    """Mean over voxels of -w_y (1 - p_y)^gamma log p_y."""

    display_name: ClassVar[str] = "Focal"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i w_{y_i}(1-p_{i,y_i})^\gamma\log p_{i,y_i}"
    reference: ClassVar[str] = "Lin 2017, arXiv:1708.02002"
    punishes: ClassVar[str] = (
        "Wrong and uncertain voxels; voxels that are right with confidence hardly count."
    )
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "distribution"
    voxelwise: ClassVar[bool] = True
    kind: Literal["focal"] = "focal"
    gamma: float = parameter(
        2.0,
        title="Focus gamma",
        meaning="The higher, the less voxels that are nearly right count. 0: cross entropy.",
        ge=0,
        le=10,
        step=0.1,
        live=True,
    )
    foreground_weight: float | tuple[float, ...] | None = parameter(
        None,
        title="Weight of foreground",
        meaning="One number from 0 to 1: that for foreground, one minus it for background; "
        "or one per class, background first. Empty: all alike.",
        called="alpha in Lin 2017",
    )

    @field_validator("foreground_weight")
    @classmethod
    def _weights(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if isinstance(value, float) and not 0 <= value <= 1:
            raise ValueError("a single number must lie from 0 to 1; or give one weight per class")
        return checked_weights(value) if isinstance(value, tuple) else value

    def class_column(self, scene: Scene) -> Tensor | None:
        """Return (C,) weights of the classes, None where all count alike."""
        if isinstance(self.foreground_weight, float):
            inside = self.foreground_weight
            return scene.logits.new_tensor([1 - inside, *(inside,) * (scene.classes - 1)])
        return None if self.foreground_weight is None else weights_of(self.foreground_weight, scene)

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh each voxel by its class and by how wrong it is."""
        from segexplorer.functional.focal import focal_sum

        total = focal_sum(scene, self.gamma, self.class_column(scene))
        return single(self.kind, total / scene.kept)
