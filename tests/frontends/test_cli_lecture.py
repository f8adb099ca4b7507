"""`segexplorer lecture`: the list, and a recorded run made beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.frontends.cli.app import run
from segexplorer.training.lecture_runs import REWARDED
from segexplorer.viewmodels.lectures import LECTURES


def test_lectures_are_listed_with_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lecture"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(LECTURES)


def test_an_unknown_lecture_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lecture", "nonsense"]) == ExitCode.MISTAKE
    assert "Choose one of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recorded_run_is_made_before_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path))
    assert run(["lecture", "rewarded-errors", "--make"]) == ExitCode.DONE
    assert REWARDED.ready and REWARDED.folder.is_relative_to(tmp_path)
    assert REWARDED.folder.name in capsys.readouterr().err
