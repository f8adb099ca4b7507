"""`status.json`: the state of a run without its log, equal to what the log says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.events import (
    EpochDone,
    Event,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.training import event_log, run_status
from segexplorer.training.event_log import drop_superseded, read_events
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.run_files import EVENTS, STATUS
from segexplorer.training.run_status import RunStatus, StatusWriter, read_status, status_of


def from_log(folder: Path) -> RunStatus:
    return status_of(drop_superseded(read_events(folder)))


def test_a_finished_run_is_read_without_its_log(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    events = list(run)
    expected = from_log(run.folder)
    monkeypatch.setattr(run_status, "read_events", lambda folder: pytest.fail("the log was read"))
    status = read_status(run.folder)
    assert status == expected
    validations = [e for e in events if isinstance(e, ValidationDone)]
    best = max(validations, key=lambda e: e.mean_dice)
    assert (status.state, status.step, status.steps, status.epoch, status.epochs) == ("finished", 6, 6, 2, 2)
    assert (status.mean_dice, status.best_dice) == (validations[-1].mean_dice, best.mean_dice)
    assert status.best_step == best.step and status.exit_code == 0 and "2 epochs" in status.reason
    assert status.started == events[0].time and status.updated == events[-1].time
    assert status.mean_loss == next(e.loss for e in reversed(events) if isinstance(e, EpochDone))
    assert status.seconds_left is None and not status.active
    assert open_run(run.folder).state == "finished"
    assert (run.folder / STATUS).stat().st_size < 4096


def test_a_run_that_is_left_and_resumed_says_so(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for event in run:
        status = read_status(run.folder)
        assert status.updated <= event.time and status.state == from_log(run.folder).state
        if isinstance(event, StepDone) and event.step == 4:
            break
    assert read_status(run.folder).state == "stopped" == from_log(run.folder).state
    list(run)
    status = read_status(run.folder)
    assert status == from_log(run.folder)
    assert (status.attempt, status.state, status.step) == (2, "finished", 6)


def test_a_run_whose_process_died_is_interrupted(make_run: Callable[..., Run]) -> None:
    folder = make_run().folder
    StatusWriter(folder).write(StateChanged(state="running"))
    assert read_status(folder).state == "interrupted"


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"status": {"step": -1}}', b'{"status": {}, "checksum": "0"}']
)
def test_a_damaged_file_is_made_up_for_by_the_log(content: bytes, make_run: Callable[..., Run]) -> None:
    run = make_run(schedule__epochs=1)
    list(run)
    (run.folder / STATUS).write_bytes(content)
    assert read_status(run.folder) == from_log(run.folder)
    (run.folder / STATUS).unlink()
    assert read_status(run.folder) == from_log(run.folder)


def test_steps_alone_seldom_replace_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(run_status.time, "monotonic", lambda: now[0])
    writer = StatusWriter(tmp_path)
    writer.write(Planned(steps=10, epochs=2, steps_per_epoch=5))
    writes = []
    for step in range(1, 11):
        now[0] += 1.0
        before = (tmp_path / STATUS).stat().st_mtime_ns, (tmp_path / STATUS).stat().st_ino
        writer.write(made(StepDone, step=step, seconds=2.0))
        writes.append(before != ((tmp_path / STATUS).stat().st_mtime_ns, (tmp_path / STATUS).stat().st_ino))
    assert writes == [False, False, False, False, True] * 2


def made(kind: type[Event], **facts: Any) -> Event:
    rest: dict[type[Event], dict[str, Any]] = {
        StepDone: {
            "epoch": 1,
            "loss": 0.5,
            "terms": {},
            "learning_rate": 0.1,
            "gradient_norm": 1.0,
            "seconds": 1.0,
            "samples": 2,
        },
        EpochDone: {"epoch": 1, "epochs": 2, "loss": 0.5, "terms": {}},
    }
    return kind(**{**rest.get(kind, {}), **facts})


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)
EVENTS_ = st.one_of(
    st.builds(lambda s, n: made(StepDone, step=s, loss=n), st.integers(0, 99), NUMBERS),
    st.builds(lambda s, n: made(EpochDone, step=s, loss=n), st.integers(0, 99), NUMBERS),
    st.builds(StateChanged, state=st.sampled_from(["running", "paused", "preparing"]), activity=st.text()),
    st.builds(
        RunFinished,
        state=st.sampled_from(["finished", "failed", "stopped"]),
        reason=st.text(max_size=9000),
        error=st.text(max_size=9000),
    ),
)


@settings(deadline=None)  # it writes files, and how long the disk takes is not what is tested
@given(st.lists(EVENTS_, min_size=1, max_size=20))
def test_whatever_happens_the_file_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    writer = StatusWriter(folder)
    for event in events:
        writer.write(event)
    writer.save()
    found = read_status(folder)
    if not found.active and found.state != "interrupted":
        plain = json.loads((folder / STATUS).read_text())["status"]
        assert plain["state"] == status_of(events).state == found.state
    for value in (found.loss, found.mean_loss):
        assert value is None or math.isfinite(value)
    assert found.step == events[-1].step


def test_time_left_follows_from_the_steps() -> None:
    status = RunStatus(state="running", step=10, steps=110)
    for step in range(200):
        status = status.after(made(StepDone, step=step, seconds=3.0))
    assert status.after(made(StepDone, step=100, seconds=3.0)).seconds_left == pytest.approx(0.0 + 3.0 * 10)


def test_a_link_out_of_the_folder_is_not_followed(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(schedule__epochs=1)
    list(run)
    elsewhere = tmp_path / "elsewhere.json"
    (run.folder / STATUS).replace(elsewhere)
    (run.folder / STATUS).symlink_to(elsewhere)
    assert read_status(run.folder) == from_log(run.folder)


def test_events_module_reads_what_runs_write(make_run: Callable[..., Run]) -> None:
    run = make_run(schedule__epochs=1)
    told = list(run)
    assert (run.folder / EVENTS).is_file()
    assert [type(e) for e in event_log.read_events(run.folder)] == [
        type(e) for e in told if type(e).__name__ != "Progress"
    ]
