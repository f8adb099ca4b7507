"""The cases that `segexplorer predict` is given: files, DICOM folders, folders of images or data sets, lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.discovery import volume_files
from segexplorer.data.datasets.lists import SUFFIXES
from segexplorer.data.datasets.nnunet import CHANNEL
from segexplorer.frontends.cli.check import is_series
from segexplorer.frontends.cli.series import selected
from segexplorer.training.run_files import EXPERIMENT


def split_arguments(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the runs that come first, and the images after them.

    Raises
    ------
    DataError
        When the first is no run folder, or nothing comes after the runs.
    """
    runs: list[Path] = []
    for path in paths:
        if not (path / EXPERIMENT).is_file():
            break
        runs.append(path)
    usage = "The run comes first: segexplorer predict RUN IMAGE -o OUT"
    if not runs:
        first = paths[0]
        raise DataError(
            f"{first} is not a run folder." if first.exists() else f"There is no run folder {first}.", usage
        )
    if len(runs) == len(paths):
        raise DataError("No image is named after the run.", usage)
    return runs, list(paths[len(runs) :])


def cases_to_predict(
    paths: Sequence[Path], channels: int, *, together: bool, select: str | None
) -> list[CaseRef]:
    """Return the cases without their labels.

    Parameters
    ----------
    channels
        Images that the network takes per case.
    together
        Whether the paths are the channels of one case.
    select
        The part of a file with several volumes.

    Raises
    ------
    DataError
        When a path is missing or holds no image.
    SpecError
        When two cases have one name.
    """
    if together:
        images = tuple(selected(path, select) for path in paths)
        return [CaseRef(_name(paths[0]), images)]
    found: list[CaseRef] = []
    for path in paths:
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            found += segexplorer.open_dataset(path, kind="case_list").cases()
        elif path.is_dir() and select is None and not is_series(path):
            found += _of_folder(path, channels)
        else:
            found.append(CaseRef(_name(path), (selected(path, select),)))
    names = [ref.id for ref in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"Two cases are called {twice[0]}.", "Predict them one by one, or in another folder.")
    return [replace(ref, label=None) for ref in found]


def _of_folder(folder: Path, channels: int) -> list[CaseRef]:
    """Return the cases of a data set in a known layout, else of a folder with a file for each image or channel."""
    try:
        return segexplorer.open_dataset(folder).examine().cases
    except DataError:
        files = volume_files(folder)
    if not files:
        # a folder of folders with slices, and nothing else, is a case for each
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_series(path)]
        if not inner:
            raise DataError(f"{folder} holds no image.", "Name a folder of images, a data set, or a list.")
        return [CaseRef(path.name, (path,)) for path in inner]
    split = {name: CHANNEL.fullmatch(name) for name in files}
    if not all(split.values()):
        return [CaseRef(name, (path,)) for name, path in files.items()]
    grouped: dict[str, list[Path]] = {}
    for name, path in files.items():
        match = split[name]
        assert match is not None
        grouped.setdefault(match["case"], []).append(path)
    for case, images in grouped.items():
        if len(images) != channels:
            raise DataError(
                f"{case} has {len(images)} images, and the network takes {channels}.",
                "Add the missing channels (case_0000, case_0001 ...).",
            )
    return [CaseRef(case, tuple(images)) for case, images in grouped.items()]


def _name(path: Path) -> str:
    from segexplorer.scripting import stem

    return stem(path)
