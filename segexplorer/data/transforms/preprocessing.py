"""Preprocessing: what is asked for, the numbers fitted to training cases, and a case as training sees it.

`Preprocessing` is the setting. `fit` decides every number from training cases alone and gives a
`FittedPreprocessing`, which brings a case to the training grid (`Prepared`) and a prediction back to the
case's own grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator
from scipy import ndimage

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef, ClassMap, Source, newest_change, source_identity
from segexplorer.data.geometry import Grid, canonical_grid
from segexplorer.data.remembered import Looked, nobody_looks, remembered
from segexplorer.data.transforms.cropping import Box, Cropping, cropped, outside, part, slices, whole
from segexplorer.data.transforms.intensities import AnyIntensity, IntensitySpec, registry
from segexplorer.data.volume import Modality, Volume

# ---- a prepared case


@dataclass(frozen=True)
class CaseGrid(Grid):
    """A case's own grid, in its own index order, and the part of it that was prepared.

    Attributes
    ----------
    box
        In closest-canonical order; outside it a prediction is background.
    """

    box: Box

    @classmethod
    def of(cls, own: Grid, prepared: Grid) -> CaseGrid:
        """Return a case's own grid with the box that a prepared grid covers: their outer borders coincide."""
        canonical = canonical_grid(own.shape, own.affine)
        matrix = np.linalg.inv(canonical.affine) @ prepared.affine
        size = np.asarray(prepared.shape, float)
        ends = np.stack([np.full(3, -0.5), size - 0.5])
        first, last = np.rint(ends @ matrix[:3, :3].T + matrix[:3, 3] + 0.5).astype(int).tolist()
        x, y, z = zip(first, last, strict=True)
        return cls(tuple(own.shape), own.affine, (x, y, z))


@dataclass(frozen=True)
class WayBack:
    """How a prediction comes back from the training grid of a case to its own grid.

    Attributes
    ----------
    full
        The case's own grid in closest-canonical order.
    box, kept
        The part of it that was prepared, and the grid of that part.
    training, resampled
        The training grid, and whether its voxels differ from those of `kept`.
    """

    full: Grid
    box: Box
    kept: Grid
    training: Grid
    resampled: bool


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
        The case's own grid, in its own index order; it always becomes a `CaseGrid`.
    resampled
        Whether the spacing was changed; otherwise going back is exact.
    notes
        What a user should know of how this case was prepared, as sentences.
    """

    case: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    grid: Grid
    resampled: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # which part was prepared follows from its position, so that a cache cannot contradict it
        prepared = Grid(self.image.shape[1:], self.affine)
        object.__setattr__(self, "grid", CaseGrid.of(self.grid, prepared))

    @cached_property
    def darkest(self) -> tuple[float, ...]:
        """Lowest value of each channel, which patches have outside the volume."""
        return tuple(float(channel.min()) for channel in self.image)

    @property
    def nbytes(self) -> int:
        """Memory of the voxels."""
        return self.image.nbytes + (0 if self.label is None else self.label.nbytes)


# ---- smoothing before downsampling

SMOOTHING_FACTOR = 1.5
"""Coarsening of an axis above which it is smoothed; below, linear interpolation blurs enough by itself."""
_FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in standard deviations


def before_downsampling(
    image: NDArray[Any], spacing: Sequence[float], target: Sequence[float]
) -> NDArray[Any]:
    """Return an image (x, y, z) smoothed along the axes that become more than `SMOOTHING_FACTOR` times coarser.

    The Gaussian widens a voxel's point spread from a width of one voxel to that of the coarse voxel, f:
    sigma = sqrt(f^2 - 1) / (2 sqrt(2 ln 2)) voxels (Cardoso et al. 2015, scale factor point spread function
    matching).

    Parameters
    ----------
    spacing, target
        mm along x, y, z, now and after.
    """
    factors = np.asarray(target, float) / np.asarray(spacing, float)
    widths = np.where(factors > SMOOTHING_FACTOR, np.sqrt(np.maximum(factors**2 - 1, 0)) / _FWHM, 0.0)
    if not widths.any():
        return image
    return np.asarray(ndimage.gaussian_filter(image.astype(np.float32), widths, mode="nearest"))


# ---- the setting, and fitting it


class Preprocessing(Spec):
    """How images are brought to a common grid and scale before training."""

    display_name = "Preprocessing"

    intensity: AnyIntensity = parameter(
        "auto", title="Intensities", description="How intensities are scaled."
    )
    spacing: Literal["median"] | tuple[float, float, float] | None = parameter(
        None,
        title="Spacing",
        description="Voxel size of training (x, y, z): none keeps each case's own; median: of training cases.",
        unit="mm",
    )

    resize: tuple[int, int, int] | None = parameter(
        None,
        title="Resize to",
        description="Every volume is brought to this many voxels (x, y, z), whatever its extent; 0 keeps an axis. "
        "For training on whole volumes, in place of a spacing.",
        unit="voxels",
        advanced=True,
    )
    crop: Cropping = parameter(
        default_factory=Cropping,
        title="Cropping",
        description="Which part of each image is kept, before it is resampled and scaled.",
        advanced=True,
    )
    difference: bool = parameter(
        False,
        title="Add the difference",
        description="The second image minus the first becomes a further channel: change between two visits.",
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


def fit(
    spec: Preprocessing, cases: Sequence[CaseRef | Case], looked: Looked = nobody_looks
) -> FittedPreprocessing:
    """Decide the numbers of a preprocessing from training cases alone.

    What it reads of voxels is remembered until the files change.

    Parameters
    ----------
    looked
        Called after every image that had to be looked at.

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
        sources = [case.images[channel] if isinstance(case, CaseRef) else None for case in cases]
        volumes = [case.images[channel] for case in opened]
        modalities: list[Modality] = []
        for done, (volume, source) in enumerate(zip(volumes, sources, strict=True), start=1):
            modalities.append(_modality(volume, source))
            looked("looking at intensities", done, len(volumes))
        modality = max(sorted(set(modalities)), key=modalities.count)
        if channel == 0 and spec.crop.to == "body" and modality == "MR":
            raise DataError(
                "The body is found by Hounsfield units, and the first image of the cases is no CT.",
                "Set preprocessing.crop: nonzero, or none; or correct the modality.",
            )
        rule = spec.intensity.resolve(modality)
        rules.append(rule)
        numbers.append(_fitted_numbers(rule, cases, channel, looked))
    if spec.difference and channels != 2:
        raise DataError(
            f"The difference of two images was asked for; the cases have {channels}.",
            "Give two images per case, or set preprocessing.difference: false.",
        )
    return FittedPreprocessing(
        tuple(rules), tuple(numbers), _spacing(spec, opened), spec.resize, spec.difference, spec.crop
    )


