"""What a folder holds, found out by looking at it: names only, no file is opened but a `dataset.json`."""

from __future__ import annotations

from pathlib import Path

from segexplorer.core.errors import DataError
from segexplorer.data.datasets.base import DatasetSpec, Recognition, registry
from segexplorer.data.datasets.finding import subfolders

_MANY = 40
"""A folder with more subfolders than this holds cases, not data sets."""
_LAST = ("structure_files", "side_by_side", "folder")
"""Kinds that fit many folders, asked when no other fits."""


def recognise(place: Path, depth: int = 2) -> Recognition:
    """Return what a folder (or a file that lists cases) is laid out as; an only subfolder that is one counts too.

    Raises
    ------
    DataError
        When there is no such folder, it fits no layout, or several of its subfolders do.
    """
    if not place.exists():
        raise DataError(f"There is no folder {place}.", "Check the path of the data set.")
    found = _look(place, depth)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{one.folder.name} ({one.kind})" for one in found[:5])
        raise DataError(f"{place} holds several data sets: {listed}.", "Name one of these folders.")
    raise DataError(
        f"{place} has no layout of a data set that is known.",
        "Give images and labels equal names in folders images and labels, or say where they are: "
        "kind folder, images: '{case}/ct.nii.gz', labels: '{case}/seg.nii.gz'.",
    )


def described(recognition: Recognition) -> DatasetSpec:
    """Return the data set that was recognised."""
    declared = registry.spec(recognition.kind)
    place = "file" if "file" in declared.model_fields and "root" not in declared.model_fields else "root"
    return declared.of(
        {place: str(recognition.folder), **recognition.settings}, f"data set {recognition.kind}"
    )


def _look(place: Path, depth: int) -> list[Recognition]:
    kinds = registry.specs()
    if place.is_file():
        found = kinds["case_list"].recognise(place)
        return [found] if found else []
    own = [found for kind, spec in kinds.items() if kind not in _LAST and (found := spec.recognise(place))]
    if len(own) == 1:
        return own
    # kinds look into subfolders themselves, so that several of them may see theirs inside a folder of data sets
    if not own:
        for kind in _LAST:
            if kind in kinds and (found := kinds[kind].recognise(place)):
                return [found]
    inner = subfolders(place) if depth > 0 else []
    return [found for folder in inner for found in _look(folder, depth - 1)] if len(inner) <= _MANY else []
