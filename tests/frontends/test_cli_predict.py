"""`segexplorer predict` on what users have: folders, lists, several runs, a half-done folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run
from segexplorer.training.compute import Runtime
from segexplorer.training.ensemble import Ensemble, Prediction
from segexplorer.training.predict import load_predictor

AFFINE = np.diag([-1.0, -1.5, 2.0, 1.0])
AFFINE[:3, 3] = 5, 6, 7


def volume(seed: int) -> tuple[Volume, Volume]:
    label = np.zeros((18, 16, 14), np.uint8)
    label[4:12, 4:11, 3:10] = 1
    image = np.random.default_rng(seed).normal(0, 1, label.shape).astype(np.float32) + 2 * label
    return Volume.from_array(image, affine=AFFINE), Volume.from_array(label, affine=AFFINE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and two runs of other seeds."""
    root = tmp_path_factory.mktemp("predict")
    for n in range(3):
        for folder, one in zip(("images", "labels"), volume(n), strict=True):
            (root / "set" / folder).mkdir(parents=True, exist_ok=True)
            path = root / "set" / folder / f"p{n}.nii.gz"
            segexplorer.save_volume(one, path, integer=folder == "labels")
    for seed in (0, 1):
        segexplorer.train(
            {
                "data": {"kind": "folder", "root": str(root / "set")},
                "network": {"kind": "unet", "base_features": 4, "levels": 2},
                "loss": "dice",
                "sampling": {"patch_size": [16, 16, 16], "steps_per_epoch": 2},
                "schedule": {"epochs": 1},
                "compute": {"device": "cpu", "threads": 1},
                "seed": seed,
            },
            root / f"run{seed}",
        )
    return root


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["predict", *map(str, arguments), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_an_ensemble_averages_probabilities(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = root / "set/images/p2.nii.gz"
    runs = [root / "run0", root / "run1"]
    (case,) = predicted(capsys, *runs, image, "-o", tmp_path / "out.nii.gz", "--probabilities")
    assert case["case"] == "p2" and case["output"] == str(tmp_path / "out.nii.gz")
    with np.load(case["probabilities"], allow_pickle=False) as data:
        shares, names = data["probabilities"].astype(np.float32), data["classes"].tolist()
    each = []
    for folder in runs:
        source = load_predictor(folder).class_steps([segexplorer.open_volume(image)], probabilities=True)
        while True:
            try:
                next(source)
            except StopIteration as end:
                each.append(end.value.probabilities)
                break
    np.testing.assert_allclose(shares, (each[0] + each[1]) / 2, atol=1e-3)
    label = segexplorer.open_volume(case["output"], label=True).array
    np.testing.assert_array_equal(label, ((each[0] + each[1]) / 2).argmax(0))
    assert names == ["background", "foreground"] and shares.shape == (2, 18, 16, 14)


def test_an_ensemble_needs_no_probabilities_of_all_voxels_for_its_labels(root: Path) -> None:
    image = segexplorer.open_volume(root / "set/images/p1.nii.gz")
    cpu = Runtime("cpu", "CPU", "float32", 1, channels_last=True)

    def prediction(case_bytes: int, *, probabilities: bool, runs: int = 2) -> Prediction:
        runtime = dataclasses.replace(cpu, case_bytes=case_bytes)
        loaded = [load_predictor(root / f"run{n}", runtime=runtime) for n in range(runs)]
        ensemble, done = Ensemble(loaded), []
        source = ensemble.steps([image], probabilities=probabilities)
        while True:
            try:
                done.append(next(source).done)
            except StopIteration as end:
                assert done == sorted(done) and done[-1] >= runs
                found: Prediction = end.value
                return found

    whole = prediction(10**9, probabilities=True)
    assert whole.probabilities is not None
    expected = whole.probabilities.argmax(0)
    for most in (10**9, 1000):
        found = prediction(most, probabilities=False)
        assert found.probabilities is None
        np.testing.assert_array_equal(found.label.array, expected)
    with pytest.raises(DataError, match=r"probabilities of all voxels .* a case may take"):
        prediction(1000, probabilities=True)


@pytest.mark.parametrize("given", ["data set", "folder", "list", "channels"])
def test_folders_and_lists_are_cases(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    place = {"data set": root / "set", "folder": root / "set/images"}.get(given, tmp_path / "cases.csv")
    if given == "list":
        images = sorted((root / "set/images").iterdir())
        place.write_text("case,image\n" + "\n".join(f"p{n},{path}" for n, path in enumerate(images)))
    if given == "channels":
        place = tmp_path / "imagesTs"
        place.mkdir()
        for n in range(3):
            (place / f"p{n}_0000.nii.gz").write_bytes((root / f"set/images/p{n}.nii.gz").read_bytes())
    found = predicted(capsys, root / "run0", place, "-o", tmp_path / "out", "--name", "{case}.nii.gz")
    assert [case["case"] for case in found] == ["p0", "p1", "p2"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"p{n}.nii.gz" for n in range(3)]


def test_a_half_done_folder_is_finished(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = predicted(capsys, root / "run0", root / "set/images/p1.nii.gz", "-o", out)
    stamp = Path(first[0]["output"]).stat().st_mtime_ns
    assert run(["predict", str(root / "run0"), str(root / "set"), "-o", str(out)]) == 2
    assert "--skip" in capsys.readouterr().err
    rest = predicted(capsys, root / "run0", root / "set", "-o", out, "--skip")
    assert [case["case"] for case in rest] == ["p0", "p2"]
    assert Path(first[0]["output"]).stat().st_mtime_ns == stamp and len(list(out.iterdir())) == 3


def test_mirroring_changes_the_prediction_and_weights_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = root / "set/images/p0.nii.gz"
    shares = []
    for name, more in (("plain", []), ("mirrored", ["--mirror"])):
        command = ["predict", str(root / "run0"), str(image), "-o", str(tmp_path / f"{name}.nii.gz")]
        assert run([*command, "--probabilities", "--device", "cpu", *more]) == 0
        assert "Weights: best of run0" in capsys.readouterr().err
        with np.load(tmp_path / f"{name}_probabilities.npz", allow_pickle=False) as data:
            shares.append(data["probabilities"])
    assert not np.array_equal(*shares)


def test_what_cannot_be_predicted_is_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([root / "run0"], "No image is named after the run"),
        ([root / "set", root / "run0"], "is not a run folder"),
        ([root / "run0", tmp_path / "empty"], "holds no image"),
        ([root / "run0", tmp_path / "gone.nii.gz"], "There is no file"),
    ):
        assert run(["predict", *map(str, arguments), "-o", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
