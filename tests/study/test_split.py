"""Comparisons on test cases, as they were scored once and recorded in the run folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study import compare
from segexplorer.study.render import csv_table, markdown_tables
from segexplorer.training.scores import SplitScores, recorded_scores

RunMaker = Callable[..., Path]


def score(case: str, value: float) -> CaseScore:
    return CaseScore(
        case=case,
        class_name="liver",
        role="validation",
        state="scored",
        metrics={"dice": value},
        false_positive_ml=0.0,
        false_negative_ml=0.0,
        truth_ml=1.0,
    )


def record(
    folder: Path, scores: list[CaseScore], *, number: int = 1, step: int = 10, checkpoint: str = "best"
) -> None:
    """Write a record of test scores as `score_split` does."""
    made = SplitScores(
        split="test",
        number=number,
        checkpoint=checkpoint,  # type: ignore[arg-type]
        weights="step_10",
        step=step,
        sha256="0" * 64,
        time=1.0,
        seconds=1.0,
        version="0",
        definitions={},
        fingerprints={},
        scores=tuple(replace(s, role="test") for s in scores),
    )
    (folder / "scores").mkdir(exist_ok=True)
    name = "test.json" if number == 1 else f"test.{number}.json"
    (folder / "scores" / name).write_text(json.dumps(with_checksum(json.loads(made.model_dump_json()))))


@pytest.fixture
def folders(make_run: RunMaker) -> list[Path]:
    """Runs whose test cases say the opposite of their validation cases."""
    roles = {"t": "train", **{f"v{i}": "validation" for i in range(6)}, **{f"x{i}": "test" for i in range(7)}}
    found = []
    for loss, shift in (("dice", 0.0), ("tversky", 0.1)):
        for seed in range(3):
            validated = [score(f"v{i}", 0.5 + 0.01 * i + shift + 0.001 * seed) for i in range(6)]
            found.append(make_run(f"{loss}{seed}", validated, loss=loss, seed=seed, roles=roles))
            tested = [
                score(f"x{i}", 0.5 + 0.01 * i - shift * (1 + 0.01 * i) + 0.001 * seed) for i in range(7)
            ]
            record(found[-1], tested)
    return found


def test_the_recorded_test_scores_are_compared_and_named(folders: list[Path]) -> None:
    validation, test = (compare(folders, split=s, metrics=["dice"]) for s in ("validation", "test"))
    assert validation.differences[0].better == "condition" and test.differences[0].better == "reference"
    assert (test.split, test.checkpoint, validation.checkpoint) == ("test", "best", "best")
    assert test.differences[0].n_pairs == 7 and test.differences[0].mean == pytest.approx(-0.103)
    assert "scored on the test cases" in test.notes[0] and "flatters" not in test.notes[0]
    assert "Mean over 7 test cases" in markdown_tables(test)
    assert "Mean over 6 validation cases" in markdown_tables(validation)
    assert ",best,test," in csv_table([test])


def test_what_was_not_scored_or_has_trained_on_is_refused_with_the_command(folders: list[Path]) -> None:
    with pytest.raises(DataError, match="have not been scored with its last weights") as refused:
        compare(folders, split="test", checkpoint="last")
    assert f"segexplorer evaluate {folders[0]} --split test --checkpoint last" in refused.value.remedy
    assert "--again" in refused.value.remedy  # the best weights were scored already
    record(folders[0], [score("x0", 0.5)], number=2, step=5, checkpoint="last")
    with pytest.raises(DataError, match="scored at step 5, and it has trained to step 10"):
        compare(folders, split="test", checkpoint="last")


def test_scores_of_weights_that_are_no_longer_the_best_are_refused(folders: list[Path]) -> None:
    pointer = folders[1] / "checkpoints" / "best"
    pointer.parent.mkdir(exist_ok=True)
    pointer.write_text("step_10\n")
    assert compare(folders, split="test", metrics=["dice"]).split == "test"
    pointer.write_text("step_20\n")
    with pytest.raises(DataError, match="scored with step_10, and its best weights are step_20 now") as error:
        compare(folders, split="test", metrics=["dice"])
    assert "--again" in error.value.remedy


def test_several_looks_at_the_test_cases_are_said(folders: list[Path]) -> None:
    record(folders[1], [score(f"x{i}", 0.5) for i in range(7)], number=2)
    notes = compare(folders, split="test", metrics=["dice"]).notes
    assert any("more than once: dice1 (2 times)" in note for note in notes)


def test_a_study_scores_its_test_cases_once_and_compares_on_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    plain = {
        "data": {"kind": "phantom", "size": 32, "count": 5},
        "split": {"validation_count": 1, "test_fraction": 0.3},
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1},
        "schedule": {"kind": "constant", "epochs": 1},
        "loss": "dice",
        "compute": {"threads": 1},
        "matrix": {"loss": ["dice", "tversky"]},
    }
    file.write_text(yaml.safe_dump(plain))
    out = tmp_path / "runs"
    arguments = ["study", str(file), "-o", str(out), "--split", "test", "--json"]
    assert cli(arguments) == 0
    (told,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (told["split"], told["checkpoint"]) == ("test", "best")
    assert cli(arguments) == 0
    assert "had scored" in capsys.readouterr().err
    assert [len(recorded_scores(out / name, "test")) for name in ("dice", "tversky")] == [1, 1]
    assert cli(["compare", str(out), "--split", "test", "--metrics", "dice"]) == 0
    assert "Means over test cases" in capsys.readouterr().out


def test_reading_test_scores_needs_no_torch(folders: list[Path]) -> None:
    code = (
        "import sys; from segexplorer.study import compare; "
        f"compare({[str(f) for f in folders]!r}, split='test', metrics=['dice']); "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