def _modality(volume: Volume, source: Source | None) -> Modality:
    found: Modality = remembered(
        f"modality, {volume.provenance.format}",
        lambda: source_identity(source),
        lambda: volume.modality,
        newest=lambda: newest_change(source),
    )
    return found


class _Opened(Sequence[Volume]):
    """One image of each case, opened when it is asked for, so that voxels of one case are in memory at a time."""

    def __init__(self, cases: Sequence[CaseRef | Case], channel: int, looked: Looked) -> None:
        self._cases, self._channel, self._looked = cases, channel, looked

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return _Opened(self._cases[place], self._channel, self._looked)
        case = self._cases[place]
        self._looked("reading intensities", place, len(self._cases))
        return (case.open() if isinstance(case, CaseRef) else case).images[self._channel]


def _fitted_numbers(
    rule: IntensitySpec, cases: Sequence[CaseRef | Case], channel: int, looked: Looked
) -> dict[str, float]:
    sources = [case.images[channel] if isinstance(case, CaseRef) else None for case in cases]

    def identity() -> list[object] | None:
        found = [source_identity(source) for source in sources]
        return None if None in found else list(found)

    needs_none = type(rule).fit is IntensitySpec.fit
    found: dict[str, float] = (
        {}
        if needs_none
        else remembered(
            f"intensities, {rule.plain()}",
            identity,
            lambda: rule.fit(_Opened(cases, channel, looked)),
            newest=lambda: max(map(newest_change, sources)),
        )
    )
    return dict(found)


def _spacing(spec: Preprocessing, cases: Sequence[Case]) -> tuple[float, float, float] | None:
    if spec.spacing != "median":
        return spec.spacing
    grids = [geometry.canonical_grid(case.images[0].shape, case.images[0].affine) for case in cases]
    middle = np.median([geometry.spacing(grid.affine) for grid in grids], axis=0)
    return float(middle[0]), float(middle[1]), float(middle[2])


# ---- fitted preprocessing

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
        """Read back what `plain` gave.

        Raises
        ------
        DataError
            When something of it is missing, or is not what it should be.
        """
        try:
            return cls._of(plain)
        except SegExplorerError:
            raise  # a kind from a package that is missing says so itself
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                "The preprocessing that the checkpoint holds is incomplete or damaged.",
                "Take an undamaged copy of the run, or train anew.",
            ) from error

    @classmethod
    def _of(cls, plain: Mapping[str, Any]) -> FittedPreprocessing:
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
            Naming the case: missing channels, channels with other grids, voxels that are not a number.
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
        label = None if case.label is None else self._label(case.label, classes, target, resampled)
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

    def prepared_label(self, case: Case, classes: ClassMap) -> NDArray[np.uint8]:
        """Return the label (x, y, z) of a case as `apply` prepares it; images are read for cropping alone.

        Raises
        ------
        DataError
            When a value of the label is not a whole number, or image and label do not fit.
        """
        assert case.label is not None
        own = Grid(case.images[0].shape, case.images[0].affine)
        if not geometry.compare(own, case.label).same:
            self._check(case)
        case, kept, _ = self._cropped(case, own, classes)
        assert case.label is not None
        return self._label(case.label, classes, *self._training_grid(kept))

    def _label(self, label: Volume, classes: ClassMap, target: Grid, resampled: bool) -> NDArray[np.uint8]:
        indices = classes.encode(np.asarray(label.array))
        moved = self._moved(label.with_array(indices), target, resampled, order=0)
        return np.ascontiguousarray(moved, np.uint8)

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
        way = self.way_back(grid)
        if tuple(array.shape[-3:]) != way.training.shape:
            raise DataError(
                f"A prediction of shape {array.shape} is not on the training grid {way.training.shape}."
            )
        if way.resampled:
            array = geometry.resample(array, way.training.affine, way.kept, order)
        if way.kept.shape != way.full.shape:
            uncut = _background(array, way.full.shape, order)
            uncut[(..., *slices(way.box))] = array
            array = uncut
        return np.ascontiguousarray(geometry.from_canonical(array, grid.affine))

    def way_back(self, grid: Grid) -> WayBack:
        """Return the grids between the training grid of a case and its own one, `Prepared.grid`."""
        full = geometry.canonical_grid(grid.shape, grid.affine)
        box = grid.box if isinstance(grid, CaseGrid) else whole(full.shape)
        kept = part(full, box)
        return WayBack(full, box, kept, *self._training_grid(kept))

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
                    f"Case {case.id}: image and {what} have different grids: {verdict.text}.",
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
