"""Preprocessing as it is asked for, and how its numbers are decided from training cases alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef
from segexplorer.data.transforms.cropping import Cropping
from segexplorer.data.transforms.fitted import FittedPreprocessing as FittedPreprocessing
from segexplorer.data.transforms.intensities import AnyIntensity
from segexplorer.data.transforms.prepared import Prepared as Prepared


class Preprocessing(Spec):
    """How images are brought to a common grid and scale before training."""

    display_name = "Preprocessing"

    intensity: AnyIntensity = parameter("auto", title="Intensities", meaning="How intensities are scaled.")
    spacing: Literal["median"] | tuple[float, float, float] | None = parameter(
        None,
        title="Spacing",
        meaning="Voxel size of training (x, y, z): none keeps each case's own; median: of training cases.",
        unit="mm",
    )

    resize: tuple[int, int, int] | None = parameter(
        None,
        title="Resize to",
        meaning="Every volume is brought to this many voxels (x, y, z), whatever its extent; 0 keeps an axis. "
        "For training on whole volumes, in place of a spacing.",
        unit="voxels",
        advanced=True,
    )
    crop: Cropping = parameter(
        default_factory=Cropping,
        title="Cropping",
        meaning="Which part of each image is kept, before it is resampled and scaled.",
        advanced=True,
    )
    difference: bool = parameter(
        False,
        title="Add the difference",
        meaning="The second image minus the first becomes a further channel: change between two visits.",
        advanced=True,
    )

    @field_validator("spacing")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if isinstance(value, tuple) and not all(s > 0 for s in value):
            raise ValueError("must be three sizes above 0 mm")
        return value

    @model_validator(mode="after")
    def _one_grid(self) -> Preprocessing:
        if self.resize is not None and self.spacing is not None:
            raise ValueError("resize and spacing exclude each other: set one of them")
        if self.resize is not None and min(self.resize) < 0:
            raise ValueError("resize must be three numbers of voxels, 0 for an axis that stays as it is")
        return self


def fit(spec: Preprocessing, cases: Sequence[CaseRef | Case]) -> FittedPreprocessing:
    """Decide the numbers of a preprocessing from training cases alone.

    Raises
    ------
    DataError
        When there is no case, cases differ in their channels, or a body is to be found in what is no CT.
    """
    opened = [case.open() if isinstance(case, CaseRef) else case for case in cases]
    if not opened:
        raise DataError("Preprocessing needs at least one training case.", "Lower the validation share.")
    channels = len(opened[0].images)
    for case in opened:
        if len(case.images) != channels:
            raise DataError(
                f"Case {case.id} has {len(case.images)} image(s), {opened[0].id} has {channels}.",
                "Give every case the same channels in the same order.",
            )
    rules, numbers = [], []
    for channel in range(channels):
        volumes = [case.images[channel] for case in opened]
        modalities = [volume.modality for volume in volumes]
        modality = max(sorted(set(modalities)), key=modalities.count)
        if channel == 0 and spec.crop.to == "body" and modality == "MR":
            raise DataError(
                "The body is found by Hounsfield units, and the first image of the cases is no CT.",
                "Set preprocessing.crop: nonzero, or none; or correct the modality.",
            )
        rule = spec.intensity.resolve(modality)
        rules.append(rule)
        numbers.append(rule.fit(volumes))
    if spec.difference and channels != 2:
        raise DataError(
            f"The difference of two images was asked for; the cases have {channels}.",
            "Give two images per case, or set preprocessing.difference: false.",
        )
    return FittedPreprocessing(
        tuple(rules), tuple(numbers), _spacing(spec, opened), spec.resize, spec.difference, spec.crop
    )


def _spacing(spec: Preprocessing, cases: Sequence[Case]) -> tuple[float, float, float] | None:
    if spec.spacing != "median":
        return spec.spacing
    grids = [geometry.canonical_grid(case.images[0].shape, case.images[0].affine) for case in cases]
    middle = np.median([geometry.spacing(grid.affine) for grid in grids], axis=0)
    return float(middle[0]), float(middle[1]), float(middle[2])
