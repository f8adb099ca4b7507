"""Results of nnU-Net v2: validation folders of trainings, and folders of predictions.

```
nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres/
  dataset.json, plans.json
  fold_0/validation/hippocampus_017.nii.gz, hippocampus_017.npz (with --npz), summary.json
```

`nnUNetv2_predict` writes `case.nii.gz` and copies of `dataset.json` and `plans.json` beside
`predict_from_raw_data_args.json`. The reference labels of a validation are in
`nnUNet_preprocessed/DATASET/gt_segmentations`, which is also what `summary.json` names; images are in
`nnUNet_raw/DATASET/imagesTr`, one file per channel.

Names were read in nnunetv2 2.8.1: `training/nnUNetTrainer/nnUNetTrainer.py` (`perform_actual_validation`),
`inference/export_prediction.py` (the array `probabilities` of an .npz), `inference/predict_from_raw_data.py`,
`evaluation/evaluate_predictions.py` (`summary.json`), `utilities/file_path_utilities.py` (names of folders) and
`paths.py` (the variables nnUNet_raw, nnUNet_preprocessed, nnUNet_results). nnU-Net: Isensee 2021.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.data.case import IGNORE, Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import existing_folder
from segexplorer.data.datasets.discovery import subfolders
from segexplorer.data.datasets.manifest import MANIFEST, label_values, read_manifest
from segexplorer.data.datasets.tables import read_document, read_object
from segexplorer.data.results.base import (
    NO_PREDICTION,
    ResultListing,
    ResultRecognition,
    ResultsSpec,
    images_in,
    labels_in,
    put_together,
    registry,
    volumes_by_name,
)

SUMMARY = "summary.json"
PREDICTED = "predict_from_raw_data_args.json"
"""What `nnUNetv2_predict` leaves beside its predictions."""
FOLD = re.compile(r"fold_(\d+|all)")
DATASET = re.compile(r"Dataset\d{3}_.+")
TRAINED = "training case, not held out"
"""Badge of the cases of fold_all, which trains on every case and validates on the same ones."""


@registry.register
class NnUnetResults(ResultsSpec):
    """A training of nnU-Net v2 (all its folds together), one fold, or a folder of its predictions.

    Every case of a cross-validation validates in one fold, so that folds of one training are one result set. Labels
    and images are looked for in `nnUNet_preprocessed` and `nnUNet_raw`: where the variables of these names lead,
    beside `nnUNet_results`, and where `summary.json` says. Regions are scored as nnU-Net does, each as the union of
    its labels.
    """

    display_name = "nnU-Net results"
    layout: ClassVar[str] = (
        "Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres/dataset.json\n"
        ".../fold_0/validation/hippocampus_017.nii.gz\n"
        ".../fold_0/validation/hippocampus_017.npz\n"
        ".../fold_0/validation/summary.json"
    )
    kind: Literal["nnunet_results"] = "nnunet_results"

    @classmethod
    def recognise(cls, folder: Path) -> list[ResultRecognition]:
        """Recognise folders fold_N/validation, of one training or several, or predictions beside dataset.json."""
        if (folder / PREDICTED).is_file() and (folder / MANIFEST).is_file():
            return [ResultRecognition("nnunet_results", folder, f"{PREDICTED} beside dataset.json")]
        if folder.name == "validation" and FOLD.fullmatch(folder.parent.name):
            return [ResultRecognition("nnunet_results", folder, f"a folder {folder.parent.name}/validation")]
        if FOLD.fullmatch(folder.name) and (folder / "validation").is_dir():
            return [ResultRecognition("nnunet_results", folder, "a folder validation in a fold")]
        if folds := _folds(folder):
            names = ", ".join(fold.name for fold in folds)
            return [ResultRecognition("nnunet_results", folder, f"folders {names} with a folder validation")]
        if (folder / SUMMARY).is_file() and _names_cases(folder / SUMMARY):
            return [ResultRecognition("nnunet_results", folder, "a summary.json with metric_per_case")]
        inner = subfolders(folder)
        if len(inner) > _MOST_SUBFOLDERS:
            return []
        # a data set's folder holds a training per configuration, nnUNet_results a folder per data set
        below = [f for f in inner if DATASET.fullmatch(f.name) or "__" in f.name]
        return [found for one in below for found in cls.recognise(one)]

    @property
    def title(self) -> str:
        """Trainer, plans and configuration; with the fold where it is one alone."""
        folder = existing_folder(self.root, "results").resolve()
        parts = folder.parts[-3:] if folder.name == "validation" else folder.parts[-2:]
        named = [part for part in parts if "__" in part or FOLD.fullmatch(part)]
        return ", ".join(named) if named else folder.name

    def listing(self) -> ResultListing:
        """Return the predictions of all folds, with the labels and images that belong to them."""
        folder = existing_folder(self.root, "results")
        manifest = _manifest(folder)
        ending = str(manifest.get("file_ending", ""))
        predictions: dict[str, Source] = {}
        probabilities: dict[str, Path] = {}
        badges: dict[str, str] = {}
        problems: list[Problem] = []
        # a fold of all cases is a training set: only where there is nothing else
        places = _places(folder)
        for place in places:
            for case, path in volumes_by_name(place, ending).items():
                if path.suffix == ".npz":
                    continue
                if case in predictions:
                    text = f"It is predicted in {place.parent.name} too; that prediction is left out."
                    problems.append(Problem("warning", "twice", text, "Open the folds one by one.", case))
                    continue
                predictions[case] = path
                if (archive := place / f"{case}.npz").is_file():
                    probabilities[case] = archive
                if place.parent.name == "fold_all":
                    badges[case] = TRAINED
        name = _dataset_name(folder)
        truths = (
            labels_in(self.labels)
            if self.labels
            else _found_labels(folder, places, name, predictions, ending)
        )
        if not self.labels:
            truths = {case: label for case, label in truths.items() if case in predictions}
        images = (
            images_in(self.images, list(predictions))
            if self.images
            else _found_images(folder, name, predictions)
        )
        cases, alone = put_together(
            predictions, truths, images, probabilities=probabilities, badges=badges, where=folder
        )
        named = label_values(manifest, folder) if manifest.get("labels") else {}
        return ResultListing(
            cases,
            (*problems, *alone, *_folds_problems(places), *_not_validated(folder, places, name, predictions)),
            {n: v for n, v in named.items() if v != (0,) and n != IGNORE},
            named.get(IGNORE, ()),
            _notes(badges),
        )


_MOST_SUBFOLDERS = 200
"""nnUNet_results with more data sets than this is opened one data set at a time."""


def _folds(folder: Path) -> list[Path]:
    found = [f for f in subfolders(folder) if FOLD.fullmatch(f.name) and (f / "validation").is_dir()]
    numbered = [f for f in found if f.name != "fold_all"]
    return numbered or found


def _places(folder: Path) -> list[Path]:
    """Return the folders that hold predictions."""
    if FOLD.fullmatch(folder.name):
        return [folder / "validation"]
    return [fold / "validation" for fold in _folds(folder)] or [folder]


def _manifest(folder: Path) -> Mapping[str, Any]:
    """Return the nearest dataset.json: in the folder, or in the training's folder above a fold."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / MANIFEST).is_file():
            return read_manifest(place)
    return {}


