"""Cases listed one by one: in the experiment itself, or in a file (a table, or JSON as MONAI's data lists)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.core.events import Role
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.case import CaseRef
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import (
    DatasetSpec,
    Listing,
    Recognition,
    existing_folder,
    expanded,
    registry,
)
from segexplorer.data.datasets.discovery import (
    hidden,
    holds_slices,
    is_label_name,
    kept_together,
    stem,
    subfolders,
    volume_files,
)
from segexplorer.data.datasets.manifest import label_values
from segexplorer.data.datasets.tables import (
    DOCUMENTS,
    TABLES,
    cell,
    local_path,
    read_document,
    read_rows,
)
from segexplorer.data.io import why_missing


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
            f for f in subfolders(folder) if holds_slices(f)
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
        return _listing([_ref(pair) for pair in self.pairs])


def _ref(pair: Pair) -> tuple[CaseRef, Problem | None]:
    """Return the case of an entry, and what is wrong with the first of its files that is not there."""
    given = (pair.image, *(more.image for more in pair.further), *([pair.label] if pair.label else []))
    paths = [expanded(path) for path in given]
    images, label = tuple(paths[: len(pair.further) + 1]), paths[-1] if pair.label else None
    ref = CaseRef(pair.case, images, label, pair.patient or pair.case, pair.role)
    return ref, _no_file(pair.case, zip(paths, given, strict=True), "data.pairs")


def _no_file(case: str, files: Iterable[tuple[Path, str]], where: str) -> Problem | None:
    """Return the problem of the first file that is not there, given as (path, as it was written)."""
    for path, text in files:
        if not path.exists():
            message, remedy = why_missing(path, text)
            return Problem(
                "error",
                "no_file",
                message,
                remedy.replace("Check the path.", f"Check its path in {where}."),
                case,
            )
    return None


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
SUFFIXES = (*TABLES, *DOCUMENTS)
IMAGE_COLUMNS = ("image", "images", "img", "scan", "volume")
LABEL_COLUMNS = ("label", "labels", "mask", "segmentation", "seg", "truth")
CASE_COLUMNS = ("case", "id", "name")
PATIENT_COLUMNS = ("patient", "subject", "patient_id", "subject_id")
ROLE_COLUMNS = ("role", "split", "set")


def _listing(found: Sequence[tuple[CaseRef, Problem | None]]) -> Listing:
    """Return the cases that have all their files, and the problems of the others."""
    cases = sorted((ref for ref, problem in found if problem is None), key=lambda ref: ref.id)
    return Listing(kept_together(cases), [problem for _, problem in found if problem is not None])


@registry.register
class CaseList(DatasetSpec):
    """A table with the columns case, image (image_2 ... for more channels), label, role, patient; or JSON or YAML.

    Tables are CSV, TSV or Excel, in any encoding and with any delimiter; headings may be in any case. JSON and YAML
    hold a list of such entries, or lists under training, validation and test; `image` may be a list of channels.
    Only image is needed. Paths are relative to the file.
    """

    display_name = "List of cases in a file"
    layout: ClassVar[str] = (
        "cases.csv:\ncase,image,image_2,label,role,patient\n"
        "p1,p1/t1.nii.gz,p1/t2.nii.gz,p1/seg.nii.gz,train,p1"
    )
    kind: Literal["case_list"] = "case_list"
    file: str = parameter(title="File", description="The CSV, TSV, Excel, JSON or YAML file.", path="file")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise a file (not a folder) that lists images."""
        if not folder.is_file() or folder.suffix.lower() not in SUFFIXES:
            return None
        return Recognition("case_list", folder, "a file that lists cases")

    def listing(self) -> Listing:
        """Return the listed cases, sorted by name."""
        path = expanded(self.file)
        return _listing([_case(path, number, entry) for number, entry in enumerate(_entries(path), start=1)])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that a JSON or YAML file names under "labels", or those the labels hold."""
        path = expanded(self.file)
        document = _document(path) if path.suffix.lower() in DOCUMENTS else {}
        if not isinstance(document.get("labels"), dict):
            return super().named_values()
        return {name: v for name, v in label_values(document, path.parent).items() if v != (0,)}


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Check data.file.")
    found: list[dict[str, Any]]
    if path.suffix.lower() in DOCUMENTS:
        listed = _document(path)
        found = [
            {"role": role, **_mapping(path, entry)}
            for key, role in _ROLES.items()
            for entry in (listed.get(key) or [] if isinstance(listed.get(key), list) else [])
        ]
    else:
        columns, rows = read_rows(path)
        if not set(columns) & set(IMAGE_COLUMNS):
            raise DataError(
                f"{path.name} has no column image.", f"Its columns are {', '.join(columns) or 'none'}."
            )
        found = [dict(row) for row in rows]
    if not found:
        raise DataError(f"{path.name} lists no case.", "It needs an image for each case.")
    return found


def _document(path: Path) -> dict[str, Any]:
    read = read_document(path)
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
    return {str(key).strip().lower(): value for key, value in entry.items()}


def _case(path: Path, number: int, entry: Mapping[str, Any]) -> tuple[CaseRef, Problem | None]:
    """Return the case of an entry, and what is wrong with the first of its files that is not there."""
    given = next((entry[name] for name in IMAGE_COLUMNS if entry.get(name)), None)
    images = [str(i) for i in (given if isinstance(given, list) else [given]) if i]
    images += [
        str(entry[key]) for key in sorted(entry, key=_natural) if key.startswith("image_") and entry[key]
    ]
    if not images:
        raise DataError(f"Case {number} of {path.name} has no image.", "Fill in its image.")
    role = cell(entry, *ROLE_COLUMNS).lower()
    if role not in _ROLES:
        text = f"Case {number} of {path.name} has the role {role!r}."
        raise DataError(text, did_you_mean(role, [name for name in _ROLES if name]))
    written = [*images, *filter(None, [cell(entry, *LABEL_COLUMNS)])]
    paths = [local_path(str(expanded(text.strip())), path.parent) for text in written]
    sources, label = tuple(paths[: len(images)]), paths[-1] if len(paths) > len(images) else None
    name = cell(entry, *CASE_COLUMNS) or stem(sources[0]) or sources[0].name
    patient = cell(entry, *PATIENT_COLUMNS) or name
    ref = CaseRef(name, sources, label, patient, _ROLES[role])
    return ref, _no_file(name, zip(paths, written, strict=True), path.name)


def _natural(key: str) -> tuple[int, str]:
    number = key.rpartition("_")[2]
    return (int(number) if number.isdigit() else 0, key)


@registry.register
class Archives(DatasetSpec):
    """A folder of archives, each with an image (`imgs`) and its label (`gts`), as MedSAM packs its data."""

    display_name = "Archives of arrays"
    layout: ClassVar[str] = "CT_Abd_case1.npz: imgs, gts, spacing\nCT_Abd_case2.npz"
    generality: ClassVar[int] = 1
    kind: Literal["archives"] = "archives"
    root: str = parameter(title="Folder", description="The folder of the .npz files.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise a folder that holds .npz files and no other volumes."""
        files = (
            [path for path in volume_files(folder).values() if not hidden(path)] if folder.is_dir() else []
        )
        if not files or any(path.suffix.lower() != ".npz" for path in files):
            return None
        return Recognition("archives", folder, f"{files[0].name}, an archive of image and label")

    def listing(self) -> Listing:
        """Return an archive as a case."""
        files = volume_files(existing_folder(self.root))
        found = {name: path for name, path in files.items() if path.suffix.lower() == ".npz"}
        if not found:
            raise DataError(f"{self.root} holds no .npz file.", "Name the folder of the archives.")
        return Listing([CaseRef(name, (path,), path, name) for name, path in found.items()])
