"""Labels of one file per structure, put together in a stated order (PDDCA, TotalSegmentator's own folders)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.discovery import put_together, stem, subfolders, volume_files
from segexplorer.data.sources import MOST_TOGETHER, Structures, sums_with

PDDCA = (
    "BrainStem",
    "Chiasm",
    "Mandible",
    "OpticNerve_L",
    "OpticNerve_R",
    "Parotid_L",
    "Parotid_R",
    "Submandibular_L",
    "Submandibular_R",
)
"""Structures of the head-and-neck challenge of MICCAI 2015; a structure's value is its place here, from 1."""


class _StructureFolders(DatasetSpec):
    """A folder per case with an image and a folder of structures."""

    order: tuple[str, ...] = parameter(
        (),
        title="Order of overlap",
        description="Structures in the order of painting: where two overlap, the later one wins, unless classes "
        "overlap. Empty: all, by name.",
    )

    def _folder(self) -> Path:
        raise NotImplementedError

    def _names(self) -> tuple[str, str]:
        """Return the image's name without suffix and the name of the folder of structures."""
        raise NotImplementedError

    def _values(self, present: set[str]) -> dict[str, int]:
        """Return structure -> value for those present."""
        return {name: value for value, name in enumerate(sorted(present), start=1)}

    def listing(self) -> Listing:
        """Return the cases; what is not drawn in a case is said, for it counts as background there."""
        root = self._folder()
        image_name, inner = self._names()
        images: dict[str, tuple[Source, ...]] = {}
        drawn: dict[str, dict[str, Path]] = {}
        for folder in case_folders(root, image_name, inner):
            if (image := volume_files(folder).get(image_name)) is not None:
                images[folder.name] = (image,)
            if (folder / inner).is_dir():
                drawn[folder.name] = volume_files(folder / inner)
        present = {name for files in drawn.values() for name in files}
        order, values = self._order(present), self._values(present)
        if self.overlapping:
            values = self._bits(present)
        labels = {
            case: structures(files, order, values, together=self.overlapping) for case, files in drawn.items()
        }
        found = put_together(images, {c: label for c, label in labels.items() if label is not None}, root)
        return Listing(found.cases, [*found.problems, *_undrawn(drawn, order)])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the structures that are painted."""
        _, inner = self._names()
        folders = case_folders(self._folder(), *self._names())
        present = {name for f in folders if (f / inner).is_dir() for name in volume_files(f / inner)}
        values = self._values(present)
        return {name: (values[name],) for name in sorted(self._order(present), key=values.__getitem__)}

    def class_values(self) -> dict[str, tuple[int, ...]]:
        """Return the chosen classes with their label values; where they overlap, all sums that hold them."""
        chosen = super().class_values()
        if not self.overlapping:
            return chosen
        _, inner = self._names()
        folders = case_folders(self._folder(), *self._names())
        present = {name for f in folders if (f / inner).is_dir() for name in volume_files(f / inner)}
        values, bits = self._values(present), self._bits(present)
        found = {}
        for name, group in chosen.items():
            own = sum(bit for structure, bit in bits.items() if values[structure] in group)
            found[name] = sums_with(own, len(bits))
        return found

    def as_setting(self, classes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the classes by the values of their structures, of which the values of the label are sums."""
        chosen = super().class_values() if self.overlapping else classes
        return {name: values for name, values in chosen.items() if name in classes}

    def _bits(self, present: set[str]) -> dict[str, int]:
        """Return structure -> power of 2, so that a voxel of several structures has a value of its own.

        Raises
        ------
        DataError
            When there are too many for the values of a label.
        """
        order = self._order(present)
        if len(order) > MOST_TOGETHER:
            raise DataError(
                f"{len(order)} structures are too many to overlap: their combinations have no values.",
                f"Name at most {MOST_TOGETHER} in data.order, or set data.overlapping: false.",
            )
        return {name: 2**place for place, name in enumerate(order)}

    def _order(self, present: set[str]) -> tuple[str, ...]:
        for name in self.order:
            if name not in present:
                raise DataError(f"No case has a structure {name!r}.", did_you_mean(name, sorted(present)))
        values = self._values(present)
        return self.order or tuple(sorted(present, key=values.__getitem__))