def _dataset_name(folder: Path) -> str:
    """Return the data set's name: from plans.json, else from the path; "" where neither says."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / "plans.json").is_file():
            name = str(read_object(place / "plans.json").get("dataset_name", ""))
            if DATASET.fullmatch(name) and Path(name).name == name:
                return name
    return next((part for part in reversed(folder.resolve().parts) if DATASET.fullmatch(part)), "")


def _roots(folder: Path, variable: str) -> list[Path]:
    """Return where nnUNet_raw or nnUNet_preprocessed may be: what the variable names, then beside the results."""
    given = os.environ.get(variable, "")
    places = [Path(given).expanduser()] if given else []
    places += [parent / variable for parent in folder.resolve().parents]
    return [place for place in places if place.is_dir()]


def _found_labels(
    folder: Path, places: list[Path], name: str, predictions: Mapping[str, Source], ending: str
) -> dict[str, Source]:
    """Return the labels where nnU-Net keeps them; test labels only for cases that have no training label."""
    found: dict[str, Source] = {}
    candidates = [root / name / "gt_segmentations" for root in _roots(folder, "nnUNet_preprocessed") if name]
    candidates += [
        root / name / part
        for root in _roots(folder, "nnUNet_raw")
        if name
        for part in ("labelsTr", "labelsTs")
    ]
    for candidate in candidates:
        if candidate.is_dir():
            for case, path in volumes_by_name(candidate, ending).items():
                found.setdefault(case, path)
    if not set(found) & set(predictions):
        for place in places:
            found |= _from_summary(place / SUMMARY)
    return found


def _from_summary(path: Path) -> dict[str, Source]:
    """Return the reference files that a summary names and that are there."""
    if not path.is_file():
        return {}
    found: dict[str, Source] = {}
    for row in _rows(path):
        prediction, reference = (Path(str(row.get(key, ""))) for key in ("prediction_file", "reference_file"))
        case = next(
            (prediction.name.removesuffix(e) for e in (".nii.gz",) if prediction.name.endswith(e)),
            prediction.stem,
        )
        if case and reference.is_absolute() and reference.is_file():
            found[case] = reference
    return found


def _rows(path: Path) -> list[Mapping[str, Any]]:
    rows = read_object(path).get("metric_per_case", [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _names_cases(path: Path) -> bool:
    try:
        return bool(_rows(path))
    except DataError:
        return False


def _found_images(
    folder: Path, name: str, predictions: Mapping[str, Source]
) -> dict[str, tuple[Source, ...]]:
    found: dict[str, tuple[Source, ...]] = {}
    for root in _roots(folder, "nnUNet_raw") if name else []:
        for part in ("imagesTr", "imagesTs"):
            if (root / name / part).is_dir():
                for case, images in images_in(str(root / name / part), list(predictions)).items():
                    found.setdefault(case, images)
    return found


def _folds_problems(places: list[Path]) -> list[Problem]:
    numbers = sorted(int(m[1]) for p in places if (m := re.fullmatch(r"fold_(\d+)", p.parent.name)))
    if len(numbers) < 2:
        return []
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers))
    if not missing:
        return []
    verb = "has" if len(missing) == 1 else "have"
    text = f"Of the folds 0 to {numbers[-1]}, {', '.join(map(str, missing))} {verb} no validation."
    return [
        Problem(
            "warning", "fold_missing", text, "Train or validate them, or read the mean as one of these folds."
        )
    ]


def _not_validated(
    folder: Path, places: list[Path], name: str, predictions: Mapping[str, Source]
) -> list[Problem]:
    """Return the cases that a fold should have predicted and has not, where splits_final.json is at hand."""
    splits = [root / name / "splits_final.json" for root in _roots(folder, "nnUNet_preprocessed") if name]
    file = next((path for path in splits if path.is_file()), None)
    content = read_document(file) if file is not None else []
    expected: list[str] = []
    for place in places:
        number = re.fullmatch(r"fold_(\d+)", place.parent.name)
        if number and isinstance(content, list) and int(number[1]) < len(content):
            split = content[int(number[1])]
            expected += [str(case) for case in split.get("val", [])] if isinstance(split, dict) else []
    return [
        Problem("error", "no_prediction", "Its fold has no prediction of it.", NO_PREDICTION, case)
        for case in sorted(set(expected) - set(predictions))
    ]


def _notes(badges: Mapping[str, str]) -> tuple[str, ...]:
    if not badges:
        return ()
    return (
        "fold_all trains on every case and validates on the same ones: these scores are of training cases.",
    )
