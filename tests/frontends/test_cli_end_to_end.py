"""The command line from experiment file to scores, on a phantom, in the order of a user's work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import segexplorer
from segexplorer.core.events import ValidationDone
from segexplorer.frontends.cli.app import run

TINY = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": {"kind": "tversky"},
    "schedule": {"kind": "polynomial", "epochs": 1},
    "compute": {"device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def trained(config: Path) -> Path:
    """Return the folder of a run that the command line trained."""
    folder = config.parent / "run"
    assert run(["train", str(config), "--set", "loss.alpha=0.6", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def files(config: Path) -> tuple[Path, Path]:
    """Return an image and its label as files."""
    case = segexplorer.Experiment.from_yaml(config).data.cases()[0].open()
    image, label = config.parent / "image.nii.gz", config.parent / "label.nii.gz"
    segexplorer.save_volume(case.images[0], image)
    segexplorer.save_volume(case.label, label, integer=True)
    return image, label


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """Run a command with --json and return what it printed."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_settings_reach_the_run(trained: Path) -> None:
    record = segexplorer.open_run(trained)
    assert record.state == "finished"
    assert record.experiment.loss.alpha == 0.6


def test_resumed_run_goes_on_where_it_was(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = answer(capsys, "train", "--resume", trained, "--extend", "1")
    assert summary["state"] == "finished"
    assert summary["step"] == 4
    assert summary["folder"] == str(trained)


def test_finished_run_says_what_is_there_and_how_to_extend(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "events.jsonl").read_bytes()
    capsys.readouterr()
    assert run(["train", "--resume", str(trained)]) == 0
    told = capsys.readouterr().err
    assert f"{trained} is finished" in told and "Best mean foreground Dice" in told
    assert f"--resume {trained} --extend 5" in told
    assert run(["train", "--resume", str(trained), "--set", "loss.alpha=0.4"]) == 2
    assert "no step would use loss.alpha" in capsys.readouterr().err
    assert answer(capsys, "train", "--resume", trained)["state"] == "finished"
    assert (trained / "events.jsonl").read_bytes() == before


def test_extension_keeps_the_best_and_is_no_edit(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(["train", str(config), "--output", str(folder)]) == 0
    assert "2 (1 epoch of 2)" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder), "--extend", "1"]) == 0
    told = capsys.readouterr().err
    assert "Extended by 1 epoch, to 2." in told and "4 (2 epochs of 2)" in told
    assert "[extended from 1 to 2 epochs]" in told and "edited" not in told
    best = max(e.mean_dice for e in validations(folder))
    assert f"Best mean foreground Dice {best:.3f}" in told


def validations(folder: Path) -> list[ValidationDone]:
    return [e for e in segexplorer.open_run(folder).events() if isinstance(e, ValidationDone)]


