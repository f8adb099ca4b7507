"""`segexplorer slicer`: what other readers find in the folder that it writes, and how Slicer is started."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from segexplorer.core.colours import CLASSES, FALSE_NEGATIVE, rgba
from segexplorer.core.errors import ExitCode
from segexplorer.frontends import slicer as slicer_module
from segexplorer.frontends.cli.app import run
from segexplorer.frontends.slicer import PROGRAM_VARIABLE, find_slicer
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.snapshots import WatchedSnapshot
from tests.data.results.layouts import label, nnunet


@pytest.fixture(autouse=True)
def no_slicer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(slicer_module, "_places", list)


def written(tmp_path: Path, *more: str) -> Path:
    out = tmp_path / "out"
    code = run(["slicer", str(nnunet(tmp_path)), "--case", "hippo_003", "-o", str(out), *more])
    assert code == ExitCode.DONE
    return out


def test_other_readers_find_voxels_names_and_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = written(tmp_path)
    streams = capsys.readouterr()
    assert streams.out.strip() == str(out) and "3D Slicer was not found" in streams.err
    image = sitk.ReadImage(str(out / "image.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), 100.0 * label(3).T)
    assert image.GetSpacing() == (1.0, 1.0, 2.0) and image.GetDirection()[0] == -1.0
    for name, voxels in (("truth", label(3)), ("prediction", label(3, moved=3))):
        found = sitk.ReadImage(str(out / f"{name}.seg.nrrd"))
        assert np.array_equal(sitk.GetArrayFromImage(found), voxels.T)
        assert found.GetMetaData("Segment1_Name") == "posterior"
        assert found.GetMetaData("Segment1_LabelValue") == "2"
        colour = [float(part) for part in found.GetMetaData("Segment1_Color").split()]
        assert np.allclose(colour, rgba(CLASSES[1])[:3], atol=1e-3)
        assert found.GetOrigin() == image.GetOrigin() and found.GetDirection() == image.GetDirection()


def test_errors_are_what_differs_and_the_points_lie_in_them(tmp_path: Path) -> None:
    out = written(tmp_path)
    errors = sitk.ReadImage(str(out / "errors.seg.nrrd"))
    assert errors.GetMetaData("Segment1_Name") == "false negative"
    colour = [float(part) for part in errors.GetMetaData("Segment1_Color").split()]
    assert np.allclose(colour, rgba(FALSE_NEGATIVE)[:3], atol=1e-3)
    codes = sitk.GetArrayFromImage(errors)
    assert np.array_equal(codes.T > 0, label(3) != label(3, moved=3))
    (listed,) = json.loads((out / "errors.mrk.json").read_text())["markups"]
    assert listed["type"] == "Fiducial" and listed["coordinateSystem"] == "LPS"
    assert len(listed["controlPoints"]) == 2
    for point in listed["controlPoints"]:
        index = errors.TransformPhysicalPointToIndex(point["position"])  # ITK's world is LPS
        assert errors[index] == (2 if point["selected"] else 3)
        assert "posterior" in point["label"]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    place = str(nnunet(tmp_path))
    assert run(["slicer", place, "--case", "hippo_003", "-o", str(out)]) == ExitCode.MISTAKE
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert run(["slicer", place, "--case", "hippo_003", "-o", str(out), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][-1] == "errors.mrk.json"


def test_without_case_or_with_another_one_it_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(nnunet(tmp_path))
    assert run(["slicer", place]) == ExitCode.MISTAKE
    assert run(["slicer", place, "--case", "hippo_03"]) == ExitCode.MISTAKE
    said = capsys.readouterr().err
    assert "holds 4 cases" in said and "hippo_003" in said


def test_an_installed_slicer_is_started_with_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "Slicer-5.8.1" / "Slicer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "[$QT_PLUGIN_PATH]" > {tmp_path}/heard.part\n'
                       f"/bin/mv {tmp_path}/heard.part {tmp_path}/heard\n")  # fmt: skip
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("QT_PLUGIN_PATH", "/ours")
    monkeypatch.setenv(PROGRAM_VARIABLE, str(program))
    started: list[object] = []
    popen = slicer_module.subprocess.Popen

    def start(*arguments: object, **options: object) -> object:
        started.append(process := popen(*arguments, **options))  # type: ignore[call-overload]
        return process

    monkeypatch.setattr(slicer_module.open_in_slicer, "__defaults__", (start,))
    out = written(tmp_path)
    started[0].wait(10)  # type: ignore[attr-defined]
    heard = (tmp_path / "heard").read_text().splitlines()
    names = ["image.nrrd", "truth.seg.nrrd", "prediction.seg.nrrd", "errors.seg.nrrd", "errors.mrk.json"]
    assert heard == [*(str(out / name) for name in names), "[]"]


def test_the_newest_of_several_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("5.6.2", "5.10.0", "5.8.1"):
        place = tmp_path / f"Slicer-{version}-linux-amd64"
        place.mkdir()
        (place / "Slicer").write_text("")
    monkeypatch.setattr(slicer_module, "_places", lambda: [str(tmp_path / "Slicer*" / "Slicer")])
    found = find_slicer()
    assert found is not None and "5.10.0" in str(found)


def test_a_watched_case_of_a_run_with_its_image(tmp_path: Path) -> None:
    experiment = Experiment.of(
        {"data": {"kind": "phantom", "count": 2, "size": 24, "seed": 1}, "compute": {"device": "cpu"}}
    )
    case = experiment.data.cases()[0]
    truth = case.open().label
    assert truth is not None
    array = np.ascontiguousarray(truth.array).astype(np.uint8)
    folder = RunFolder.create(experiment, tmp_path / "run")
    for index, step in enumerate((5, 10)):
        prediction = array if step == 10 else np.zeros_like(array)
        names = tuple(experiment.data.class_values())
        folder.write_frame(
            WatchedSnapshot(case.id, "validation", step, index, names, truth.affine, prediction, array), 1
        )
    folder.close()
    out = tmp_path / "out"
    assert run(["slicer", str(folder.path), "-o", str(out), "--step", "4", "--write-only"]) == ExitCode.DONE
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(out / "prediction.seg.nrrd"))).max() == 0
    assert sitk.ReadImage(str(out / "image.nrrd")).GetSize() == array.shape
    points = json.loads((out / "errors.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert points and not any(point["selected"] for point in points)
