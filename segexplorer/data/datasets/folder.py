"""Folders as people keep them, without a standard: images and labels are matched by their names.

Either in folders of their own (`images/`, `labels/`) or by a pattern with `{case}` in it, or side by side
with an ending that marks the label: `0001.png` and `0001_mask.png`, as in BUSI and many other data sets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.discovery import (
    Pattern,
    files_below,
    holds_slices,
    is_label_name,
    kept_together,
    names_a_label,
    patient_by,
    put_together,
    stem,
    subfolders,
    volume_files,
    with_all_channels,
    without,
)
from segexplorer.data.sources import Structures

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "volumes", "scans", "imagestr", "original", "ct", "mr")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "segmentations", "segmentation", "seg", "gt", "labelstr",
    "ground_truth", "groundtruth", "annotations",
)  # fmt: skip


@registry.register
class Folder(DatasetSpec):
    """Images and labels of equal names in two folders, or found by patterns such as `{case}/ct.nii.gz`.

    A pattern may name folders of DICOM slices too, `{case}/dicom`, and hold `{patient}`, whose cases stay together
    in every split.
    """

    display_name = "Folder"
    layout: ClassVar[str] = "images/anna.nii.gz\nlabels/anna.nii.gz"
    generality: ClassVar[int] = 3
    kind: Literal["folder"] = "folder"
    root: str = parameter(title="Folder", description="The folder of the data set.", path="folder")
    images: tuple[str, ...] = parameter(
        ("images",),
        title="Images",
        description="Subfolder of the images, or a pattern with {case}; one per channel.",
        min_length=1,
    )
    labels: str = parameter(
        "labels", title="Labels", description="Subfolder of the labels, or a pattern with {case}."
    )
    patient_pattern: Pattern = parameter(
        "",
        title="Patient pattern",
        description="Regular expression for the patient in a case's name, e.g. ^(\\w+)_; empty: every case is one.",
        advanced=True,
    )

    @field_validator("images", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise two folders of the usual names, or a folder per case with files of the same names in each."""
        return _two_folders(folder) or _folder_per_case(folder)

    def listing(self) -> Listing:
        """Return the cases found by name."""
        root = existing_folder(self.root)
        patients: dict[str, str] = {}
        channels = [find_by_pattern(root, place, patients) for place in self.images]
        labels = find_by_pattern(root, self.labels, patients)
        images, problems = with_all_channels(channels, self.images)
        found = put_together(
            images,
            without(labels, problems),
            root,
            lambda case: patients.get(case) or patient_by(self.patient_pattern, case),
        )
        return Listing(kept_together(found.cases), [*found.problems, *problems])


def find_by_pattern(root: Path, place: str, patients: dict[str, str]) -> dict[str, Source]:
    """Return case -> file or DICOM folder, in a subfolder by file name or by a pattern with `{case}`.

    `patients` takes in case -> patient where the pattern names it.
    """
    if "{case}" not in place:
        if not (root / place).is_dir():
            raise DataError(
                f"{root} has no folder {place}.", "Set data.images and data.labels, e.g. {case}/ct.nii.gz."
            )
        return dict(volume_files(root / place))
    found: dict[str, Source] = {}
    expression = _expression(place)
    for path in sorted(root.glob(re.sub(r"\{(case|patient)\}", "*", place))):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is None or path.name.startswith("."):
            continue
        case = match["case"]
        if "patient" in expression.groupindex:
            patient = match["patient"]
            case = case if patient in case else f"{patient}_{case}"
            patients[case] = patient
        found[case] = path
    return found


