"""What a definition leaves open: how components are found and matched, and which deviation a surface may have."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec

EVERY_CLASS = "default"
"""Key of the tolerance of classes that are not named."""


class MetricOptions(Spec):
    """Options of metrics that are computed on request; the values are part of what a number means."""

    connectivity: Literal["faces", "edges", "corners"] = parameter(
        "corners",
        title="Connectivity",
        description="Which voxels belong to one lesion: neighbours across a face (6 in 3D), also across an edge "
        "(18), also across a corner (26).",
    )
    min_voxels: int = parameter(
        1,
        title="Smallest lesion",
        description="Lesions of fewer voxels are dropped from truth and prediction before lesions are matched.",
        unit="voxels",
        ge=1,
    )
    matching: Literal["any", "overlap", "iou"] = parameter(
        "any",
        title="Matching rule",
        description="A lesion counts as found if any of its voxels is in the other volume; if more than "
        "`min_overlap` of it is; or if it is paired one to one with a lesion of an IoU above `min_iou`.",
    )
    min_overlap: float = parameter(
        0.1,
        title="Overlap of a match",
        description="For the rule overlap: the share of a lesion that has to be exceeded.",
        ge=0,
        lt=1,
    )
    min_iou: float = parameter(
        0.5,
        title="IoU of a match",
        description="For the rule iou: the intersection over union that has to be exceeded. Below 0.5 pairs are "
        "taken in order of their IoU.",
        ge=0,
        lt=1,
    )
    nsd_tolerance: dict[str, float] = parameter(
        title="Tolerance of surfaces",
        description="Deviation that the normalised surface Dice accepts, by class; `default` is for all others.",
        unit="mm",
        default_factory=lambda: {EVERY_CLASS: 1.0},
    )
    lesion_sizes: tuple[float, ...] = parameter(
        (100.0, 1000.0),
        title="Bounds of lesion sizes",
        description="Where the classes of size begin in the table of lesions; a lesion on a bound is in the upper "
        "class.",
    )
    size_unit: Literal["mm3", "voxels"] = parameter(
        "mm3", title="Unit of sizes", description="Whether sizes of lesions are volumes or numbers of voxels."
    )

    @field_validator("nsd_tolerance", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        return {EVERY_CLASS: value} if isinstance(value, (int, float)) else value

    @field_validator("nsd_tolerance")
    @classmethod
    def _not_negative(cls, value: dict[str, float]) -> dict[str, float]:
        for name, tolerance in value.items():
            if tolerance < 0:
                raise ValueError(f"the tolerance of {name} is below 0")
        return value

    @field_validator("lesion_sizes")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in zip((0.0, *value), value, strict=False)):
            raise ValueError("bounds are above 0 and rise")
        return value

    def tolerance(self, name: str) -> float:
        """Return the tolerance of a class, mm."""
        return self.nsd_tolerance.get(name, self.nsd_tolerance.get(EVERY_CLASS, 1.0))
