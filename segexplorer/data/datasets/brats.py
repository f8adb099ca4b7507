"""BraTS, the brain tumour segmentation challenge (Menze 2015, Bakas 2018): four MR sequences and a label each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import (
    files_below,
    put_together,
    reach,
    stem,
    volumes_named,
    with_all_channels,
    without,
)

SEQUENCES = ("flair", "t1", "t1ce", "t2")
_SAME = {"t2f": "flair", "t1n": "t1", "t1c": "t1ce", "t2w": "t2"}
"""Names since 2023 -> names until 2021."""
_FILE = r"(?P<case>BraTS.*?)[_-](?P<part>flair|t1|t1ce|t2|t1n|t1c|t2w|t2f|seg)"
_DEPTH = 3


@registry.register
class Brats(DatasetSpec):
    """One folder per case with FLAIR, T1, T1 after contrast and T2, co-registered, and `_seg`.

    Label 4 is enhancing tumour until 2021, 3 since 2023; 3 was never used before. Of BraTS20_Training_355, whose
    label was published under another name (W39_1998.09.19_Segm.nii), that file is taken.
    """

    display_name = "BraTS"
    layout: ClassVar[str] = (
        "BraTS20_Training_001/BraTS20_Training_001_flair.nii\nBraTS20_Training_001/BraTS20_Training_001_t1.nii\n"
        "BraTS20_Training_001/BraTS20_Training_001_t1ce.nii\nBraTS20_Training_001/BraTS20_Training_001_t2.nii\n"
        "BraTS20_Training_001/BraTS20_Training_001_seg.nii"
    )
    kind: Literal["brats"] = "brats"
    root: str = parameter(
        title="Folder", meaning="The folder that holds the folders of the cases.", path="folder"
    )
    sequences: tuple[Literal["flair", "t1", "t1ce", "t2"], ...] = parameter(
        SEQUENCES, title="Sequences", meaning="Which become channels, in this order.", min_length=1
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise files such as BraTS20_Training_001_flair.nii in a folder per case."""
        match = next((m for m, _ in volumes_named(folder, _FILE, reach(folder, "hgg", "lgg"))), None)
        return match and Recognition("brats", folder, f"files like {match[0]}")

    def listing(self) -> Listing:
        """Return the cases; those without label (the validation set) can be predicted."""
        root = existing_folder(self.root)
        parts: dict[str, dict[str, Source]] = {name: {} for name in (*SEQUENCES, "seg")}
        for match, path in volumes_named(root, _FILE, _DEPTH):
            parts[_SAME.get(match["part"], match["part"])][match["case"]] = path
        labels = parts["seg"]
        for case, image in parts["flair"].items():
            if case not in labels and isinstance(image, Path) and (odd := _other_label(image.parent)):
                labels[case] = odd
        names = [f"{name} image" for name in self.sequences]
        images, problems = with_all_channels([parts[name] for name in self.sequences], names)
        found = put_together(images, without(labels, problems), root, patient_of)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the three parts of a tumour."""
        late = any(m["part"] in _SAME for m, _ in volumes_named(existing_folder(self.root), _FILE, _DEPTH))
        return {"necrotic core": (1,), "oedema": (2,), "enhancing tumour": (3 if late else 4,)}


def patient_of(case: str) -> str:
    """Return the patient of a case: BraTS-GLI-00003-001 and BraTS19_CBICA_AAB_1 name a time point last."""
    return re.sub(r"(?<=-\d{5})-\d{3}$", "", re.sub(r"^(BraTS1[789]_.+)_\d$", r"\1", case))


def _other_label(folder: Path) -> Path | None:
    return next((p for p in files_below(folder, 0) if (stem(p) or "").lower().endswith("_segm")), None)