@registry.register
class Pddca(_StructureFolders):
    """`0522c0001/img.nrrd` and `0522c0001/structures/BrainStem.nrrd`: the head-and-neck set of Raudaschl 2017.

    Not every structure is drawn in every patient; `segexplorer check` names those that are not.
    """

    display_name = "PDDCA"
    layout: ClassVar[str] = (
        "0522c0001/img.nrrd\n0522c0001/structures/BrainStem.nrrd\n0522c0001/structures/Parotid_L.nrrd"
    )
    kind: Literal["pddca"] = "pddca"
    root: str = parameter(
        title="Folder", description="The folder of the patients, or the one above.", path="folder"
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise img beside structures with some of the nine names."""
        first = next(iter(case_folders(folder, "img", "structures")), None)
        if first is None or not set(PDDCA) & set(volume_files(first / "structures")):
            return None
        return Recognition("pddca", folder, f"{first.name} with img and the nine structures of PDDCA")

    def _folder(self) -> Path:
        return existing_folder(self.root)

    def _names(self) -> tuple[str, str]:
        return "img", "structures"

    def _values(self, present: set[str]) -> dict[str, int]:
        extra = sorted(present - set(PDDCA))
        return {name: value for value, name in enumerate((*PDDCA, *extra), start=1) if name in present}


@registry.register
class StructureFiles(_StructureFolders):
    """A folder per case with an image and a folder of masks, one per structure, as TotalSegmentator writes them."""

    display_name = "One file per structure"
    layout: ClassVar[str] = (
        "s0000/ct.nii.gz\ns0000/segmentations/liver.nii.gz\ns0000/segmentations/spleen.nii.gz"
    )
    generality: ClassVar[int] = 1
    kind: Literal["structure_files"] = "structure_files"
    root: str = parameter(title="Folder", description="The folder of the cases.", path="folder")
    image: str = parameter(
        "ct", title="Image", description="Name of the image file, without suffix.", min_length=1
    )
    structures: str = parameter(
        "segmentations", title="Structures", description="Name of the folder of masks.", min_length=1
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise one image beside a folder segmentations, structures or masks."""
        for inner in ("segmentations", "structures", "masks"):
            first = next((f for f in subfolders(folder) if (f / inner).is_dir()), None)
            names = list(volume_files(first)) if first is not None else []
            if first is not None and len(names) == 1 and volume_files(first / inner):
                reason = f"{first.name} with {names[0]} and a folder {inner}"
                return Recognition(
                    "structure_files", folder, reason, {"image": names[0], "structures": inner}
                )
        return None

    def _folder(self) -> Path:
        return existing_folder(self.root)

    def _names(self) -> tuple[str, str]:
        return self.image, self.structures


def case_folders(root: Path, image: str, inner: str, depth: int = 2) -> list[Path]:
    """Return the folders below that hold an image of that name or a folder of structures."""
    found: list[Path] = []
    for folder in subfolders(root):
        if (folder / inner).is_dir() or any(stem(p) == image for p in folder.iterdir() if p.is_file()):
            found.append(folder)
        elif depth > 1:
            found += case_folders(folder, image, inner, depth - 1)
    return sorted(found)


def structures(
    files: Mapping[str, Path], order: Sequence[str], values: Mapping[str, int], *, together: bool = False
) -> Structures | None:
    """Return the label of a case: its structures in the order of painting; None when it has none of them."""
    parts = tuple((values[name], name, files[name]) for name in order if name in files)
    return Structures(parts, together) if parts else None


def _undrawn(drawn: Mapping[str, Mapping[str, Path]], order: Sequence[str]) -> list[Problem]:
    problems = []
    for case, files in sorted(drawn.items()):
        if missing := [name for name in order if name not in files]:
            text = f"Not drawn, so counted as background: {', '.join(missing)}."
            remedy = "Leave the case out, or choose classes that every case has."
            problems.append(Problem("warning", "not_drawn", text, remedy, case))
    return problems
