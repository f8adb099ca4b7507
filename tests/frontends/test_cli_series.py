"""`segexplorer series` lists what a DICOM folder holds without naming a patient, and `--series` chooses from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from segexplorer.data.formats.dicom.seg import write_seg
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends import viewing
from segexplorer.frontends.cli.app import run
from segexplorer.frontends.cli.series import selected
from segexplorer.testing.dicom import PATIENT, write_series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two CT series and a DICOM SEG of the second."""
    voxels = np.random.default_rng(0).integers(0, 4096, (4, 6, 5)).astype(np.uint16)
    write_series(tmp_path / "study" / "a", voxels[:3], number=1)
    write_series(tmp_path / "study" / "b", voxels, number=2)
    image = open_volume(tmp_path / "study" / "b")
    label = image.with_array((image.array > 0).astype(np.uint8))
    pytest.importorskip("highdicom")  # no wheels for Python 3.14 yet
    write_seg(label, tmp_path / "study" / "seg.dcm", names={1: "Liver"})
    return tmp_path / "study"


def test_the_table_and_json_list_series_by_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["series", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "5 × 6 × 3" in table and "5 × 6 × 4" in table and "1 Liver" in table and "LPS" in table
    assert run(["series", str(folder), "--json"]) == 0
    text = capsys.readouterr().out
    listed = json.loads(text)
    assert [one["kind"] for one in listed] == ["image", "image", "segmentation"]
    assert listed[1]["shape"] == [5, 6, 4] and listed[2]["names"] == {"1": "Liver"}
    assert not any(value in table + text for value in PATIENT.values() if len(value) > 1)


def test_a_note_that_series_share_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = (0.9063, 0.4226, 0, -0.4226, 0.9063, 0)  # 25 degrees about the long axis
    for number in (1, 2):
        write_series(tmp_path / str(number), np.ones((3, 6, 5), np.uint16), number=number, across=turned)
    assert run(["series", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("oblique" in line for line in lines) == 1
    assert lines[1].rstrip().endswith("[1]") and lines[2].rstrip().endswith("[1]")
    assert lines[3].startswith("[1] The axes are")


def test_a_series_is_chosen_by_its_number(folder: Path) -> None:
    volume = selected(folder, "2")
    assert isinstance(volume, Volume) and volume.shape == (5, 6, 4)
    assert selected(folder, None) == folder


def test_what_holds_no_series_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    assert run(["series", str(tmp_path)]) == 2
    assert "holds no DICOM file" in capsys.readouterr().err
    assert run(["series", str(tmp_path / "missing")]) == 2
    assert "There is no" in capsys.readouterr().err


def test_check_looks_at_the_chosen_series_and_its_label(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(folder), "--series", "1"]) == 0
    assert re.search("5 . 6 . 3 voxels", capsys.readouterr().out)
    assert run(["check", str(folder), str(folder / "seg.dcm"), "--series", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert re.match("5 . 6 . 4 voxels", report["facts"]["Size"]) and "Liver" in report["facts"]["Label"]
    assert run(["check", str(folder), "--series", "9"]) == 2
    assert "no series 9" in capsys.readouterr().err


def test_segments_are_shown_by_name_on_their_image(folder: Path) -> None:
    volumes = viewing.open_all([folder / "b", folder / "seg.dcm"])
    assert volumes[1].shape == volumes[0].shape
    picture = viewing.picture_of(volumes[1], 2)
    assert picture.kind == "labels" and picture.values == {1: "Liver"}
