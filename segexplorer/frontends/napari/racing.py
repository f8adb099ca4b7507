"""Trains races in the background of one window, and reads what they and other races have written."""

from __future__ import annotations

import atexit
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer

from segexplorer.core.errors import RunActiveError, SegExplorerError
from segexplorer.core.events import Event, RunFinished, StateChanged, StepDone, WatchedDone
from segexplorer.frontends.napari.bridge import FAST_MS, PATIENCE_S, SWITCH_S, JobWorker, iterate_in_thread
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.study.race import REPETITION, Race, is_race
from segexplorer.training.fork import new_folder
from segexplorer.viewmodels.race import RaceFacts, RaceOffer, RaceQuestion, Racing


class RaceJob:
    """What the worker and the main thread share about one attempt of one race."""

    def __init__(self, race: Race, origin: str) -> None:
        self.race, self.origin = race, origin
        self.done = threading.Event()
        self.frames = 0
        """Grows with every frame and every end of a lane."""
        self.defect = ""
        self._words = "Preparing the race…"
        self._steps = dict.fromkeys(race.file.lanes, 0)

    def iterate(self) -> None:
        """Iterate the race to its end; in the worker's thread."""
        try:
            for told in self.race:
                self._hear(told.lane, told.event)
        except Exception as error:  # noqa: BLE001  a defect must end in words, too: nobody else waits for it
            traceback.print_exc()
            self.defect = f"{type(error).__name__}: {error}"
        finally:
            self.done.set()

    def _hear(self, lane: str, event: Event) -> None:
        file = self.race.file
        if isinstance(event, StepDone):
            if lane == REPETITION:
                self._words = f"The run is trained again up to step {file.step}: it is at step {event.step}."
            else:
                self._steps[lane] = event.step - file.step
                name = lane.replace("_", " ")
                self._words = f"Lane {name} is at step {event.step} of {file.step + file.steps}."
        elif isinstance(event, (WatchedDone, RunFinished)) and lane != REPETITION:
            self.frames += 1
        elif isinstance(event, StateChanged) and lane != REPETITION:
            self._words = f"Lane {lane.replace('_', ' ')} begins."

    @property
    def racing(self) -> Racing:
        """What is said of it now."""
        total = self.race.file.steps * len(self._steps)
        words, failed = self._words, False
        if self.done.is_set():
            failed = bool(self.defect) or self.race.state == "failed"
            reason = self.defect or self.race.reason
            words = {
                "finished": f"The race is over: {reason}.",
                "stopped": f"The race was stopped ({reason.rstrip('.')}). It can go on.",
            }.get("failed" if failed else self.race.state, f"The race failed in {reason}")
        return Racing(
            str(self.race.folder),
            self.origin,
            words,
            running=not self.done.is_set(),
            share=sum(self._steps.values()) / total if total else 0.0,
            failed=failed,
            begun=self.frames > 0,
        )

    def ask_to_stop(self) -> None:
        """Stop at the next step; every lane saves itself."""
        self.race.stop()

    def wait_at_exit(self) -> None:
        """Let the last checkpoints be written before the interpreter goes."""
        self.ask_to_stop()
        self.done.wait(PATIENCE_S)


