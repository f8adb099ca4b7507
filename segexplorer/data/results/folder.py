"""Predictions of any program: label files in a folder, or found by a pattern, beside labels of the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import existing_folder
from segexplorer.data.datasets.discovery import subfolders
from segexplorer.data.datasets.folder import IMAGE_FOLDERS, LABEL_FOLDERS, find_by_pattern
from segexplorer.data.results.base import (
    PREDICTION_FOLDERS,
    ResultListing,
    ResultRecognition,
    ResultsSpec,
    images_in,
    labels_in,
    put_together,
    registry,
    volumes_by_name,
)
from segexplorer.data.results.pairing import called_labels, label_files


@registry.register
class PredictionFolder(ResultsSpec):
    """A folder of predicted labels whose names are those of the labels, in any format.

    Words behind a case's name that say what a file is (`_pred`, `_seg`, `_mask`) make no difference. A pattern with
    `{case}` finds predictions in other places, e.g. `{case}/output/mask.nii.gz`. Labels and images without a place
    of their own are looked for in folders called labels and images, beside the folder or in the one above.
    """

    display_name = "Folder of predictions"
    layout: ClassVar[str] = "predictions/anna.nii.gz\nlabels/anna.nii.gz\nimages/anna.nii.gz"
    generality: ClassVar[int] = 3
    kind: Literal["prediction_folder"] = "prediction_folder"
    pattern: str = parameter(
        "",
        title="Pattern",
        description="Where the predictions are below the folder, with {case}, e.g. {case}/mask.nii.gz. Empty: "
        "files in the folder, or one in each of its subfolders.",
    )

    @classmethod
    def recognise(cls, folder: Path) -> list[ResultRecognition]:
        """Recognise label files, or a folder called predictions."""
        inner = {path.name.lower(): path for path in subfolders(folder)}
        named = next((inner[name] for name in PREDICTION_FOLDERS if name in inner), None)
        if named is not None and label_files(named):
            return [ResultRecognition("prediction_folder", named, f"a folder {named.name} with label files")]
        if not label_files(folder):
            return []
        return [ResultRecognition("prediction_folder", folder, "files that may be predicted labels")]

    def listing(self) -> ResultListing:
        """Return the predictions by name, with labels and images of the same names."""
        folder = existing_folder(self.root, "results")
        problems: list[Problem] = []
        predictions: dict[str, Source] = {}
        if self.pattern:
            predictions = find_by_pattern(folder, self.pattern, {})
        else:
            for case, paths in label_files(folder).items():
                called = called_labels([p for p in paths if p.suffix != ".npz"] or paths)
                if len(called) > 1:
                    names = " and ".join(path.name for path in called[:3])
                    text = f"{names} could both be its prediction."
                    problems.append(Problem("error", "ambiguous", text, "Keep one, or give a pattern.", case))
                else:
                    predictions[case] = called[0]
        ambiguous = {problem.case for problem in problems}
        label_place = self.labels or _beside(folder, LABEL_FOLDERS)
        image_place = self.images or _beside(folder, IMAGE_FOLDERS)
        truths = labels_in(label_place) if label_place else {}
        truths = {case: label for case, label in truths.items() if case not in ambiguous}
        images = images_in(image_place, list(predictions)) if image_place else {}
        archives = {
            case: path.with_name(f"{case}.npz")
            for case, path in predictions.items()
            if isinstance(path, Path) and path.with_name(f"{case}.npz").is_file() and path.suffix != ".npz"
        }
        cases, alone = put_together(predictions, truths, images, probabilities=archives, where=folder)
        return ResultListing(cases, (*problems, *alone))


def _beside(folder: Path, names: tuple[str, ...]) -> str:
    """Return a folder of one of the names beside another, or inside it; "" where there is none."""
    for place in (folder, folder.resolve().parent):
        inner = {path.name.lower(): path for path in subfolders(place)}
        found = next((inner[name] for name in names if name in inner and inner[name] != folder), None)
        if found is not None and volumes_by_name(found):
            return str(found)
    return ""
