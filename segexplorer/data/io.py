"""Opening and saving volumes: the reader or writer of a path's format does the work."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from segexplorer.core.errors import DataError, shorten
from segexplorer.data.formats.registry import (
    Format,
    format_of,
    formats,
    readable_suffixes,
    suffix_of,
    writable_suffixes,
)
from segexplorer.data.geometry import HasGrid
from segexplorer.data.volume import Select, Volume


def open_volume(
    path: str | Path, *, label: bool = False, select: Select = None, like: HasGrid | None = None
) -> Volume:
    """Open a volume; only its header is read now.

    Parameters
    ----------
    path
        A file, or a folder of DICOM slices.
    label
        Whether it is a label: voxels become integers, and values that are none are refused.
    select
        Which part of a file that holds several volumes: the number of a frame or channel, counted from 0 (for more
        axes one number each, e.g. "2, 0"), a colour ("red"), the number of a DICOM series, or names of segments.
    like
        The image that a label belongs to: what has no grid of its own (contours, segments) is put onto its grid.

    Raises
    ------
    DataError
        When the file is missing, broken, no image, or not a single 3D volume; in one sentence with a remedy.
    """
    path = Path(path).expanduser()
    found = _format_to_read(path)
    assert found.reader is not None
    with_grid = {"like": like} if found.like else {}
    return found.reader(path, label=label, select=select, **with_grid)


def save_volume(
    volume: Volume, path: str | Path, *, integer: bool = False, names: Mapping[int, str] | None = None
) -> Path:
    """Write a volume with exactly its geometry; the file is whole or not there.

    Parameters
    ----------
    integer
        Whether the voxels are labels: stored in the smallest integer type that holds them.
    names
        Label value -> name, for formats that have a place for them; by default `volume.label_names`.

    Raises
    ------
    DataError
        When the suffix names no format that can be written, or the folder cannot take it.
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    found = next((known for known in formats.values() if suffix in known.writes), None)
    if found is None or found.writer is None:
        raise _unknown(path, "writer", writable_suffixes())
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}.", "Create it, or choose another one.")
    if path.is_dir():
        raise DataError(f"{path} is a folder.", "Choose another name.")
    label_names = volume.label_names if names is None else names
    with_names = {"names": dict(label_names)} if found.named else {}
    return found.writer(volume, path, integer=integer, **with_names)


def _format_to_read(path: Path) -> Format:
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        raise DataError(*why_missing(path, str(path))) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path} cannot be looked at ({reason}).", "Check the path and its permissions."
        ) from error
    if not folder:
        _refuse_pointer(path)
    found = next((f for f in formats.values() if f.folders), None) if folder else format_of(path)
    if folder and found is None:
        raise DataError(f"{path} is a folder, not a volume.", "Name the file inside it.")
    if found is None or found.reader is None:
        raise _unknown(path, "reader", readable_suffixes())
    return found


_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024


def _refuse_pointer(path: Path) -> None:
    """Refuse what Git LFS leaves in the place of a file that was not downloaded."""
    if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > _POINTER_BYTES:
        return
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise DataError(
                f"{path.name} is a pointer of Git LFS, not the file itself.",
                "Run git lfs pull in its folder.",
            )


def why_missing(path: Path, text: str = "") -> tuple[str, str]:
    """Return a sentence and a remedy for a file that is not there.

    Parameters
    ----------
    text
        The path as it was written, where that differs.
    """
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return (
            f"{shorten(text)} is a path of a Windows machine.",
            "Copy the files here and write paths relative to the list.",
        )
    link = next((part for part in (path, *path.parents) if part.is_symlink() and not part.exists()), None)
    if link is not None:
        target = str(link.readlink())
        if ".git/annex" in target:
            return f"{path.name} was not fetched by git-annex.", "Run git annex get in its data set."
        return f"{link.name} is a link to {shorten(target)}, which is not there.", "Repair the link."
    there = next((part for part in path.parents if part.exists()), path.parent)
    if Path(text).is_absolute() and len(there.parts) <= 2 and there != path.parent:
        return (
            f"There is no file {shorten(text, 80)}; it seems to be a path of another machine.",
            "Copy the files here and write paths relative to the list.",
        )
    if there != path.parent:
        return (
            f"There is no file {path.name}: its folder {path.parent} is not there either.",
            "Check the path.",
        )
    return f"There is no file {text or path}.", "Check the path."


def _unknown(path: Path, noun: str, suffixes: tuple[str, ...]) -> DataError:
    return DataError(
        f"{path.name} has a name that no {noun} knows ({suffix_of(path) or 'no suffix'}).",
        f"Use one of {', '.join(sorted(set(suffixes)))}.",
    )
