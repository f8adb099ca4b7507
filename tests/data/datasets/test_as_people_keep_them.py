"""Lists, names and folders as people and their programs keep them: read as meant, or named as what they are."""

from __future__ import annotations

import json
import re
import shlex
import sys
import unicodedata
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError, MissingExtraError
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.tables import read_rows
from segexplorer.data.io import open_volume
from segexplorer.frontends.cli.app import run
from segexplorer.testing.dicom import write_series

LIST = "Case,Image,Label,Patient\nMüller,im\\a.nii.gz,lb\\a.nii.gz,7\n007,im/b.nii.gz,lb/b.nii.gz,8\n"


@pytest.fixture
def root(tmp_path: Path, layouts: ModuleType) -> Path:
    for n, name in enumerate("ab"):
        layouts.image(tmp_path / f"im/{name}.nii.gz", n)
        layouts.label(tmp_path / f"lb/{name}.nii.gz", (1, 2))
    return tmp_path


def excel(path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in LIST.splitlines():
        book.active.append(line.split(","))
    book.save(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("utf8.csv", LIST.encode()),
        ("mark.csv", b"\xef\xbb\xbf" + LIST.encode()),
        ("windows.csv", LIST.replace(",", ";").replace("\n", "\r\n").encode("cp1252")),
        ("said.csv", ("sep=;\n" + LIST.replace(",", ";")).encode()),
        ("unicode.txt", LIST.replace(",", "\t").encode("utf-16")),
        ("tabs.tsv", LIST.replace(",", "\t").encode()),
        ("book.xlsx", None),
        ("list.yaml", None),
        ("list.json", None),
    ],
)
def test_one_list_in_every_form(root: Path, name: str, data: bytes | None) -> None:
    path = root / name
    heads, *lines = (line.split(",") for line in LIST.splitlines())
    if data is not None:
        path.write_bytes(data)
    elif path.suffix == ".xlsx":
        excel(path)
    else:
        entries = [dict(zip(heads, line, strict=True)) for line in lines]
        path.write_text(json.dumps(entries))  # JSON is YAML, too
    found = segexplorer.open_dataset(path, kind="case_list")
    assert [(ref.id, ref.patient) for ref in found.cases()] == [("007", "8"), ("Müller", "7")]
    assert all(ref.open().label is not None for ref in found.cases())
    if path.suffix != ".yaml":  # which may be an experiment
        assert run(["check", str(path)]) == 0


def test_an_excel_list_names_the_extra_where_it_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    excel(root / "book.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r"segexplorer\[excel\]"):
        read_rows(root / "book.xlsx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\x01\x02binary", "not a text file"),
        (b"image,label,image\na,b,c\n", "has the column image twice"),
        (b"", "no column image"),
        (b"PK\x03\x04 torn", "no column image"),
    ],
)
def test_what_is_no_list_is_said(root: Path, content: bytes, words: str) -> None:
    (root / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        segexplorer.open_dataset(root / "list.csv").cases()
    (root / "book.xlsx").write_bytes(content)
    with pytest.raises(DataError):
        segexplorer.open_dataset(root / "book.xlsx").cases()


def test_files_that_are_not_there_are_named_as_what_they_are(root: Path) -> None:
    (root / "linked.nii.gz").symlink_to(root / "gone.nii.gz")
    (root / "annexed.nii.gz").symlink_to("../.git/annex/objects/xx/MD5E-s1--1.nii.gz")
    (root / "pointer.nii.gz").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12345\n"
    )
    rows = {
        "C:\\data\\p1.nii.gz": "path of a Windows machine",
        "/home/anna/p1.nii.gz": "path of another machine",
        "linked.nii.gz": "is a link to",
        "annexed.nii.gz": "git-annex",
        "im/c.nii.gz": "There is no file",
        "other/c.nii.gz": "folder .* is not there",
    }
    lines = [f"p{n},{path}" for n, path in enumerate(rows)]
    (root / "list.csv").write_text("case,image\nfine,im/a.nii.gz\n" + "\n".join(lines))
    found = segexplorer.open_dataset(root / "list.csv").examine()
    assert [ref.id for ref in found.cases] == ["fine"]
    assert [problem.case for problem in found.problems] == [f"p{n}" for n in range(len(rows))]
    for problem, words in zip(found.problems, rows.values(), strict=True):
        assert re.search(words, problem.message) and problem.remedy
    with pytest.raises(DataError, match=r"pointer of Git LFS.*git lfs pull"):
        open_volume(root / "pointer.nii.gz")


