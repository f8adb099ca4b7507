"""Types of voxels that every reader of a format knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError


def smallest_integers(array: NDArray[Any]) -> NDArray[Any]:
    """Return label values in the smallest integer type that programs read.

    Raises
    ------
    DataError
        When a value is no whole number, or too large.
    """
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise DataError(
            "The voxels to be written as labels are not all whole numbers.",
            "Save them as an image, or threshold them first.",
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind, copy=False)
    raise DataError(f"Label values from {low} to {high} do not fit a label.", "Renumber the labels.")


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type that image formats have and programs read.

    Raises
    ------
    DataError
        When the voxels are no numbers.
    """
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        info = np.iinfo(np.int32)
        if info.min <= int(array.min()) and int(array.max()) <= info.max:
            return array.astype(np.int32)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DataError(
            f"Voxels of type {array.dtype} cannot be stored in an image file.", "Convert them to numbers."
        )
    return array


def to_store(array: NDArray[Any], *, integer: bool) -> NDArray[Any]:
    """Return the voxels as they are written: labels as small as they can be, images as they are."""
    return smallest_integers(array) if integer else storable(array)
