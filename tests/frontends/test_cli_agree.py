"""`segexplorer agree`: two files of verdicts, printed, as JSON, as a table, and as one file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.frontends.cli.app import run
from segexplorer.training.verdicts import read_verdict_file, write_verdicts
from tests.study.test_agreement import L, T, box, verdict


@pytest.fixture
def readers(tmp_path: Path) -> list[str]:
    """Folders of Anna and Ben, who judged three errors of two cases and differ on one."""
    for name, last in (("anna", T), ("ben", L)):
        folder = tmp_path / name
        folder.mkdir()
        write_verdicts(
            folder,
            [
                verdict("p1", box(0, 2), T),
                verdict("p1", box(5, 3), L, note="=1+1"),
                verdict("p2", box(1, 4), last),
            ],
        )
    return [str(tmp_path / name / "verdicts.json") for name in ("anna", "ben")]


def test_agreement_is_printed_with_the_disagreements(
    readers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["agree", *readers, "--names", "Anna,Ben"]) == ExitCode.DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "alike in 67 % of 3 errors" in said and "too narrow" in said
    assert "Judged differently" in said and "p2" in said and "p1" not in said


def test_json_csv_and_one_file(
    readers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, one = tmp_path / "both.csv", tmp_path / "one.json"
    assert run(["agree", *readers, "--names", "Anna,Ben", "-o", str(table), "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["judged_by_both"] == 3 and found["disagreements"][0]["case"] == "p2"
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [(line["Anna"], line["Ben"]) for line in lines] == [(T, L), (L, L), (T, T)]
    assert lines[1]["Anna, note"] == "'=1+1"
    assert run(["agree", *readers, "-o", str(one)]) == ExitCode.DONE
    assert {v.judgement for v in read_verdict_file(one) if v.case == "p2"} == {"unclear"}


def test_mistakes_are_one_sentence(
    readers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_text(Path(readers[0]).read_text().replace("p1", "p3", 1))
    for arguments, words in (
        ([readers[0], str(tmp_path / "nowhere")], "neither a run folder nor a file"),
        ([readers[0], str(damaged)], "damaged"),
        ([*readers, "--names", "Anna"], "two names"),
        ([*readers, "-o", str(tmp_path / "x.txt")], "neither .csv nor .json"),
    ):
        assert run(["agree", *arguments]) == ExitCode.MISTAKE
        assert words in capsys.readouterr().err