@pytest.mark.parametrize("rule", ["largest", "ct", "thorax", "2"])
def test_a_scout_beside_a_ct_does_no_harm(tmp_path: Path, rule: str) -> None:
    def described(text: str) -> Any:
        return lambda data, _: setattr(data, "SeriesDescription", text)

    voxels = np.random.default_rng(0).integers(0, 3000, (6, 8, 9)).astype(np.uint16)
    write_series(tmp_path / "p0", voxels[:1], number=1, change=described("Scout Planted^Name"))
    write_series(tmp_path / "p0", voxels, number=2, change=described("Thorax 5 mm Planted^Name"))
    image = CaseRef("p0", (tmp_path / "p0",), series=rule).open().images[0]
    assert image.shape == (9, 8, 6)
    said = " ".join(image.notes)
    assert "Of 2 series in the folder" in said and "left out: 1: CT" in said and "Planted" not in said
    if rule == "largest":
        same = CaseRef("p0", (tmp_path / "p0",)).fingerprint()
        assert same == CaseRef("p0", (tmp_path / "p0",), series="largest").fingerprint()
        assert same != CaseRef("p0", (tmp_path / "p0",), series="1").fingerprint()


def test_a_rule_that_leaves_a_choice_is_refused(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 3000, (6, 8, 9)).astype(np.uint16)
    for number in (1, 2):
        write_series(tmp_path / "p0", voxels, number=number)
    with pytest.raises(DataError, match=r"equally large.*data\.series"):
        CaseRef("p0", (tmp_path / "p0",)).open()
    with pytest.raises(DataError, match="No series of modality or description 'MR'"):
        CaseRef("p0", (tmp_path / "p0",), series="MR").open()


def test_several_namings_in_one_folder(tmp_path: Path, layouts: ModuleType) -> None:
    for name in ("brain2_image", "a", "c-img"):
        layouts.image(tmp_path / f"{name}.nii.gz")
    for name in ("brain2_label", "a-label", "c_seg"):
        layouts.label(tmp_path / f"{name}.nii.gz")
    data = segexplorer.open_dataset(tmp_path)
    assert data.plain()["kind"] == "side_by_side"
    assert [ref.id for ref in data.cases() if ref.label is not None] == ["a", "brain2"]
    listed = segexplorer.open_dataset(
        tmp_path,
        kind="side_by_side",
        ending=["_label", "-label", "_seg"],
        image_ending=["_image", "-img", ""],
    )
    assert [ref.id for ref in listed.cases() if ref.label is not None] == ["a", "brain2", "c"]
    one = segexplorer.open_dataset(tmp_path, kind="side_by_side", ending="_label", image_ending="_image")
    assert [ref.id for ref in one.cases()] == ["brain2"]


def test_unusual_endings_that_name_a_label_are_seen(tmp_path: Path, layouts: ModuleType) -> None:
    for name in ("t2", "t2s_uncropped"):
        layouts.image(tmp_path / f"{name}.nii.gz")
    for name in ("t2_seg-manual", "t2s_uncropped_gmseg_manual"):
        layouts.label(tmp_path / f"{name}.nii.gz")
    cases = segexplorer.open_dataset(tmp_path).cases()
    assert [(ref.id, ref.label) for ref in cases] == [
        ("t2", tmp_path / "t2_seg-manual.nii.gz"),
        ("t2s_uncropped", tmp_path / "t2s_uncropped_gmseg_manual.nii.gz"),
    ]
    # a second label of the same image says something else: the two are not joined by guessing
    layouts.label(tmp_path / "t2_lesionmask-manual.nii.gz")
    with pytest.raises(DataError, match="does not have the layout of a known data set"):
        segexplorer.open_dataset(tmp_path)


