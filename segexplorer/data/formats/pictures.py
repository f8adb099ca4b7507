"""Pictures (PNG, JPEG, TIFF) as volumes, e.g. of ultrasound: one slice, or the pages of a TIFF as slices."""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.voxels import MAX_BYTES, as_labels, choose_frame
from segexplorer.data.volume import Provenance, Select, Volume

MAX_PIXELS = 2**27
"""Largest picture that is read: 11,000 × 11,000."""
FEW_COLOURS = 64
"""A palette picture with no more colours is taken for a mask, also when nobody says that it is a label."""
COLOURS = ("red", "green", "blue")
AXES = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Columns to the patient's left, rows to the back, as a transverse slice is shown; pixels of 1 mm."""
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    zlib.error,
    struct.error,
)
NO_SCALE = (
    "It is a picture without a scale or a place; pixels of 1 mm were assumed, columns to the patient's left and "
    "rows to the back."
)
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
Channel = Literal["brightness", "red", "green", "blue"]


def read_picture(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a picture's header and return a lazy volume of one slice.

    A colour picture gives its brightness, or the colour that `select` names; a palette gives a label its indices.

    Parameters
    ----------
    label
        Whether the pixels must be whole numbers and become integers.
    select
        "red", "green" or "blue"; of a TIFF with several pictures that are no stack, the number of one.

    Raises
    ------
    DataError
        When it is damaged, too large, or a label in colours.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return read_tiff(path, label=label, select=select)
    width, height, mode = _header(path)
    colour = mode not in ("1", "L", "I", "F", "LA", "P") and not mode.startswith("I;")
    channel = channel_of(select, path.name, colour=colour)
    notes = [NO_SCALE, *colour_notes(channel, colour=colour and not label)]
    if mode == "P":
        notes.append(
            "The numbers of its palette's colours are read."
            if label
            else f"It has a palette: of up to {FEW_COLOURS} colours their numbers are read, of more the brightness."
        )
    if label and path.suffix.lower() in (".jpg", ".jpeg"):
        notes.append("JPEG does not keep label values exactly; use PNG for labels.")
    provenance = Provenance(path, "picture", tuple(notes), {"place": False})
    load = _Pixels(path, label, channel)
    return Volume((width, height, 1), AXES, load=load, modality="unknown", provenance=provenance)


def channel_of(select: Select, name: str, *, colour: bool) -> Channel:
    """Return the channel that `select` names.

    Raises
    ------
    DataError
        When the picture has no such channel.
    """
    if select is None or (select == 0 and not colour):
        return "brightness"
    if isinstance(select, str) and select in COLOURS and colour:
        return select  # type: ignore[return-value]
    remedy = 'Choose select="red", "green" or "blue".' if colour else "It is one picture; choose nothing."
    raise DataError(f"{name} has no channel {select}.", remedy)


def colour_notes(channel: Channel, *, colour: bool) -> tuple[str, ...]:
    """Return the note on a colour picture."""
    if not colour:
        return ()
    return (f"It is a colour picture; its {channel} is read.",)


def _header(path: Path) -> tuple[int, int, str]:
    with _opened(path) as image:
        return int(image.width), int(image.height), str(image.mode)


def _opened(path: Path) -> Any:
    """Open a picture without reading its pixels."""
    from PIL import Image

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty.", "Copy or download it again.")
        if path.stat().st_size > 8 * MAX_PIXELS:
            raise too_large(path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # out of memory, for Pillow reserves whatever length a broken file claims for a part of it
            image = Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG"))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise too_large(path.name) from error
    except BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable picture.", "Check that it is an image and was copied whole."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise too_large(path.name)
    return image


def too_large(name: str) -> DataError:
    """Return the error for a picture beyond the limit."""
    return DataError(
        f"{name} has more than {MAX_PIXELS / 1e6:.0f} million pixels.", "Crop or shrink it first."
    )


@dataclass(frozen=True)
class _Pixels:
    """Reads the pixels of one picture; picklable, so that a lazy volume is too."""

    path: Path
    label: bool
    channel: Channel

    def __call__(self) -> NDArray[Any]:
        image = _opened(self.path)
        try:
            with image:
                if self._is_coloured(image) or image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                    image = image.convert("RGB")
                pixels = np.array(image)
        except MemoryError as error:
            raise DataError(f"{self.path.name} does not fit into memory.", "Shrink it first.") from error
        except BROKEN as error:
            raise DataError(
                f"{self.path.name} is cut off or damaged.", "Copy or download it again."
            ) from error
        return as_volume(pixels, self.path.name, self.channel, label=self.label)

    def _is_coloured(self, image: Any) -> bool:
        """Whether a palette means colours, as in a picture of many; in a mask it does not."""
        many = image.mode == "P" and not self.label and image.getcolors(FEW_COLOURS) is None
        return bool(many)


def as_volume(pixels: NDArray[Any], name: str, channel: Channel, *, label: bool) -> NDArray[Any]:
    """Return (columns, rows, slices) of pixels (..., rows, columns) or, in colours, (..., rows, columns, 2 to 4).

    Raises
    ------
    DataError
        When a label is in colours.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.ndim >= 3 and pixels.shape[-1] in (2, 3, 4):
        pixels = _one_channel(pixels, name, channel, label=label)
    pixels = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    volume = pixels.transpose(2, 1, 0)
    return as_labels(volume, name) if label else volume


def _one_channel(pixels: NDArray[Any], name: str, channel: Channel, *, label: bool) -> NDArray[Any]:
    if pixels.shape[-1] == 2:  # grey and transparency
        return np.asarray(pixels[..., 0])
    if channel != "brightness":
        return np.asarray(pixels[..., COLOURS.index(channel)])
    colours = pixels[..., :3]
    if (colours == colours[..., :1]).all():
        return np.asarray(pixels[..., 0])
    if label:
        raise DataError(
            f"{name} marks its labels in colours, not in numbers.",
            'Save it as a grey or palette picture, or choose a channel, e.g. select="red".',
        )
    grey = colours @ _LUMINANCE
    return np.asarray(grey, np.float32) if pixels.dtype.kind == "f" else np.rint(grey).astype(pixels.dtype)


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
    provenance = Provenance(path, "TIFF", notes, {"place": False})
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


formats.register(
    Format(
        name="picture",
        suffixes=(".png", ".jpg", ".jpeg", ".tif", ".tiff"),
        reader=read_picture,
        library="Pillow, tifffile",
        picture=True,
    )
)
