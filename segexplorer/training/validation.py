"""Whole cases during a run: all of validation scored, and the watched ones shown and kept in the history."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from segexplorer.core.events import Event, ValidationDone, WatchedDone
from segexplorer.core.types import Role
from segexplorer.metrics import Confusion, summarise
from segexplorer.training.examiner import Examined, Examiner
from segexplorer.training.out_of_memory import memory_errors_told
from segexplorer.training.position import Position
from segexplorer.training.snapshots import LatestSlots, WatchedSnapshot

if TYPE_CHECKING:
    from segexplorer.training.folder import RunFolder


class Validator:
    """Scores the validation cases, and predicts the watched ones whenever somebody wants to see them.

    Parameters
    ----------
    examiner
        Predicts one case.
    folder
        Whose history keeps the frames of the watched cases.
    slots
        Where the newest frame of each role is shown from.
    attempt
        Number of this attempt, for the history.
    """

    def __init__(
        self, examiner: Examiner, folder: RunFolder, slots: LatestSlots[WatchedSnapshot], attempt: int
    ) -> None:
        self.examiner, self.plan = examiner, examiner.plan
        self.folder, self.slots, self.attempt = folder, slots, attempt
        self.watched_at = time.monotonic()

    def validate(
        self, at: Position, *, best: float, badges: tuple[str, ...]
    ) -> Generator[Event, None, tuple[ValidationDone, dict[int, float]]]:
        """Score every validation case; `best` is the highest mean Dice so far.

        Returns the event, and class -> Dice over all voxels of all cases, which adaptive losses follow.
        """
        begun = time.perf_counter()
        cases = self.plan.ids("validation")
        examined: list[Examined] = []
        confusion = Confusion(len(self.plan.class_names) + 1)
        for number, case in enumerate(cases, start=1):
            watched = case == self.plan.watched.get("validation")
            activity = f"validating case {number} of {len(cases)}"
            result = yield from self._examine(
                case, "validation", at, watched=watched, activity=activity, confusion=confusion
            )
            examined.append(result)
        shown = self.plan.watched.get("train")
        if shown is not None:
            yield from self._examine(shown, "train", at, watched=True, activity="predicting the watched case")
        self.watched_at = time.monotonic()
        scores = tuple(s for e in examined for s in e.scores)
        summary = summarise(scores)
        finite = [e.loss for e in examined if np.isfinite(e.loss)]
        mean_dice = summary.mean["dice"]
        event = ValidationDone(
            epoch=at.epoch,
            loss=float(np.mean(finite)) if finite else float("nan"),
            scores=scores,
            mean_dice=mean_dice,
            class_dice=summary.class_dice,
            n_used=summary.n_used,
            n_absent=summary.n_absent,
            n_missed=summary.n_missed,
            best=bool(mean_dice > best),
            seconds=time.perf_counter() - begun,
            badge="; ".join(badges),
        )
        return event, confusion.class_dice() if cases else {}

    def watch(self, at: Position) -> Generator[Event, None, None]:
        """Predict the watched cases now."""
        for role, case in self.plan.watched.items():
            yield from self._examine(case, role, at, watched=True, activity="predicting the watched cases")
        self.watched_at = time.monotonic()

    def watch_slab(self, role: Role, axis: int, world: float, at: Position) -> Generator[Event, None, None]:
        """Predict the slab of a watched case around the plane that a viewer shows."""
        snapshot = yield from self.examiner.examine_slab(role, axis, world, step=at.step)
        if snapshot is None:
            yield from self.watch(at)
        else:
            self.slots.put(role, snapshot)
            yield WatchedDone(case=snapshot.case, role=role, index=snapshot.index)

    def _examine(
        self,
        case: str,
        role: Role,
        at: Position,
        *,
        watched: bool,
        activity: str,
        confusion: Confusion | None = None,
    ) -> Generator[Event, None, Examined]:
        index = self.folder.next_frame(role) if watched else None
        with memory_errors_told():
            result = yield from self.examiner.examine(
                case, role, step=at.step, epoch=at.epoch, index=index, activity=activity, confusion=confusion
            )
        if result.snapshot is not None and index is not None:
            self.folder.write_frame(result.snapshot, self.attempt)
            self.slots.put(role, result.snapshot)
            yield WatchedDone(case=case, role=role, index=index)
        return result