class RaceKeeper(QObject):  # type: ignore[misc, unused-ignore]
    """The races of one window: planned, trained, opened.

    Parameters
    ----------
    display
        What the window displays (`display.Display`); it learns what becomes of a race.
    """

    def __init__(self, display: Any) -> None:
        super().__init__()
        self._display = display
        self._job: RaceJob | None = None
        self._known_frames = 0
        self._to_show = ""
        self._asked: RaceQuestion | None = None
        self._switch_before = sys.getswitchinterval()
        self._planning = LatestWork(self._on_planned, self._on_not_planned, newest_only=True)
        self._reading = LatestWork(self._on_read, self._on_unreadable)
        self._opening = LatestWork(self._on_opened, self._on_unreadable)
        self._timer = QTimer(self)
        self._timer.setInterval(FAST_MS)
        self._timer.timeout.connect(self.look)

    @property
    def busy(self) -> bool:
        """Whether a race is being planned or read."""
        return self._planning.busy or self._reading.busy or self._opening.busy

    @property
    def trains(self) -> bool:
        """Whether a race is being trained, or its end has not been shown yet."""
        return self._job is not None

    # -- planned ------------------------------------------------------------------------------------------

    def ask(self, question: RaceQuestion | None) -> None:
        """Find out what a race would cost; equal questions are asked once."""
        if question is not None and question != self._asked:
            self._planning.send(lambda: (question, question.answer()))
        self._asked = question

    def _on_planned(self, answer: tuple[RaceQuestion, RaceOffer]) -> None:
        self._asked = None
        self._display.learn(offer=answer)

    def _on_not_planned(self, error: SegExplorerError) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._display.learn(offer=(asked, RaceOffer(problem=str(error))))

    # -- trained ------------------------------------------------------------------------------------------

    def begin(self, parent: Path) -> None:
        """Train the race that is offered, in a new folder there; it is shown with its first frames.

        Raises
        ------
        SegExplorerError
            When no race is offered, or something is trained already.
        """
        screen = self._display.screen
        control, offer = screen.controls["race"], screen.offer
        if not control.enabled or offer is None or offer.plan is None:
            raise SegExplorerError(control.why)
        run = offer.plan.point.run
        self._start(Race(new_folder(run, "race", parent), offer.plan, window=True), str(run))

    def go_on(self, folder: Path) -> None:
        """Train a race on that was stopped.

        Raises
        ------
        SegExplorerError
            When the folder holds no race, or something is trained already.
        """
        self._start(Race(folder, window=True), "")

    def _start(self, race: Race, origin: str) -> None:
        if self.trains or self._display.bridge.busy:
            raise RunActiveError
        job = self._job = RaceJob(race, origin)
        self._known_frames, self._to_show = 0, str(race.folder) if origin else ""
        worker = create_worker(iterate_in_thread, job, _start_thread=False, _worker_class=JobWorker)
        atexit.register(job.wait_at_exit)
        self._switch_before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        self._display.learn(racing=job.racing)
        worker.start()
        self._timer.start()

    def stop(self) -> None:
        """Stop the race at the next step."""
        if self._job is not None:
            self._job.ask_to_stop()

    def look(self) -> None:
        """Tell what has become of the race since the last look; the timer calls it."""
        job = self._job
        if job is None:
            return
        racing, frames = job.racing, job.frames
        if not racing.running:
            self._finish(job)
        self._display.learn(racing=racing)
        if frames != self._known_frames or not racing.running:
            self._known_frames = frames
            folder, before = job.race.folder, self._display.reality.race
            if is_race(folder):
                self._reading.send(lambda: RaceFacts.read(folder, before))

    def _finish(self, job: RaceJob) -> None:
        self._timer.stop()
        sys.setswitchinterval(self._switch_before)
        atexit.unregister(job.wait_at_exit)
        self._job = None

    def _on_read(self, facts: RaceFacts) -> None:
        """Take over what the lanes have; with their first frames they are shown, unless one has gone elsewhere."""
        display, reality = self._display, self._display.reality
        if reality.race is None or reality.race.key == facts.key or self._to_show == facts.key:
            display.learn(race=facts)
        if facts.begun and self._to_show == facts.key:
            self._to_show = ""
            if reality.racing is not None and display.displayed.run == reality.racing.origin:
                display.issue("open_race", facts.key)

    # -- opened -------------------------------------------------------------------------------------------

    def open(self, folder: Path) -> None:
        """Show the race in a folder."""
        before = self._display.reality.race
        self._display.learn(making="Opening the race…")
        self._opening.send(lambda: RaceFacts.read(folder, before))

    def _on_opened(self, facts: RaceFacts) -> None:
        self._display.learn(making="", race=facts)
        self._display.issue("open_race", facts.key)

    def _on_unreadable(self, error: SegExplorerError) -> None:
        self._display.learn(making="")
        show_error(str(error))

    def closing(self) -> None:
        """Stop the race at its next step and let nothing come back; does not wait, the lanes save themselves."""
        self._timer.stop()
        if self._job is not None:
            self._job.ask_to_stop()
            sys.setswitchinterval(self._switch_before)
        for work in (self._planning, self._reading, self._opening):
            work.close()
