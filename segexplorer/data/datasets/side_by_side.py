"""Image and mask side by side, told apart by an ending: `0001.png` and `0001_mask.png` (BUSI and many others)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import files_below, put_together, stem
from segexplorer.data.datasets.patients import Pattern, patient_by
from segexplorer.data.sources import Structures

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
    kind: Literal["side_by_side"] = "side_by_side"
    root: str = parameter(title="Folder", meaning="The folder of the files.", path="folder")
    ending: str = parameter(
        "_mask",
        title="Ending",
        meaning="What a label's name has behind the name of its image.",
        min_length=1,
    )
    image_ending: str = parameter(
        "",
        title="Ending of images",
        meaning="What an image's name has behind the name of its case, e.g. _image; other files are passed over.",
        advanced=True,
    )
    patient_pattern: Pattern = parameter(
        "",
        title="Patient pattern",
        meaning="Regular expression for the patient in a case's name, e.g. ^(\\w+)_; empty: every case is one.",
        advanced=True,
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise files whose name with one of the usual endings is there too."""
        for place in _places(folder, _DEPTH):
            names = {name for path in files_below(place, 0) if (name := stem(path))}
            for image_ending, ending in product(IMAGE_ENDINGS, ENDINGS):
                found = (name.removesuffix(ending) for name in sorted(names) if name.endswith(ending))
                case = next((head for head in found if head and head + image_ending in names), None)
                if case is not None:
                    reason = f"{case}{ending} beside {case}{image_ending}"
                    settings = {"ending": ending, "image_ending": image_ending}
                    return Recognition("side_by_side", folder, reason, settings)
        return None

    def listing(self) -> Listing:
        """Return the cases."""
        root = existing_folder(self.root)
        images: dict[Path, Path] = {}
        masks: dict[Path, list[Path]] = {}
        for path in files_below(root, _DEPTH):
            if (name := stem(path)) is None:
                continue
            head, found, number = name.rpartition(self.ending)
            if found and head and (not number or number.lstrip("_-").isdigit()):
                masks.setdefault(path.parent / head, []).append(path)
            elif name.endswith(self.image_ending) and (case := name.removesuffix(self.image_ending)):
                if (twin := images.get(path.parent / case)) is not None:
                    raise DataError(
                        f"{twin.name} and {path.name} in {path.parent} have one name.", "Keep one."
                    )
                images[path.parent / case] = path
        names = _unique_names([*images, *masks], root)
        labels: dict[str, Source] = {names[key]: _one_label(paths) for key, paths in masks.items()}
        together = {names[key]: (path,) for key, path in images.items()}
        return put_together(together, labels, root, lambda case: patient_by(self.patient_pattern, case))


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
