"""A volume: voxels that are read when they are needed, and where they are in the world.

Beside it: counting the values of a label without copying it, and guessing from the values alone whether an
image is a CT. Such a guess is shown to the user, who can correct it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.printable import printable
from segexplorer.data import geometry

# ---- counting values

_AT_ONCE = 2**18
"""Voxels counted at once: `bincount` makes 8-byte copies of what it is given."""
_SMALL = 2**16


def value_counts(label: NDArray[Any]) -> dict[int, int]:
    """Return value -> number of voxels of an integer array, sorted by value.

    Small values are counted in slabs of memory order, many times quicker than by sorting, and zeros apart.
    """
    if label.size == 0:
        return {}
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= _SMALL:
        values, counts = np.unique(label, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    flat = label.ravel(order="K")
    total = np.zeros(high + 1, np.int64)
    for start in range(0, flat.size, _AT_ONCE):
        slab = flat[start : start + _AT_ONCE]
        foreground = np.flatnonzero(slab)
        if foreground.size < slab.size // 4:  # of a label most voxels are background
            total[0] += slab.size - foreground.size
            slab = slab[foreground]
        total += np.bincount(slab, minlength=high + 1)
    return {int(v): int(total[v]) for v in np.flatnonzero(total)}


# ---- what the values are

Modality = Literal["CT", "MR", "unknown"]
_SAMPLES = 200_000


def guess_modality(array: NDArray[Any]) -> Modality:
    """Guess whether values are Hounsfield units, or a non-negative signal.

    Hounsfield units are recognised by air or fat: a hundredth of the voxels is below -50, but not below the -3024
    with which scanners pad their field of view, and all but a hundredth are below 4000. Values that are not
    negative, or barely so after interpolation, are called MR; so is a PET or ultrasound volume, which is prepared
    in the same way.
    """
    sample = _finite_sample(array)
    if sample.size == 0:
        return "unknown"
    low, middle, high = np.percentile(sample, (1, 50, 99))
    if -3100 <= low <= -50 and -3100 <= middle <= 1000 and 20 <= high <= 4000 and sample.min() >= -10_000:
        return "CT"
    top = float(sample.max())
    return "MR" if top > 1 and low >= -0.1 * top else "unknown"


def voxel_notes(array: NDArray[Any], modality: Modality | None) -> tuple[str, ...]:
    """Return what is odd in the values, as sentences: NaN and infinite voxels, a CT that is not in HU."""
    notes = []
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            what = "voxel is" if bad == 1 else "voxels are"
            notes.append(f"{bad} {what} NaN or infinite; they are kept as they are until replaced.")
    if modality == "CT" and not (array < 0).any():
        notes.append("No value is below 0, so this is probably not in Hounsfield units.")
    return tuple(notes)


def _finite_sample(array: NDArray[Any]) -> NDArray[np.float64]:
    # in memory order, so that a file's own (Fortran) order is not copied first
    flat = array.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    return sample[np.isfinite(sample)]


# ---- the volume

Select = int | str | None
"""Which of several volumes in one file or folder; see `open_volume`."""


@dataclass(frozen=True)
class Provenance:
    """Where a volume came from, and what is needed to write the same geometry back.

    Attributes
    ----------
    path
        The file, or None for an array in memory.
    format
        E.g. "NIfTI-1".
    notes
        What was assumed or noticed on reading, as sentences for the geometry verdict.
    header
        Facts of the header that a writer repeats: forms, codes, units, and `label_names` (value -> name) where the
        format names its labels. Never other text fields, which may hold a patient's name.
    """

    path: Path | None = None
    format: str = ""
    notes: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)


class Volume:
    """A 3D image or label.

    Use `open_volume` or `Volume.from_array`.

    Attributes
    ----------
    shape
        Voxels along each index axis, in the file's own order.
    affine
        (4, 4) float64, voxel index -> RAS mm.
    provenance
        Where it came from.
    """

    __slots__ = ("_array", "_load", "_modality", "affine", "provenance", "shape")

    def __init__(
        self,
        shape: Sequence[int],
        affine: NDArray[Any],
        *,
        array: NDArray[Any] | None = None,
        load: Callable[[], NDArray[Any]] | None = None,
        modality: Modality | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        if geometry.is_singular(affine):
            raise DataError(
                "The affine of the volume is singular: it puts different voxels at one place.",
                "Correct its header (sform or qform), or give a spacing.",
            )
        own = np.array(affine, dtype=np.float64)
        own.setflags(write=False)
        setter = object.__setattr__
        setter(self, "shape", tuple(int(n) for n in shape))
        setter(self, "affine", own)
        setter(self, "_modality", modality)
        setter(self, "provenance", provenance or Provenance())
        setter(self, "_array", array)
        setter(self, "_load", load)

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    provenance: Provenance
    _modality: Modality | None
    _array: NDArray[Any] | None
    _load: Callable[[], NDArray[Any]] | None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Volume is frozen; {name} cannot be set (use with_array or with_modality)")

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        *,
        affine: NDArray[Any] | None = None,
        spacing: Sequence[float] | None = None,
        modality: Modality | None = None,
    ) -> Self:
        """Wrap a 3D array.

        Parameters
        ----------
        array
            (i, j, k) voxels.
        affine
            Voxel index -> RAS mm; by default axes along RAS with the given spacing, index 0 at the origin.
        spacing
            mm, used when no affine is given; default 1 mm.
        modality
            None guesses it from the values when it is asked for.

        Raises
        ------
        DataError
            When the array is not 3D or the affine is singular.
        """
        if array.ndim != 3:
            raise DataError(
                f"A volume has 3 axes; this array has {array.ndim} (shape {array.shape}).",
                "Choose one frame or channel first.",
            )
        matrix = np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0]) if affine is None else affine
        return cls(array.shape, matrix, array=array, modality=modality)

    @property
    def array(self) -> NDArray[Any]:
        """Voxels in the file's own index order; read at first use and kept. NaN stays NaN; see `notes`.

        Raises
        ------
        DataError
            When the file turns out to be cut off or damaged, or a value of a label is not a whole number.
        """
        if self._array is None:
            assert self._load is not None
            object.__setattr__(self, "_array", self._load())
        assert self._array is not None
        return self._array

    @property
    def loaded(self) -> bool:
        """Whether the voxels are in memory."""
        return self._array is not None

    @property
    def modality(self) -> Modality:
        """What the values are: as given, or guessed from them; to be shown and corrected (`with_modality`).

        A guess reads the voxels of a volume that is not loaded, and does not keep them.
        """
        if self._modality is None:
            array = self._array
            if array is None:
                assert self._load is not None
                array = self._load()
            object.__setattr__(self, "_modality", guess_modality(array))
        assert self._modality is not None
        return self._modality

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed on reading and, once the voxels are loaded, what is odd in them."""
        if self._array is None:
            return self.provenance.notes
        return (*self.provenance.notes, *voxel_notes(self._array, self._modality))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each index axis, mm."""
        return geometry.spacing(self.affine)

    @property
    def orientation(self) -> str:
        """Closest anatomical axes, e.g. "LPS"."""
        return geometry.orientation(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    @property
    def label_names(self) -> dict[int, str]:
        """Names of label values, where the file or the prediction names them."""
        named = self.provenance.header.get("label_names", {})
        return {int(value): printable(name) for value, name in named.items()}

    def with_array(self, array: NDArray[Any], *, label_names: Mapping[int, str] | None = None) -> Volume:
        """Return a volume with other voxels on the same grid (a prediction), provenance kept for writing.

        Parameters
        ----------
        label_names
            Names of its label values; None keeps those there are.

        Raises
        ------
        DataError
            When the shape differs.
        """
        if tuple(array.shape) != self.shape:
            raise DataError(f"An array of shape {array.shape} does not fit a volume of shape {self.shape}.")
        header = dict(self.provenance.header)
        if label_names is not None:
            header["label_names"] = dict(label_names)
        kept = dataclasses.replace(self.provenance, path=None, header=header)
        known = self.modality if self.loaded else self._modality
        return Volume(self.shape, self.affine, array=array, modality=known, provenance=kept)

    def with_modality(self, modality: Modality) -> Volume:
        """Return the volume with its modality corrected."""
        return Volume(
            self.shape,
            self.affine,
            array=self._array,
            load=self._load,
            modality=modality,
            provenance=self.provenance,
        )

    def with_note(self, note: str) -> Volume:
        """Return the volume with a sentence more about what was assumed or done on reading."""
        return Volume(
            self.shape,
            self.affine,
            array=self._array,
            load=self._load,
            modality=self._modality,
            provenance=dataclasses.replace(self.provenance, notes=(*self.provenance.notes, note)),
        )

    def resampled(self, target: geometry.HasGrid, *, order: int) -> Volume:
        """Return the volume on another grid, found by world position.

        Parameters
        ----------
        order
            0 takes the nearest voxel (labels), 1 interpolates linearly (images). Outside the volume, labels are 0
            and images have their lowest value.
        """
        finite = self.array[np.isfinite(self.array)] if order else ()
        fill = float(np.min(finite)) if len(finite) else 0.0
        array = geometry.resample(self.array, self.affine, target, order, fill=fill)
        named = {"label_names": self.label_names} if self.label_names else {}
        provenance = Provenance(header=named)
        return Volume(array.shape, target.affine, array=array, modality=self._modality, provenance=provenance)

    def __reduce__(self) -> tuple[Any, ...]:
        # what can be read again is not sent along
        array = self._array if self._load is None else None
        return _rebuild, (self.shape, self.affine, array, self._load, self._modality, self.provenance)

    def __repr__(self) -> str:
        size = " × ".join(f"{s:.3g}" for s in self.spacing)
        known = f", {self._modality}" if self._modality else ""
        return f"Volume({' × '.join(map(str, self.shape))} voxels of {size} mm, {self.orientation}{known})"


def _rebuild(
    shape: tuple[int, ...],
    affine: NDArray[Any],
    array: NDArray[Any] | None,
    load: Callable[[], NDArray[Any]] | None,
    modality: Modality | None,
    provenance: Provenance,
) -> Volume:
    return Volume(shape, affine, array=array, load=load, modality=modality, provenance=provenance)
