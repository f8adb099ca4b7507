"""`segexplorer check DATASET`: table, CSV, JSON, exit codes; the same problems in all of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven cases in two folders, two classes, nothing wrong."""
    for n in range(7):
        rng = np.random.default_rng(n)
        label = np.zeros((14, 12, 10), np.uint8)
        label[2:8, 2:8, 2:8] = 1
        label[9:11, 3:6, 3:6] = 3
        write(tmp_path, f"p{n}", rng.normal(100, 10, label.shape) + 50 * label, label)
    return tmp_path


def write(root: Path, name: str, image: np.ndarray, label: np.ndarray | None) -> None:
    for folder, voxels in (("images", image.astype(np.int16)), ("labels", label)):
        if voxels is not None:
            (root / folder).mkdir(exist_ok=True)
            volume = Volume.from_array(voxels, spacing=(1, 1, 2))
            save_volume(volume, root / folder / f"{name}.nii.gz", integer=folder == "labels")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_sound_data_set_is_listed_with_its_volumes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "the folders images and labels with equal names" in out
    assert "label 1 (1), label 3 (3)" in out
    assert "No problems found." in out
    assert out.count("14 x 12 x 10") == 7
    code, found = told(capsys, root)
    assert code == 0 and found["problems"] == []
    assert found["facts"]["Cases"] == "7"
    assert found["cases"][0]["volumes_ml"] == {
        "label 1": pytest.approx(0.432),
        "label 3": pytest.approx(0.036),
    }
    assert found["cases"][0]["spacing_mm"] == [1, 1, 2]


def test_every_fault_is_found_named_and_leads_to_code_2(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = root / "images", root / "labels"
    (labels / "p0.nii.gz").unlink()  # an image without label
    (images / "p1.nii.gz").unlink()  # a label without image
    (images / "p2.nii.gz").write_bytes((images / "p3.nii.gz").read_bytes())  # a duplicate
    other = np.zeros((14, 12, 9), np.uint8)
    other[3:5] = 1
    volume = Volume.from_array(other, spacing=(1, 1, 2.2))
    save_volume(volume, labels / "p4.nii.gz", integer=True)  # another grid
    (images / "p5.nii.gz").write_bytes(b"\x1f\x8b torn")  # unreadable
    code, found = told(capsys, root)
    assert code == 2
    assert {(p["case"], p["code"]) for p in found["problems"] if p["severity"] != "note"} == {
        ("p1", "no_image"),
        ("p3", "duplicate"),
        ("p4", "shape"),
        ("p5", "unreadable"),
    }
    assert ("p0", "no_label") in {(p["case"], p["code"]) for p in found["problems"]}
    assert all(p["message"] and (p["remedy"] or p["severity"] == "note") for p in found["problems"])
    assert [case["case"] for case in found["cases"]] == ["p0", "p2", "p3", "p4", "p5", "p6"]
    assert run(["check", str(root)]) == 2
    printed = capsys.readouterr().out
    assert "error  p1: The label has no image." in printed
    assert "no label" in printed and "duplicate" in printed


def test_other_label_values_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = root / "e.yaml"
    config.write_text(
        f"data: {{kind: folder, root: '{root}', classes: {{big: 1}}}}\nnetwork: unet\nloss: dice\n"
    )
    code, found = told(capsys, config)
    assert code == 0
    assert found["cases"][0]["other_values"] == {"3": 18}
    assert {case["role"] for case in found["cases"]} == {"train", "validation"}
    # and the plan says that patches of 64 voxels are mostly padding here
    assert {p["code"] for p in found["problems"]} == {"unnamed_values", "patch", "same_label"}
    assert run(["check", str(config)]) == 0
    assert "note  p0, p1, p2, p3 and 3 more: Label values that no class names" in capsys.readouterr().out


def test_the_table_goes_to_csv(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(root), "--csv", str(tmp_path / "cases.csv")]) == 0
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"p{n}" for n in range(7)]
    assert rows[0]["label 1 ml"] == "0.432" and rows[0]["shape"] == "14 x 12 x 10"
    assert rows[0]["labelled"] == "yes" and rows[0]["problems"] == ""


def test_quick_reads_headers_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = (root / "images/p6.nii.gz").read_bytes()
    (root / "images/p6.nii.gz").write_bytes(damaged[: len(damaged) // 2])
    settings = ("--set", "classes={a: 1, b: 3}")
    code, found = told(capsys, root, "--quick", *settings)
    assert code == 0 and found["cases"][0]["intensities"] == []
    code, found = told(capsys, root, *settings)
    assert code == 2 and [p["case"] for p in found["problems"] if p["severity"] == "error"] == ["p6"]


def test_a_layout_may_be_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images").rename(root / "scans of mine")
    code, found = told(
        capsys,
        root,
        "--kind",
        "folder",
        "--set",
        "images='scans of mine/{case}.nii.gz'",
        "--set",
        "labels=labels",
    )
    assert code == 0 and found["facts"]["Cases"] == "7"


def test_a_set_without_any_label_is_listed_all_the_same(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (root / "labels").iterdir():
        path.unlink()
    code, found = told(capsys, root, "--kind", "folder")
    assert code == 2 and len(found["cases"]) == 7
    assert {p["code"] for p in found["problems"] if p["severity"] == "error"} == {"classes", "no_label"}


def test_what_is_no_data_set_gives_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("segexplorer: ") and "does not have the layout of a known data set" in error


def test_nothing_of_a_dicom_patient_is_printed_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pydicom")
    from segexplorer.testing.dicom import PATIENT, write_series

    for n in range(2):
        voxels = np.random.default_rng(n).integers(900, 1100, (8, 10, 12)).astype(np.uint16)
        write_series(tmp_path / f"case{n}/dicom", voxels, series=f"1.2.{n}")
        image = segexplorer.open_volume(tmp_path / f"case{n}/dicom")
        label = image.with_array((image.array > 0).astype(np.uint8))
        save_volume(label, tmp_path / f"case{n}/seg.nii.gz", integer=True)
    layout = ("--kind", "folder", "--set", "images='{case}/dicom'", "--set", "labels='{case}/seg.nii.gz'")
    table = tmp_path / "cases.csv"
    code, found = told(capsys, tmp_path, *layout, "--csv", table)
    assert code == 0 and found["facts"]["Cases"] == "2"
    assert found["facts"]["Patients"] == "1"  # both series carry one PatientID
    assert run(["check", str(tmp_path), *layout]) == 0
    said = capsys.readouterr()
    everything = json.dumps(found) + said.out + said.err + table.read_text()
    planted = [word for word in PATIENT.values() if len(word) > 1]
    assert not [word for word in planted if word in everything] and "planted" not in everything.lower()


def test_a_real_set_is_checked_within_seconds(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys, shared_data / "Task04_Hippocampus")
    assert code == 0
    assert found["facts"]["Recognised by"] == "dataset.json beside imagesTr and labelsTr"
    assert len(found["cases"]) == 60
    bright = {p["case"] for p in found["problems"] if p["code"] == "intensity"}
    peaks = {case["case"]: case["intensities"][0][1] for case in found["cases"]}
    assert bright == {case for case, peak in peaks.items() if peak > 1e5}
    assert {p["code"] for p in found["problems"]} == {"intensity"}
