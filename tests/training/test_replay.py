"""A replay tells a run's events in order, at its pace, and obeys pause, step and stop as a run does."""

from __future__ import annotations

import itertools
import math
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segexplorer.core.errors import DataError, RunStateError, SpecError
from segexplorer.core.events import Event, RunFinished, StateChanged, StepDone, WatchedDone
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.replay import LONGEST_WAIT, Replay
from segexplorer.training.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs, extended by a third."""
    tiny = {
        "data": {"kind": "phantom", "count": 2, "size": 16, "seed": 1},
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
        "network": {"kind": "unet", "base_features": 2, "levels": 2},
        "schedule": {"kind": "constant", "epochs": 2},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    run = Run(RunFolder.create(Experiment.of(tiny), tmp_path_factory.mktemp("replay") / "run"))
    list(run)
    run.extend(1)
    list(run)
    return run.folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_every_event_comes_once_and_the_end_last(folder: Path) -> None:
    recorded = open_run(folder).events()
    heard: list[Event] = []
    replay = Replay(folder, math.inf)
    replay.events.connect(heard.append)
    told = list(replay)
    ends = [e for e in recorded if isinstance(e, RunFinished)]
    assert len(ends) == 2
    assert told == heard == [e for e in recorded if e is not ends[0]]
    assert replay.state == "finished" and replay.accepts("start") and not replay.accepts("set")
    assert list(replay) == told  # and once more


def test_watched_cases_come_from_the_history(folder: Path) -> None:
    replay = Replay(folder, math.inf, load=HistoryFrame.load)
    steps: dict[str, list[int]] = {"train": [], "validation": []}
    for event in replay:
        if isinstance(event, WatchedDone):
            (snapshot,) = replay.watched.take().values()
            assert (snapshot.step, snapshot.case, snapshot.index) == (event.step, event.case, event.index)
            steps[event.role].append(snapshot.step)
    frames = open_run(folder).watched("validation")
    assert steps["validation"] == [frame.step for frame in frames] and len(frames) == 3
    last = replay.watched.last("validation")
    assert last is not None
    np.testing.assert_array_equal(last.prediction, frames[-1].load().prediction)


def test_speed_divides_time_and_nights_are_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    class Clock(threading.Condition().__class__):  # type: ignore[misc, name-defined]
        def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return predicate()

    replay = Replay(folder, 0.001)
    replay._changed = Clock()
    recorded = list(replay)
    gaps = [b.time - a.time for a, b in itertools.pairwise(recorded) if a.attempt == b.attempt]
    assert max(waits) == pytest.approx(LONGEST_WAIT, abs=0.01)
    expected = sum(min(LONGEST_WAIT, gap / 0.001) for gap in gaps)
    assert sum(waits) == pytest.approx(expected, rel=0.02)


def test_pause_step_and_stop(folder: Path) -> None:
    replay = Replay(folder, math.inf)
    told: list[Event] = []

    def iterate() -> None:
        for event in replay:
            told.append(event)
            if isinstance(event, StepDone) and event.step == 2:
                replay.pause()

    def wait_until(paused_times: int) -> None:
        until = time.monotonic() + 60
        while sum(isinstance(e, StateChanged) and e.state == "paused" for e in told) < paused_times:
            assert time.monotonic() < until, "it did not pause"
            time.sleep(0.005)

    thread = threading.Thread(target=iterate)
    thread.start()
    wait_until(1)
    assert replay.accepts("unpause") and not replay.accepts("pause")
    replay.step()
    wait_until(2)
    assert [e.step for e in told if isinstance(e, StepDone)] == [1, 2, 3]
    replay.stop()
    thread.join(timeout=60)
    assert isinstance(told[-1], RunFinished) and told[-1].reason == "the replay was stopped"
    assert replay.state == "stopped"


def test_nothing_can_be_changed(folder: Path) -> None:
    replay = Replay(folder)
    for command in (lambda: replay.set("loss.alpha", 1), lambda: replay.extend(1), replay.predict_now):
        with pytest.raises(RunStateError):
            command()


def test_what_cannot_be_replayed_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        Replay(tmp_path)
    with pytest.raises(SpecError, match="above 0"):
        Replay(folder, 0)
    (folder / "events.jsonl").unlink()
    with pytest.raises(DataError, match="Nothing has happened"):
        Replay(folder)


def test_a_run_that_broke_off_ends_where_it_broke_off(folder: Path) -> None:
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:12]) + lines[12][:20])
    *_, end = Replay(folder, math.inf)
    assert isinstance(end, RunFinished) and end.state == "stopped"
    assert end.reason == "the record ends here" and end.step == open_run(folder).events()[-1].step
