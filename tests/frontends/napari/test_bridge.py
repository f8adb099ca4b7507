"""The bridge: what a run says reaches the main thread, in order, bounded, and ends cleanly."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shiboken6
from qtpy.QtCore import QThreadPool

from segexplorer.core.errors import RunStateError
from segexplorer.core.events import Event, RunFinished, StepDone, ValidationDone
from segexplorer.frontends.napari.bridge import EventQueue, RunBridge
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training import event_index
from segexplorer.training.sinks.record import EventLog
from segexplorer.training.watch import LogTail
from tests.frontends.napari.scripted import ScriptedRun


def step(number: int) -> StepDone:
    return StepDone(
        step=number, epoch=1, loss=0.0, terms={}, learning_rate=0.0, gradient_norm=0.0, seconds=0.0, samples=1
    )


def test_a_full_queue_drops_only_the_oldest_steps() -> None:
    queue = EventQueue(capacity=4)
    end = RunFinished(state="finished", reason="")
    queue.put([end, step(1), step(2)])
    for event in (end, step(3), step(4)):
        queue.put([event])
    taken = queue.take()
    assert [e.step for e in taken if isinstance(e, StepDone)] == [3, 4]
    assert sum(e is end for e in taken) == 2
    assert queue.take() == []


def test_nothing_but_steps_is_ever_dropped() -> None:
    queue = EventQueue(capacity=2)
    for _ in range(5):
        queue.put([RunFinished(state="finished", reason="")])
    assert len(queue.take()) == 5


def test_of_a_long_run_that_is_watched_no_recorded_step_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_index, "BLOCK_LINES", 8)
    log = EventLog(tmp_path)
    for number in range(1, 41):
        log.write(replace(step(number), seq=number, attempt=1))
    log.close()
    queue = EventQueue(capacity=4)
    queue.put(LogTail(tmp_path).take())
    assert [e.step for e in queue.take()] == list(range(1, 41))


@pytest.fixture
def bridge(qtbot: Any) -> Any:
    made = RunBridge()
    yield made
    made.close()
    assert made.wait(5)


def test_events_arrive_on_the_main_thread_in_order(bridge: RunBridge, qtbot: Any) -> None:
    seen: list[Event] = []
    threads: set[int] = set()
    snapshots: list[Any] = []

    def note(events: list[Event]) -> None:
        threads.add(threading.get_ident())
        seen.extend(events)

    bridge.events_arrived.connect(note)
    bridge.watched_arrived.connect(snapshots.append)
    ends: list[RunFinished] = []
    bridge.ended.connect(ends.append)
    bridge.start(ScriptedRun(steps=50))
    with pytest.raises(RunStateError):
        bridge.start(ScriptedRun())
    qtbot.waitUntil(lambda: bool(ends))
    assert threads == {threading.get_ident()}
    assert [e.step for e in seen if isinstance(e, StepDone)] == list(range(1, 51))
    assert sum(isinstance(e, ValidationDone) for e in seen) == 3
    assert isinstance(seen[-1], RunFinished) and ends[0].state == "finished"
    assert snapshots[-1]["validation"].step == 41
    assert not bridge.busy


def test_a_run_that_raises_still_ends_with_its_cause(bridge: RunBridge, qtbot: Any) -> None:
    ends: list[RunFinished] = []
    bridge.ended.connect(ends.append)
    bridge.start(ScriptedRun(fail_at=3, raises=True))
    qtbot.waitUntil(lambda: bool(ends))
    assert ends[0].state == "failed"
    assert "the data rotted" in ends[0].error and "ValueError" in ends[0].cause


@pytest.mark.parametrize("paused", [False, True])
def test_closing_stops_the_run_without_waiting(qtbot: Any, paused: bool) -> None:
    bridge, run = RunBridge(), ScriptedRun()
    heard: list[Any] = []
    bridge.start(run)
    qtbot.waitUntil(lambda: run.done > 3)
    if paused:
        run.pause()
        qtbot.waitUntil(lambda: run.state == "paused")
    bridge.events_arrived.connect(heard.append)
    began = time.perf_counter()
    bridge.close()
    assert time.perf_counter() - began < 10
    assert bridge.wait(5) and run.state == "stopped"
    told = len(heard)
    qtbot.wait(150)
    assert len(heard) == told


def test_napari_quitting_its_workers_stops_even_a_paused_run(bridge: RunBridge, qtbot: Any) -> None:
    run = ScriptedRun()
    bridge.start(run)
    run_worker = bridge.worker
    qtbot.waitUntil(lambda: run.state == "running")
    run.pause()
    qtbot.waitUntil(lambda: run.state == "paused")
    run_worker.quit()
    qtbot.waitUntil(lambda: not bridge.busy)
    assert run.state == "stopped"


def test_of_waiting_work_only_the_newest_is_done(qtbot: Any) -> None:
    answers: list[int] = []
    gate = threading.Event()
    work = LatestWork(answers.append, lambda error: None)

    def first() -> int:
        gate.wait(5)
        return 1

    work.send(first)
    work.send(lambda: 2)
    work.send(lambda: 3)
    gate.set()
    qtbot.waitUntil(lambda: not work.busy)
    assert answers == [1, 3]


def test_of_an_answer_and_a_newer_request_only_the_request_counts_where_asked_for(qtbot: Any) -> None:
    answers: list[int] = []
    work = LatestWork(answers.append, lambda error: None, newest_only=True)
    for number in (1, 2, 3):
        work.send(lambda n=number: n)
    qtbot.waitUntil(lambda: not work.busy)
    assert answers == [3]


def test_closing_waits_for_the_last_signal_of_the_work_in_hand(qtbot: Any) -> None:
    answers: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        gate.wait(5)
        return 1

    work = LatestWork(answers.append, lambda error: None)
    work.send(slow)
    assert begun.wait(5)
    threading.Timer(0.05, gate.set).start()
    worker = work.worker
    work.close()
    assert worker is not None and worker.through.is_set()
    work.send(lambda: 2)  # a signal of a window that is going away
    qtbot.waitUntil(lambda: not work.busy)
    assert answers == []


def test_work_that_outlives_its_window_ends_without_a_complaint(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.frontends.napari.workers._PATIENCE_S", 0.01)
    begun, gate = threading.Event(), threading.Event()
    complaints: list[str] = []

    def slow() -> None:
        begun.set()
        gate.wait(10)

    work = LatestWork(lambda answer: None, lambda error: complaints.append(str(error)))
    work.send(slow)
    assert begun.wait(10)
    worker = work.worker
    assert worker is not None
    work.close()
    shiboken6.delete(worker.signals)  # what Qt does with the window
    with qtbot.captureExceptions() as raised:
        gate.set()
        assert worker.through.wait(10)
        QThreadPool.globalInstance().waitForDone(10_000)
    assert raised == [] and complaints == []


def test_a_defect_is_told_too_so_that_nobody_waits_for_ever(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari.utils.notifications.notification_manager.receive_error", lambda *_: None)
    told: list[str] = []
    work = LatestWork(lambda answer: None, lambda error: told.append(str(error)))
    work.send(lambda: 1 / 0)
    with qtbot.captureExceptions():
        qtbot.waitUntil(lambda: not work.busy)
    assert len(told) == 1 and "ZeroDivisionError" in told[0] and "report" in told[0]
