"""What is known and said of the listed errors: since when they are there, what became of them, verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.verdicts import (
    RESULT_VERDICTS,
    VERDICTS,
    Judgement,
    Verdict,
    keep_verdicts,
    read_verdicts,
)
from segexplorer.viewmodels.error_navigator import (
    ErrorEntry,
    Judged,
    assign_verdicts,
    judged_so,
)
from segexplorer.viewmodels.reality import run_of
from segexplorer.viewmodels.resolve import trace_request
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.suspect_labels import suspicion_beside


class ErrorReview:
    """Looks into the listed errors of a window in workers, and keeps what readers say of them.

    Parameters
    ----------
    display
        What the window displays (`display.Display`); it learns what is found.
    """

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tracing = LatestWork(self._on_traced, display.refuse)
        self._suspecting = LatestWork(self._on_suspected, display.refuse, newest_only=True)
        self._judging = LatestWork(self._on_judged, self._on_not_judged)
        self._traced: tuple[object, ...] = ()
        self._suspected: tuple[Any, ...] | None = None
        self._unkept: list[tuple[tuple[Path, str], Verdict]] = []
        self._verdicts_of: str | None = None
        self._saying: dict[Any, Verdict] = {}

    def follow(self, run: str | None) -> None:
        """Read the verdicts of a run, or of results, that is displayed now."""
        if run != self._verdicts_of:
            self._verdicts_of = run
            if run is not None:
                self._read_verdicts(run)

    def forget(self) -> None:
        """Read verdicts anew, also of a run with the same key."""
        self._verdicts_of = None

    def look_into(self, screen: Screen) -> None:
        """Have what the screen lists traced, and compared with other runs where that is asked for."""
        self._trace(screen)
        self._suspect(screen)

    def closing(self) -> None:
        """Let go of work under way; what was said is written."""
        for work in (self._tracing, self._suspecting, self._judging):
            work.close()
        try:
            _write(self._unkept)
        except SegExplorerError as error:
            show_error(str(error))

    def _trace(self, screen: Screen) -> None:
        """Have the listed errors followed through the history, and the one that is looked at."""
        asked = trace_request(screen, self._display.reality)
        if asked is not None and asked.subject != self._traced:
            self._traced = asked.subject
            self._tracing.send(asked.found)

    def _suspect(self, screen: Screen) -> None:
        """Have the runs beside this one looked into, once errors are sorted by how suspect the label is."""
        seen, now = screen.seen, screen.displayed
        run = run_of(now, self._display.reality)
        if now.listing.order != "suspect" or seen is None or run is None or now.role is None:
            return
        if self._suspected is seen.pieces:
            return
        self._suspected = seen.pieces
        pieces, snapshot, folder = seen.pieces, seen.snapshot, Path(run.key)
        frames = [frame for frame in run.frames.get(now.role, ()) if frame.step <= snapshot.step]
        self._suspecting.send(lambda: suspicion_beside(folder, snapshot, pieces, frames))

    def _on_suspected(self, suspicion: Any) -> None:
        self._display.learn(suspicion=suspicion)

    def _on_traced(self, found: dict[str, Any]) -> None:
        self._display.learn(**found)

    def judge(
        self, judgement: Judgement | None = None, *, done: bool | None = None, note: str | None = None
    ) -> None:
        """Keep what the reader says of the error that is looked at; without effect where `Screen.verdict` is off.

        Parameters
        ----------
        judgement
            What it is; said again, it is taken back. None leaves it.
        done, note
            Whether it is ticked off, and a free text; None leaves them.
        """
        screen = self._display.screen
        entry, seen, run = screen.navigator.entry, screen.seen, screen.displayed.run
        if not screen.verdict.enabled or entry is None or seen is None or run is None:
            return
        self.say(run, entry, seen.snapshot, judgement, done=done, note=note)

    def say(self, run: str, entry: ErrorEntry, snapshot: WatchedSnapshot, *what: Any, **more: Any) -> None:
        """Keep what is said of an error of a run, whatever is shown by now; further arguments as of `judged_so`."""
        before, judged = self._saying.get(entry.piece), self._display.reality.judged
        if before is None and judged is not None and judged.run == run:
            (before,) = assign_verdicts([entry.piece], judged.verdicts, snapshot.case)
        entry = entry if before is None else replace(entry, verdict=before)
        verdict = judged_so(entry, snapshot, *what, **more)
        self._saying[entry.piece] = verdict
        file = self._verdict_file(run)
        if file is not None:
            self._unkept.append((file, verdict))
            self._read_verdicts(run)

    def _read_verdicts(self, run: str) -> None:
        """Write what was said, and read what others said."""
        file = self._verdict_file(run)
        if file is None:
            return

        def work() -> Judged:
            _write(self._unkept)
            return Judged(run, read_verdicts(*file))

        self._judging.send(work)

    def _verdict_file(self, key: str) -> tuple[Path, str] | None:
        """Return folder and name of the file with what readers say of a run or of results; None without one."""
        run, results = self._display.reality.run, self._display.reality.results
        if run is not None and key == run.key:
            return (Path(key), VERDICTS) if key and Path(key).is_dir() else None
        if results is not None and key == results.key and results.folder is not None:
            return results.folder, RESULT_VERDICTS
        return None

    def _on_judged(self, judged: Judged) -> None:
        if not self._unkept:
            self._saying = {}
        if judged.run == self._display.displayed.run:
            self._display.learn(judged=judged)

    def _on_not_judged(self, error: SegExplorerError) -> None:
        self._saying = {}
        show_error(str(error))


def _write(unkept: list[tuple[tuple[Path, str], Verdict]]) -> None:
    """Write verdicts that wait, each into its file."""
    while unkept:
        folder, name = unkept[0][0]
        said = [unkept.pop(0)[1]]
        while unkept and unkept[0][0] == (folder, name):
            said.append(unkept.pop(0)[1])
        keep_verdicts(folder, said, name)
