"""The scores of a run's own test cases: on the cases' own grid, computed once, recorded, counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import segexplorer
from segexplorer.core.errors import DataError, SegExplorerError, SpecError
from segexplorer.core.events import CaseScore, ValidationDone, WatchedDone
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run as cli
from segexplorer.metrics.calibration import ANY_CLASS, CALIBRATION_METRICS, curve_of, ece
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.run import Run
from segexplorer.training.scores import recorded_scores, score_split_steps


def write_cases(folder: Path, rng: np.random.Generator) -> list[dict[str, str]]:
    """Write five cases with a bright block, their axes turned and their voxels not cubes."""
    turned = np.array([[0, -1.2, 0, 30], [-0.8, 0, 0, 10], [0, 0, 2.0, -5], [0, 0, 0, 1.0]])
    pairs = []
    for number in range(5):
        label = np.zeros((20, 22, 14), np.int16)
        low = rng.integers(2, 6, 3)
        label[tuple(slice(n, n + size) for n, size in zip(low, (10, 9, 7), strict=True))] = 7
        label[0, :4, :4] = 9
        image = (label > 0) * 300.0 + rng.normal(0, 60, label.shape)
        paths = {}
        for name, array in (("image", image.astype(np.float32)), ("label", label)):
            paths[name] = str(folder / f"{number}-{name}.nii.gz")
            save_volume(Volume.from_array(array, affine=turned), Path(paths[name]))
        pairs.append({"case": f"case_{number}", **paths})
    return pairs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on resampled cases, two of them for testing."""
    folder = tmp_path_factory.mktemp("scores")
    experiment = Experiment.of(
        {
            "data": {
                "kind": "pairs",
                "pairs": write_cases(folder, np.random.default_rng(0)),
                "classes": {"block": 7, "corner": 9},
            },
            "split": {"validation": ["case_1"], "test": ["case_3", "case_4"]},
            "preprocessing": {"spacing": [1.5, 1.5, 1.5], "intensity": "z_score"},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 6},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "optimiser": {"kind": "adamw", "learning_rate": 0.01},
            "schedule": {"kind": "constant", "epochs": 2},
            "compute": {"device": "cpu", "threads": 1},
        }
    )
    return segexplorer.train(experiment, folder / "run").folder


