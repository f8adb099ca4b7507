"""Results with a file per structure and a folder per case, as TotalSegmentator writes them.

```
s0011/liver.nii.gz, s0011/spleen.nii.gz ...     TotalSegmentator -i ct.nii.gz -o s0011
s0011/segmentations/liver.nii.gz ...            its published data set (Wasserthal 2023), beside s0011/ct.nii.gz
```

With `--ml` TotalSegmentator writes one label file, whose names are in an extension of its header (read with the
file, `data/formats/nifti.py`); a folder of such files is of the kind `prediction_folder`. Names were read in
TotalSegmentator 2.18.0: `totalsegmentator/nnunet.py`, `nifti_ext_header.py`, `statistics.py` (`statistics.json`).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import existing_folder
from segexplorer.data.datasets.discovery import is_label_name, subfolders
from segexplorer.data.datasets.folder import IMAGE_FOLDERS, LABEL_FOLDERS
from segexplorer.data.results.base import (
    PREDICTION_FOLDERS,
    ResultListing,
    ResultRecognition,
    ResultsSpec,
    images_in,
    labels_in,
    put_together,
    registry,
    structure_files,
    structures_of,
    volumes_by_name,
)

USUAL = frozenset(
    (
        "liver",
        "spleen",
        "aorta",
        "stomach",
        "pancreas",
        "heart",
        "brain",
        "esophagus",
        "kidney_left",
        "kidney_right",
    )
)
"""Some structures of TotalSegmentator's tasks "total" and "total_mr": a folder with three of them is one case,
where a folder of other names is one of predictions, a file per case."""
STATISTICS = "statistics.json"
"""What TotalSegmentator writes beside its masks with --statistics."""


@registry.register
class StructureResults(ResultsSpec):
    """A folder per case with a mask per structure, as TotalSegmentator writes them; or the folder of one case.

    Structures are numbered by name over all cases. Labels may be masks of the same names, or label files that name
    their values, which are then compared by name.
    """

    display_name = "One file per structure (TotalSegmentator)"
    layout: ClassVar[str] = "s0011/liver.nii.gz\ns0011/spleen.nii.gz\ns0011/statistics.json"
    generality: ClassVar[int] = 2
    kind: Literal["structure_results"] = "structure_results"

    @classmethod
    def recognise(cls, folder: Path) -> list[ResultRecognition]:
        """Recognise a folder of masks, or folders of masks with names in common."""
        inner = subfolders(folder)
        if {path.name.lower() for path in inner} & {*IMAGE_FOLDERS, *LABEL_FOLDERS, *PREDICTION_FOLDERS}:
            return []  # cases that have the same names in every folder
        own = _masks(folder)
        if own is not None and (len(USUAL & set(own)) > 2 or (folder / STATISTICS).is_file()):
            names = ", ".join(list(own)[:3])
            return [ResultRecognition("structure_results", folder, f"one file per structure ({names} ...)")]
        cases = {path.name: masks for path in inner if (masks := _masks(path))}
        if not cases:
            return []
        shared = set.intersection(*(set(masks) for masks in cases.values()))
        if not shared and len(cases) > 1:
            return []
        names = ", ".join(sorted(shared)[:3])
        return [
            ResultRecognition(
                "structure_results", folder, f"folders with one file per structure ({names} ...)"
            )
        ]

    def listing(self) -> ResultListing:
        """Return the cases; a structure that a case has no file of counts as not predicted there."""
        folder = existing_folder(self.root, "results")
        cases = {inner.name: masks for inner in subfolders(folder) if (masks := _masks(inner))}
        if not cases and (own := _masks(folder)) is not None:
            cases = {folder.resolve().name: own}
        names = sorted({name for masks in cases.values() for name in masks})
        predictions: dict[str, Source] = {case: structures_of(masks, names) for case, masks in cases.items()}
        truths = labels_in(self.labels) if self.labels else {}
        images = (
            images_in(self.images, list(predictions)) if self.images else _beside(folder, list(predictions))
        )
        found, problems = put_together(predictions, truths, images, where=folder)
        for case, masks in sorted(cases.items()):
            if missing := [name for name in names if name not in masks]:
                listed = ", ".join(missing[:5]) + (
                    f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                )
                text = f"It has no file of {listed}, which counts as nothing predicted."
                problems.append(Problem("note", "no_file", text, "", case))
        return ResultListing(found, tuple(problems))


def _masks(folder: Path) -> dict[str, Path] | None:
    """Return structure -> file of a case's folder; an image beside the masks is none of them."""
    found = structure_files(folder)
    if found is None:
        return None
    masks = {name: path for name, path in found.items() if name.lower() not in _IMAGES}
    return masks or None


_IMAGES = ("ct", "mri", "mr", "image", "img", "input")
"""Names of an image that is kept beside its masks."""


def _beside(folder: Path, cases: list[str]) -> dict[str, tuple[Source, ...]]:
    """Return the image in each case's own folder."""
    found: dict[str, tuple[Source, ...]] = {}
    for case in cases:
        place = folder / case if (folder / case).is_dir() else folder
        files = {
            n: p for n, p in volumes_by_name(place).items() if n.lower() in _IMAGES and not is_label_name(p)
        }
        if len(files) == 1:
            found[case] = (next(iter(files.values())),)
    return found
