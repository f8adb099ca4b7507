"""`segexplorer compare` from the command line: one condition alone, and the files it writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segexplorer.core.events import CaseScore, RunFinished, ValidationDone, to_json
from segexplorer.frontends.cli.app import run as cli
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import write_format

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that writes a run folder of seven cases."""

    def make(name: str, loss: str = "dice", seed: int = 0) -> str:
        folder = tmp_path / name
        folder.mkdir()
        write_format(folder)
        Experiment.of({"data": {"kind": "phantom"}, "loss": loss, "seed": seed}).save(
            folder / "experiment.yaml"
        )
        scores = tuple(
            CaseScore(
                case=f"c{i}",
                class_name="liver",
                role="validation",
                state="scored",
                metrics={"dice": 0.5 + 0.05 * i},
                false_positive_ml=0.0,
                false_negative_ml=0.0,
                truth_ml=1.0,
            )
            for i in range(7)
        )
        validation = ValidationDone(
            step=3,
            epoch=1,
            loss=0.1,
            scores=scores,
            mean_dice=0.65,
            class_dice={},
            n_used=7,
            n_absent=0,
            n_missed=0,
            best=True,
            seconds=1.0,
        )
        told = [validation, RunFinished(state="finished", reason="", step=3)]
        (folder / "events.jsonl").write_text("".join(to_json(event) + "\n" for event in told))
        roles = {"t": "train", **{f"c{i}": "validation" for i in range(7)}}
        (folder / "provenance.json").write_text(json.dumps([{"attempt": 1, "roles": roles, "data": {}}]))
        return str(folder)

    return make


def test_one_condition_has_means_and_it_is_said_that_nothing_is_compared(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run("a")
    assert cli(["compare", alone, "--metrics", "dice"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "0.650" in told
    assert "Nothing is compared: This run is one condition, dice; name runs of another loss" in told
    assert "more than once" not in told
    seeds = [alone, run("again"), run("b", seed=1)]
    assert cli(["compare", *seeds, "--metrics", "dice"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "These 3 runs are one condition, dice" in told
    assert "dice was run more than once with seed 0 (a, again): averaged." in told


def test_where_a_program_reads_the_output_it_is_said_beside_it(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, other = run("a"), run("b", loss="tversky")
    for option in (["--json"], ["--csv", "-"]):
        assert cli(["compare", alone, "--metrics", "dice", *option]) == 0
        told = capsys.readouterr()
        assert "Nothing is compared" in told.err and "Nothing is compared" not in told.out
    assert cli(["compare", alone, other, "--metrics", "dice"]) == 0
    told = capsys.readouterr()
    assert "Nothing is compared" not in told.out + told.err


def test_files_are_written_whole_with_their_folder_or_refused_before_the_work(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run("a"), run("b", loss="tversky")]
    out = tmp_path / "new" / "folder"
    files = ["--csv", str(out / "x.csv"), "--markdown", str(out / "x.md"), "--latex", str(out / "x.tex")]
    assert cli(["compare", *runs, "--metrics", "dice", *files]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["x.csv", "x.md", "x.tex"]  # nothing half-written
    assert {row["condition"] for row in csv.DictReader(io.StringIO((out / "x.csv").read_text()))} == {
        "dice",
        "tversky",
    }
    capsys.readouterr()
    from segexplorer.frontends.cli import compare

    monkeypatch.setattr(compare, "compare_groups", lambda *_, **__: pytest.fail("the work was done"))
    for place, words in ((out, "is a folder"), (out / "x.csv" / "y.csv", "is a file, so")):
        assert cli(["compare", *runs, "--csv", str(place)]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
