"""`segexplorer errors`: the list without a window, verdicts included."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segexplorer.frontends.cli.app import run as segexplorer
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.verdicts import keep_verdict
from segexplorer.viewmodels.error_navigator import verdict_on
from segexplorer.viewmodels.error_pieces import error_pieces

EXPERIMENT = Experiment.of(
    {"data": {"kind": "phantom", "count": 2, "size": 32, "seed": 1}, "compute": {"device": "cpu"}}
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WatchedSnapshot]:
    """A run folder with two predictions of one phantom: its largest class is missed in the second."""
    case = EXPERIMENT.data.cases()[0]
    label = case.open().label
    assert label is not None
    names = tuple(EXPERIMENT.data.class_values())
    truth = np.asarray(label.array).astype(np.uint8)
    largest = int(np.bincount(truth.ravel())[1:].argmax()) + 1
    missed = np.where(truth == largest, 0, truth).astype(np.uint8)
    folder = RunFolder.create(EXPERIMENT, tmp_path_factory.mktemp("errors") / "run")
    last: WatchedSnapshot | None = None
    for index, (step, prediction) in enumerate([(5, np.ascontiguousarray(truth)), (10, missed)]):
        last = WatchedSnapshot(
            case=case.id, role="validation", step=step, index=index, class_names=names,
            affine=label.affine, prediction=prediction, truth=truth,
        )  # fmt: skip
        folder.write_frame(last, 1)
    folder.close()
    assert last is not None
    return folder.path, last


def test_errors_as_json_with_a_verdict(
    recorded: tuple[Path, WatchedSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, snapshot = recorded
    assert snapshot.truth is not None
    piece = error_pieces(snapshot.prediction, snapshot.truth, snapshot.class_names, snapshot.affine)[0]
    keep_verdict(
        folder, verdict_on(piece, snapshot).model_copy(update={"judgement": "unclear", "note": "hm"})
    )
    assert segexplorer(["errors", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first = found["errors"][0]
    assert (first["kind"], first["verdict"], first["note"]) == ("missed_object", "unclear", "hm")
    assert (first["since_step"], first["step"], first["role"]) == (10, 10, "validation")
    assert found["verdicts_without_error"] == []
    assert segexplorer(["errors", str(folder), "--json", "--step", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == []
    assert [v["note"] for v in found["verdicts_without_error"]] == ["hm"]


def test_errors_as_a_table_and_as_csv(
    recorded: tuple[Path, WatchedSnapshot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = recorded
    assert segexplorer(["errors", str(folder), "--kind", "missed_object"]) == 0
    assert "missed object" in capsys.readouterr().out
    target = tmp_path / "errors.csv"
    assert segexplorer(["errors", str(folder), "--csv", str(target)]) == 0
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["kind"] == "missed_object" and float(rows[0]["volume_ml"]) > 0.05
    capsys.readouterr()
    assert segexplorer(["errors", str(folder), "--csv", str(target)]) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--kind", "missed", "There is no kind 'missed'"),
        ("--state", "closed", "There is no state 'closed'"),
        ("--class", "antler", "There is no class 'antler'"),
    ],
)
def test_mistakes_end_in_a_sentence(
    recorded: tuple[Path, WatchedSnapshot],
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    sentence: str,
) -> None:
    assert segexplorer(["errors", str(recorded[0]), option, value]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_without_predictions_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder.create(EXPERIMENT, tmp_path / "run")
    assert segexplorer(["errors", str(folder.path)]) == 2
    assert "no recorded prediction" in capsys.readouterr().err


def test_suspects_of_several_runs(
    recorded: tuple[Path, WatchedSnapshot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, snapshot = recorded
    other = tmp_path / "seed_1"
    shutil.copytree(folder, other)
    assert segexplorer(["errors", "--suspects", str(folder), str(other), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["suspects"][0]
    assert (first["case"], first["kind"], first["of_runs"]) == (snapshot.case, "missed_object", 2)
    assert first["runs"] == ["run", "seed_1"] and first["lasting"] == 1.0
    assert segexplorer(["errors", "--suspects", str(folder)]) == 0
    assert "in 1 of 1 run" in capsys.readouterr().out.replace("\n", " ")
    assert segexplorer(["errors", str(folder), str(other)]) != 0
