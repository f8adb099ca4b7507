"""Archives of numpy arrays (.npz) with an image and its label in one file, as MedSAM packs its training data.

The image is the array `imgs`, the label `gts`, both (slices, rows, columns), and `spacing` holds mm along columns,
rows and slices. Only headers are read at first; pickled arrays are refused.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.voxels import MAX_BYTES, as_labels
from segexplorer.data.geometry import Affine
from segexplorer.data.volume import Provenance, Select, Volume

IMAGES = ("imgs", "img", "image", "images", "data")
LABELS = ("gts", "gt", "label", "labels", "mask", "seg")
BROKEN = (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_MOST_NUMBERS = 16


def read_npz(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read the header of an array in an archive and return a lazy volume.

    Parameters
    ----------
    label
        Whether the label of the archive is wanted, not its image.
    select
        The name of another array.

    Raises
    ------
    DataError
        When the archive is damaged, or has no such array of three axes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            name = _chosen(names, path.name, label=label, select=select)
            shape, dtype = array_header(archive, name)
            spacing = _spacing(archive, names)
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable archive of numpy arrays.", "Copy or download it again."
        ) from error
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(f"The array {name} of {path.name} holds no plain numbers.", "Save it as numbers.")
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape) < 1:
        text = f"The array {name} of {path.name} has the shape {shape}; slices, rows and columns are needed."
        raise DataError(text, "Save a volume of grey values.")
    if math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise DataError(f"The array {name} of {path.name} is too large.", "Crop or resample it first.")
    notes = [
        "It is an archive of arrays without a place; columns to the patient's left and rows to the back "
        "were assumed."
    ]
    if spacing is None:
        notes.append("The file does not give its spacing; 1 mm was assumed.")
    across, down, along = spacing or (1.0, 1.0, 1.0)
    affine: Affine = np.diag([-across, -down, along, 1.0])
    return Volume(
        shape[::-1],
        affine,
        load=_Array(path, name, label),
        modality="unknown" if label else None,
        provenance=Provenance(path, "NPZ", tuple(notes), {"place": False}),
    )


def _chosen(names: list[str], file: str, *, label: bool, select: Select) -> str:
    if select is not None:
        if str(select) not in names:
            raise DataError(f"{file} has no array {select}.", f"It holds {', '.join(names[:8])}.")
        return str(select)
    found = next((name for name in (LABELS if label else IMAGES) if name in names), None)
    if found is None and len(names) == 1:
        return names[0]
    if found is None:
        what = "label (gts)" if label else "image (imgs)"
        raise DataError(f"{file} has no {what}.", f"It holds {', '.join(names[:8]) or 'no array'}.")
    return found


def array_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError("unknown version")
        shape, _, dtype = read[version](file)
        return tuple(int(n) for n in shape), dtype


def _spacing(archive: zipfile.ZipFile, names: list[str]) -> tuple[float, float, float] | None:
    """Return mm along columns, rows and slices; None where the archive does not say, or says nonsense."""
    if "spacing" not in names:
        return None
    shape, dtype = array_header(archive, "spacing")
    if math.prod(shape) > _MOST_NUMBERS or dtype.kind not in "iuf":
        return None
    with archive.open("spacing.npy") as file:
        numbers = np.lib.format.read_array(file, allow_pickle=False).ravel().astype(float)
    if len(numbers) != 3 or not (np.isfinite(numbers) & (numbers > 0)).all():
        return None
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


@dataclass(frozen=True)
class _Array:
    """Reads an array (slices, rows, columns) as (columns, rows, slices)."""

    path: Path
    name: str
    label: bool

    def __call__(self) -> NDArray[Any]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except BROKEN as error:
            raise DataError(
                f"{self.path.name} is cut off or damaged.", "Copy or download it again."
            ) from error
        volume = np.asarray(array if array.ndim == 3 else array[np.newaxis]).transpose(2, 1, 0)
        return as_labels(volume, self.path.name) if self.label else volume


formats.register(Format(name="NPZ", suffixes=(".npz",), reader=read_npz, library="numpy"))
