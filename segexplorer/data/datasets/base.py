"""What every data set offers: its cases by name and header, and the classes of its labels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import field_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.data.case import CaseRef, whole_numbers

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".hdr", ".img.gz")
"""Endings that a file of a data set may have, longest first."""


class DatasetSpec(Spec):
    """Base of data sets: `classes` chooses and merges label values; empty takes all that the data set names."""

    classes: dict[str, int | tuple[int, ...]] = parameter(
        title="Classes",
        meaning="Name of a class and its label value, or several values that are merged. Empty: all there are.",
        default_factory=dict,
    )
    unselected: Literal["background", "ignored"] = parameter(
        "background",
        title="Other labels",
        meaning="What labels of no class become: background, or ignored by loss and scores.",
    )

    @field_validator("classes", mode="after")
    @classmethod
    def _one_class_per_value(cls, classes: dict[str, Any]) -> dict[str, Any]:
        owner: dict[int, str] = {}
        for name, given in classes.items():
            if not name.strip():
                raise ValueError("a class needs a name")
            for value in (given,) if isinstance(given, int) else given:
                if value in owner:
                    raise ValueError(f"the label value {value} belongs to both {owner[value]} and {name}")
                owner[value] = name
            if not isinstance(given, int) and not given:
                raise ValueError(f"the class {name} has no label value")
        return classes

    def cases(self) -> list[CaseRef]:
        """Return the cases, by names alone, sorted by id.

        Raises
        ------
        DataError
            When the data set is not there or is not laid out as its kind expects.
        """
        raise NotImplementedError

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that the data set itself names; by default those its labels hold."""
        return present_values(self.cases())

    def class_values(self) -> dict[str, tuple[int, ...]]:
        """Return the chosen classes with their label values, or all that the data set names."""
        if not self.classes:
            return self.named_values()
        return {n: (v,) if isinstance(v, int) else tuple(v) for n, v in self.classes.items()}


registry: Registry[DatasetSpec] = Registry("datasets", DatasetSpec, "data set")
AnyDataset = Annotated[DatasetSpec, registry.late_bound]


def present_values(refs: list[CaseRef]) -> dict[str, tuple[int, ...]]:
    """Return a class for every label value above 0 that occurs; a lone value is called "foreground".

    Raises
    ------
    DataError
        When no label holds anything.
    """
    found: set[int] = set()
    for ref in refs:
        label = ref.open().label
        if label is not None:
            found |= {int(v) for v in np.unique(whole_numbers(label.array))}
    values = sorted(v for v in found if v > 0)
    if not values:
        raise DataError(
            "No label of the data set holds a value above 0.", "Choose labels that mark something."
        )
    if len(values) > 254:
        raise DataError(
            f"The labels hold {len(values)} different values.", "Choose some with classes, e.g. {liver: 5}."
        )
    return {"foreground" if len(values) == 1 else f"label {v}": (v,) for v in values}


def existing_folder(root: str, what: str = "data set") -> Path:
    """Return the folder that `root` names, `~` and `${VAR}` expanded.

    Raises
    ------
    DataError
        When a variable is not set or there is no such folder.
    """
    folder = expanded(root)
    if not folder.exists():
        raise DataError(f"There is no folder {folder}.", f"Check the path of the {what} (data.root).")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not the folder of a {what}.", "Name the folder that holds it.")
    return folder


def expanded(path: str) -> Path:
    """Return a path with `~`, `$VAR` and `${VAR}` expanded.

    Raises
    ------
    DataError
        When a variable is not set.
    """
    text = os.path.expandvars(path)
    left = re.search(r"\$(\w+|\{[^}]*\})", text)
    if left is not None:
        name = left.group(1).strip("{}")
        raise DataError(
            f"The path {path} uses the variable {name}, which is not set.",
            f"Set it: export {name}=/some/folder.",
        )
    return Path(text).expanduser()


def volume_files(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> volume file of a folder, sorted; hidden and `._` files are skipped.

    Raises
    ------
    DataError
        When two files differ only in their suffix.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if path.name.startswith(".") or name is None or not path.is_file():
            continue
        if name in found:
            raise DataError(
                f"{found[name].name} and {path.name} in {folder} have one name.", "Keep one of them."
            )
        found[name] = path
    return found


def stem(path: Path) -> str | None:
    """Return a volume file's name without its suffix; None for other files."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def pair_up(images: Mapping[str, object], labels: Mapping[str, object], where: str) -> None:
    """Check that every label has its image.

    Raises
    ------
    DataError
        Naming the first label without one, or when there is no image at all.
    """
    if not images:
        raise DataError(f"There is no image in {where}.", f"Supported endings: {', '.join(SUFFIXES)}.")
    lonely = sorted(set(labels) - set(images))
    if lonely:
        raise DataError(
            f"The label {lonely[0]!r} in {where} has no image of that name.",
            "Give image and label the same file name.",
        )
    if labels and (bare := sorted(set(images) - set(labels))) and len(bare) == len(images):
        raise DataError(f"No image in {where} has a label.", "Give image and label the same file name.")
