"""KiTS, the kidney tumour segmentation challenge (Heller 2019): `case_00000/imaging.nii.gz`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import put_together, subfolders, volume_files

_CASE = re.compile(r"case_\d{5}")
_LABELS = ("segmentation", "aggregated_MAJ_seg")
"""Of KiTS19 and KiTS23, and of KiTS21 (majority of the annotators)."""


@registry.register
class Kits(DatasetSpec):
    """One folder per case with `imaging` and `segmentation`; cases from 210 on of KiTS19 have no label.

    KiTS21 and KiTS23, which also mark cysts as 3, are read too: set `classes` to learn these.
    """

    display_name = "KiTS19"
    layout: ClassVar[str] = "case_00000/imaging.nii.gz\ncase_00000/segmentation.nii.gz"
    kind: Literal["kits"] = "kits"
    root: str = parameter(
        title="Folder", meaning="The folder that holds case_00000 and so on, or the one above.", path="folder"
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise folders like case_00000 with an imaging file."""
        first = next((f for f in subfolders(folder) if _CASE.fullmatch(f.name)), None)
        if first is None or "imaging" not in volume_files(first):
            return None
        return Recognition("kits", folder, f"{first.name} with a file imaging")

    def listing(self) -> Listing:
        """Return the cases; those without segmentation can be predicted."""
        root = existing_folder(self.root)
        images: dict[str, tuple[Source, ...]] = {}
        labels: dict[str, Source] = {}
        inner = (folder for name in ("data", "dataset") if (folder := root / name).is_dir())
        for folder in (f for place in (root, *inner) for f in subfolders(place)):
            if not _CASE.fullmatch(folder.name):
                continue
            files = volume_files(folder)
            if "imaging" in files:
                images[folder.name] = (files["imaging"],)
            if label := next((files[name] for name in _LABELS if name in files), None):
                labels[folder.name] = label
        return put_together(images, labels, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return kidney and tumour."""
        return {"kidney": (1,), "tumour": (2,)}
