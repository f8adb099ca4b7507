"""Small result folders in the layouts of other programs, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def label(case: int, *, moved: int = 0) -> NDArray[np.uint8]:
    """Return two boxes, 1 and 2; `moved` shifts the second one by that many voxels."""
    voxels = np.zeros((16, 12, 10), np.uint8)
    voxels[2:6, 2:8, 2 : 6 + case % 3] = 1
    voxels[8 + moved : 12 + moved, 2:8, 2:6] = 2
    return voxels


def write(path: Path, voxels: NDArray[np.uint8], names: Mapping[int, str] | None = None) -> Path:
    """Write a label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = Volume.from_array(voxels, affine=AFFINE)
    return save_volume(volume, path, integer=True, names=names or {})


def write_image(path: Path, voxels: NDArray[np.uint8]) -> Path:
    """Write an image in which the label can be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_volume(Volume.from_array(100.0 * voxels.astype(np.float32), affine=AFFINE), path)


LABELS = {"background": 0, "anterior": 1, "posterior": 2}


def nnunet(base: Path, cases: int = 4, *, folds: int = 2, labels: Mapping[str, object] = LABELS) -> Path:
    """Write a cross-validation of nnU-Net v2 and return its trainer folder.

    Case n of "hippo_00n" is moved by n voxels, so that the last one is the worst.
    """
    name = "Dataset004_Hippo"
    training = base / "nnUNet_results" / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    manifest = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    training.mkdir(parents=True)
    (training / "dataset.json").write_text(json.dumps(manifest))
    (training / "plans.json").write_text(json.dumps({"dataset_name": name}))
    splits: list[dict[str, list[str]]] = [{"train": [], "val": []} for _ in range(folds)]
    for n in range(cases):
        case, fold = f"hippo_{n:03}", n % folds
        splits[fold]["val"].append(case)
        place = training / f"fold_{fold}" / "validation"
        prediction = label(n, moved=n)
        write(place / f"{case}.nii.gz", prediction)
        channels = np.stack([prediction == value for value in range(3)]).astype(np.float16)
        np.savez_compressed(place / f"{case}.npz", probabilities=channels.transpose(0, 3, 2, 1))
        (place / f"{case}.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        preprocessed = base / "nnUNet_preprocessed" / name
        write(preprocessed / "gt_segmentations" / f"{case}.nii.gz", label(n))
        write_image(base / "nnUNet_raw" / name / "imagesTr" / f"{case}_0000.nii.gz", label(n))
    for fold in range(folds):
        rows = [
            {
                "prediction_file": f"/data/{case}.nii.gz",
                "reference_file": f"/data/gt_segmentations/{case}.nii.gz",
                "metrics": {"1": {"Dice": 1.0}},
            }
            for case in splits[fold]["val"]
        ]
        summary = {"foreground_mean": {"Dice": 1.0}, "mean": {}, "metric_per_case": rows}
        (training / f"fold_{fold}" / "validation" / "summary.json").write_text(json.dumps(summary))
    (base / "nnUNet_preprocessed" / name / "splits_final.json").write_text(json.dumps(splits))
    return training


def predictions(base: Path, cases: Sequence[int], *, moved: int = 0, ending: str = "") -> Path:
    """Write a folder of predictions beside folders of labels and images, and return it."""
    for n in cases:
        write(base / "predictions" / f"case_{n}{ending}.nii.gz", label(n, moved=min(4, n + moved)))
        write(base / "labels" / f"case_{n}.nii.gz", label(n))
        write_image(base / "images" / f"case_{n}.nii.gz", label(n))
    return base / "predictions"


def structures(folder: Path, voxels: NDArray[np.uint8], names: Mapping[int, str]) -> Path:
    """Write a file per structure."""
    for value, name in names.items():
        write(folder / f"{name}.nii.gz", (voxels == value).astype(np.uint8))
    return folder