def _expression(place: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern; what is repeated must be the same text again."""
    seen: set[str] = set()
    parts = []
    for part in re.split(r"(\{case\}|\{patient\})", place):
        name = part.strip("{}")
        if part not in ("{case}", "{patient}"):
            parts.append(re.escape(part).replace(r"\*", "[^/]*"))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>[^/]+)")
    return re.compile("".join(parts))


def _two_folders(folder: Path) -> Recognition | None:
    inner = {path.name.lower(): path for path in subfolders(folder)}
    images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), None)
    labels = next((inner[name] for name in LABEL_FOLDERS if name in inner), None)
    if images is None or labels is None:
        return None
    if not set(volume_files(images)) & set(volume_files(labels)):
        return None
    settings = {"images": (images.name,), "labels": labels.name}
    return Recognition(
        "folder", folder, f"the folders {images.name} and {labels.name} with equal names", settings
    )


def _folder_per_case(folder: Path) -> Recognition | None:
    """Recognise files, or folders of DICOM slices, that most subfolders have, one of which is called a label."""
    cases = subfolders(folder)
    seen: Counter[str] = Counter()
    for case in cases:
        for path in case.iterdir():
            if path.name.startswith("."):
                continue
            if holds_slices(path) if path.is_dir() else stem(path) is not None:
                # a name that repeats the case's is a pattern for all: p1/p1_seg.nii.gz is {case}/{case}_seg.nii.gz
                seen[path.name.replace(case.name, "{case}")] += 1
    shared = [name for name, count in seen.items() if count > len(cases) / 2]
    labels = [name for name in shared if is_label_name(Path(name))]
    images = sorted(set(shared) - set(labels))
    if len(labels) != 1 or not images:
        return None
    settings = {"images": tuple(f"{{case}}/{name}" for name in images), "labels": f"{{case}}/{labels[0]}"}
    return Recognition(
        "folder", folder, f"a folder per case with {', '.join((*images, labels[0]))}", settings
    )


ENDINGS = ("_mask", "_seg", "_label", "_gt", "_segmentation", "-label", "-seg", "-mask", ".seg", "_labels")
IMAGE_ENDINGS = ("", "_image", "-image", "_img")
_DEPTH = 2


@registry.register
class SideBySide(DatasetSpec):
    """Every `name` with its `name_mask`; several masks of one image (`_mask_1`) are joined, as in BUSI.

    Subfolders are looked through; where one name occurs in two of them, the folder is part of the case's name.
    """

    display_name = "Image and mask side by side"
    layout: ClassVar[str] = "benign/benign (1).png\nbenign/benign (1)_mask.png\nbenign/benign (1)_mask_1.png"
    generality: ClassVar[int] = 2
    kind: Literal["side_by_side"] = "side_by_side"
    root: str = parameter(title="Folder", description="The folder of the files.", path="folder")
    ending: tuple[str, ...] = parameter(
        ("_mask",),
        title="Endings of labels",
        description="What a label's name has behind the name of its case, e.g. _mask, _seg-manual; one, or several "
        "where a folder has several namings.",
        min_length=1,
    )
    image_ending: tuple[str, ...] = parameter(
        ("",),
        title="Endings of images",
        description="What an image's name has behind the name of its case, e.g. _image; other files "
        "are passed over.",
        min_length=1,
        advanced=True,
    )
    patient_pattern: Pattern = parameter(
        "",
        title="Patient pattern",
        description="Regular expression for the patient in a case's name, e.g. ^(\\w+)_; empty: every case is one.",
        advanced=True,
    )

    @field_validator("ending", "image_ending", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("ending")
    @classmethod
    def _each_marks_a_label(cls, endings: tuple[str, ...]) -> tuple[str, ...]:
        if "" in endings:
            raise ValueError("an ending of labels must not be empty")
        return endings

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise files whose name with one of the usual endings is there too; there may be several namings."""
        for place in _places(folder, _DEPTH):
            names = {name for path in files_below(place, 0) if (name := stem(path))}
            found: dict[tuple[str, str], str] = {}
            labelled: Counter[str] = Counter()
            for name in sorted(names):
                if (naming := _naming(name, names)) is not None:
                    case, ending, image_ending = naming
                    found.setdefault((ending, image_ending), case)
                    labelled[case] += ending not in ENDINGS
            # two labels of one image whose endings say different things are not one mask in two files
            if found and max(labelled.values()) < 2:
                reasons = [f"{case}{e} beside {case}{i}" for (e, i), case in found.items()]
                settings = {
                    "ending": tuple(dict.fromkeys(e for e, _ in found)),
                    "image_ending": tuple(dict.fromkeys(i for _, i in found)),
                }
                return Recognition("side_by_side", folder, ", ".join(reasons[:3]), settings)
        return None

    def listing(self) -> Listing:
        """Return the cases."""
        root = existing_folder(self.root)
        images: dict[Path, Path] = {}
        masks: dict[Path, list[Path]] = {}
        for path in files_below(root, _DEPTH):
            if (name := stem(path)) is None:
                continue
            if (head := self._labelled(name)) is not None:
                masks.setdefault(path.parent / head, []).append(path)
            elif (case := self._pictured(name)) is not None:
                if (twin := images.get(path.parent / case)) is not None:
                    raise DataError(
                        f"{twin.name} and {path.name} in {path.parent} have one name.", "Keep one."
                    )
                images[path.parent / case] = path
        names = _unique_names([*images, *masks], root)
        labels: dict[str, Source] = {names[key]: _one_label(paths) for key, paths in masks.items()}
        together = {names[key]: (path,) for key, path in images.items()}
        return put_together(together, labels, root, lambda case: patient_by(self.patient_pattern, case))

    def _labelled(self, name: str) -> str | None:
        """Return the case that a label's name is for, a number behind its ending left out; None for other names."""
        for ending in _longest_first(self.ending):
            head, found, number = name.rpartition(ending)
            if found and head and (not number or number.lstrip("_-").isdigit()):
                return head
        return None

    def _pictured(self, name: str) -> str | None:
        """Return the case that an image's name is for; None for names without one of the endings."""
        fitting = (e for e in _longest_first(self.image_ending) if name.endswith(e) and name != e)
        return next((name.removesuffix(ending) for ending in fitting), None)


def _naming(name: str, names: Set[str]) -> tuple[str, str, str] | None:
    """Return case, ending and image ending of a label's name that has its image beside it; None for other names.

    The ending is one of the usual ones, or any that names a label somewhere: `_seg-manual`, `_gmseg_manual`.
    """
    usual = (e for e in _longest_first(ENDINGS) if name.endswith(e) and name != e)
    separated = (name[found.start() :] for found in reversed(list(re.finditer(r"[_\-. ]", name))))
    for ending in (*usual, *(e for e in separated if names_a_label(e) and e != name)):
        case = name.removesuffix(ending)
        image_ending = next((e for e in IMAGE_ENDINGS if case + e in names), None)
        if image_ending is not None:
            return case, ending, image_ending
    return None


def _longest_first(endings: tuple[str, ...]) -> list[str]:
    return sorted(endings, key=lambda ending: -len(ending))


def _one_label(paths: list[Path]) -> Source:
    """Return the mask, or the union of several."""
    return paths[0] if len(paths) == 1 else Structures(tuple((1, "foreground", path) for path in paths))


def _places(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    for inner in sorted(folder.iterdir()) if depth > 0 else []:
        if inner.is_dir() and not inner.name.startswith("."):
            yield from _places(inner, depth - 1)


def _unique_names(keys: list[Path], root: Path) -> dict[Path, str]:
    """Return path without suffix -> case: its name, with its folders where the name alone is not unique."""
    distinct = set(keys)
    folders: dict[str, set[Path]] = {}
    for key in distinct:
        folders.setdefault(key.name, set()).add(key.parent)
    return {
        key: key.name if len(folders[key.name]) == 1 else "_".join(key.relative_to(root).parts)
        for key in distinct
    }