def test_run_folder_is_never_overwritten(
    trained: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "events.jsonl").read_bytes()
    assert run(["train", str(config), "--output", str(trained)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (trained / "events.jsonl").read_bytes() == before


def test_prediction_keeps_the_grid_and_is_scored(
    trained: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, label = files
    output = tmp_path / "prediction.nii.gz"
    assert run(["predict", str(trained), str(image), "-o", str(output), "--checkpoint", "last"]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    np.testing.assert_allclose(segexplorer.open_volume(output).affine, segexplorer.open_volume(image).affine)
    told = answer(capsys, "evaluate", output, label)
    assert told["scores"]
    assert 0 <= told["summary"]["overall"]["mean"]["dice"] <= 1
    assert run(["predict", str(trained), str(image), "-o", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".mha"])
def test_predictions_are_written_in_the_format_of_their_name(
    trained: Path, files: tuple[Path, Path], tmp_path: Path, suffix: str
) -> None:
    image, output = files[0], tmp_path / f"out{suffix}"
    assert run(["predict", str(trained), str(image), "-o", str(output), "--checkpoint", "last"]) == 0
    written, source = segexplorer.open_volume(output, label=True), segexplorer.open_volume(image)
    np.testing.assert_allclose(written.affine, source.affine)
    assert written.shape == source.shape and written.array.dtype == np.uint8
    if suffix == ".seg.nrrd":
        names = segexplorer.Experiment.of(TINY).data.class_values()
        assert written.label_names == {values[0]: name for name, values in names.items()}


def test_run_and_image_exchanged_are_reported_before_anything_is_read(
    trained: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(files[0]), str(trained), "-o", str(tmp_path / "out")]) == 2
    assert "The run comes first" in capsys.readouterr().err


def test_interrupted_prediction_leaves_whole_files_only(
    trained: Path,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from segexplorer.training.predict import Predictor

    image, label = files
    whole, begun = Predictor.class_steps, []

    def interrupted(self: Predictor, images: Any, **more: Any) -> Any:
        begun.append(images)
        source = whole(self, images, **more)
        if len(begun) == 2:
            yield next(source)
            raise KeyboardInterrupt
        return (yield from source)

    monkeypatch.setattr(Predictor, "class_steps", interrupted)
    out = tmp_path / "new" / "out"
    assert run(["predict", str(trained), str(image), str(label), "-o", str(out)]) == 130
    told = capsys.readouterr()
    assert told.out.splitlines() == [str(out / "image_prediction.nii.gz")]
    assert "1 of 2 predictions" in told.err and "case 1 of 2: 27 windows" in told.err
    assert [path.name for path in out.iterdir()] == ["image_prediction.nii.gz"]
    del begun[1:]  # the next one is the second again
    assert run(["predict", str(trained), str(image), "-o", str(tmp_path / "other" / "x.nii.gz")]) == 130
    assert not (tmp_path / "other").exists()


def test_a_run_is_replayed_in_words_and_in_lines_of_json(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["replay", str(trained), "--speed", "0"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    for text in ("Cases", "epoch 1: mean Dice", "Best mean foreground Dice", "The run finished at step"):
        assert text in told.err
    assert run(["replay", str(trained), "--speed", "0", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[-1]["event"] == "RunFinished" and lines[-1]["state"] == "finished"
    assert run(["replay", str(trained / "checkpoints")]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_shared_run_predicts_and_is_reported_but_not_trained(
    trained: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "shared.zip"
    capsys.readouterr()
    assert run(["share", str(trained), "-o", str(archive)]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(archive)
    assert "3 cases numbered" in told.err and "No voxels are in it" in told.err and "liver" in told.err
    assert run(["share", str(trained), "-o", str(archive)]) == 2
    assert "already exists" in capsys.readouterr().err
    shutil.unpack_archive(archive, tmp_path)
    predictions = [tmp_path / "here.nii.gz", tmp_path / "there.nii.gz"]
    for folder, output in zip((trained, tmp_path / "run"), predictions, strict=True):
        assert run(["predict", str(folder), str(files[0]), "-o", str(output)]) == 0
    here, there = (segexplorer.open_volume(path, label=True).array for path in predictions)
    np.testing.assert_array_equal(here, there)
    assert run(["replay", str(tmp_path / "run"), "--speed", "0"]) == 0
    capsys.readouterr()
    assert run(["train", "--resume", str(tmp_path / "run"), "--extend", "1"]) == 2
    assert "is a shared copy: it predicts, but cannot be trained further." in capsys.readouterr().err


def test_truth_against_itself_is_perfect(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, label = files
    values = segexplorer.Experiment.of(TINY).data.class_values()
    classes = yaml.safe_dump(
        {name: list(v) for name, v in values.items()}, default_flow_style=True, sort_keys=False
    )
    told = answer(capsys, "evaluate", label, label, "--classes", classes)
    assert [score["class_name"] for score in told["scores"]] == list(values)
    assert told["summary"]["overall"]["mean"]["dice"] == 1
    assert run(["evaluate", str(label), str(label), "--classes", classes]) == 0
    told_in_words = capsys.readouterr().out
    assert "Mean foreground Dice 1.0000" in told_in_words
    assert "Sens." in told_in_words and "…" not in told_in_words  # every figure is legible


def test_check_finds_nothing_wrong(
    config: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, label = files
    assert answer(capsys, "check", config)["facts"]["Cases"] == "3"
    facts = answer(capsys, "check", image, label)["facts"]
    assert facts["Size"].startswith("32 × 32 × 32 voxels")
    assert run(["check", str(config)]) == 0
    assert "Split" in capsys.readouterr().out


def test_check_tells_a_label_that_does_not_fit(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, label = files
    volume = segexplorer.open_volume(label, label=True)
    finer = np.diag([1.0, 1.0, 0.7, 1.0])  # which is on no lattice with the image
    smaller = type(volume).from_array(np.asarray(volume.array)[:20], affine=volume.affine @ finer)
    segexplorer.save_volume(smaller, tmp_path / "smaller.nii.gz", integer=True)
    assert run(["check", str(image), str(tmp_path / "smaller.nii.gz")]) == 2
    assert "error" in capsys.readouterr().out
    assert run(["evaluate", str(label), str(tmp_path / "smaller.nii.gz")]) == 2
    assert "different grids" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"los": "dice"}, "loss"),
        ({"loss": {"kind": "tverski"}}, "tversky"),
        ({"loss": {"kind": "tversky", "alpa": 1}}, "alpha"),
        ({"loss": {"kind": "tversky", "alpha": -1}}, "alpha"),
        ({"data": {"kind": "folder", "root": "nowhere"}}, "nowhere"),
    ],
)
def test_mistakes_in_an_experiment_are_named(
    changes: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    for command in ("check", "train"):
        assert run([command, str(path)]) == 2
        streams = capsys.readouterr()
        error = streams.err + streams.out  # what the data lack stands in check's report
        assert told in error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    "content", [b"", b"no volume at all", b"\x1f\x8b\x08\x00torn"], ids=["empty", "text", "torn gzip"]
)
def test_files_that_are_no_volume_are_named(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    assert run(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert "scan.nii.gz" in error
    assert "Traceback" not in error


def test_a_command_that_never_planned_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "e.yaml", tmp_path / "first"
    config.write_text(f"data: {{kind: decathlon, root: {tmp_path / 'nowhere'}}}\nnetwork: unet\nloss: dice\n")
    assert run(["train", str(config), "-o", str(out)]) == 2
    assert not out.exists() and "Run folder" not in capsys.readouterr().err
