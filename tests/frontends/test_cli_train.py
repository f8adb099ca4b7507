"""How the command line follows a run, on a run played from a list of events."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segexplorer.core import events
from segexplorer.core.events import Event
from segexplorer.frontends.cli.app import run as run_cli
from segexplorer.frontends.cli.terminal import RunDisplay, validation_line
from segexplorer.frontends.cli.train import follow


class PlayedRun:
    """A run that plays events; `stop` makes it end at the next one, as a real run does."""

    folder = Path("runs/played")
    plan = "planned"

    def __init__(self, played: list[Event], interrupt_at: int | None = None) -> None:
        self.played, self.interrupt_at, self.stopped = played, interrupt_at, False

    def accepts(self, command: str) -> bool:
        return True

    def stop(self, *, preempted: bool = False) -> None:
        self.stopped, self.preempted = True, preempted

    def __iter__(self) -> Iterator[Event]:
        for index, event in enumerate(self.played):
            if self.stopped:
                yield events.RunFinished(state="stopped", reason="stopped on request", step=event.step)
                return
            if index == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
            yield event


def step(number: int) -> events.StepDone:
    return events.StepDone(
        step=number,
        epoch=1,
        loss=0.5,
        terms={},
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=0.1,
        samples=2,
    )


def validation(epoch: int, dice: float, *, best: bool) -> events.ValidationDone:
    return events.ValidationDone(
        epoch=epoch,
        step=epoch * 2,
        loss=0.4,
        scores=(),
        mean_dice=dice,
        class_dice={"liver": dice},
        n_used=3,
        n_absent=1,
        n_missed=0,
        best=best,
        seconds=1.0,
    )


PLAN = events.Planned(
    steps=4,
    epochs=2,
    steps_per_epoch=2,
    summary={"Cases": "3 train, 1 validation", "Patch": "32 x 32 x 32"},
    warnings=("One case alone.",),
    badges=("training case, not held out",),
)
END = events.RunFinished(state="finished", reason="all epochs done", step=4)
WHOLE = [
    PLAN,
    step(1),
    step(2),
    validation(1, 0.8, best=True),
    step(3),
    step(4),
    validation(2, 0.7, best=False),
    END,
]


def test_finished_run_says_best_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(PlayedRun(WHOLE)) == 0  # type: ignore[arg-type]
    told = capsys.readouterr()
    assert told.out == ""
    for text in ("3 train, 1 validation", "One case alone.", "not held out", "0.800", "predict runs/played"):
        assert text in told.err


def test_commands_to_copy_quote_a_folder_with_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    finished, stopped = PlayedRun(WHOLE), PlayedRun(WHOLE, interrupt_at=2)
    finished.folder = stopped.folder = Path("Läufe/mein Lauf")
    assert follow(finished) == 0  # type: ignore[arg-type]
    assert "predict 'Läufe/mein Lauf' IMAGE" in capsys.readouterr().err
    assert follow(stopped) == 130  # type: ignore[arg-type]
    assert "train --resume 'Läufe/mein Lauf'" in capsys.readouterr().err


def test_json_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(PlayedRun(WHOLE), as_json=True) == 0  # type: ignore[arg-type]
    summary = json.loads(capsys.readouterr().out)
    assert summary["state"] == "finished"
    assert summary["folder"] == "runs/played"
    assert summary["best"]["mean_dice"] == 0.8
    assert summary["best"]["class_dice"] == {"liver": 0.8}


def test_interrupt_stops_at_the_next_boundary(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    run = PlayedRun(WHOLE, interrupt_at=2)
    assert follow(run) == 130  # type: ignore[arg-type]
    assert run.stopped
    told = capsys.readouterr().err
    assert "Stopping at the next step" in told
    assert "train --resume runs/played" in told
    assert signal.getsignal(signal.SIGINT) is before


def test_second_interrupt_quits_at_once() -> None:
    class Stubborn(PlayedRun):
        def __iter__(self) -> Iterator[Event]:
            yield PLAN
            os.kill(os.getpid(), signal.SIGINT)
            yield step(1)
            os.kill(os.getpid(), signal.SIGINT)
            yield step(2)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            follow(Stubborn([]))  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("remedy", "code", "traceback_shown"),
    [
        ("Lower the learning rate.", 1, False),
        ("Free some space.", 74, False),
        ("Correct the setting.", 2, False),
        ("This is a defect of segexplorer; please report it with the cause below.", 1, True),
    ],
)
def test_failure_is_a_sentence_and_a_defect_keeps_its_traceback(
    remedy: str, code: int, traceback_shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    end = events.RunFinished(
        state="failed",
        reason="failed",
        error="The loss is not finite.",
        remedy=remedy,
        cause="Traceback ...",
        defect=traceback_shown,
        exit_code=code,
    )
    assert follow(PlayedRun([PLAN, end])) == code  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert f"The loss is not finite. {remedy}" in told
    assert ("Traceback" in told) is traceback_shown


def test_bar_shows_steps_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with RunDisplay(console) as display:
        for event in WHOLE[:3]:
            display.show(event)
        display.refresh()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "step 2/4" in shown
    assert "left" in shown


def test_without_a_terminal_lines_say_how_far_a_long_validation_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("segexplorer.frontends.cli.terminal.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=False, width=120)
    with RunDisplay(console) as display:
        display.show(PLAN)
        for done in range(1, 100):
            now[0] += 1
            display.show(events.Progress(activity="validating case 1 of 2", done=done, total=99))
    lines = [line for line in console.file.getvalue().splitlines() if "window" in line]  # type: ignore[attr-defined]
    assert lines == [f"validating case 1 of 2, window {n} of 99" for n in (30, 60, 90)]


def test_extended_run_gets_a_longer_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with RunDisplay(console) as display:
        display.show(PLAN)
        display.show(events.EpochDone(step=2, epoch=1, epochs=5, loss=0.5, terms={}))
        display.show(step(3))
        display.refresh()
    assert "step 3/10" in console.file.getvalue()  # type: ignore[attr-defined]


def test_validation_line_tells_what_the_mean_is_over() -> None:
    line = validation_line(validation(1, 0.8, best=True))
    assert line == "epoch 1: mean Dice 0.800 (liver 0.800; 3 used, 1 absent, 0 missed) best"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train"], "needs an experiment file"),
        (["train", "no-such.yaml"], "no experiment file"),
        (["train", "x.yaml", "--set", "loss.alpha"], "NAME=VALUE"),
        (["train", "x.yaml", "--resume", "run"], "--resume goes on"),
        (["train", "--resume", "no-such-run"], "no-such-run"),
    ],
)
def test_mistakes_end_with_a_sentence_and_code_2(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
