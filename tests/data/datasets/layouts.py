"""Small folders in the published layout of each kind of data set: names as published, voxels of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def image(path: Path, seed: int = 0, frames: int = 0) -> Path:
    """Write noise; `frames` more than 0 makes a 4D file."""
    shape = (*SHAPE, frames) if frames else SHAPE
    voxels = np.random.default_rng(seed).normal(100, 20, shape).astype(np.int16)
    return save(path, voxels)


def label(path: Path, values: Sequence[int] = (1,), affine: np.ndarray = AFFINE) -> Path:
    """Write a label with a slab of each value."""
    voxels = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        voxels[2 + place, 2:8, 2:6] = value
    return save(path, voxels, affine)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def decathlon(root: Path) -> None:
    described = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}}
    write_json(root / "dataset.json", described)
    for n in (3, 4):
        image(root / f"imagesTr/la_00{n}.nii.gz", n)
        label(root / f"labelsTr/la_00{n}.nii.gz")
    image(root / "imagesTs/la_001.nii.gz", 9)
    (root / "imagesTr/._la_003.nii.gz").write_bytes(b"of a Mac")


def decathlon_4d(root: Path) -> None:
    described = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    write_json(root / "dataset.json", described)
    image(root / "imagesTr/BRATS_001.nii.gz", 1, frames=4)
    label(root / "labelsTr/BRATS_001.nii.gz", (1, 2, 3))


def nnunet_v1(root: Path) -> None:
    described = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": "./imagesTr/prostate_00.nii.gz", "label": "./labelsTr/prostate_00.nii.gz"}],
    }
    write_json(root / "Task005_Prostate/dataset.json", described)
    for n, channel in ((0, 0), (0, 1), (1, 0), (1, 1)):
        image(root / f"Task005_Prostate/imagesTr/prostate_0{n}_000{channel}.nii.gz", 2 * n + channel)
        label(root / f"Task005_Prostate/labelsTr/prostate_0{n}.nii.gz", (1, 2))


def nnunet_v2(root: Path) -> None:
    described = {
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {
            "background": 0,
            "whole tumor": [1, 2, 3],
            "tumor core": [2, 3],
            "enhancing": 3,
            "ignore": 4,
        },
        "regions_class_order": [1, 2, 3],
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    write_json(root / "dataset.json", described)
    for channel in (0, 1):
        image(root / f"imagesTr/BraTS_001_000{channel}.nii.gz", channel)
    label(root / "labelsTr/BraTS_001.nii.gz", (1, 2, 3, 4))


def nnunet_v2_listed(root: Path) -> None:
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
        "dataset": {"one": {"images": ["anywhere/one.nii.gz"], "label": "truth/one.nii.gz"}},
    }
    write_json(root / "dataset.json", described)
    image(root / "anywhere/one.nii.gz")
    label(root / "truth/one.nii.gz")


def brats20(root: Path) -> None:
    for n in (1, 355):
        case = f"BraTS20_Training_{n:03d}"
        folder = root / "MICCAI_BraTS2020_TrainingData" / case
        for place, sequence in enumerate(("flair", "t1", "t1ce", "t2")):
            image(folder / f"{case}_{sequence}.nii", 10 * n + place)
        label(folder / ("W39_1998.09.19_Segm.nii" if n == 355 else f"{case}_seg.nii"), (1, 2, 4))
    (root / "MICCAI_BraTS2020_TrainingData/name_mapping.csv").write_text("Grade\n")


def brats23(root: Path) -> None:
    for visit in ("000", "001"):
        case = f"BraTS-GLI-00003-{visit}"
        for place, sequence in enumerate(("t1c", "t1n", "t2f", "t2w")):
            image(root / case / f"{case}-{sequence}.nii.gz", 10 * int(visit) + place)
        label(root / case / f"{case}-seg.nii.gz", (1, 2, 3))


def kits19(root: Path) -> None:
    for n in (0, 210):
        image(root / f"data/case_{n:05d}/imaging.nii.gz", n)
    label(root / "data/case_00000/segmentation.nii.gz", (1, 2))
    write_json(root / "data/kits.json", [])


def lits(root: Path) -> None:
    for batch, n in ((1, 0), (2, 28)):
        image(root / f"Training Batch {batch}/volume-{n}.nii", n)
        label(root / f"Training Batch {batch}/segmentation-{n}.nii", (1, 2))
    image(root / "test/test-volume-0.nii", 5)


def msseg2(root: Path) -> None:
    for patient in ("013", "015"):
        folder = root / "training" / patient
        for visit in (1, 2):
            image(folder / f"flair_time0{visit}_on_middle_space.nii.gz", int(patient) + visit)
        for expert in (1, 2, 3, 4):
            label(folder / f"ground_truth_expert{expert}.nii.gz")
        label(folder / "ground_truth.nii.gz", () if patient == "015" else (1,))


def btcv(root: Path) -> None:
    for n in (1, 2):
        image(root / f"RawData/Training/img/img000{n}.nii.gz", n)
        label(root / f"RawData/Training/label/label000{n}.nii.gz", range(1, 9))
    image(root / "RawData/Testing/img/img0061.nii.gz", 61)


def acdc(root: Path) -> None:
    for part, number, ed, es in (("training", 1, 1, 12), ("testing", 101, 1, 14)):
        patient = f"patient{number:03d}"
        folder = root / part / patient
        for frame in (ed, es):
            image(folder / f"{patient}_frame{frame:02d}.nii.gz", number + frame)
            label(folder / f"{patient}_frame{frame:02d}_gt.nii.gz", (1, 2, 3))
        image(folder / f"{patient}_4d.nii.gz", number, frames=2)
        lines = (f"ED: {ed}", f"ES: {es}", "Group: DCM", "Height: 184.0", "NbFrame: 30", "Weight: 95.0")
        (folder / "Info.cfg").write_text("\n".join(lines))


def bids(root: Path) -> None:
    write_json(root / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.9.0"})
    for subject, session in (("01", "a"), ("01", "b"), ("02", "a")):
        name = f"sub-{subject}_ses-{session}"
        place = f"sub-{subject}/ses-{session}/anat"
        image(root / place / f"{name}_T1w.nii.gz", int(subject))
        label(root / "derivatives/manual" / place / f"{name}_dseg.nii.gz", (1, 7))
    write_json(root / "derivatives/manual/dataset_description.json", {"Name": "manual"})
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n0\tBackground\n1\tcortex\n7\tthalamus\n")


def two_folders(root: Path) -> None:
    for n in (1, 2):
        image(root / f"imgs/p{n}.nii.gz", n)
        label(root / f"Masks/p{n}.nii.gz")


def folder_per_case(root: Path) -> None:
    for n in (1, 2, 3):
        image(root / f"p{n}/p{n}_t1.nii.gz", n)
        image(root / f"p{n}/p{n}_t2.nii.gz", n + 10)
        label(root / f"p{n}/p{n}_seg.nii.gz", (5,))


def side_by_side(root: Path) -> None:
    for n in (1, 2):
        image(root / f"scan{n}.nii.gz", n)
        label(root / f"scan{n}_seg.nii.gz", (255,))


def structure_files(root: Path) -> None:
    for case in ("s0000", "s0001"):
        image(root / case / "ct.nii.gz", len(case))
        for structure in ("liver", "spleen"):
            label(root / case / f"segmentations/{structure}.nii.gz")


LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    function.__name__: (function, kind)
    for function, kind in (
        (decathlon, "decathlon"),
        (decathlon_4d, "decathlon"),
        (nnunet_v1, "nnunet"),
        (nnunet_v2, "nnunet"),
        (nnunet_v2_listed, "nnunet"),
        (brats20, "brats"),
        (brats23, "brats"),
        (kits19, "kits"),
        (lits, "lits"),
        (msseg2, "msseg2"),
        (btcv, "btcv"),
        (acdc, "acdc"),
        (bids, "bids"),
        (two_folders, "folder"),
        (folder_per_case, "folder"),
        (side_by_side, "side_by_side"),
        (structure_files, "structure_files"),
    )
}
"""Name -> what writes the folder, and the kind it should be recognised as."""
