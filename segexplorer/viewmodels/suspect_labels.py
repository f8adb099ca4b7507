"""Suspect labels: errors that stay through steps, and that come back with other seeds, folds and losses.

A network that was shown a label often and still contradicts it at the same place, in run after run, may be right.
Errors of several runs on one case are the same where they overlap and have the same class. They are ranked by the
share of the runs that have them and by how long they stay; an error that runs make although they were trained on
the case comes first among equals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Role
from segexplorer.training.history import open_run
from segexplorer.training.run_files import RUN
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.error_navigator import THERE, Frame, Suspicion, is_same_error, share_wrong
from segexplorer.viewmodels.error_pieces import ErrorPiece, error_pieces
from segexplorer.viewmodels.watched_case import RunHistoryLoader, frames_of

MOST_RUNS = 20
"""So many runs beside the one that is shown are looked into, the newest."""


@dataclass(frozen=True, eq=False)
class Observed:
    """A case as one run predicted it last, with its errors, and how long each was there.

    Attributes
    ----------
    run, role
        Which run, and what the case was to it.
    snapshot
        The prediction, with the label.
    pieces
        Its errors.
    lasting
        For each the share of the recorded predictions of the second half of the training that have it, 0 to 1.
    """

    run: str
    role: Role
    snapshot: WatchedSnapshot
    pieces: tuple[ErrorPiece, ...]
    lasting: tuple[float, ...]


def observe(
    run: str, snapshot: WatchedSnapshot, pieces: tuple[ErrorPiece, ...], frames: Sequence[Frame]
) -> Observed:
    """Follow the errors of a prediction through the second half of the recorded ones, this one included.

    Parameters
    ----------
    frames
        All recorded predictions of the case, in order of steps.
    """
    later = frames[len(frames) // 2 :]
    there = np.zeros((len(later), len(pieces)))
    for row, frame in enumerate(later):
        prediction = frame.prediction()
        for number, piece in enumerate(pieces):
            if prediction.shape == piece.shape:
                there[row, number] = share_wrong(piece, prediction) >= THERE
    lasting = there.mean(axis=0) if len(later) else np.zeros(len(pieces))
    return Observed(run, snapshot.role, snapshot, pieces, tuple(float(share) for share in lasting))


@dataclass(frozen=True, eq=False)
class Suspect:
    """A place where the label may be wrong.

    Attributes
    ----------
    case
        Whose label.
    piece
        The error as the run has it that is named first in `runs`: the largest.
    runs
        Runs that have it.
    of
        How many runs predicted the case.
    trained_on
        How many of `runs` were trained on the case.
    lasting
        Mean share of the later predictions of these runs that have it.
    """

    case: str
    piece: ErrorPiece
    runs: tuple[str, ...]
    of: int
    trained_on: int
    lasting: float
    pieces: tuple[ErrorPiece, ...] = ()
    """The error as each of `runs` has it."""

    @property
    def agreement(self) -> float:
        """Share of the runs that have it."""
        return len(self.runs) / self.of

    @property
    def score(self) -> float:
        """What they are ranked by: agreement times how long it lasts, 0 to 1."""
        return self.agreement * self.lasting

    @property
    def sentence(self) -> str:
        """Why it is suspect, e.g. "in 3 of 3 runs (1 trained on it), in 92 % of the later predictions"."""
        runs = "run" if self.of == 1 else "runs"
        trained = f" ({self.trained_on} trained on it)" if self.trained_on else ""
        return f"in {len(self.runs)} of {self.of} {runs}{trained}, in {self.lasting:.0%} of the later predictions"


def observed_in(run: Path, *, case: str | None = None, minimum_ml: float = 0.05) -> list[Observed]:
    """Return the cases that a run watched, with the errors of its last predictions; without those without a label.

    Parameters
    ----------
    case
        Only this one; None for all.

    Raises
    ------
    SegExplorerError
        When the folder is no run folder, or its data is not here.
    """
    loader = RunHistoryLoader(open_run(run).experiment)
    found = []
    for frames in frames_of(run).values():
        for name in dict.fromkeys(frame.facts.case for frame in frames):
            if case not in (None, name):
                continue
            own = [frame for frame in frames if frame.facts.case == name]
            snapshot = loader.snapshot(own[-1])
            if snapshot.truth is None:
                continue
            pieces = error_pieces(
                snapshot.prediction,
                snapshot.truth,
                snapshot.class_names,
                snapshot.affine,
                minimum_ml=minimum_ml,
            )
            found.append(observe(run.name, snapshot, pieces, own))
    return found


def suspicion_beside(
    run: Path, snapshot: WatchedSnapshot, pieces: tuple[ErrorPiece, ...], frames: Sequence[Frame]
) -> Suspicion:
    """Return how suspect the errors of a prediction make the label, by its own history and the runs beside it.

    Runs in the same folder count that watched the same case with the same label; what cannot be read does not.

    Parameters
    ----------
    frames
        Recorded predictions of the case in this run, in order of steps.
    """
    everything = [observe(run.name, snapshot, pieces, frames)]
    others = [path.parent for path in run.parent.glob(f"*/{RUN}") if path.parent != run]
    for other in sorted(others, key=lambda path: -path.stat().st_mtime)[:MOST_RUNS]:
        try:
            found = observed_in(other, case=snapshot.case)
        except (SegExplorerError, OSError):  # a broken neighbour says nothing about this label
            continue
        everything += [one for one in found if _same_label(one.snapshot, snapshot)]
    of_piece = {piece: suspect for suspect in suspects(everything) for piece in suspect.pieces}
    several = [of_piece[piece] for piece in pieces]
    return Suspicion(pieces, tuple(s.score for s in several), tuple(s.sentence for s in several))


def suspects(observed: Iterable[Observed]) -> tuple[Suspect, ...]:
    """Rank the errors that several predictions of a case share; the most suspect first.

    Runs whose grid or label of a case differ are not compared with each other: the largest group of equal ones
    counts, so that a corrected label is not compared with the one before.
    """
    cases: dict[str, list[Observed]] = {}
    for one in observed:
        cases.setdefault(one.snapshot.case, []).append(one)
    found = [suspect for case, several in cases.items() for suspect in _of_case(case, _alike(several))]
    return tuple(
        sorted(
            found,
            key=lambda s: (-s.score, -len(s.runs), -s.trained_on, -s.piece.volume_ml),
        )
    )


def _alike(several: list[Observed]) -> list[Observed]:
    groups: list[list[Observed]] = []
    for one in several:
        group = next((g for g in groups if _same_label(g[0].snapshot, one.snapshot)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return max(groups, key=len)


def _same_label(one: WatchedSnapshot, other: WatchedSnapshot) -> bool:
    if one.truth is None or other.truth is None or one.class_names != other.class_names:
        return False
    return one.truth.shape == other.truth.shape and bool(np.array_equal(one.truth, other.truth))


def _of_case(case: str, several: list[Observed]) -> list[Suspect]:
    """Group the errors of one case over runs: each joins the group whose largest error it is the same as."""
    everything = [
        (piece, lasting, one)
        for one in several
        for piece, lasting in zip(one.pieces, one.lasting, strict=True)
    ]
    everything.sort(key=lambda item: -item[0].voxels)
    groups: list[list[tuple[ErrorPiece, float, Observed]]] = []
    for item in everything:
        group = next(
            (
                g
                for g in groups
                if is_same_error(g[0][0], item[0]) and all(item[2].run != member[2].run for member in g)
            ),
            None,
        )
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    return [
        Suspect(
            case,
            group[0][0],
            tuple(member[2].run for member in group),
            len({one.run for one in several}),
            sum(member[2].role == "train" for member in group),
            float(np.mean([member[1] for member in group])),
            tuple(member[0] for member in group),
        )
        for group in groups
    ]
