"""What one cell displays: the same `Displayed`, `Reality` and `Screen` as the window, without any widget.

Events of a run come on the thread that trains; they are put aside and taken over at most twice a second, so that
training hardly notices who looks. Everything else that changes (a command, an answer of a worker) is resolved at
once. One lock is around all of it, since a notebook calls from several threads: cells, comms, workers, the ticker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import (
    ACTIVE_STATES,
    Event,
    ParameterApplied,
    Planned,
    RunFinished,
    StateChanged,
    ValidationDone,
)
from segexplorer.frontends.notebook.background import Background
from segexplorer.losses.base import penalty_range
from segexplorer.training.event_log import drop_superseded, read_events
from segexplorer.training.explanation import Explanation, explain_snapshot
from segexplorer.training.history import open_run
from segexplorer.training.run import ACCEPTED
from segexplorer.training.scores import recorded_scores
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.step_columns import RecordedEvents, StepColumns, events_of, stretches
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.commands import COMMANDS
from segexplorer.viewmodels.curves import Curves
from segexplorer.viewmodels.displayed import Displayed
from segexplorer.viewmodels.reality import Reality, Request, Results, RunFacts
from segexplorer.viewmodels.resolve import resolve, trace_request
from segexplorer.viewmodels.screen import Screen, differences
from segexplorer.viewmodels.status import Status
from segexplorer.viewmodels.watched_case import ImageOfCase, RunHistoryLoader, frames_of
from segexplorer.viewmodels.why import Answer, WhyRequest

if TYPE_CHECKING:
    from segexplorer.viewmodels.layer_images import Picture

TICK_S = 0.5
"""Between two looks at a run that trains."""
_RUN_COMMANDS = frozenset[str]().union(*ACCEPTED.values())
_AXIAL = (1, 2)


class Display:
    """What a cell displays, and the work that it needs.

    Attributes
    ----------
    changed
        psygnal signal (screen, names of its parts that differ), from any thread, with `lock` held.
    heard
        psygnal signal (events): curves and status have taken them over; with `lock` held.
    flown
        psygnal signal (place): (z, y, x) in mm of the error that is gone to.
    displayed, reality, screen
        What is wanted, what exists, and what follows from both.
    run
        The run that is followed; None for results, and for run folders that nobody trains here.
    image
        Picture of the case that is displayed; None until it is read, or where there is none.
    curves, status
        View models of the run.
    """

    changed = Signal(object, frozenset)
    heard = Signal(Sequence)
    flown = Signal(tuple)

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._ticking = threading.Lock()
        self.displayed = Displayed()
        self.reality = Reality(axes=_AXIAL)
        self.screen: Screen = resolve(self.displayed, self.reality)
        self.run: Any = None
        self.image: Picture | None = None
        self.curves, self.status = Curves(), Status()
        self._past: RunHistoryLoader | None = None
        self._find: Callable[[str], Any] | None = None
        self._work = Background("segexplorer notebook: pictures")
        self._why = Background("segexplorer notebook: why")
        self._asked: Request | None = None
        self._questioned: WhyRequest | None = None
        self._traced: tuple[object, ...] = ()
        self._scene: tuple[str, str] | None = None
        self._queue: deque[Event] = deque()
        self._newest = (0, 0)
        self._told: dict[Any, Any] = {}
        self._ticker: threading.Thread | None = None
        self._rest = threading.Event()
        self._updating = self._again = self._closed = False

    # -- commands and facts -------------------------------------------------------------------------------

    def issue(self, command: str, *arguments: Any) -> None:
        """Follow a command of `viewmodels.commands`, by its name."""
        with self.lock:
            self.displayed = COMMANDS[command](self.displayed, self.reality, *arguments)
            self._update()

    def learn(self, **facts: Any) -> None:
        """Take over facts of `Reality`."""
        with self.lock:
            self.reality = replace(self.reality, **facts)
            self._update()

    def look_at_error(self, number: int | None) -> None:
        """Look at an error by its number in the list, and go there."""
        self.issue("choose_error", number)
        self._fly()

    def look_at_next_error(self, way: int = 1) -> None:
        """Look at the next (1) or previous (-1) error of the list, and go there."""
        self.issue("next_error", way)
        self._fly()

    def _fly(self) -> None:
        with self.lock:
            entry = self.screen.navigator.entry
            if entry is not None:
                self.flown.emit(tuple(float(v) for v in entry.piece.centre))

    def point_at(self, place: tuple[float, float, float], *, ask: bool = False) -> None:
        """Read out a point, (z, y, x) in mm; `ask` also why the loss wants what it wants there."""
        with self.lock:
            self.learn(mouse=place, point=place)
            if ask and self.displayed.question.look is not None:
                self.issue("ask_at", place)

    # -- what is displayed --------------------------------------------------------------------------------

    def open_results(self, results: Results, case: str | None = None) -> None:
        """Show predictions that other programs made, or that were given as arrays."""
        with self.lock:
            self._leave_run()
            self._find = results.find
            self.reality = replace(Reality(axes=_AXIAL), results=results)
            self.issue("open_results", results.key, case)

    def open_folder(self, folder: Path) -> None:
        """Show a run folder as it is recorded.

        Raises
        ------
        DataError
            When it is no run folder.
        """
        record = open_run(folder)
        holder = record.holder
        with self.lock:
            self._leave_run()
            self._take(folder, record.experiment, owner="" if holder is None else str(holder))
            self.issue("open_run", str(folder))
            self._hear(record.events())
            self._read_history()

    def follow(self, run: Any) -> None:
        """Show a run, and what comes of it."""
        folder = Path(run.folder)
        with self.lock:
            self._leave_run()
            self.run = run
            self._take(folder, run.experiment)
            run.events.connect(self._on_event)
            self._refresh()
            self.issue("start_run" if self.reality.busy else "open_run", str(folder))
            if (folder / "events.jsonl").exists():
                self._hear(drop_superseded(read_events(folder)))
            self._look_at_slots()
            self._read_history()

    def _take(self, folder: Path, experiment: Any, owner: str = "") -> None:
        self.curves, self.status = Curves(), Status()
        self._newest, self._told = (0, 0), {}
        self._past = RunHistoryLoader(experiment)
        self._find = self._ref
        key = str(folder)

        def explain(
            snapshot: WatchedSnapshot, after: WatchedSnapshot | None, known: Explanation | None
        ) -> Explanation:
            return explain_snapshot(open_run(key), snapshot, after, known=known)

        self.reality = replace(
            Reality(axes=_AXIAL),
            run=RunFacts(
                key,
                title=folder.name,
                load=self._past.snapshot,
                penalties=penalty_range(experiment.loss),
                explain=explain,
                owner=owner,
            ),
        )
        if folder.is_dir():
            self._work.send("tests", lambda: recorded_scores(folder, "test"), self._on_tests)

    def _ref(self, case: str) -> Any:
        """Return a case by its id; in a worker, since data sets are listed for it."""
        plan = getattr(self.run, "plan", None)
        if plan is not None:
            return plan.refs.get(case)
        return None if self._past is None else self._past.ref(case)

    def _leave_run(self) -> None:
        if self.run is not None:
            self.run.events.disconnect(self._on_event)
            self.run = None
        self._queue.clear()

    # -- what comes from the run --------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        """Put an event aside; on the thread that trains."""
        self._queue.append(event)
        with self._ticking:  # not `lock`, for which training would wait while a picture is being sent
            if self._ticker is None and not self._closed:
                self._ticker = threading.Thread(
                    target=self._tick, name="segexplorer notebook: ticker", daemon=True
                )
                self._ticker.start()
        if isinstance(event, RunFinished):
            self._rest.set()  # the end is shown at once

    def _tick(self) -> None:
        """Take over what has come, twice a second, until nothing comes any more."""
        quiet = 0
        while True:
            quiet = 0 if self.look() else quiet + 1
            with self._ticking:
                if self._closed or (quiet > 1 and not self._queue):
                    self._ticker = None
                    return
            self._rest.wait(TICK_S)
            self._rest.clear()

    def look(self) -> bool:
        """Take over what has come from the run; return whether there was anything."""
        with self.lock:
            if self._closed:
                return False
            events = [self._queue.popleft() for _ in range(len(self._queue))]
            if events:
                self._hear(events)
            self._look_at_slots()
            return bool(events)

    def _hear(self, events: Sequence[Event]) -> None:
        """Add events to curves and status, each once, whether it came from the folder or from the run."""
        new = self._unheard(events)
        if not new:
            return
        self.curves.extend(new)
        self.status.extend(new)
        facts: dict[str, Any] = {}
        run = self.reality.run
        if events_of(new, Planned) and (plan := getattr(self.run, "plan", None)):
            facts["planned"] = dict(plan.watched)
        scored = {event.step: event for event in events_of(new, ValidationDone)}
        if scored and run is not None:
            facts["validations"] = {**run.validations, **scored}
        if facts and run is not None:
            self.reality = replace(self.reality, run=replace(run, **facts))
        if events_of(new, StateChanged, RunFinished, ParameterApplied):
            self._refresh()
        if scored or events_of(new, RunFinished):
            self._read_history()
        self.heard.emit(new)
        self._update()

    def _unheard(self, events: Sequence[Event]) -> RecordedEvents:
        """Return those that were not heard of before; the numbers of consecutive steps rise."""
        new: list[Event | StepColumns] = []
        for piece in stretches(events):
            if isinstance(piece, StepColumns):
                seqs = piece.counts("seq")
                news = (seqs == 0) | (piece.attempt > self._newest[0])
                if piece.attempt == self._newest[0]:
                    news |= seqs > self._newest[1]
                new += [piece] if news.all() else [piece.event(n) for n in news.nonzero()[0].tolist()]
                self._newest = max((piece.attempt, int(seqs.max())), self._newest)
                continue
            order = (piece.attempt, piece.seq)
            if piece.seq and order <= self._newest:
                continue
            self._newest = max(order, self._newest)
            new.append(piece)
        return RecordedEvents(new)

    def _refresh(self) -> None:
        """Ask the run which commands it accepts now."""
        run = self.run
        if run is None:
            return
        accepts = frozenset(command for command in _RUN_COMMANDS if run.accepts(command))
        self.reality = replace(self.reality, accepts=accepts, busy=run.state in ACTIVE_STATES, making="")

    def _look_at_slots(self) -> None:
        """Take over the newest predictions; they stay in their slots for other cells that show the run."""
        run = self.run
        if run is None or self.reality.run is None:
            return
        facts: dict[str, Any] = {}
        newest = dict(self.reality.run.newest)
        for role in ("train", "validation"):
            snapshot = run.watched.last(role)
            if snapshot is not None and newest.get(role) is not snapshot:
                newest[role] = snapshot
                facts["newest"] = newest
                if self._past is not None:
                    self._past.know(snapshot)
        if "patch" in self.displayed.overlays:
            patch = run.patch.last("patch")
            if patch is not None and patch is not self.reality.run.patch:
                facts["patch"] = patch
        if facts:
            self.learn(run=replace(self.reality.run, **facts))

    def _read_history(self) -> None:
        """Find the frames on the disk; the newest may come with the next validation."""
        facts = self.reality.run
        if facts is not None and Path(facts.key).is_dir():
            folder = Path(facts.key)
            self._work.send("history", lambda: (facts.key, frames_of(folder)), self._on_frames)

    def _on_frames(self, answer: Any) -> None:
        with self.lock:
            run = self.reality.run
            if isinstance(answer, SegExplorerError):
                self.learn(image_problem=str(answer), image_of=self.screen.scene)
            elif run is not None and answer[0] == run.key:
                self.learn(run=replace(run, frames=answer[1]))

    def _on_tests(self, answer: Any) -> None:
        with self.lock:
            if self.reality.run is not None and not isinstance(answer, SegExplorerError):
                self.learn(run=replace(self.reality.run, tests=answer))

    # -- from one screen to the next ----------------------------------------------------------------------

    def _update(self) -> None:
        """Resolve and tell; what listeners bring about is resolved afterwards."""
        if self._updating or self._closed:
            self._again = True
            return
        self._updating = True
        try:
            self._again = True
            while self._again:
                self._again = False
                screen = resolve(self.displayed, self.reality)
                self.displayed = screen.displayed
                if screen.scene != self._scene:
                    self._change_scene(screen)
                    continue
                old, self.screen = self.screen, screen
                parts = differences(screen, old)
                if parts:
                    self.changed.emit(screen, parts)
                self._send(screen)
        finally:
            self._updating = False

    def _change_scene(self, screen: Screen) -> None:
        """Take the image of the old case away, and send for that of the new one."""
        self._scene, self.image, self._again = screen.scene, None, True
        self.reality = replace(self.reality, image_of=None, image_problem="")
        find, scene = self._find, screen.scene
        if scene is None or find is None:
            self.reality = replace(self.reality, image_of=scene)
            return
        case = scene[1]

        def work() -> ImageOfCase:
            ref = find(case)
            return ImageOfCase() if ref is None else watched_case.image_of(ref.open, case, ())

        self._work.send("image", work, lambda answer: self._on_image(scene, answer))

    def _on_image(self, scene: tuple[str, str], answer: Any) -> None:
        with self.lock:
            if scene != self._scene:
                return
            problem = str(answer) if isinstance(answer, SegExplorerError) else ""
            self.image = None if problem else answer.picture
            self.learn(image_of=scene, image_problem=problem)
            # the image itself is no part of a screen
            self.changed.emit(self.screen, frozenset({"image"}))

    def _send(self, screen: Screen) -> None:
        """Have prepared what is missing."""
        request = screen.request
        if request is not None and request != self._asked:
            self._work.send(
                "picture",
                lambda: request.answer(self.reality.seen),
                lambda answer: self._on_picture(request, answer),
            )
        self._asked = request
        asked = screen.why_request
        if asked is not None and asked != self._questioned:
            self._questioned = asked
            self._why.send(
                "why",
                lambda: asked.answer(self.reality.answer),
                lambda answer: self._on_answer(asked, answer),
            )
        self._trace(screen)

    def _on_picture(self, request: Request, answer: Any) -> None:
        with self.lock:
            asked = self._asked
            if asked is None or request.subject != asked.subject:
                return  # it is of something that is displayed no more
            if not isinstance(answer, SegExplorerError):
                self.learn(seen=(request, answer))
            elif request == asked:
                self.learn(refusal=(request, str(answer)))

    def _on_answer(self, asked: WhyRequest, answer: Any) -> None:
        with self.lock:
            self._questioned = None
            if isinstance(answer, SegExplorerError):
                answer = Answer(asked.class_index or 1, problem=str(answer))
            self.learn(answer=(asked, answer))

    def _trace(self, screen: Screen) -> None:
        """Have the listed errors followed through the history, and the one that is looked at."""
        asked = trace_request(screen, self.reality)
        if asked is None or asked.subject == self._traced:
            return
        self._traced = asked.subject

        def done(answer: Any) -> None:
            if not isinstance(answer, SegExplorerError):
                self.learn(**answer)

        self._work.send("trace", asked.found, done)

    # -- the end ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a picture, an image or an answer is being prepared."""
        return self._work.busy or self._why.busy

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until everything that was asked for is there; for scripts and stills. Not while a run trains."""
        return self._work.wait(seconds) and self._why.wait(seconds) and self._work.wait(seconds)

    def close(self) -> None:
        """Listen to nothing any more and end all threads; the run itself goes on."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            self._leave_run()
            ticker = self._ticker
        self._rest.set()
        if ticker is not None and ticker is not threading.current_thread():
            ticker.join(5.0)
        for work in (self._work, self._why):
            work.close()
        for signal in (self.changed, self.heard, self.flown):
            signal.disconnect()
