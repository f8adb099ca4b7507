"""`segexplorer regrid`: a label, or an image, on the grid of another volume."""

from __future__ import annotations

from pathlib import Path

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.grid import APART, aligned, touch
from segexplorer.data.io import open_volume, save_volume
from segexplorer.frontends.cli.terminal import remarks


def run_regrid(
    path: Path, like: Path, output: Path, *, image: bool, select: str | None, overwrite: bool
) -> None:
    """Write a volume on another grid, say how it came there, and print the output's path on stdout.

    Parameters
    ----------
    image
        Whether the volume is an image, which is interpolated linearly; else a label, which is never interpolated.

    Raises
    ------
    DataError
        When a file cannot be read or written, the output exists, or the two do not touch.
    """
    if output.exists() and not overwrite:
        raise DataError(f"{output} exists already.", "Name another file, or add --overwrite.")
    target = open_volume(like)
    volume = open_volume(path, label=not image, select=select, like=None if image else target)
    if not touch(target, volume):
        raise DataError(f"{path} and {like} are at different places in the world.", APART)
    verdict = geometry.compare(target, volume)
    moved = aligned(volume, target, label=not image, resample=True, whose="that")
    note = "It has that grid already." if verdict.same else moved.notes[-1]
    remarks().print(note, markup=False, soft_wrap=True)
    save_volume(moved, output, integer=not image, names=moved.label_names or None)
    print(output)
