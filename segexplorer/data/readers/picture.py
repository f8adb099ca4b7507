"""Reading pictures (PNG, JPEG; TIFF in `tiff`) as volumes of one slice, for ultrasound and the like."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.readers.stored import as_labels
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
        from segexplorer.data.readers.tiff import read_tiff

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
    provenance = Provenance(path, "picture", tuple(notes))
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
    """Return what is told of a colour picture."""
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
        """Whether a palette stands for colours: it does in a picture of many, not in a mask."""
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
