"""Opening and saving volumes: the reader or writer of a path's format does the work."""

from __future__ import annotations

import importlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.formats.registry import (
    FORMATS,
    format_of,
    readable_suffixes,
    suffix_of,
    writable_suffixes,
)
from segexplorer.data.geometry import HasGrid
from segexplorer.data.volume import Select, Volume


def open_with(
    path: Path, *, label: bool = False, select: Select = None, like: HasGrid | None = None
) -> Volume:
    """Open a file or folder with the reader of its format.

    Raises
    ------
    DataError
        When there is no such file, no reader for it, or the reader refuses it.
    """
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path} cannot be looked at ({reason}).", "Check the path and its permissions."
        ) from error
    found = next((f for f in FORMATS if f.folders), None) if folder else format_of(path)
    if folder and found is None:
        raise DataError(f"{path} is a folder, not a volume.", "Name the file inside it.")
    if found is None:
        raise _unknown(path, readable_suffixes())
    with_grid = {"like": like} if found.like else {}
    return cast(Volume, _function(found.reader)(path, label=label, select=select, **with_grid))


def save_with(
    volume: Volume, path: Path, *, integer: bool = False, names: Mapping[int, str] | None = None
) -> Path:
    """Write a volume with the writer of the path's suffix; a format without a place for names leaves them out.

    Raises
    ------
    DataError
        When no writer knows the suffix, or the writer cannot write.
    """
    suffix = suffix_of(path)
    found = next((known for known in FORMATS if suffix in known.writes), None)
    if found is None:
        raise _unknown(path, writable_suffixes())
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}.", "Create it, or choose another one.")
    if path.is_dir():
        raise DataError(f"{path} is a folder.", "Choose another name.")
    with_names = {"names": dict(names or {})} if found.named else {}
    return cast(Path, _function(found.writer)(volume, path, integer=integer, **with_names))


def _function(address: str) -> Callable[..., Any]:
    module, _, name = address.partition(":")
    return cast(
        Callable[..., Any], getattr(importlib.import_module(f"segexplorer.data.formats.{module}"), name)
    )


def _unknown(path: Path, suffixes: tuple[str, ...]) -> DataError:
    known = "writer" if suffixes == writable_suffixes() else "reader"
    return DataError(
        f"{path.name} has a name that no {known} knows ({suffix_of(path) or 'no suffix'}).",
        f"Use one of {', '.join(sorted(set(suffixes)))}.",
    )


def open_volume(
    path: str | Path,
    *,
    label: bool = False,
    select: Select = None,
    like: geometry.HasGrid | None = None,
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

    return open_with(Path(path).expanduser(), label=label, select=select, like=like)


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

    known = volume.label_names if names is None else names
    return save_with(volume, Path(path).expanduser(), integer=integer, names=known)
