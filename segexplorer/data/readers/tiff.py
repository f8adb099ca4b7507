"""Reading TIFF: one picture, or a stack of pages as slices."""

from __future__ import annotations

import io
import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.readers.frames import choose_frame
from segexplorer.data.readers.picture import (
    AXES,
    BROKEN,
    COLOURS,
    MAX_PIXELS,
    NO_SCALE,
    Channel,
    as_volume,
    channel_of,
    colour_notes,
    too_large,
)
from segexplorer.data.readers.stored import MAX_BYTES
from segexplorer.data.volume import Provenance, Select, Volume

_SLICES = ("Z", "I", "Q")
"""tifffile's letters for the pages of a stack."""


def read_tiff(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a TIFF's tags and return a lazy volume; pages of a stack are slices, 1 mm apart.

    Parameters
    ----------
    label
        Whether the pixels must be whole numbers and become integers.
    select
        "red", "green" or "blue" of a colour picture; the number of a channel or time point.

    Raises
    ------
    DataError
        When it is damaged, too large, or holds something other than numbers.
    """
    shape, axes, kind, colours = _tags(path)
    text = " × ".join(str(n) for n in shape)
    if kind not in "buif" or not {"Y", "X"} <= set(axes):
        raise DataError(f"{path.name} is no picture of numbers ({text}).", "Export it again.")
    named = isinstance(select, str) and select in COLOURS
    channel = channel_of(select if named else None, path.name, colour=colours)
    stack = next((letter for letter in _SLICES if letter in axes), "")
    # two to four samples of a pixel are grey or colours with transparency, more are channels
    samples = shape[axes.index("S")] if "S" in axes else 0
    together = ("Y", "X", "S", stack) if 2 <= samples <= 4 else ("Y", "X", stack)
    extra = [i for i, letter in enumerate(axes) if letter not in together]
    sizes = [shape[i] for i in extra]
    chosen = choose_frame(sizes, None if named else select, path.name)
    slices = shape[axes.index(stack)] if stack else 1
    volume_shape = (shape[axes.index("X")], shape[axes.index("Y")], slices)
    notes = (NO_SCALE, *colour_notes(channel, colour=colours and not label))
    load = _Pages(path, label, channel, tuple(zip(extra, chosen, strict=True)), volume_shape)
    provenance = Provenance(path, "TIFF", notes)
    return Volume(volume_shape, AXES, load=load, modality="unknown", provenance=provenance)


def _tags(path: Path) -> tuple[tuple[int, ...], str, str, bool]:
    """Return shape, axes as tifffile names them, the kind of numbers, and whether there are colours."""
    import tifffile

    # tifffile logs what it finds broken; the sentence below says it
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty.", "Copy or download it again.")
        if path.stat().st_size > 8 * MAX_PIXELS:
            raise too_large(path.name)
        with tifffile.TiffFile(_in_memory(path)) as file:
            series = file.series[0]
            shape, axes = tuple(int(n) for n in series.shape), str(series.axes)
            dtype = np.dtype(series.dtype) if series.dtype is not None else np.dtype("V1")
    except DataError:
        raise
    except (*BROKEN, RuntimeError, ArithmeticError, AssertionError) as error:
        raise DataError(
            f"{path.name} is not a readable TIFF file.", "Check that it is an image and was copied whole."
        ) from error
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if not shape or min(shape) < 1 or size > MAX_BYTES:
        raise DataError(f"{path.name} holds {size / 2**30:.0f} GiB of pixels.", "Crop or shrink it first.")
    colours = "S" in axes and shape[axes.index("S")] in (3, 4)
    return shape, axes, dtype.kind, colours


def _in_memory(path: Path) -> io.BytesIO:
    """Return a file's bytes: of a file on the disk, tifffile reserves whatever length a broken tag claims."""
    return io.BytesIO(path.read_bytes())


def _check_strips(series: Any, size: int) -> None:
    """Refuse what tifffile would fill with zeros: strips or tiles that the file does not hold.

    Raises
    ------
    EOFError
        When some are missing.
    """
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            raise EOFError
        return
    for page in series.pages:
        if page is None:
            raise EOFError
        parts = tuple(zip(page.dataoffsets, page.databytecounts, strict=True))
        held = sum(count for _, count in parts)
        key = page.keyframe  # the page that the others take their tags from
        short = key.compression == 1 and 8 * held < key.size * key.bitspersample
        if len(parts) != math.prod(key.chunked) or short or any(a + n > size for a, n in parts):
            raise EOFError


def _unpacked(series: Any, path: Path) -> NDArray[Any]:
    """Return all pixels of a series; Pillow unpacks what tifffile cannot without another package (LZW, JPEG)."""
    try:
        return np.asarray(series.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    from PIL import Image, ImageSequence

    with warnings.catch_warnings():
        # a bomb was looked for by its tags
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(_in_memory(path), formats=("TIFF",)) as file:
                pages = [np.array(page) for page in ImageSequence.Iterator(file)]
        except Image.DecompressionBombError as error:
            raise ValueError("a page is larger than its tags say") from error
    return np.stack(pages).reshape(series.shape)


@dataclass(frozen=True)
class _Pages:
    """Reads the pages of one file; picklable, so that a lazy volume is too."""

    path: Path
    label: bool
    channel: Channel
    chosen: tuple[tuple[int, int], ...]
    shape: tuple[int, int, int]

    def __call__(self) -> NDArray[Any]:
        import tifffile

        try:
            with tifffile.TiffFile(_in_memory(self.path)) as file:
                series = file.series[0]
                _check_strips(series, self.path.stat().st_size)
                pixels = self._volume(_unpacked(series, self.path), str(series.axes))
        except MemoryError as error:
            raise DataError(f"{self.path.name} does not fit into memory.", "Shrink it first.") from error
        except (*BROKEN, RuntimeError, ArithmeticError, AssertionError) as error:
            raise DataError(
                f"{self.path.name} is cut off or damaged.", "Copy or download it again."
            ) from error
        return as_volume(pixels, self.path.name, self.channel, label=self.label)

    def _volume(self, pixels: NDArray[Any], axes: str) -> NDArray[Any]:
        """Return the chosen pixels as (slices, rows, columns, colours), as far as there are such."""
        for axis, index in sorted(self.chosen, reverse=True):
            pixels = pixels.take(index, axis)
            axes = axes[:axis] + axes[axis + 1 :]
        order = sorted(range(len(axes)), key=lambda i: "YXS".find(axes[i]))
        turned = pixels.transpose(order)
        space = turned.shape[:-1] if "S" in axes else turned.shape
        if (*space[::-1], 1)[:3] != self.shape:
            raise ValueError("the pages have another size than the tags say")
        return turned