@pytest.fixture
def fresh(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that nothing has scored."""
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "scores", ignore_errors=True)
    return copy


def from_labels(score: CaseScore) -> dict[str, float]:
    """Return the metrics but those of calibration, which every score of a split has besides."""
    assert set(CALIBRATION_METRICS) <= set(score.metrics)
    return {name: value for name, value in score.metrics.items() if name not in CALIBRATION_METRICS}


def test_they_are_what_scoring_files_gives(fresh: Path, tmp_path: Path) -> None:
    record = segexplorer.score_split(fresh)
    assert record.cases == ("case_3", "case_4") and record.checkpoint == "best" and record.number == 1
    classes = {"block": 7, "corner": 9}
    for ref in segexplorer.open_run(fresh).experiment.data.cases():
        if ref.id not in record.cases:
            continue
        predicted = tmp_path / f"{ref.id}.nii.gz"
        save_volume(segexplorer.predict(fresh, list(ref.images)), predicted, integer=True)
        files = segexplorer.evaluate(predicted, str(ref.label), classes, case=ref.id)
        own = [score for score in record.scores if score.case == ref.id]
        assert [s.class_name for s in own] == [s.class_name for s in files] == ["block", "corner"]
        for mine, theirs in zip(own, files, strict=True):
            assert from_labels(mine) == pytest.approx(dict(theirs.metrics), rel=1e-6, nan_ok=True)
            assert mine.truth_ml == pytest.approx(theirs.truth_ml)
    # the grid is the cases' own: all voxels of the file count, in the file's size
    block = next(score for score in record.scores if score.class_name == "block")
    assert block.truth_ml == pytest.approx(10 * 9 * 7 * 1.2 * 0.8 * 2.0 / 1000)


def test_validation_cases_repeat_the_scores_of_training(fresh: Path) -> None:
    done = [e for e in segexplorer.open_run(fresh).events() if isinstance(e, ValidationDone)][-1]
    record = segexplorer.score_split(fresh, "validation", checkpoint="last")
    assert len(record.scores) == len(done.scores) == 2
    for mine, theirs in zip(record.scores, done.scores, strict=True):
        assert from_labels(mine) == pytest.approx(dict(theirs.metrics), nan_ok=True)
        assert (mine.case, mine.state, mine.role) == (theirs.case, theirs.state, "validation")


def test_once_unless_asked_again(fresh: Path) -> None:
    first = segexplorer.score_split(fresh)
    held = (fresh / "scores/test.json").read_bytes()
    source = score_split_steps(fresh)
    with pytest.raises(StopIteration) as end:  # it ends without a single window
        next(source)
    shown = end.value.value
    assert shown.time == first.time and shown.model_dump_json() == first.model_dump_json()
    second = segexplorer.score_split(fresh, again=True)
    assert second.number == 2 and second.time > first.time
    assert {m: v for s in second.scores for m, v in s.metrics.items()} == pytest.approx(
        {m: v for s in first.scores for m, v in s.metrics.items()}, nan_ok=True
    )
    assert (fresh / "scores/test.json").read_bytes() == held
    records = segexplorer.open_run(fresh).scores("test")
    assert [record.number for record in records] == [1, 2]
    assert segexplorer.open_run(fresh).scores("validation") == ()
    assert segexplorer.score_split(fresh).number == 2


def test_record_says_what_was_scored(fresh: Path) -> None:
    record = segexplorer.score_split(fresh, checkpoint="last")
    meta = json.loads((fresh / "checkpoints" / record.weights / "meta.json").read_text())
    assert record.sha256 == meta["sha256"]["weights.safetensors"] and record.step == meta["step"] == 12
    assert record.definitions["dice"] == "2 TP / (2 TP + FP + FN)"
    assert record.version == segexplorer.__version__
    with pytest.raises(SpecError, match="with 'best' they would be looked at once more") as error:
        segexplorer.score_split(fresh, checkpoint="best")
    assert "--again" in error.value.remedy


def test_calibration_is_recorded_with_the_scores(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = segexplorer.score_split(fresh)
    voxels = 2 * 20 * 22 * 14
    for name in ("block", "corner", ANY_CLASS):
        curve = curve_of(record.calibration, name, "all")
        assert curve.voxels == voxels and 0 < ece(curve) < 1
        # the box around both structures, 10 mm wider: all of so small a volume
        assert curve_of(record.calibration, name, "box").voxels <= voxels
    # of any class, right is what is neither a false positive nor a false negative of the scores
    accuracy = sum(curve_of(record.calibration, ANY_CLASS, "all").corrects) / voxels
    predicted, truth = predictions_and_truths(fresh, record.cases)
    assert accuracy == pytest.approx(np.mean(predicted == truth), abs=1e-12)
    assert cli(["evaluate", str(fresh), "--split", "test", "--metrics", "ece,brier"]) == 0
    out = capsys.readouterr().out
    assert "any class" in out and "Brier" in out
    folder = fresh.parent / "diagrams"
    words = ["evaluate", str(fresh), "--split", "test", "--plots", str(folder), "--format", "svg,pdf"]
    assert cli(words) == 0
    names = {f"test_reliability_{region}.{suffix}" for region in ("box", "all") for suffix in ("svg", "pdf")}
    assert {path.name for path in folder.iterdir()} == names
    assert "<svg" in (folder / "test_reliability_box.svg").read_text()


def predictions_and_truths(run: Path, cases: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return predicted and true label values of all cases, one after the other."""
    refs = [ref for ref in segexplorer.open_run(run).experiment.data.cases() if ref.id in cases]
    predicted = [np.asarray(segexplorer.predict(run, list(ref.images)).array).ravel() for ref in refs]
    true = [np.asarray(ref.open().label.array).ravel() for ref in refs]  # type: ignore[union-attr]
    return np.concatenate(predicted).astype(np.int64), np.concatenate(true).astype(np.int64)


def test_watched_cases_are_calibrated_in_training(trained: Path) -> None:
    watched = [e for e in segexplorer.open_run(trained).events() if isinstance(e, WatchedDone)]
    assert {e.role for e in watched} == {"train", "validation"}
    for event in watched:
        assert curve_of(event.calibration, ANY_CLASS, "all").voxels == 20 * 22 * 14
    last = [e for e in watched if e.role == "validation"][-1]
    record = segexplorer.score_split(trained, "validation", checkpoint="last")
    for mine, theirs in zip(record.calibration, last.calibration, strict=True):
        assert mine.counts == theirs.counts and mine.corrects == theirs.corrects
        assert mine.confidences == pytest.approx(theirs.confidences)


def test_training_cases_carry_their_badge(fresh: Path) -> None:
    record = segexplorer.score_split(fresh, "train")
    assert record.cases == ("case_0", "case_2")
    assert {score.badge for score in record.scores} == {NOT_HELD_OUT}


def edit_provenance(folder: Path, **changes: dict[str, str]) -> None:
    path = folder / "provenance.json"
    attempts = json.loads(path.read_text())
    for name, values in changes.items():
        attempts[-1][name] |= values
    attempts[-1].pop("checksum")
    path.write_text(json.dumps(attempts))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"roles": {"case_3": "train", "case_4": "train"}}, "No case of run was kept for testing"),
        ({"data": {"case_4": "0" * 64}}, "case_4 has other data now than when run was trained"),
        (
            {"roles": {"case_9": "test"}, "data": {"case_9": "0" * 64}},
            "case_9 of run is no longer in the data set",
        ),
    ],
)
def test_cases_that_cannot_be_scored_say_why(
    fresh: Path, changes: dict[str, dict[str, str]], sentence: str
) -> None:
    edit_provenance(fresh, **changes)
    with pytest.raises(DataError, match=sentence) as error:
        segexplorer.score_split(fresh)
    assert error.value.remedy and not (fresh / "scores").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"number": 1', '"number": 0'),
        lambda text: text.replace('"split": "test"', '"split": "train"'),
        lambda text: text.replace('"state": "scored"', '"state": "well done"'),
        lambda text: text.replace('"step": 12', '"step": "many"'),
        lambda _: "[" * 100_000,
        lambda _: "",
    ],
)
def test_damaged_record_is_one_sentence(trained: Path, tmp_path: Path, damage: object) -> None:
    segexplorer.score_split(trained)
    text = (trained / "scores/test.json").read_text()
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/test.json").write_text(damage(text))  # type: ignore[operator]
    with pytest.raises(SegExplorerError, match=r"scores in .*test\.json are damaged"):
        recorded_scores(tmp_path, "test")


