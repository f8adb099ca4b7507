"""Lists of cases in CSV, TSV and JSON, and in the experiment itself; DICOM patients stay together."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.data import datasets


def files(root: Path, layouts: ModuleType) -> None:
    for case in ("ann", "bob"):
        for name in ("t1", "t2"):
            layouts.image(root / case / f"{name}.nii.gz", len(case + name))
        layouts.label(root / case / "seg.nii.gz", (1, 2))


ROWS = ["case,image,image_2,label,role,patient", "ann,ann/t1.nii.gz,ann/t2.nii.gz,ann/seg.nii.gz,train,p7"]


def test_table_lists_channels_role_and_patient(tmp_path: Path, layouts: ModuleType) -> None:
    files(tmp_path, layouts)
    rows = [*ROWS, "bob,bob/t1.nii.gz,bob/t2.nii.gz,bob/seg.nii.gz,val,p8"]
    (tmp_path / "cases.csv").write_text("﻿" + "\n".join(rows), encoding="utf-8")
    (tmp_path / "cases.tsv").write_text("\n".join(rows).replace(",", "\t"))
    for name in ("cases.csv", "cases.tsv"):
        data = segexplorer.open_dataset(tmp_path / name)
        assert [(r.id, len(r.images), r.role, r.patient) for r in data.cases()] == [
            ("ann", 2, "train", "p7"),
            ("bob", 2, "validation", "p8"),
        ]
        assert data.class_values() == {"label 1": (1,), "label 2": (2,)}


def test_monai_data_list_gives_roles_and_channels(tmp_path: Path, layouts: ModuleType) -> None:
    files(tmp_path, layouts)
    listed = {
        "labels": {"background": 0, "core": 1, "edge": 2},
        "training": [{"image": ["ann/t1.nii.gz", "ann/t2.nii.gz"], "label": "ann/seg.nii.gz"}],
        "validation": [{"case": "b", "image": ["bob/t1.nii.gz", "bob/t2.nii.gz"], "label": "bob/seg.nii.gz"}],
    }
    (tmp_path / "dataset_0.json").write_text(json.dumps(listed))
    data = segexplorer.open_dataset(tmp_path / "dataset_0.json")
    assert [(r.id, len(r.images), r.role) for r in data.cases()] == [
        ("b", 2, "validation"),
        ("t1", 2, "train"),
    ]
    assert data.class_values() == {"core": (1,), "edge": (2,)}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["picture,label", "a,b"], r"no column image\. Its columns are picture, label"),
        (ROWS[:1], "lists no case"),
        ([ROWS[0], "ann,ann/t1.nii.gz,,,trian,"], r"role 'trian'\. Did you mean train"),
        ([ROWS[0], "ann,,,ann/seg.nii.gz,,"], "Case 1 .* has no image"),
        ([*ROWS, "eve,eve.nii.gz,,,,"], r"eve: There is no file eve\.nii\.gz"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(
    tmp_path: Path, layouts: ModuleType, rows: list[str], words: str
) -> None:
    files(tmp_path, layouts)
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=words):
        segexplorer.open_dataset(tmp_path / "cases.csv").cases()


def test_broken_json_is_reported(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("{")
    with pytest.raises(DataError, match=r"list\.json is not valid JSON"):
        segexplorer.open_dataset(tmp_path / "list.json").cases()


def test_pairs_take_several_images_as_channels(tmp_path: Path, layouts: ModuleType) -> None:
    files(tmp_path, layouts)
    pairs = [
        {
            "case": case,
            "image": str(tmp_path / case / "t1.nii.gz"),
            "further": [str(tmp_path / case / "t2.nii.gz")],
            "label": str(tmp_path / case / "seg.nii.gz"),
        }
        for case in ("ann", "bob")
    ]
    data = datasets.parse({"kind": "pairs", "pairs": pairs})
    assert [len(ref.open().images) for ref in data.cases()] == [2, 2]
    del pairs[1]["further"]
    with pytest.raises(SpecError, match="bob has 1 images and ann 2"):
        datasets.parse({"kind": "pairs", "pairs": pairs})


def test_channels_of_pairs_are_found_beside_the_experiment_file(tmp_path: Path, layouts: ModuleType) -> None:
    files(tmp_path, layouts)
    (tmp_path / "e.yaml").write_text(
        "data:\n  kind: pairs\n  pairs:\n  - {case: ann, image: ann/t1.nii.gz, "
        "further: [{image: ann/t2.nii.gz}], label: ann/seg.nii.gz}\n"
    )
    (ref,) = segexplorer.Experiment.from_yaml(tmp_path / "e.yaml").data.cases()
    assert [path.name for path in ref.images] == ["t1.nii.gz", "t2.nii.gz"]  # type: ignore[union-attr]


def test_series_of_one_dicom_patient_stay_together(tmp_path: Path, layouts: ModuleType) -> None:
    pytest.importorskip("pydicom")
    from segexplorer.testing.dicom import write_series

    def patient(number: str):  # type: ignore[no-untyped-def]
        def change(data, _):  # type: ignore[no-untyped-def]
            data.PatientID = number

        return change

    for case, number in (("scan1", "A1"), ("scan2", "B2"), ("scan3", "A1")):
        voxels = np.full((8, 10, 12), 1000, np.uint16)
        write_series(tmp_path / case / "dicom", voxels, series=f"1.2.{case[-1]}", change=patient(number))
        layouts.label(tmp_path / case / "seg.nii.gz")
    data = segexplorer.open_dataset(
        tmp_path, kind="folder", images="{case}/dicom", labels="{case}/seg.nii.gz"
    )
    refs = data.cases()
    assert [ref.patient for ref in refs] == ["scan1", "scan2", "scan1"]
    assert not any("A1" in str(ref) for ref in refs)
