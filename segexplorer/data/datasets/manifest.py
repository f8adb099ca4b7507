"""`dataset.json`, by which the Medical Segmentation Decathlon and nnU-Net describe a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.data.datasets.tables import read_object

MANIFEST = "dataset.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder's `dataset.json` says.

    Raises
    ------
    DataError
        When it is missing, or is not a JSON object.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} has no dataset.json.", "Is it a Decathlon data set? Else use kind folder.")
    return read_object(path)


def channel_names(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels in order, e.g. ("FLAIR", "T1w"); empty where none are named."""
    named = manifest.get("channel_names", manifest.get("modality", {}))
    if isinstance(named, dict) and all(str(key).isdigit() for key in named):
        return tuple(str(named[key]) for key in sorted(named, key=int))
    return ()


def label_values(manifest: Mapping[str, Any], where: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> values of the labels, background and all; values as names or names as values.

    Raises
    ------
    DataError
        When none are named, or a value is not a whole number.
    """
    labels = manifest.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{where / MANIFEST} names no labels.", "Choose them with data.classes.")
    named: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items():
        by_value = str(key).lstrip("-").isdigit()
        name, given = (str(value), key) if by_value else (str(key), value)
        try:
            named[name] = tuple(int(v) for v in (given if isinstance(given, list) else [given]))
        except (TypeError, ValueError) as error:
            text = (
                f"{where / MANIFEST} gives the label {name} the value {given!r}, which is not a whole number."
            )
            raise DataError(text, "Repair the file, or choose values with data.classes.") from error
    return named


def required_folders(folder: Path, *names: str) -> None:
    """Check that subfolders are there.

    Raises
    ------
    DataError
        Naming the first that is not.
    """
    for part in names:
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part}.", "Is it a Decathlon data set? Else use folder.")