def test_command_line_shows_and_counts(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["evaluate", str(fresh), "--split", "test"]) == 0
    out = capsys.readouterr().out
    assert "Test cases of run" in out and "case's own grid" in out and "scored once" in out
    assert cli(["evaluate", str(fresh), "--split", "test"]) == 0
    assert "nothing was computed now" in capsys.readouterr().out
    assert cli(["evaluate", str(fresh), "--split", "test", "--again", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["record"]["number"] == 2 and shown["record"]["computed_now"] is True
    assert {score["case"] for score in shown["scores"]} == {"case_3", "case_4"}
    assert cli(["evaluate", str(fresh), "--split", "test"]) == 0
    assert "scored 2 times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Add --split test"),
        (("--again",), "belong to --split"),
        (("truth.nii.gz", "--split", "test"), "truth is the data set's own"),
        (("--split", "test", "--classes", "{a: 1}"), "classes are those of the run"),
        (("--split", "test", "--resample"), "nothing to resample"),
    ],
)
def test_command_line_refuses_what_has_no_meaning(
    trained: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert cli(["evaluate", str(trained), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_calibration_in_training_can_be_switched_off(make_run: Callable[..., Run]) -> None:
    run = make_run(validation__calibration=False, validation__keep_probabilities=False, schedule__epochs=1)
    watched = [event for event in run if isinstance(event, WatchedDone)]
    assert watched and all(event.calibration == () for event in watched)


def test_further_metrics_of_the_experiment_are_scored_at_every_validation_and_of_the_test_cases(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = segexplorer.open_run(trained).experiment
    asked = {"metrics": ["lesions", "nsd"], "metric_options": {"min_voxels": 5, "nsd_tolerance": 2.0}}
    plain = experiment.plain()
    plain["validation"] |= asked
    plain["schedule"]["epochs"] = 1
    run = segexplorer.train(Experiment.of(plain), tmp_path / "run")
    (event,) = [e for e in segexplorer.open_run(run.folder).events() if isinstance(e, ValidationDone)]
    wanted = {*segexplorer.metrics.choose(asked["metrics"])}
    assert all(wanted <= set(score.metrics) for score in event.scores)
    assert cli(["evaluate", str(run.folder), "--split", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(wanted <= set(score["metrics"]) for score in told["scores"])
    assert cli(["evaluate", str(run.folder), "--split", "test", "--metrics", "cldice"]) == 2
    assert "--again" in capsys.readouterr().err
    again = ["evaluate", str(run.folder), "--split", "test", "--metrics", "cldice", "--again", "--json"]
    assert cli(again) == 0
    told = json.loads(capsys.readouterr().out)
    assert all({*wanted, "cldice"} <= set(score["metrics"]) for score in told["scores"])
    assert cli(["evaluate", str(run.folder), "--split", "test", "--lesions-csv", "x.csv"]) == 2
