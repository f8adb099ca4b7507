"""Which kind of data set a folder holds, found out from names alone; only a `dataset.json` is opened."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, expanded, registry
from segexplorer.data.datasets.discovery import subfolders

_MOST_SUBFOLDERS = 40
"""A folder with more subfolders than this holds cases, not data sets."""


def recognise(place: Path, depth: int = 2) -> Recognition:
    """Return what a folder (or a file that lists cases) is laid out as; an only subfolder that is one counts too.

    Raises
    ------
    DataError
        When there is no such folder, it fits no layout, or several of its subfolders do.
    """
    if not place.exists():
        raise DataError(f"There is no folder {place}.", "Check the path of the data set.")
    found = _candidates(place, depth)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{one.folder.name} ({one.kind})" for one in found[:5])
        raise DataError(f"{place} holds several data sets: {listed}.", "Name one of these folders.")
    raise DataError(
        f"{place} does not have the layout of a known data set.",
        "Give images and labels equal names in folders images and labels, or say where they are: "
        "kind folder, images: '{case}/ct.nii.gz', labels: '{case}/seg.nii.gz'.",
    )


def recognised_dataset(recognition: Recognition) -> DatasetSpec:
    """Return the data set that was recognised."""
    declared = registry.spec(recognition.kind)
    place = {name: str(recognition.folder) for name in ("root", "file") if name in declared.model_fields}
    return declared.of({**place, **recognition.settings}, f"data set {recognition.kind}")


def _candidates(place: Path, depth: int) -> list[Recognition]:
    kinds = registry.specs()
    if place.is_file():
        found = kinds["case_list"].recognise(place)
        return [found] if found else []
    named = [kind for kind in kinds.values() if not kind.generality]
    general = sorted((kind for kind in kinds.values() if kind.generality), key=lambda kind: kind.generality)
    return _candidates_below(place, depth, named, first=False) or _candidates_below(
        place, depth, general, first=True
    )


def _candidates_below(
    place: Path, depth: int, kinds: list[type[DatasetSpec]], *, first: bool
) -> list[Recognition]:
    """Return what a folder is by some kinds, or else what its subfolders are; `first`: the first kind that fits."""
    own = [found for kind in kinds if (found := kind.recognise(place))]
    if len(own) == 1 or (own and first):
        return own[:1]
    # kinds look into subfolders themselves, so that several of them may see theirs inside a folder of data sets
    inner = subfolders(place) if depth > 0 else []
    if len(inner) > _MOST_SUBFOLDERS:
        return []
    return [found for folder in inner for found in _candidates_below(folder, depth - 1, kinds, first=first)]


@registry.register
class Auto(DatasetSpec):
    """Any layout, recognised from the names in the folder; `segexplorer check FOLDER` says which one, and why."""

    display_name = "Recognised automatically"
    layout: ClassVar[str] = "any of the others"
    kind: Literal["auto"] = "auto"
    root: str = parameter(
        title="Folder", description="The folder of the data set, or a CSV or JSON file.", path="folder"
    )

    def recognised(self) -> DatasetSpec:
        """Return the data set in its own kind, with the same choice of classes.

        Raises
        ------
        DataError
            When the layout is not known.
        """
        found = recognised_dataset(recognise(expanded(self.root)))
        return found.model_copy(
            update={"classes": self.classes, "other_labels": self.other_labels, "resample": self.resample}
        )

    def listing(self) -> Listing:
        """Return the cases of the recognised layout."""
        return self.recognised().listing()

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that the data set names."""
        return self.recognised().named_values()

    def ignored_values(self) -> tuple[int, ...]:
        """Return the label values that the data set marks as not to be counted."""
        return self.recognised().ignored_values()
