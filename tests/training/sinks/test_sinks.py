"""Sinks: what they are told and when, and that one that fails never ends a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from segexplorer.core.errors import DataError, UnknownKindError
from segexplorer.core.events import (
    Event,
    Notice,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.fields import parameter
from segexplorer.study.runs import identity
from segexplorer.training.event_log import read_events
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.sinks import Attempt, Sink, SinkSpec, registry
from segexplorer.training.snapshots import WatchedSnapshot

MakeRun = Callable[..., Run]
KEPT: list[Any] = []
"""What the sink of these tests was given."""


class Recorder(SinkSpec):
    """Keeps what it is told in memory; fails where it is asked to."""

    display_name: ClassVar[str] = "Recorder"
    kind: Literal["recorder"] = "recorder"
    fail_at: str = parameter("", title="Fails at", description="An event's name, or open, watched, close.")

    def open(self, attempt: Attempt) -> Sink:
        KEPT.append(attempt)
        if self.fail_at == "open":
            raise DataError("The recorder has no tape.", "Put one in.")
        return _Recorder(self.fail_at)


class _Recorder(Sink):
    def __init__(self, fail_at: str) -> None:
        self._fail_at = fail_at

    def event(self, event: Event) -> None:
        KEPT.append(event)
        if type(event).__name__ == self._fail_at:
            raise ValueError("torn tape.")

    def watched(self, snapshot: WatchedSnapshot) -> None:
        KEPT.append(snapshot)
        if self._fail_at == "watched":
            raise ValueError("torn tape.")

    def close(self) -> None:
        KEPT.append("closed")
        if self._fail_at == "close":
            raise OSError("stuck")


@pytest.fixture(autouse=True)
def recorder() -> Iterator[None]:
    registry.register(Recorder)
    KEPT.clear()
    yield
    registry.unregister("recorder")


def test_a_sink_hears_of_everything_that_is_written_down(make_run: MakeRun) -> None:
    run = make_run(sinks=["recorder"])
    told = list(run)
    attempt, *rest = KEPT
    assert isinstance(attempt, Attempt)
    assert (attempt.number, attempt.step, attempt.earlier, attempt.folder) == (1, 0, [], run.folder)
    assert rest[-1] == "closed"
    events = [e for e in rest if isinstance(e, Event)]
    assert events[0] == StateChanged(
        state="preparing", activity="reading the cases", attempt=1, seq=2, step=0, time=events[0].time
    )
    assert events[:-1] == told[1:-1]
    assert isinstance(events[-1], RunFinished) and events[-1].seq == told[-1].seq
    assert [e.seq for e in told] == list(range(1, len(told) + 1))
    for before, after in itertools.pairwise(rest):
        if isinstance(before, WatchedDone):
            assert isinstance(after, WatchedSnapshot)
            assert (after.case, after.step, after.index) == (before.case, before.step, before.index)
    snapshot = next(e for e in rest if isinstance(e, WatchedSnapshot))
    case = attempt.case(snapshot.case)
    assert np.asarray(case.images[0].array).shape == snapshot.prediction.shape


@pytest.mark.parametrize(
    ("fail_at", "cause", "remedy"),
    [
        ("open", "The recorder has no tape.", "Put one in."),
        ("StateChanged", "ValueError: torn tape.", "The run goes on without it."),
        ("Planned", "ValueError: torn tape.", "The run goes on without it."),
        ("StepDone", "ValueError: torn tape.", "The run goes on without it."),
        ("watched", "ValueError: torn tape.", "The run goes on without it."),
        ("RunFinished", "ValueError: torn tape.", "The run goes on without it."),
        ("close", "OSError: stuck.", "The run goes on without it."),
    ],
)
def test_a_failing_sink_is_switched_off_once_and_the_run_goes_on(
    make_run: MakeRun, fail_at: str, cause: str, remedy: str
) -> None:
    run = make_run(sinks=[{"kind": "recorder", "fail_at": fail_at}])
    told = list(run)
    assert isinstance(told[-1], RunFinished) and told[-1].state == run.state == "finished"
    (notice,) = (e for e in told if isinstance(e, Notice))
    assert notice.message == f"The sink recorder is switched off: {cause}"
    assert notice.remedy == remedy
    assert [e.step for e in told if isinstance(e, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [e.seq for e in told] == list(range(1, len(told) + 1))
    assert read_events(run.folder)[-2:] == told[-2:]
    if fail_at not in ("open", "close"):
        assert "closed" not in KEPT


def test_two_sinks_one_of_which_hears_that_the_other_failed(make_run: MakeRun) -> None:
    run = make_run(
        sinks=[{"kind": "recorder", "fail_at": "Planned"}, {"kind": "recorder", "fail_at": "Notice"}]
    )
    told = list(run)
    assert len([e for e in told if isinstance(e, Notice)]) == 2
    assert told[-1].state == "finished"  # type: ignore[attr-defined]


def test_a_run_that_is_left_closes_its_sinks(make_run: MakeRun) -> None:
    run = make_run(sinks=["recorder"])
    for event in run:
        if isinstance(event, StepDone):
            break
    assert KEPT[-1] == "closed" and isinstance(KEPT[-2], RunFinished)


def test_a_resumed_run_tells_its_sinks_from_where(make_run: MakeRun) -> None:
    run = make_run(sinks=["recorder"])
    for event in run:
        if isinstance(event, StepDone) and event.step == 4:
            run.stop()
    KEPT.clear()
    resumed = Run(RunFolder.open(run.folder))
    list(resumed)
    attempt = KEPT[0]
    assert (attempt.number, attempt.step) == (2, 4)
    assert [e.step for e in attempt.earlier if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert [e.step for e in KEPT if isinstance(e, StepDone)] == [5, 6]
    assert len([e for e in attempt.earlier if isinstance(e, (Planned, ValidationDone))]) == 2


def test_sinks_change_no_number(make_run: MakeRun) -> None:
    with_sink, without = make_run("with", sinks=["recorder"]), make_run("without")
    losses = [[e.loss for e in run if isinstance(e, StepDone)] for run in (with_sink, without)]
    assert losses[0] == losses[1]
    assert identity(with_sink.experiment) == identity(without.experiment)


def test_sinks_in_yaml_come_back_and_an_unknown_one_is_named(tiny: Experiment, tmp_path: Any) -> None:
    file = tmp_path / "experiment.yaml"
    text = tiny.to_yaml()
    assert "sinks: []" in text
    file.write_text(text.replace("sinks: []", "sinks: [recorder, {kind: recorder, fail_at: close}]"))
    experiment = Experiment.from_yaml(file)
    assert experiment.sinks == (Recorder(), Recorder(fail_at="close"))
    experiment.save(file)
    assert Experiment.from_yaml(file) == experiment
    file.write_text(text.replace("sinks: []", "sinks: [tensorbord]"))
    with pytest.raises(
        ValueError, match=r"sinks.0 is unknown: There is no sink 'tensorbord'. Did you mean tensorboard"
    ):
        Experiment.from_yaml(file)


def test_the_prediction_of_a_run_needs_no_sink_of_it(make_run: MakeRun) -> None:
    from segexplorer.training.predict import load_predictor

    run = make_run(sinks=["recorder"])
    list(run)
    registry.unregister("recorder")
    with pytest.raises(ValueError, match="no sink 'recorder'"):
        assert open_run(run.folder).experiment
    assert load_predictor(run.folder).experiment.sinks == ()


def test_an_unknown_sink_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match=r"no sink 'tensorbord'\. Did you mean tensorboard"):
        registry.parse("tensorbord")
