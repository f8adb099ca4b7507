"""Preprocessing: to the training grid and scale, fitted on training cases alone, and back to a case's own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.geometry import Grid
from segexplorer.data.transforms.intensities import AnyIntensity, IntensitySpec, registry
from segexplorer.data.transforms.smoothing import before_downsampling
from segexplorer.data.volume import Volume

_SAME_SPACING = 1e-3


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


@dataclass(frozen=True)
class Prepared:
    """A case as training sees it.

    Attributes
    ----------
    image
        (C, x, y, z) float32 in closest-canonical RAS order at the training spacing.
    label
        (x, y, z) uint8 class indices, or None.
    affine, spacing
        Of the prepared voxels, mm.
    grid
        The case's own grid, in its own index order.
    resampled
        Whether the spacing was changed; otherwise going back is exact.
    """

    case: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    grid: Grid
    resampled: bool

    @property
    def nbytes(self) -> int:
        """Memory of the voxels."""
        return self.image.nbytes + (0 if self.label is None else self.label.nbytes)


@dataclass(frozen=True)
class FittedPreprocessing:
    """Preprocessing with every number decided; goes into checkpoints.

    Attributes
    ----------
    intensities
        One concrete rule per channel.
    numbers
        The statistics of the training images that each rule needs.
    spacing
        Training spacing (x, y, z), mm, or None for each case's own.
    resize
        Voxels (x, y, z) of every prepared case, 0 for an axis as it is; or None.
    difference
        Whether the second image minus the first is a further channel.
    """

    intensities: tuple[IntensitySpec, ...]
    numbers: tuple[Mapping[str, float], ...]
    spacing: tuple[float, float, float] | None
    resize: tuple[int, int, int] | None = None
    difference: bool = False

    @property
    def channels(self) -> int:
        """Channels of a prepared case."""
        return len(self.intensities) + self.difference

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> FittedPreprocessing:
        """Read back what `plain` gave."""
        spacing = plain["spacing"]
        return cls(
            tuple(registry.parse(rule) for rule in plain["intensities"]),
            tuple(dict(numbers) for numbers in plain["numbers"]),
            None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
            None if (resize := plain.get("resize")) is None else (resize[0], resize[1], resize[2]),
            bool(plain.get("difference", False)),
        )

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "intensities": [rule.plain() for rule in self.intensities],
            "numbers": [dict(numbers) for numbers in self.numbers],
            "spacing": None if self.spacing is None else list(self.spacing),
            "resize": None if self.resize is None else list(self.resize),
            "difference": self.difference,
        }

    def prepared_shape(self, ref: CaseRef) -> tuple[int, ...]:
        """Return the shape that a case will have, from its header alone."""
        image = ref.open().images[0]
        return self._training_grid(Grid(image.shape, image.affine))[0].shape

    def apply(self, case: Case, classes: ClassMap) -> Prepared:
        """Bring a case to the training grid and scale: image linear, label nearest.

        Raises
        ------
        DataError
            Naming the case: channels that are missing or lie on other grids, voxels that are not a number.
        """
        self._check(case)
        first = case.images[0]
        own = Grid(first.shape, first.affine)
        target, resampled = self._training_grid(own)
        channels = [
            rule.apply(self._moved(volume, target, resampled, order=1), numbers)
            for volume, rule, numbers in zip(case.images, self.intensities, self.numbers, strict=True)
        ]
        if self.difference:
            channels.append(channels[1] - channels[0])
        label = None
        if case.label is not None:
            indices = classes.encode(np.asarray(case.label.array))
            moved = self._moved(case.label.with_array(indices), target, resampled, order=0)
            label = np.ascontiguousarray(moved, np.uint8)
        return Prepared(
            case=case.id,
            image=np.ascontiguousarray(np.stack(channels), np.float32),
            label=label,
            affine=target.affine,
            spacing=geometry.spacing(target.affine),
            grid=own,
            resampled=resampled,
        )

    def restore(self, array: NDArray[Any], grid: Grid, order: int) -> NDArray[Any]:
        """Bring a prediction back to a case's own grid and index order.

        Parameters
        ----------
        array
            (..., x, y, z) class indices (order 0) or probabilities (order 1) in the training grid.
        grid
            `Prepared.grid`.
        order
            0 nearest, 1 linear.

        Raises
        ------
        DataError
            When the array does not have the shape that the case has in training.
        """
        target, resampled = self._training_grid(grid)
        if tuple(array.shape[-3:]) != target.shape:
            raise DataError(
                f"A prediction of shape {array.shape} is not on the training grid {target.shape}."
            )
        if not resampled:
            return np.ascontiguousarray(geometry.from_canonical(array, grid.affine))
        return geometry.resample(array, target.affine, grid, order)

    def _training_grid(self, own: Grid) -> tuple[Grid, bool]:
        canonical = geometry.canonical_grid(own.shape, own.affine)
        present = np.asarray(geometry.spacing(canonical.affine))
        wanted = present if self.spacing is None else np.asarray(self.spacing)
        if self.resize is not None:
            counts = [new or old for new, old in zip(self.resize, canonical.shape, strict=True)]
            wanted = present * canonical.shape / counts
        if np.allclose(present, wanted, rtol=_SAME_SPACING):
            return canonical, False
        return geometry.resampled_grid(canonical.shape, canonical.affine, wanted.tolist()), True

    @staticmethod
    def _moved(volume: Volume, target: Grid, resampled: bool, order: int) -> NDArray[Any]:
        array, affine = geometry.canonical(np.asarray(volume.array), volume.affine)
        if not resampled:
            return array
        if order:
            array = before_downsampling(array, geometry.spacing(affine), geometry.spacing(target.affine))
        return geometry.resample(array, affine, target, order)

    def _check(self, case: Case) -> None:
        if len(case.images) != len(self.intensities):
            raise DataError(
                f"Case {case.id} has {len(case.images)} image(s); the training cases have {len(self.intensities)}.",
                "Give every case the same channels in the same order.",
            )
        first = case.images[0]
        others = [*case.images[1:], *(() if case.label is None else (case.label,))]
        for other in others:
            verdict = geometry.compare(first, other)
            if not verdict.same:
                what = "label" if other is case.label else "channels"
                raise DataError(
                    f"Case {case.id}: image and {what} lie on different grids: {verdict.text}.",
                    "Resample one onto the other's grid first, or choose the file that belongs to it.",
                )
        for image in case.images:
            if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
                raise DataError(
                    f"Case {case.id}: the image holds voxels that are NaN or infinite.",
                    "Replace them, e.g. by the background value.",
                )


def fit(spec: Preprocessing, cases: Sequence[CaseRef | Case]) -> FittedPreprocessing:
    """Decide the numbers of a preprocessing from training cases alone.

    Raises
    ------
    DataError
        When there is no case, or cases differ in their channels.
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
        rule = spec.intensity.resolve(max(sorted(set(modalities)), key=modalities.count))
        rules.append(rule)
        numbers.append(rule.fit(volumes))
    if spec.difference and channels != 2:
        raise DataError(
            f"The difference of two images was asked for; the cases have {channels}.",
            "Give two images per case, or set preprocessing.difference: false.",
        )
    return FittedPreprocessing(
        tuple(rules), tuple(numbers), _spacing(spec, opened), spec.resize, spec.difference
    )


def _spacing(spec: Preprocessing, cases: Sequence[Case]) -> tuple[float, float, float] | None:
    if spec.spacing != "median":
        return spec.spacing
    grids = [geometry.canonical_grid(case.images[0].shape, case.images[0].affine) for case in cases]
    middle = np.median([geometry.spacing(grid.affine) for grid in grids], axis=0)
    return float(middle[0]), float(middle[1]), float(middle[2])
