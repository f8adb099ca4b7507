"""A study that is started several times: its runs are shared, and each is trained once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.plan import plan_study
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from tests.study.test_matrix import BASE

REPOSITORY = Path(__file__).parents[2]


def write(folder: Path, **settings: object) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**BASE, **settings}))
    return file


@pytest.mark.slow
def test_two_processes_train_each_run_once_and_the_last_compares_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path, matrix={"loss": ["dice", "tversky"], "seed": [0, 1]}), tmp_path / "runs"
    command = [sys.executable, "-m", "segexplorer.frontends.cli", "study", str(file), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as other:
        deadline = time.monotonic() + 120
        while not list(out.glob("*/owner.json")):
            assert other.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        assert cli(["study", str(file), "-o", str(out)]) == 0
        assert other.stderr is not None
        told = [other.stderr.read(), (captured := capfd.readouterr()).err]
        assert other.wait() == 0
    runs = plan_study(file, out).runs
    assert [r.todo for r in runs] == ["done"] * 4
    shared = [name for name in (r.folder.name for r in runs) for text in told if f": {name} " in text]
    assert sorted(shared) == sorted(r.folder.name for r in runs), "each run has the title of one process"
    for planned in runs:
        assert {event.attempt for event in open_run(planned.folder).events()} == {1}
        assert not list(planned.folder.glob("*owner*"))
    assert any("Left to another process" not in text for text in told)
    assert "tversky" in captured.out, "the comparison"


def test_a_run_of_another_process_is_left_to_it_and_the_others_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path, matrix={"loss": ["dice", "tversky"]}), tmp_path / "runs"
    first, second = plan_study(file, out).runs
    held = RunFolder.create(first.point.experiment, first.folder)
    held.hold()
    assert [r.todo for r in plan_study(file, out).runs] == ["held", "new"]
    assert cli(["study", str(file), "-o", str(out)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "1 to train, 1 in other processes" in told
    assert f"Left to another process: {first.folder.name}: this process, since 20" in told
    assert "The process that ends last compares all runs" in told
    assert open_run(second.folder).state == "finished" and open_run(first.folder).state == "idle"
    held.release()
    assert cli(["study", str(file), "-o", str(out)]) == 0
    assert [r.todo for r in plan_study(file, out).runs] == ["done", "done"]


def test_what_others_have_done_since_the_plan_was_made_is_not_done_again(tmp_path: Path) -> None:
    from segexplorer.core.events import RunFinished, RunState
    from segexplorer.frontends.cli.run_one import claim

    file, out = write(tmp_path, matrix={"loss": ["dice", "tversky", "focal"]}), tmp_path / "runs"
    plan = plan_study(file, out)
    ends: tuple[RunState, ...] = ("failed", "finished", "stopped")
    for planned, state in zip(plan.runs, ends, strict=True):
        folder = RunFolder.create(planned.point.experiment, planned.folder)
        folder.write(RunFinished(attempt=1, state=state, reason="x"))
        folder.release()
    assert [r.now().todo for r in plan.runs] == ["failed", "done", "resume"]
    assert [r.todo for r in plan_study(file, out).runs] == ["resume", "done", "resume"], (
        "a new start tries again"
    )
    assert claim(plan.runs[0]) == claim(plan.runs[1]) == (None, False)
    run, made = claim(plan.runs[2])
    assert run is not None and not made
    assert plan.runs[2].now().todo == "held" and claim(plan.runs[2]) == (None, False)
    run.record.release()