def test_a_label_that_is_named_before_its_case_gets_a_proposal(
    tmp_path: Path, layouts: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.image(tmp_path / "T2.nii.gz")
    layouts.label(tmp_path / "lesionT2.nii.gz")
    assert run(["check", str(tmp_path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 files .nii.gz" in said
    command = shlex.split(said.partition("This would find 1 case: ")[2])
    assert command[:2] == ["segexplorer", "check"]
    assert run(command[1:]) == 0
    assert "T2" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["T2w_label-SC_seg", "T2w_seg-manual", "dseg"])
def test_labels_of_bids_in_the_namings_of_their_tools(
    tmp_path: Path, layouts: ModuleType, ending: str
) -> None:
    for n in (1, 2):
        layouts.image(tmp_path / f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz", n)
        layouts.label(tmp_path / f"derivatives/labels/sub-0{n}/anat/sub-0{n}_{ending}.nii.gz")
    data = segexplorer.open_dataset(tmp_path)
    assert data.plain()["kind"] == "bids"
    assert [(ref.id, ref.patient) for ref in data.cases()] == [("sub-01", "sub-01"), ("sub-02", "sub-02")]
    assert all(ref.label is not None for ref in data.cases())
    chosen = segexplorer.open_dataset(tmp_path, kind="bids", label=ending)
    assert len(chosen.cases()) == 2


@pytest.mark.parametrize("background", [True, False])
def test_one_hot_labels(tmp_path: Path, layouts: ModuleType, background: bool) -> None:
    truth = np.zeros(layouts.SHAPE, np.uint8)
    truth[2:4], truth[5:9] = 1, 2
    channels = [(truth == value).astype(np.uint8) for value in range(0 if background else 1, 3)]
    path = layouts.save(tmp_path / "label.nii.gz", np.stack(channels, axis=-1))
    case = CaseRef("a", (layouts.image(tmp_path / "image.nii.gz"),), path).open()
    assert case.label is not None and "one-hot" in " ".join(case.label.notes)
    np.testing.assert_array_equal(case.label.array, truth)
    path = layouts.save(tmp_path / "other.nii.gz", 3 * np.stack(channels, axis=-1))
    other = CaseRef("a", (tmp_path / "image.nii.gz",), path).open()
    assert other.label is not None
    with pytest.raises(DataError, match="no one-hot label"):
        _ = other.label.array


def test_archives_of_medsam(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for n in range(2):
        image = rng.integers(0, 255, (5, 7, 9)).astype(np.uint8)
        label = (image > 128).astype(np.uint16)
        np.savez_compressed(
            tmp_path / f"CT_{n}.npz", imgs=image, gts=label, spacing=np.array([0.7, 0.8, 2.5])
        )
    data = segexplorer.open_dataset(tmp_path)
    assert data.plain()["kind"] == "archives" and len(data.cases()) == 2
    case = data.cases()[1].open()
    assert case.label is not None and not case.images[0].loaded
    assert case.images[0].spacing == (0.7, 0.8, 2.5) and case.images[0].shape == (9, 7, 5)
    np.testing.assert_array_equal(case.images[0].array.transpose(2, 1, 0), image)
    np.testing.assert_array_equal(case.label.array.transpose(2, 1, 0), label)


def test_archives_are_not_trusted(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", imgs=np.array([{"a": 1}] * 8, object).reshape(2, 2, 2))
    with pytest.raises(DataError, match="no plain numbers"):
        open_volume(tmp_path / "objects.npz")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999, 99), }"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("imgs.npy", huge)
    with pytest.raises(DataError, match="too large"):
        open_volume(tmp_path / "huge.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "objects.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable archive"):
        open_volume(tmp_path / "torn.npz")
    np.savez(tmp_path / "other.npz", features=np.ones((2, 3, 4)), weights=np.ones((2, 3, 4)))
    with pytest.raises(DataError, match=r"no image \(imgs\). It holds features, weights"):
        open_volume(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("patients/{case}/x y/scan.nii.gz", "patients/{case}/truth of x/lesion.nii.gz"),
        ("raw/{case}_t1.nii.gz", "drawn/{case}_lesion.nii.gz"),
        ("{case}/ct/volume.nii.gz", "{case}/masks/tumour.nii.gz"),
    ],
)
def test_an_unknown_layout_ends_in_a_command_that_works(
    tmp_path: Path, layouts: ModuleType, capsys: pytest.CaptureFixture[str], image: str, label: str
) -> None:
    place = tmp_path / "my data"
    for n, case in enumerate(("Jörg 1", "Jörg 2", "anna")):
        layouts.image(place / image.replace("{case}", case), n)
        layouts.label(place / label.replace("{case}", case))
    assert run(["check", str(place)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "6 files .nii.gz" in said and "This would find 3 cases: " in said
    command = shlex.split(said.partition("cases: ")[2])
    assert command[:2] == ["segexplorer", "check"]
    assert run(command[1:]) == 0
    assert re.search(r"Cases +3", capsys.readouterr().out)


def test_compression_is_found_by_the_first_bytes(shared_cases: Path) -> None:
    for name, words in (
        ("gzipped_but_named.nii", "is compressed"),
        ("plain_but_named.nii.gz", "not compressed"),
    ):
        volume = open_volume(shared_cases / name)
        assert words in " ".join(volume.notes) and np.isfinite(volume.array).all() and volume.array.std() > 0


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_labels_called_so_in_german_are_labels(tmp_path: Path, layouts: ModuleType, form: Any) -> None:
    for patient in ("Müller Jürgen 1", "O'Neill Seán 2"):
        layouts.image(tmp_path / patient / "CT Abdomen nativ.nii.gz")
        layouts.label(tmp_path / patient / unicodedata.normalize(form, "Läsionen geprüft.nii.gz"))
    (first, second) = segexplorer.open_dataset(tmp_path).cases()
    assert (first.id, second.id) == ("Müller Jürgen 1", "O'Neill Seán 2")
    assert [Path(str(ref.images[0])).name for ref in (first, second)] == ["CT Abdomen nativ.nii.gz"] * 2


def test_series_of_slices_in_a_folder_of_every_patient(tmp_path: Path, layouts: ModuleType) -> None:
    voxels = np.random.default_rng(0).integers(0, 2000, (8, 10, 12)).astype(np.uint16)
    for patient in ("4711", "4712"):
        write_series(tmp_path / patient / "dicom", voxels[:1], number=1)
        write_series(tmp_path / patient / "dicom", voxels, number=2)
        affine = open_volume(tmp_path / patient / "dicom", select=2).affine
        layouts.label(tmp_path / patient / "label.nii.gz", affine=affine)
    cases = segexplorer.open_dataset(tmp_path).cases()
    assert [ref.id for ref in cases] == ["4711", "4712"]
    assert all(ref.open().images[0].shape == (12, 10, 8) for ref in cases)
