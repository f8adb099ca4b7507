"""Fitted preprocessing: every number decided; brings cases to the training grid and predictions back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.geometry import Grid
from segexplorer.data.transforms.cropping import Cropping, cropped, outside, part, slices, whole
from segexplorer.data.transforms.intensities import IntensitySpec, registry
from segexplorer.data.transforms.prepared import CaseGrid, Prepared
from segexplorer.data.transforms.smoothing import before_downsampling
from segexplorer.data.volume import Volume

_SAME_SPACING = 1e-3


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
    crop
        Which part of a case is kept, decided for each from its images.
    """

    intensities: tuple[IntensitySpec, ...]
    numbers: tuple[Mapping[str, float], ...]
    spacing: tuple[float, float, float] | None
    resize: tuple[int, int, int] | None = None
    difference: bool = False
    crop: Cropping = field(default_factory=Cropping)

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
            Cropping.of(plain.get("crop", {})),
        )

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "intensities": [rule.plain() for rule in self.intensities],
            "numbers": [dict(numbers) for numbers in self.numbers],
            "spacing": None if self.spacing is None else list(self.spacing),
            "resize": None if self.resize is None else list(self.resize),
            "difference": self.difference,
            **({} if self.crop.to == "none" else {"crop": self.crop.plain()}),
        }

    def prepared_shape(self, ref: CaseRef) -> tuple[int, ...]:
        """Return the shape that a case will have, from its header alone; with cropping, the largest it may have."""
        image = ref.open().images[0]
        return self._training_grid(Grid(image.shape, image.affine))[0].shape

    def apply(self, case: Case, classes: ClassMap) -> Prepared:
        """Crop a case, bring it to the training grid and scale: image linear, label nearest.

        Where cropping cuts off some of the label, a note says so, with the volume.

        Raises
        ------
        DataError
            Naming the case: channels that are missing or lie on other grids, voxels that are not a number.
        """
        self._check(case)
        own = Grid(case.images[0].shape, case.images[0].affine)
        case, kept, notes = self._cropped(case, own, classes)
        target, resampled = self._training_grid(kept)
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
            notes=notes,
        )

    def restore(self, array: NDArray[Any], grid: Grid, order: int) -> NDArray[Any]:
        """Bring a prediction back to a case's own grid and index order.

        Parameters
        ----------
        array
            (..., x, y, z) class indices (order 0) or probabilities (order 1) in the training grid.
        grid
            `Prepared.grid`; outside the part that was kept everything is background.
        order
            0 nearest, 1 linear.

        Raises
        ------
        DataError
            When the array does not have the shape that the case has in training.
        """
        full = geometry.canonical_grid(grid.shape, grid.affine)
        box = grid.box if isinstance(grid, CaseGrid) else whole(full.shape)
        kept = part(full, box)
        target, resampled = self._training_grid(kept)
        if tuple(array.shape[-3:]) != target.shape:
            raise DataError(
                f"A prediction of shape {array.shape} is not on the training grid {target.shape}."
            )
        if resampled:
            array = geometry.resample(array, target.affine, kept, order)
        if kept.shape != full.shape:
            uncut = _background(array, full.shape, order)
            uncut[(..., *slices(box))] = array
            array = uncut
        return np.ascontiguousarray(geometry.from_canonical(array, grid.affine))

    def _cropped(self, case: Case, own: Grid, classes: ClassMap) -> tuple[Case, Grid, tuple[str, ...]]:
        """Return a case without what is cropped off, the grid of that, and what its label lost."""
        if self.crop.to == "none":
            return case, own, ()
        box = self.crop.box(case)
        lost = None if case.label is None else outside(case, box, classes)
        notes = () if lost is None else (f"{case.id}: {lost.message} {lost.remedy}",)
        return cropped(case, box), part(geometry.canonical_grid(own.shape, own.affine), box), notes

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


def _background(piece: NDArray[Any], shape: tuple[int, ...], order: int) -> NDArray[Any]:
    """Return a prediction of background alone: index 0, or probability 1 of the first of several classes."""
    empty = np.zeros((*piece.shape[:-3], *shape), piece.dtype)
    if order and piece.ndim > 3:
        empty[..., 0, :, :, :] = 1
    return empty
