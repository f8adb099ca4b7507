"""Cases listed one by one: in the experiment itself, or in a file (CSV, TSV, or JSON as MONAI's data lists)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.core.events import Role
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.case import CaseRef
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, expanded, registry
from segexplorer.data.datasets.discovery import hidden, is_label_name, kept_together, stem, subfolders
from segexplorer.data.datasets.manifest import label_values
from segexplorer.data.formats import registry as readers


class FurtherImage(Spec):
    """Another image of a case, on the same grid; it becomes the next channel. A bare path will do."""

    display_name = "Further image"
    image: str = parameter(title="Image", description="The image file.", path="file", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"image": value} if isinstance(value, str) else value


class Pair(Spec):
    """One case of the list."""

    display_name = "Case"
    case: str = parameter(title="Case", description="Its name.", min_length=1)
    image: str = parameter(title="Image", description="The image file.", path="file")
    further: tuple[FurtherImage, ...] = parameter(
        (),
        title="Further images",
        description="More images on the same grid, which become channels.",
        advanced=True,
    )
    label: str | None = parameter(
        None, title="Label", description="The label file; none: only predicted.", path="file"
    )
    role: Role | None = parameter(None, title="Role", description="What it is for; none: the split decides.")
    patient: str = parameter("", title="Patient", description="Empty: the case is one.", advanced=True)


@registry.register
class Pairs(DatasetSpec):
    """Cases listed one by one."""

    display_name = "List of cases"
    layout: ClassVar[str] = (
        "pairs:\n- {case: anna, image: a/t1.nii.gz, further: [{image: a/t2.nii.gz}], label: a/seg.nii.gz}"
    )
    generality: ClassVar[int] = 4
    kind: Literal["pairs"] = "pairs"
    pairs: tuple[Pair, ...] = parameter(
        title="Cases", description="Image, label and role of each.", min_length=1
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise the folder of one case: an image (a file or a folder of DICOM slices) and its label."""
        files = [
            path for path in sorted(folder.iterdir()) if path.is_file() and stem(path) and not hidden(path)
        ]
        labels = [path for path in files if is_label_name(path)]
        images = [path for path in files if path not in labels] or [
            f for f in subfolders(folder) if _slices(f)
        ]
        if len(labels) != 1 or len(images) != 1:
            return None
        pair = {"case": folder.name, "image": str(images[0]), "label": str(labels[0])}
        return Recognition("pairs", folder, f"{labels[0].name} beside {images[0].name}", {"pairs": (pair,)})

    @field_validator("pairs")
    @classmethod
    def _same_channels(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        first = pairs[0]
        for pair in pairs:
            if len(pair.further) != len(first.further):
                raise ValueError(
                    f"{pair.case} has {len(pair.further) + 1} images and {first.case} {len(first.further) + 1}"
                )
        return pairs

    def listing(self) -> Listing:
        """Return the listed cases, sorted by name."""
        return Listing(kept_together(sorted((_ref(pair) for pair in self.pairs), key=lambda ref: ref.id)))


def _slices(folder: Path) -> bool:
    first = next((path for path in sorted(folder.iterdir()) if path.is_file() and not hidden(path)), None)
    found = readers.format_of(first) if first is not None else None
    return found is not None and found.name == "DICOM"


def _ref(pair: Pair) -> CaseRef:
    images = tuple(expanded(path) for path in (pair.image, *(more.image for more in pair.further)))
    label = None if pair.label is None else expanded(pair.label)
    for path in (*images, *([] if label is None else [label])):
        if not path.exists():
            raise DataError(f"Case {pair.case}: there is no file {path}.", "Check its path in data.pairs.")
    return CaseRef(pair.case, images, label, pair.patient or pair.case, pair.role)


_ROLES: dict[str, Role | None] = {
    "": None,
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SUFFIXES = (".csv", ".tsv", ".json")


@registry.register
class CaseList(DatasetSpec):
    """A table with the columns case, image (image_2 ... for more channels), label, role, patient; or JSON.

    JSON is a list of such entries, or lists under training, validation and test; `image` may be a list of channels.
    Only image is needed. Paths are relative to the file.
    """

    display_name = "List of cases in a file"
    layout: ClassVar[str] = (
        "cases.csv:\ncase,image,image_2,label,role,patient\n"
        "p1,p1/t1.nii.gz,p1/t2.nii.gz,p1/seg.nii.gz,train,p1"
    )
    kind: Literal["case_list"] = "case_list"
    file: str = parameter(title="File", description="The CSV, TSV or JSON file.", path="file")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise a CSV, TSV or JSON file (not a folder) that lists images."""
        if not folder.is_file() or folder.suffix.lower() not in SUFFIXES:
            return None
        return Recognition("case_list", folder, "a file that lists cases")

    def listing(self) -> Listing:
        """Return the listed cases, sorted by name."""
        path = expanded(self.file)
        cases: list[CaseRef] = []
        problems: list[Problem] = []
        for number, entry in enumerate(_entries(path), start=1):
            ref, missing = _case(path, number, entry)
            if missing:
                text = f"There is no file {missing.name}."
                problems.append(Problem("error", "no_file", text, f"Check its path in {path.name}.", ref.id))
            else:
                cases.append(ref)
        return Listing(kept_together(sorted(cases, key=lambda ref: ref.id)), problems)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that a JSON file names under "labels", or those the labels hold."""
        path = expanded(self.file)
        named = _json(path).get("labels") if path.suffix.lower() == ".json" else None
        if not isinstance(named, dict):
            return super().named_values()
        return {name: v for name, v in label_values(_json(path), path.parent).items() if v != (0,)}


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Check data.file.")
    if path.suffix.lower() == ".json":
        listed = _json(path)
        found = [
            {"role": role, **_mapping(path, entry)}
            for key, role in _ROLES.items()
            for entry in (listed.get(key) or [] if isinstance(listed.get(key), list) else [])
        ]
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            found = [{str(k).strip(): v for k, v in row.items() if k} for row in reader]
            columns = [str(name).strip() for name in reader.fieldnames or []]
        if "image" not in columns:
            raise DataError(
                f"{path.name} has no column image.", f"Its columns are {', '.join(columns) or 'none'}."
            )
    if not found:
        raise DataError(f"{path.name} lists no case.", "It needs an image for each case.")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} is not valid JSON: {error}.", "Repair it.") from error
    if isinstance(read, list):
        return {"": read}
    if not isinstance(read, dict):
        raise DataError(f"{path.name} lists no cases.", "It should hold a list, or lists under training ...")
    return read


def _mapping(path: Path, entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"image": entry}
    if not isinstance(entry, Mapping):
        raise DataError(f"{path.name} holds an entry that is no case: {entry!r}.", 'Write {"image": ...}.')
    return dict(entry)


def _case(path: Path, number: int, entry: Mapping[str, Any]) -> tuple[CaseRef, Path | None]:
    """Return the case of an entry, and the first of its files that is not there."""
    given = entry.get("image")
    images = [str(i) for i in (given if isinstance(given, list) else [given]) if i]
    images += [
        str(entry[key]) for key in sorted(entry, key=_natural) if key.startswith("image_") and entry[key]
    ]
    if not images:
        raise DataError(f"Case {number} of {path.name} has no image.", "Fill in its image.")
    role = str(entry.get("role") or entry.get("split") or "").strip().lower()
    if role not in _ROLES:
        text = f"Case {number} of {path.name} has the role {role!r}."
        raise DataError(text, did_you_mean(role, [name for name in _ROLES if name]))
    sources = tuple(_beside(path, image) for image in images)
    label = _beside(path, str(entry["label"])) if entry.get("label") else None
    name = str(entry.get("case") or entry.get("id") or stem(sources[0]) or sources[0].name).strip()
    patient = str(entry.get("patient") or entry.get("subject") or name).strip()
    missing = next((p for p in (*sources, *([label] if label else [])) if not p.exists()), None)
    return CaseRef(name, sources, label, patient, _ROLES[role]), missing


def _beside(path: Path, file: str) -> Path:
    return path.parent / expanded(file.strip())


def _natural(key: str) -> tuple[int, str]:
    number = key.rpartition("_")[2]
    return (int(number) if number.isdigit() else 0, key)
