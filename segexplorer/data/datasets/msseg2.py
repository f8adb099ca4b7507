"""MSSEG-2, new lesions of multiple sclerosis (Commowick 2021): two FLAIR time points and a consensus label."""

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
    with_all_channels,
    without,
)

_FLAIR = re.compile(r"flair_time0([12])_on_middle_space")
_DEPTH = 3


@registry.register
class Msseg2(DatasetSpec):
    """One folder per patient: both FLAIR images in their middle space become channels, first visit first.

    The label marks lesions that are new at the second visit; a patient without any has an empty one. Beside the
    consensus there is the label of each of four experts.
    """

    display_name = "MSSEG-2"
    layout: ClassVar[str] = (
        "training/013/flair_time01_on_middle_space.nii.gz\ntraining/013/flair_time02_on_middle_space.nii.gz\n"
        "training/013/ground_truth.nii.gz\ntraining/013/ground_truth_expert1.nii.gz"
    )
    kind: Literal["msseg2"] = "msseg2"
    root: str = parameter(
        title="Folder", meaning="The folder of the patients, or the one above.", path="folder"
    )
    reader: Literal["consensus", "expert1", "expert2", "expert3", "expert4"] = parameter(
        "consensus", title="Reader", meaning="Whose label is learned."
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise flair_time01_on_middle_space in a folder per patient."""
        found = any(
            _FLAIR.fullmatch(stem(path) or "")
            for path in files_below(folder, reach(folder, "training", "testing"))
        )
        return Recognition("msseg2", folder, "flair_time01_on_middle_space files") if found else None

    def listing(self) -> Listing:
        """Return the patients."""
        root = existing_folder(self.root)
        wanted = "ground_truth" + ("" if self.reader == "consensus" else f"_{self.reader}")
        visits: tuple[dict[str, Source], dict[str, Source]] = ({}, {})
        labels: dict[str, Source] = {}
        for path in files_below(root, _DEPTH):
            name, case = stem(path) or "", path.parent.name
            if match := _FLAIR.fullmatch(name):
                visits[int(match[1]) - 1][case] = path
            elif name == wanted:
                labels[case] = path
        images, problems = with_all_channels(visits, ("first visit", "second visit"))
        found = put_together(images, without(labels, problems), root)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the new lesions."""
        return {"new lesion": (1,)}
