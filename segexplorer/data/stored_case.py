"""Prepared cases and distance maps as files, exact to the bit, of which a patch reads only its surroundings.

A channel with at most 65,536 different values, as a CT has that was not resampled, is kept as places in the list
of its values: one or two bytes per voxel instead of four, and a tenth of the size once it is compressed. All other
channels are kept as they are. float16 would halve those, too, but every voxel would be another number than without
a file, so nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.foreground import Foreground
from segexplorer.data.geometry import Grid
from segexplorer.data.transforms.distance_maps import class_maps
from segexplorer.data.transforms.preprocessing import CaseGrid, Prepared
from segexplorer.data.voxel_file import Channels, ChunkedArray, DamagedFileError, VoxelFile, write_voxels

_MOST_VALUES = 2**16
_SLAB = 2**22
_SAMPLES = 2**17
MOST_VOXELS = 2**32
"""Cases with as many voxels are not kept, since places of voxels are kept in 32 bits."""


# ---- values


def compact(channel: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Return a channel as places in the sorted list of its values, and the list; or itself and None.

    Values are compared bit by bit, so that -0 and 0 are two, and `expand` gives back what was there.
    """
    import pandas as pd  # its import takes longer than this, and who reads needs none

    flat = np.ascontiguousarray(channel).ravel().view(np.uint32)
    if len(pd.unique(flat[:: max(1, flat.size // _SAMPLES)])) > _MOST_VALUES:
        return channel, None
    found: dict[int, int] = {}
    codes = np.empty(flat.size, np.uint16)
    for first in range(0, flat.size, _SLAB):  # a slab at a time: codes are 8 bytes per voxel in between
        own, values = pd.factorize(flat[first : first + _SLAB])
        table = np.empty(len(values), np.int64)
        for place, value in enumerate(values.tolist()):
            table[place] = found.setdefault(value, len(found))
        if len(found) > _MOST_VALUES:
            return channel, None
        codes[first : first + _SLAB] = table[own]
    bits = np.fromiter(found, np.uint32, len(found))
    order = np.argsort(bits.view(np.float32), kind="stable")  # neighbours in value are neighbours in code
    ranks = np.empty(len(order), np.uint8 if len(order) <= 256 else np.uint16)
    ranks[order] = np.arange(len(order))
    return ranks[codes].reshape(channel.shape), bits[order].view(np.float32)


def expand(codes: NDArray[Any], values: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the channel, or the piece of it, that `compact` made codes of.

    Raises
    ------
    DamagedFileError
        When a code is not in the list.
    """
    if values is None:
        return np.asarray(codes, np.float32)
    try:
        return np.asarray(values[codes])
    except IndexError as error:
        raise DamagedFileError("A file of voxels is damaged: a value is missing.") from error


class StoredImage:
    """The channels of an image in a file; a box is read when it is indexed, (C, x, y, z) float32."""

    def __init__(
        self, channels: Sequence[ChunkedArray], values: Sequence[NDArray[np.float32] | None]
    ) -> None:
        self._channels, self._values = list(channels), list(values)
        self.shape: tuple[int, ...] = (len(channels), *channels[0].shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a box of all channels: `image[:, a:b, c:d, e:f]`."""
        channels, *box = key
        if channels != slice(None):
            raise IndexError("all channels of an image are read together")
        read = zip(self._channels, self._values, strict=True)
        return np.stack([expand(channel[tuple(box)], values) for channel, values in read])


# ---- cases


class StoredCase:
    """A prepared case in a file.

    Attributes
    ----------
    case, affine, spacing, grid, resampled
        As in `Prepared`.
    image, label
        Voxels that are read when they are indexed.
    darkest
        Lowest value of each channel.
    foreground
        Where its classes are.
    notes
        As in `Prepared`.
    """

    def __init__(self, case: str, file: VoxelFile) -> None:
        self.case, self._file = case, file
        facts, arrays = file.facts, file.arrays
        try:
            self.affine = np.asarray(facts["affine"], np.float64).reshape(4, 4)
            x, y, z = map(float, facts["spacing"])
            self.spacing = (x, y, z)
            own = Grid(
                tuple(map(int, facts["shape"])), np.asarray(facts["own_affine"], np.float64).reshape(4, 4)
            )
            self.resampled = bool(facts["resampled"])
            self.darkest = tuple(map(float, facts["darkest"]))
            self.notes = tuple(f"{case}: {note}" for note in map(str, facts["notes"]))
            values = [
                None if f"values_{c}" not in arrays else arrays[f"values_{c}"][0, 0]
                for c in range(len(self.darkest))
            ]
            self.image = StoredImage([arrays[f"image_{c}"] for c in range(len(self.darkest))], values)
            self.label = arrays.get("label")
            counts = tuple(map(int, facts["foreground"]))
            annotated = int(facts["annotated"])
            self.grid = CaseGrid.of(own, Grid(self.image.shape[1:], self.affine))
        except (KeyError, ValueError, TypeError, IndexError, np.linalg.LinAlgError) as error:
            raise DamagedFileError("A file of a prepared case is not whole.") from error
        places = _List(arrays["places"]) if "places" in arrays else np.zeros(0, np.uint32)
        self.foreground = Foreground(counts, annotated, places)

    def load(self) -> Prepared:
        """Read all of it.

        Raises
        ------
        DamagedFileError
            When it is damaged.
        """
        box = (slice(None),) * 3
        return Prepared(
            case=self.case,
            image=self.image[(slice(None), *box)],
            label=None if self.label is None else self.label[box],
            affine=self.affine,
            spacing=self.spacing,
            grid=Grid(self.grid.shape, self.grid.affine),
            resampled=self.resampled,
        )


class _List:
    """A list of numbers in a file."""

    def __init__(self, array: ChunkedArray) -> None:
        self._array = array

    def __getitem__(self, key: slice) -> NDArray[Any]:
        return self._array[0, 0, key]


def write_case(file: IO[bytes], prepared: Prepared) -> None:
    """Write a prepared case, without its name."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, channel in enumerate(prepared.image):
        codes, values = compact(channel)
        arrays[f"image_{number}"] = codes
        if values is not None:
            arrays[f"values_{number}"] = values
    if prepared.label is not None:
        arrays["label"] = prepared.label
    foreground = Foreground.of(prepared.label)
    places = foreground.places[:]
    if len(places):
        arrays["places"] = places
    facts = {
        "affine": prepared.affine.tolist(),
        "spacing": list(prepared.spacing),
        "shape": list(prepared.grid.shape),
        "own_affine": prepared.grid.affine.tolist(),
        "resampled": prepared.resampled,
        "darkest": list(prepared.darkest),
        "notes": [note.removeprefix(f"{prepared.case}: ") for note in prepared.notes],
        "foreground": list(foreground.counts),
        "annotated": foreground.annotated,
    }
    write_voxels(file, facts, arrays)


# ---- distance maps


def write_map(
    file: IO[bytes],
    name: str,
    label: NDArray[np.uint8],
    classes: int,
    spacing: Sequence[float],
    scheme: LabelScheme = EXCLUSIVE,
) -> None:
    """Write a distance map class by class, so that never more than one is in memory; see `class_maps`."""
    count, made = class_maps(name, label, classes, spacing, scheme)
    write_voxels(file, {}, {"map": Channels((count, *label.shape), "int16", made)})
