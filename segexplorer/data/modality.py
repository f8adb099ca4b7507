"""What a volume's values are: a guess from the values alone, to be shown and corrected, and what is odd in them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["CT", "MR", "unknown"]
_SAMPLES = 200_000


def guess_modality(array: NDArray[Any]) -> Modality:
    """Guess whether values are Hounsfield units, or a non-negative signal.

    Hounsfield units are told by air or fat: a hundredth of the voxels lies below -50, but not below the -3024 with
    which scanners pad their field of view, and all but a hundredth lie below 4000. Values that are not negative, or
    barely so after interpolation, are called MR; a PET or ultrasound volume is too, and is prepared alike.
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
