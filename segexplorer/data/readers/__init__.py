"""Readers and writers by suffix: plain functions from a path to a `Volume` and back."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from segexplorer.core.errors import DataError
from segexplorer.data.volume import Volume


class Reader(Protocol):
    """Reads the header of a file and returns a lazy volume; raises `DataError` in one sentence."""

    def __call__(self, path: Path, *, label: bool = False) -> Volume: ...


def _formats() -> dict[str, tuple[Reader, Callable[..., Path]]]:
    from segexplorer.data.readers.nifti import read_nifti
    from segexplorer.data.readers.nifti_writing import write_nifti

    suffixes = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
    return dict.fromkeys(suffixes, (read_nifti, write_nifti))


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, e.g. ".nii.gz"."""
    suffixes = [s.lower() for s in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def readable(path: Path) -> bool:
    """Whether a file's name is one that a reader knows."""
    return suffix_of(path) in _formats()


def open_with(path: Path, *, label: bool = False) -> Volume:
    """Open a file with the reader of its suffix.

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
    if folder:
        raise DataError(f"{path} is a folder, not a volume.", "Name the file inside it.")
    return _format(path)[0](path, label=label)


def save_with(volume: Volume, path: Path, *, integer: bool = False) -> Path:
    """Write a volume with the writer of the path's suffix."""
    return _format(path)[1](volume, path, integer=integer)


def _format(path: Path) -> tuple[Reader, Callable[..., Path]]:
    formats, suffix = _formats(), suffix_of(path)
    if suffix not in formats:
        raise DataError(
            f"{path.name} has a name that no reader knows ({suffix or 'no suffix'}).",
            f"Use one of {', '.join(sorted(formats))}.",
        )
    return formats[suffix]
