"""Public benchmarks in the layout in which they are published.

* ACDC, cine MR of the heart (Bernard 2018): end diastole and end systole of each patient.
* BraTS, brain tumours (Menze 2015, Bakas 2018): four MR sequences and a label.
* BTCV, multi-organ CT of the abdomen, also known as Synapse (Landman 2015).
* KiTS, kidney tumours in CT (Heller 2019).
* LiTS, liver tumours in CT (Bilic 2023).
* MSSEG-2, new lesions of multiple sclerosis (Commowick 2021): FLAIR at two time points.
* NIH Pancreas-CT on TCIA (Roth 2015): DICOM series, and NIfTI labels whose headers do not place them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.discovery import (
    by_case,
    files_below,
    put_together,
    reach,
    stem,
    subfolders,
    volume_files,
    volumes_named,
    with_all_channels,
    without,
)
from segexplorer.data.sources import PlacedByIndex

_DEPTH = 3
"""How many folders deep the files of a benchmark are looked for, below the folder that was named."""


# ---- ACDC

_ACDC_FRAME = r"(?P<patient>patient\d{3})_frame(?P<frame>\d{2})(?P<truth>_gt)?"


@registry.register
class Acdc(DatasetSpec):
    """`patient001/patient001_frame01` with `_gt`, and Info.cfg that says which frame is ED and which ES.

    The two frames of a patient are two cases that never fall on both sides of a split. Patients in a folder
    `testing` test.
    """

    display_name = "ACDC"
    layout: ClassVar[str] = (
        "training/patient001/Info.cfg\ntraining/patient001/patient001_frame01.nii.gz\n"
        "training/patient001/patient001_frame01_gt.nii.gz\ntesting/patient101/patient101_frame01.nii.gz"
    )
    kind: Literal["acdc"] = "acdc"
    root: str = parameter(
        title="Folder", description="The folder of the patients, or the one above.", path="folder"
    )
    phases: Literal["both", "ED", "ES"] = parameter(
        "both", title="Phases", description="End diastole, end systole, or both as cases of their own."
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise patient001_frame01_gt."""
        depth = reach(folder, "training", "testing")
        match = next((m for m, _ in volumes_named(folder, _ACDC_FRAME, depth) if m["truth"]), None)
        return match and Recognition("acdc", folder, f"files like {match[0]}")

    def listing(self) -> Listing:
        """Return a case for each phase, named patient001_ED and patient001_ES."""
        root = existing_folder(self.root)
        images: dict[str, tuple[Source, ...]] = {}
        labels: dict[str, Source] = {}
        testing: set[str] = set()
        problems: list[Problem] = []
        for match, path in volumes_named(root, _ACDC_FRAME, _DEPTH):
            phase = _phases(path.parent).get(int(match["frame"]))
            case = f"{match['patient']}_{phase or 'frame' + match['frame']}"
            if phase is None and not match["truth"]:
                text = "Info.cfg does not say whether this frame is end diastole (ED) or end systole (ES)."
                problems.append(Problem("warning", "no_phase", text, "Add Info.cfg to its folder.", case))
            if self.phases not in ("both", phase):
                continue
            if match["truth"]:
                labels[case] = path
            else:
                images[case] = (path,)
            if path.parent.parent.name.lower() in ("testing", "test"):
                testing.add(case)
        found = put_together(images, labels, root, lambda case: case.split("_")[0])
        cases = [replace(ref, role="test") if ref.id in testing else ref for ref in found.cases]
        return Listing(cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return both ventricles and the muscle between."""
        return {"right ventricle": (1,), "myocardium": (2,), "left ventricle": (3,)}


def _phases(folder: Path) -> dict[int, str]:
    """Return frame -> "ED" or "ES" as a patient's Info.cfg says; empty without one."""
    path = folder / "Info.cfg"
    if not path.is_file():
        return {}
    said = re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    return {int(number): phase for phase, number in said}


# ---- BraTS

SEQUENCES = ("flair", "t1", "t1ce", "t2")
_BRATS_NAMES = {"t2f": "flair", "t1n": "t1", "t1c": "t1ce", "t2w": "t2"}
"""Names since 2023 -> names until 2021."""
_BRATS_FILE = r"(?P<case>BraTS.*?)[_-](?P<part>flair|t1|t1ce|t2|t1n|t1c|t2w|t2f|seg)"


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
        title="Folder", description="The folder that holds the folders of the cases.", path="folder"
    )
    sequences: tuple[Literal["flair", "t1", "t1ce", "t2"], ...] = parameter(
        SEQUENCES, title="Sequences", description="Which become channels, in this order.", min_length=1
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise files such as BraTS20_Training_001_flair.nii in a folder per case."""
        match = next((m for m, _ in volumes_named(folder, _BRATS_FILE, reach(folder, "hgg", "lgg"))), None)
        return match and Recognition("brats", folder, f"files like {match[0]}")

    def listing(self) -> Listing:
        """Return the cases; those without label (the validation set) can be predicted."""
        root = existing_folder(self.root)
        parts: dict[str, dict[str, Source]] = {name: {} for name in (*SEQUENCES, "seg")}
        for match, path in volumes_named(root, _BRATS_FILE, _DEPTH):
            parts[_BRATS_NAMES.get(match["part"], match["part"])][match["case"]] = path
        labels = parts["seg"]
        for case, image in parts["flair"].items():
            if case not in labels and isinstance(image, Path) and (odd := _misnamed_label(image.parent)):
                labels[case] = odd
        names = [f"{name} image" for name in self.sequences]
        images, problems = with_all_channels([parts[name] for name in self.sequences], names)
        found = put_together(images, without(labels, problems), root, _brats_patient)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the three parts of a tumour; where classes overlap, the three regions that are scored."""
        late = any(
            m["part"] in _BRATS_NAMES
            for m, _ in volumes_named(existing_folder(self.root), _BRATS_FILE, _DEPTH)
        )
        enhancing = 3 if late else 4
        if self.overlapping:
            whole = {"whole tumour": (1, 2, enhancing), "tumour core": (1, enhancing)}
            return {**whole, "enhancing tumour": (enhancing,)}
        return {"necrotic core": (1,), "oedema": (2,), "enhancing tumour": (enhancing,)}

    def declared_overlap(self) -> str:
        """Return that the benchmark scores regions."""
        return "BraTS scores three regions within one another: whole tumour, tumour core, enhancing tumour."


def _brats_patient(case: str) -> str:
    """Return the patient of a case: BraTS-GLI-00003-001 and BraTS19_CBICA_AAB_1 name a time point last."""
    return re.sub(r"(?<=-\d{5})-\d{3}$", "", re.sub(r"^(BraTS1[789]_.+)_\d$", r"\1", case))


def _misnamed_label(folder: Path) -> Path | None:
    return next((p for p in files_below(folder, 0) if (stem(p) or "").lower().endswith("_segm")), None)


# ---- BTCV

_BTCV_ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
_BTCV_IMAGE, _BTCV_LABEL = r"img(\d{4})", r"label(\d{4})"


@registry.register
class Btcv(DatasetSpec):
    """`img0001` and `label0001` in `Training/img` and `Training/label`; 13 organs. Test images can be predicted."""

    display_name = "BTCV / Synapse"
    layout: ClassVar[str] = "RawData/Training/img/img0001.nii.gz\nRawData/Training/label/label0001.nii.gz"
    kind: Literal["btcv"] = "btcv"
    root: str = parameter(title="Folder", description="RawData, or a folder in it.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise img0001 with label0001."""
        depth = reach(folder, "training", "testing")
        numbers = {match[1] for match, _ in volumes_named(folder, _BTCV_IMAGE, depth)}
        both = next((m[1] for m, _ in volumes_named(folder, _BTCV_LABEL, depth) if m[1] in numbers), None)
        return Recognition("btcv", folder, f"img{both} with label{both}") if both else None

    def listing(self) -> Listing:
        """Return the cases, named img0001 and so on."""
        root = existing_folder(self.root)
        images = by_case(volumes_named(root, _BTCV_IMAGE, _DEPTH))
        labels: dict[str, Source] = {
            f"img{number}": path for number, path in by_case(volumes_named(root, _BTCV_LABEL, _DEPTH)).items()
        }
        return put_together({f"img{number}": (path,) for number, path in images.items()}, labels, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the 13 organs."""
        return {name: (value,) for value, name in enumerate(_BTCV_ORGANS, start=1)}


# ---- KiTS

_KITS_CASE = re.compile(r"case_\d{5}")
_KITS_LABELS = ("segmentation", "aggregated_MAJ_seg")
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
        title="Folder",
        description="The folder that holds case_00000 and so on, or the one above.",
        path="folder",
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise folders like case_00000 with an imaging file."""
        first = next((f for f in subfolders(folder) if _KITS_CASE.fullmatch(f.name)), None)
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
            if not _KITS_CASE.fullmatch(folder.name):
                continue
            files = volume_files(folder)
            if "imaging" in files:
                images[folder.name] = (files["imaging"],)
            if label := next((files[name] for name in _KITS_LABELS if name in files), None):
                labels[folder.name] = label
        return put_together(images, labels, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return kidney and tumour."""
        return {"kidney": (1,), "tumour": (2,)}


# ---- LiTS


@registry.register
class Lits(DatasetSpec):
    """`volume-N` and `segmentation-N` side by side, also in "Training Batch 1" and "Training Batch 2"."""

    display_name = "LiTS"
    layout: ClassVar[str] = "Training Batch 1/volume-0.nii\nTraining Batch 1/segmentation-0.nii"
    kind: Literal["lits"] = "lits"
    root: str = parameter(
        title="Folder", description="The folder of the volumes, or of the training batches.", path="folder"
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise segmentation-0 beside volume-0."""
        match = next((m for m, _ in volumes_named(folder, r"segmentation-(\d+)", 1)), None)
        if match is None or not any(True for _ in volumes_named(folder, rf"volume-{match[1]}", 1)):
            return None
        return Recognition("lits", folder, f"{match[0]} beside volume-{match[1]}")

    def listing(self) -> Listing:
        """Return the cases, named volume-N."""
        root = existing_folder(self.root)
        images = by_case(volumes_named(root, r"volume-(\d+)", _DEPTH))
        labels = by_case(volumes_named(root, r"segmentation-(\d+)", _DEPTH))
        named = {f"volume-{n}": (path,) for n, path in images.items()}
        return put_together(named, {f"volume-{n}": path for n, path in labels.items()}, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return liver and tumour."""
        return {"liver": (1,), "tumour": (2,)}


# ---- MSSEG-2

_MSSEG2_FLAIR = re.compile(r"flair_time0([12])_on_middle_space")


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
        title="Folder", description="The folder of the patients, or the one above.", path="folder"
    )
    reader: Literal["consensus", "expert1", "expert2", "expert3", "expert4"] = parameter(
        "consensus", title="Reader", description="Whose label is learned."
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise flair_time01_on_middle_space in a folder per patient."""
        found = any(
            _MSSEG2_FLAIR.fullmatch(stem(path) or "")
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
            if match := _MSSEG2_FLAIR.fullmatch(name):
                visits[int(match[1]) - 1][case] = path
            elif name == wanted:
                labels[case] = path
        images, problems = with_all_channels(visits, ("first visit", "second visit"))
        found = put_together(images, without(labels, problems), root)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the new lesions."""
        return {"new lesion": (1,)}


# ---- NIH Pancreas-CT

_PANCREAS_CASE = re.compile(r"PANCREAS_(\d{4})")
_PANCREAS_LABEL = r"label(\d{4})"


@registry.register
class PancreasCt(DatasetSpec):
    """`PANCREAS_0001/.../*.dcm` (or PANCREAS_0001.nii.gz) and `TCIA_pancreas_labels.../label0001.nii.gz`.

    The headers of the labels do not give their position. They are placed by index, turned over along rows
    or slices where that makes them stand out most from what is around them; `segexplorer check` says so for
    each case. A label whose header agrees with its image is left as it is.
    """

    display_name = "NIH Pancreas-CT"
    layout: ClassVar[str] = (
        "Pancreas-CT/PANCREAS_0001/11-24-2015-PANCREAS0001/Pancreas-18957/1-001.dcm\n"
        "TCIA_pancreas_labels-02-05-2017/label0001.nii.gz"
    )
    kind: Literal["pancreas_ct"] = "pancreas_ct"
    root: str = parameter(
        title="Folder", description="The folder that holds both images and labels.", path="folder"
    )
    place: Literal["by intensity", "stored", "rows", "slices", "rows and slices"] = parameter(
        "by intensity",
        title="Place of the labels",
        description="Which axes of the labels are reversed. By intensity: as they contrast most with their "
        "surroundings.",
        advanced=True,
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise PANCREAS_0001 and label0001."""
        case = next(iter(_pancreas_images(folder)), None)
        label = next((match[0] for match, _ in volumes_named(folder, _PANCREAS_LABEL, 2)), None)
        if case is None or label is None:
            return None
        return Recognition("pancreas_ct", folder, f"PANCREAS_{case} and {label}")

    def listing(self) -> Listing:
        """Return the cases; PANCREAS_0025 and 0070, withdrawn as copies, are not missed."""
        root = existing_folder(self.root)
        images: dict[str, tuple[Source, ...]] = {
            f"PANCREAS_{n}": (p,) for n, p in _pancreas_images(root).items()
        }
        labels = by_case(volumes_named(root, _PANCREAS_LABEL, 2))
        placed: dict[str, Source] = {
            f"PANCREAS_{n}": PlacedByIndex(path, self.place) for n, path in labels.items()
        }
        return put_together(images, placed, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the pancreas."""
        return {"pancreas": (1,)}


def _pancreas_images(root: Path) -> dict[str, Path]:
    """Return number -> folder of a DICOM series, or a converted file."""
    found = {match[1]: path for match, path in volumes_named(root, _PANCREAS_CASE.pattern, 2)}
    return {**{_PANCREAS_CASE.fullmatch(p.name)[1]: p for p in _pancreas_folders(root, 2)}, **found}  # type: ignore[index]


def _pancreas_folders(folder: Path, depth: int) -> Iterator[Path]:
    for inner in subfolders(folder):
        if _PANCREAS_CASE.fullmatch(inner.name):
            yield inner
        elif depth > 0 and stem(inner) is None:
            yield from _pancreas_folders(inner, depth - 1)
