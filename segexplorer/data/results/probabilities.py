"""Class probabilities beside a prediction: the .npz archives that nnU-Net writes on request.

`nnUNetv2_predict --save_probabilities`, and a validation with `--npz`, write an array `probabilities` (`softmax`
in nnU-Net v1) with the axes (class, z, y, x): it is on the grid of the written label already, with the cropping
and the transposition of the training undone (`inference/export_prediction.py` of nnunetv2). So neither the plans
nor the pickled properties of the case are needed, and pickles are never opened. The axes are those of SimpleITK,
the reverse of a NIfTI file's; the reader `NibabelIOWithReorient` has turned them to RAS as well
(`imageio/nibabel_reader_writer.py`). Which of the two it was is found by comparing the likeliest class with the
label itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.case import integer_labels
from segexplorer.data.formats.npz import BROKEN, array_header
from segexplorer.data.formats.voxels import MAX_BYTES
from segexplorer.data.geometry import canonical, from_canonical
from segexplorer.data.volume import Volume

ARRAYS = ("probabilities", "softmax")
"""Names of the array in nnU-Net v2 and v1."""
LEAST_AGREEMENT = 0.5
"""Share of the foreground in which the likeliest class has to be the written label. It is less than 1 where the
label was post-processed, e.g. small islands removed; another axis order hardly agrees anywhere."""


def read_probabilities(path: Path, prediction: Volume) -> NDArray[np.float32]:
    """Return (C, i, j, k) probabilities in the index order of the prediction that they belong to.

    Parameters
    ----------
    path
        The archive.
    prediction
        The label of the same case, with the values 0 to C - 1.

    Raises
    ------
    DataError
        When the archive is damaged, too large, or of another case.
    """

    def agreement(channels: NDArray[np.float32], label: NDArray[Any]) -> float:
        likeliest = channels.argmax(axis=0)
        return _agreement([(likeliest > 0, label > 0)], likeliest == label)

    return _in_order(path, prediction, agreement, "the likeliest class is another one")


def read_region_probabilities(
    path: Path, prediction: Volume, regions: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Return (R, i, j, k) probabilities of regions that may overlap, each a sigmoid, without a background.

    nnU-Net's network has a channel for each region in the order of `dataset.json`, and for no background
    (`utilities/label_handling/label_handling.py`).

    Parameters
    ----------
    regions
        Label values of the prediction that each region is made of, in the order of the channels.

    Raises
    ------
    DataError
        As `read_probabilities`; also when there are more or fewer regions in it.
    """

    def agreement(channels: NDArray[np.float32], label: NDArray[Any]) -> float:
        if len(channels) != len(regions):
            raise DataError(
                f"{path.name} has probabilities of {len(channels)} regions, dataset.json names {len(regions)}.",
                "Put the dataset.json of the training beside the predictions.",
            )
        pairs = [(c > 0.5, np.isin(label, own)) for c, own in zip(channels, regions, strict=True)]
        return _agreement(pairs, np.logical_and.reduce([found == written for found, written in pairs]))

    return _in_order(path, prediction, agreement, "other regions are above one half")


def _in_order(
    path: Path,
    prediction: Volume,
    agreement: Callable[[NDArray[np.float32], NDArray[Any]], float],
    what: str,
) -> NDArray[np.float32]:
    """Return the channels in the index order of the prediction: that of the two which agrees better with it."""
    found = _read(path, prediction.shape)
    turned = found.transpose(0, 3, 2, 1)
    in_order: list[NDArray[np.float32]] = []
    if turned.shape[1:] == prediction.shape:
        in_order.append(turned)
    grid, _ = canonical(np.empty(prediction.shape, np.bool_), prediction.affine)
    if turned.shape[1:] == grid.shape:
        in_order.append(from_canonical(turned, prediction.affine))
    label = integer_labels(np.asarray(prediction.array))
    agreements = [agreement(candidate, label) for candidate in in_order]
    if max(agreements, default=0.0) < LEAST_AGREEMENT:
        raise DataError(
            f"The probabilities in {path.name} do not belong to the prediction beside them: {what} "
            "in most of the structures.",
            "Predict the case again with --save_probabilities.",
        )
    return np.ascontiguousarray(in_order[agreements.index(max(agreements))])


def _agreement(
    pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], same: NDArray[np.bool_]
) -> float:
    """Return in which share of the voxels that either calls a structure both say the same."""
    either = np.logical_or.reduce([mask for pair in pairs for mask in pair])
    return float(same[either].mean()) if either.any() else 1.0


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the array (C, z, y, x), after a look at its header."""
    damaged = DataError(f"{path.name} is not a readable archive of probabilities.", "Predict the case again.")
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in ARRAYS if f"{name}.npy" in archive.namelist()), None)
            if name is None:
                raise DataError(
                    f"{path.name} has no array {ARRAYS[0]}.", "Is it an archive of nnU-Net's preprocessing?"
                )
            stored, dtype = array_header(archive, name)
            if len(stored) != 4 or not 1 <= stored[0] < 256 or dtype.kind not in "fui":
                raise DataError(
                    f"The array {name} of {path.name} has the shape {stored} and the type {dtype}.",
                    "Probabilities have the axes class, z, y and x.",
                )
            if sorted(stored[1:]) != sorted(shape):
                raise DataError(
                    f"The probabilities of {path.name} have {' × '.join(map(str, stored[:0:-1]))} voxels, the "
                    f"prediction {' × '.join(map(str, shape))}.",
                    "Predict the case again; the two are of different images.",
                )
            if np.prod(stored, dtype=float) * 4 > MAX_BYTES:
                raise DataError(f"The probabilities of {path.name} are too large.", "Look at the labels.")
            with archive.open(f"{name}.npy") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except BROKEN as error:
        raise damaged from error
    return np.asarray(array, np.float32)
