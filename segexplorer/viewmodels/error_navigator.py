"""The list of errors as a reader works through it: sorted, filtered, searched, judged, and followed through time.

Errors have no names of their own. One is followed through the recorded predictions of its case by its voxels: it is
there while at least half of them are wrong in the same way. A verdict finds its error at another step by overlap.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import Role
from segexplorer.data.geometry import DisplayGrid, Grid, spacing
from segexplorer.data.volume import Volume
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.verdicts import JUDGEMENTS, MOST_SAMPLES, ErrorKind, Judgement, Verdict
from segexplorer.viewmodels.error_pieces import KINDS, ErrorPiece
from segexplorer.viewmodels.outlines import MarkOutlines
from segexplorer.viewmodels.regions import millilitres

THERE = 0.5
"""Share of an error's voxels that are wrong in the same way while the error is there."""
SAME_SMALLER, SAME_LARGER = 0.5, 0.1
"""Shares of the smaller and of the larger of two errors that they have in common when they are the same."""
NEIGHBOURHOOD_MM = 5.0
"""How far around its box the Dice of an error is measured."""

State = Literal["open", "done", "true_error", "label_error", "unclear"]
STATES: Mapping[State, str] = {
    "open": "open",
    "done": "ticked off",
    "true_error": JUDGEMENTS["true_error"],
    "label_error": JUDGEMENTS["label_error"],
    "unclear": JUDGEMENTS["unclear"],
}
"""What a reader has made of an error: nothing yet, looked at without a judgement, or judged."""

Order = Literal["volume", "depth", "kind", "class", "place", "since", "state", "suspect"]
ORDERS: dict[Order, str] = {
    "volume": "largest first",
    "depth": "deepest first",
    "kind": "by kind",
    "class": "by class",
    "place": "by slice",
    "since": "longest there first",
    "state": "open ones first",
    "suspect": "most suspect label first",
}
"""Orders of the list."""


@dataclass(frozen=True, eq=False)
class ErrorEntry:
    """An error in the list.

    Attributes
    ----------
    number
        1 for the largest; it stays while the list is sorted and filtered.
    piece
        The error.
    verdict
        What was said of it.
    since
        Optimiser steps at the first of the recorded predictions without interruption in which it is there; None
        while that is not known.
    suspicion, why
        How suspect the label is here, 0 to 1, and why; None while nobody asked.
    """

    number: int
    piece: ErrorPiece
    verdict: Verdict | None = None
    since: int | None = None
    suspicion: float | None = None
    why: str = ""

    @property
    def state(self) -> State:
        """What a reader has made of it."""
        if self.verdict is None:
            return "open"
        return self.verdict.judgement or ("done" if self.verdict.done else "open")

    @property
    def words(self) -> str:
        """Everything that a search finds, in lower case."""
        piece, verdict = self.piece, self.verdict
        parts = [KINDS[piece.kind], piece.class_name, piece.instead, piece.place.words, STATES[self.state]]
        parts += [verdict.note] if verdict is not None else []
        return " ".join(parts).casefold()


@dataclass(frozen=True)
class Filter:
    """Which errors are listed; every condition has to be met.

    Attributes
    ----------
    kinds, class_names, states
        Those to be listed; empty for all. An error belongs to the class that it was taken for, too.
    smallest_ml
        Volume from which on errors are listed.
    text
        Words that all have to occur, in any order and case.
    """

    kinds: frozenset[ErrorKind] = frozenset()
    class_names: frozenset[str] = frozenset()
    states: frozenset[State] = frozenset()
    smallest_ml: float = 0.0
    text: str = ""

    def passes(self, entry: ErrorEntry) -> bool:
        """Whether an error is listed."""
        piece = entry.piece
        return (
            (not self.kinds or piece.kind in self.kinds)
            and (not self.class_names or bool(self.class_names & {piece.class_name, piece.instead}))
            and (not self.states or entry.state in self.states)
            and piece.volume_ml >= self.smallest_ml
            and all(word in entry.words for word in self.text.casefold().split())
        )


@dataclass(frozen=True)
class ErrorNavigator:
    """The list, how it is arranged, and which error is chosen. Commands return a new one.

    Attributes
    ----------
    entries
        All errors, the largest first.
    chosen
        Number of the chosen one; None for none.
    """

    entries: tuple[ErrorEntry, ...] = ()
    filter: Filter = field(default_factory=Filter)
    order: Order = "volume"
    chosen: int | None = None

    @property
    def shown(self) -> tuple[ErrorEntry, ...]:
        """The errors that pass the filter, in order."""
        passed = (entry for entry in self.entries if self.filter.passes(entry))
        return tuple(sorted(passed, key=lambda entry: _rank(entry, self.order)))

    @property
    def entry(self) -> ErrorEntry | None:
        """The chosen error; None where none is chosen or it is not there any more."""
        return next((entry for entry in self.entries if entry.number == self.chosen), None)

    def choose(self, number: int | None) -> ErrorNavigator:
        """Choose an error."""
        return replace(self, chosen=number)

    def go(self, way: int) -> ErrorNavigator:
        """Choose the next (1) or previous (-1) of the shown errors; after the last comes the first."""
        numbers = [entry.number for entry in self.shown]
        if not numbers:
            return self
        if self.chosen not in numbers:
            return self.choose(numbers[0 if way > 0 else -1])
        return self.choose(numbers[(numbers.index(self.chosen) + way) % len(numbers)])

    def with_pieces(
        self, pieces: Sequence[ErrorPiece], verdicts: Sequence[Verdict], case: str
    ) -> ErrorNavigator:
        """Return the list of another prediction; the chosen error stays chosen where it is still there."""
        given = assign_verdicts(pieces, verdicts, case)
        entries = tuple(
            ErrorEntry(number, piece, verdict)
            for number, (piece, verdict) in enumerate(zip(pieces, given, strict=True), start=1)
        )
        before = self.entry
        same = None if before is None else _same_as(before.piece, pieces)
        return replace(self, entries=entries, chosen=None if same is None else same + 1)

    def with_verdicts(self, verdicts: Sequence[Verdict], case: str) -> ErrorNavigator:
        """Return the same list with other verdicts."""
        given = assign_verdicts([entry.piece for entry in self.entries], verdicts, case)
        entries = tuple(replace(e, verdict=v) for e, v in zip(self.entries, given, strict=True))
        return replace(self, entries=entries)

    def with_since(self, steps: Sequence[int | None]) -> ErrorNavigator:
        """Return the same list with the step since which each error is there."""
        return replace(
            self, entries=tuple(replace(e, since=s) for e, s in zip(self.entries, steps, strict=True))
        )

    def with_suspicion(self, scores: Sequence[float], why: Sequence[str]) -> ErrorNavigator:
        """Return the same list with how suspect the label is at each error."""
        entries = (
            replace(entry, suspicion=score, why=text)
            for entry, score, text in zip(self.entries, scores, why, strict=True)
        )
        return replace(self, entries=tuple(entries))

    @property
    def summary(self) -> str:
        """What is shown, in a sentence, e.g. "12 of 30 errors, 4.5 ml; 3 seen": judged or ticked off."""
        shown = self.shown
        total = sum(entry.piece.volume_ml for entry in shown)
        handled = sum(entry.state != "open" for entry in self.entries)
        of = f" of {len(self.entries)}" if len(shown) != len(self.entries) else ""
        noun = "error" if len(self.entries) == 1 else "errors"
        done = f"; {handled} seen" if handled else ""
        return f"{len(shown)}{of} {noun}, {millilitres(total)}{done}"


def _rank(entry: ErrorEntry, order: Order) -> tuple[object, ...]:
    piece = entry.piece
    never = np.inf
    first: dict[Order, tuple[object, ...]] = {
        "volume": (),
        "depth": (-piece.depth_mm,),
        "kind": (list(KINDS).index(piece.kind),),
        "class": (piece.class_index,),
        "place": (-piece.place.slices[0],),
        "since": (never if entry.since is None else entry.since,),
        "state": (list(STATES).index(entry.state),),
        "suspect": (-(entry.suspicion or 0.0),),
    }
    return *first[order], entry.number


# ---- the same error elsewhere


def samples_of(piece: ErrorPiece) -> list[int]:
    """Return at most `MOST_SAMPLES` voxels of an error, evenly spread, as indices into the flattened (C) array."""
    sizes = piece.runs[:, 1] - piece.runs[:, 0]
    ends = np.cumsum(sizes)
    places = np.linspace(0, int(ends[-1]) - 1, min(int(ends[-1]), MOST_SAMPLES)).round().astype(np.int64)
    run = np.searchsorted(ends, places, side="right")
    flat = piece.runs[run, 0] + places - (ends - sizes)[run]
    i, j, k = np.unravel_index(flat, piece.shape, order=piece.order)
    return [int(index) for index in np.sort(np.ravel_multi_index((i, j, k), piece.shape))]


def verdict_on(piece: ErrorPiece, snapshot: WatchedSnapshot, before: Verdict | None = None) -> Verdict:
    """Return a verdict on an error that says nothing yet, or what was said `before`, now of this prediction."""
    facts = {
        "case": snapshot.case,
        "role": snapshot.role,
        "family": piece.family,
        "class_name": piece.class_name,
        "kind": piece.kind,
        "step": snapshot.step,
        "volume_ml": piece.volume_ml,
        "depth_mm": piece.depth_mm,
        "place": piece.place.words,
        "shape": piece.shape,
        "voxels": piece.voxels,
        "samples": samples_of(piece),
    }
    return Verdict.model_validate(facts) if before is None else before.model_copy(update=facts)


def judged_so(
    entry: ErrorEntry,
    snapshot: WatchedSnapshot,
    judgement: Judgement | None = None,
    *,
    done: bool | None = None,
    note: str | None = None,
    corrected: tuple[str, str] | None = None,
) -> Verdict:
    """Return the verdict on an error after a reader has said something more.

    Parameters
    ----------
    judgement
        What it is; said again, it is taken back. None leaves it.
    done, note
        Whether it is ticked off, and a free text; None leaves them.
    corrected
        Name and checksum of the new version of the label that was painted because of it.
    """
    verdict = verdict_on(entry.piece, snapshot, entry.verdict)
    found: dict[str, object] = {"when": time.time()}
    if judgement is not None:
        found["judgement"] = None if verdict.judgement == judgement else judgement
    if done is not None:
        found["done"] = done
    if note is not None:
        found["note"] = note.strip()
    if corrected is not None:
        found |= {"judgement": "label_error", "corrected": corrected[0], "corrected_sha256": corrected[1]}
    return verdict.model_copy(update=found)


def assign_verdicts(
    pieces: Sequence[ErrorPiece], verdicts: Iterable[Verdict], case: str
) -> list[Verdict | None]:
    """Return for each error of a case the verdict on it, found by overlap; the largest overlaps come first."""
    overlaps = []
    for place, verdict in enumerate(own := [v for v in verdicts if v.case == case]):
        for number, piece in enumerate(pieces):
            if (verdict.family, verdict.class_name) != (piece.family, piece.class_name):
                continue
            common = _common(verdict.samples, verdict.shape, verdict.voxels, piece)
            if _is_same(common, verdict.voxels, piece.voxels):
                overlaps.append((-common, -verdict.when, number, place))
    given: list[Verdict | None] = [None] * len(pieces)
    taken: set[int] = set()
    for _, _, number, place in sorted(overlaps):
        if given[number] is None and place not in taken:
            given[number] = own[place]
            taken.add(place)
    return given


def _same_as(piece: ErrorPiece, others: Sequence[ErrorPiece]) -> int | None:
    """Return which of the errors of another prediction is the same as one."""
    samples = samples_of(piece)
    common = [
        _common(samples, piece.shape, piece.voxels, other)
        if (other.family, other.class_index) == (piece.family, piece.class_index)
        else 0.0
        for other in others
    ]
    same = [i for i, other in enumerate(others) if _is_same(common[i], piece.voxels, other.voxels)]
    return max(same, key=lambda i: common[i], default=None)


def is_same_error(one: ErrorPiece, other: ErrorPiece) -> bool:
    """Whether the errors of two predictions of a case are the same: of one class, and of the same voxels mostly."""
    return _same_as(one, [other]) is not None


def _common(samples: Sequence[int], shape: Sequence[int], voxels: int, piece: ErrorPiece) -> float:
    """Return about how many voxels an error has in common with one of which samples are known."""
    if tuple(shape) != piece.shape or not samples or max(samples) >= int(np.prod(shape)):
        return 0.0
    places = np.unravel_index(np.asarray(samples), piece.shape)
    flat = np.ravel_multi_index(places, piece.shape, order=piece.order)
    run = np.searchsorted(piece.runs[:, 0], flat, side="right") - 1
    inside = (run >= 0) & (flat < piece.runs[run, 1])
    return float(inside.mean()) * voxels


def _is_same(common: float, one: int, other: int) -> bool:
    return common >= SAME_SMALLER * min(one, other) and common >= SAME_LARGER * max(one, other) > 0


# ---- through time


class Frame(Protocol):
    """A recorded prediction of a case; `training.history.HistoryFrame` is one."""

    @property
    def step(self) -> int: ...

    def prediction(self) -> NDArray[np.uint8]: ...


def share_wrong(piece: ErrorPiece, prediction: NDArray[np.uint8]) -> float:
    """Return which share of an error's voxels a prediction has wrong in the same way.

    Missing voxels of a class are wrong whatever else they are called; those of a wrong organ only where they are
    called that organ.
    """
    values = prediction[piece.voxel_indices]
    if piece.family == "extra":
        wrong = piece.scheme.mask(values, piece.class_index)
    elif piece.kind == "wrong_organ" and piece.instead_index:
        wrong = values == piece.instead_index
    else:
        wrong = ~piece.scheme.mask(values, piece.class_index)
    return float(wrong.mean())


def first_steps(pieces: Sequence[ErrorPiece], step: int, frames: Sequence[Frame]) -> list[int]:
    """Return for each error of a prediction the step since which it is there without interruption.

    Parameters
    ----------
    step
        Optimiser steps of the prediction that has the errors.
    frames
        Recorded predictions of the same case in order of steps; later ones than `step` do not count.
    """
    since = [step] * len(pieces)
    going = list(range(len(pieces)))
    for frame in sorted((f for f in frames if f.step < step), key=lambda f: -f.step):
        if not going:
            break
        prediction = frame.prediction()
        going = [
            number
            for number in going
            if prediction.shape == pieces[number].shape and share_wrong(pieces[number], prediction) >= THERE
        ]
        for number in going:
            since[number] = frame.step
    return since


@dataclass(frozen=True)
class Moment:
    """An error at one step.

    Attributes
    ----------
    step
        Optimiser steps.
    dice
        Dice of the error's class in the box around it and `NEIGHBOURHOOD_MM` beyond; 1 where neither prediction nor
        truth have a voxel of the class there.
    wrong
        Share of the error's voxels that are wrong in the same way.
    """

    step: int
    dice: float
    wrong: float


def biography(
    piece: ErrorPiece, truth: NDArray[np.uint8], spacing: Sequence[float], frames: Sequence[Frame]
) -> tuple[Moment, ...]:
    """Return what became of an error through the recorded predictions of its case.

    Parameters
    ----------
    truth
        (i, j, k) uint8 class indices; voxels of 255 do not count.
    spacing
        mm along the axes of the array.
    frames
        In order of steps.
    """
    margins = [int(np.ceil(NEIGHBOURHOOD_MM / mm)) for mm in spacing]
    box = tuple(
        slice(max(0, start - margin), stop + margin)
        for (start, stop), margin in zip(piece.box, margins, strict=True)
    )
    known = truth[box] != 255
    true = piece.scheme.mask(truth[box], piece.class_index)
    moments = []
    for frame in frames:
        prediction = frame.prediction()
        if prediction.shape != truth.shape:
            continue
        predicted = piece.scheme.mask(prediction[box], piece.class_index) & known
        total = int(true.sum()) + int(predicted.sum())
        dice = 2 * int((true & predicted).sum()) / total if total else 1.0
        moments.append(Moment(frame.step, dice, share_wrong(piece, prediction)))
    return tuple(moments)


# ---- what a window lists


@dataclass(frozen=True)
class Listing:
    """How the list is arranged.

    Attributes
    ----------
    order, filter
        In which order, and which errors.
    """

    order: Order = "volume"
    filter: Filter = field(default_factory=Filter)


@dataclass(frozen=True)
class Chosen:
    """The error that is looked at.

    Attributes
    ----------
    piece
        As it was when it was chosen.
    step
        Optimiser steps of the prediction that it was chosen in.
    subject
        Of which run, role, case and class; it is chosen no more when another one is displayed.
    """

    piece: ErrorPiece
    step: int
    subject: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdicts of a run, as they were read last.

    Attributes
    ----------
    run
        Its folder.
    verdicts
        All that its file holds.
    """

    run: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, eq=False)
class Since:
    """The steps since which the errors of a prediction are there, and of which other predictions that is known."""

    pieces: tuple[ErrorPiece, ...]
    steps: tuple[int, ...]
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspect the label is at each error of a prediction, 0 to 1, and why."""

    pieces: tuple[ErrorPiece, ...]
    scores: tuple[float, ...]
    why: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Life:
    """What is known of one error: its outline, and what became of it through the recorded predictions."""

    piece: ErrorPiece
    mark: MarkOutlines
    moments: tuple[Moment, ...] = ()

    def sentence(self, since: int | None) -> str:
        """Return its life in a sentence, e.g. "There since step 20; Dice around it 0.62 at step 40."

        Parameters
        ----------
        since
            The step since which it is there; None while that is not known.
        """
        told = "" if since is None else f"There since step {since}"
        if not self.moments:
            return f"{told}." if told else ""
        first, last = self.moments[0], self.moments[-1]
        dice = f"Dice around it {last.dice:.2f} at step {last.step}"
        if first is not last:
            dice = (
                f"Dice around it {first.dice:.2f} at step {first.step}, {last.dice:.2f} at step {last.step}"
            )
        return f"{told}; {dice}." if told else f"{dice}."


@lru_cache(maxsize=8)
def arranged(
    pieces: tuple[ErrorPiece, ...],
    judged: Judged | None,
    since: Since | None,
    listing: Listing,
    chosen: ErrorPiece | None,
    case: str,
    suspicion: Suspicion | None = None,
) -> ErrorNavigator:
    """Return the list of a window; equal questions have the very same answer.

    Parameters
    ----------
    pieces
        The errors of the prediction that is shown.
    judged, since, suspicion
        What is known beside them; what is of another run or prediction does not count.
    chosen
        An error of this prediction or of another one of the same case.
    """
    verdicts = () if judged is None else judged.verdicts
    navigator = ErrorNavigator(filter=listing.filter, order=listing.order).with_pieces(pieces, verdicts, case)
    if since is not None and since.pieces is pieces:
        navigator = navigator.with_since(since.steps)
    if suspicion is not None and suspicion.pieces is pieces:
        navigator = navigator.with_suspicion(suspicion.scores, suspicion.why)
    if chosen is None:
        return navigator
    place = pieces.index(chosen) if chosen in pieces else _same_as(chosen, pieces)
    return navigator.choose(None if place is None else place + 1)


def life_of(piece: ErrorPiece, snapshot: WatchedSnapshot, frames: Sequence[Frame]) -> Life:
    """Return outline and biography of an error; slow, for a worker.

    Parameters
    ----------
    snapshot
        A prediction of its case, with the label.
    frames
        Recorded predictions of the case, in order of steps.
    """
    moments: tuple[Moment, ...] = ()
    if snapshot.truth is not None:
        moments = biography(piece, snapshot.truth, spacing(snapshot.affine), frames)
    return Life(piece, mark_of(piece, snapshot), moments)


@dataclass(frozen=True, eq=False)
class TraceRequest:
    """Which errors are to be followed through the history, and the one that is looked at.

    Attributes
    ----------
    pieces, chosen
        The listed errors, and the one that is looked at.
    snapshot, frames
        The prediction that has them, and the recorded predictions of its case.
    since_known
        Whether it is known already since when the listed ones are there.
    """

    pieces: tuple[ErrorPiece, ...]
    chosen: ErrorPiece | None
    snapshot: WatchedSnapshot
    frames: tuple[Frame, ...]
    since_known: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the recorded predictions."""
        return tuple(frame.step for frame in self.frames)

    @property
    def subject(self) -> tuple[object, ...]:
        """What it is about; the same is not traced again."""
        return self.pieces, self.chosen, self.steps

    def found(self) -> dict[str, Since | Life]:
        """Return what became known, under the names of `Reality`; slow, for a worker."""
        found: dict[str, Since | Life] = {}
        if self.chosen is not None:
            found["life"] = life_of(self.chosen, self.snapshot, self.frames)
        if not self.since_known:
            since = first_steps(self.pieces, self.snapshot.step, self.frames)
            found["since"] = Since(self.pieces, tuple(since), self.steps)
        return found


def mark_of(piece: ErrorPiece, snapshot: WatchedSnapshot) -> MarkOutlines:
    """Prepare the outline of an error: the box around it, at its place in the case."""
    mask, start = piece.mask()
    affine = snapshot.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
    box = Volume.from_array(mask.astype(np.uint8), affine=affine)
    grid = DisplayGrid.of(box, within=Grid(piece.shape, snapshot.affine))
    shown = np.ascontiguousarray(grid.to_display(box.array))
    return MarkOutlines(shown, np.zeros_like(shown), None, grid.scale, grid.translate)


# ---- for other programs


@dataclass(frozen=True)
class ErrorRecord:
    """An error as a row of a table: where, what, since when, and what was said of it.

    Attributes
    ----------
    run, case, role, step
        Of which prediction.
    number
        1 for the largest error of the prediction.
    kind, class_name, instead, volume_ml, depth_mm, place
        As `ErrorPiece` has them.
    slice_axial, slice_coronal, slice_sagittal, x_mm, y_mm, z_mm
        The deepest point, in slices of the viewer from 0 and in RAS mm.
    since_step
        See `ErrorEntry`; None where it was not looked for.
    verdict, ticked_off, note, corrected_label
        What a reader said of it; "" where nothing was said.
    """

    run: str
    case: str
    role: Role
    step: int
    number: int
    kind: ErrorKind
    class_name: str
    instead: str
    volume_ml: float
    depth_mm: float
    place: str
    slice_axial: int
    slice_coronal: int
    slice_sagittal: int
    x_mm: float
    y_mm: float
    z_mm: float
    since_step: int | None
    verdict: Judgement | Literal[""]
    ticked_off: bool
    note: str
    corrected_label: str


def records(navigator: ErrorNavigator, snapshot: WatchedSnapshot, run: str = "") -> list[ErrorRecord]:
    """Return the shown errors as rows, in order."""
    return [_record(entry, snapshot, run) for entry in navigator.shown]


def _record(entry: ErrorEntry, snapshot: WatchedSnapshot, run: str) -> ErrorRecord:
    piece, verdict = entry.piece, entry.verdict
    axial, coronal, sagittal = piece.place.slices
    x, y, z = (round(mm, 3) for mm in piece.world)
    return ErrorRecord(
        run=run,
        case=snapshot.case,
        role=snapshot.role,
        step=snapshot.step,
        number=entry.number,
        kind=piece.kind,
        class_name=piece.class_name,
        instead=piece.instead,
        volume_ml=round(piece.volume_ml, 6),
        depth_mm=round(piece.depth_mm, 4),
        place=piece.place.words,
        slice_axial=axial,
        slice_coronal=coronal,
        slice_sagittal=sagittal,
        x_mm=x,
        y_mm=y,
        z_mm=z,
        since_step=entry.since,
        verdict="" if verdict is None or verdict.judgement is None else verdict.judgement,
        ticked_off=verdict is not None and verdict.done,
        note="" if verdict is None else verdict.note,
        corrected_label="" if verdict is None else verdict.corrected,
    )


def csv_text(rows: Iterable[ErrorRecord]) -> str:
    """Return rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    made = io.StringIO()
    writer = csv.DictWriter(made, [f.name for f in fields(ErrorRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in asdict(row).items()} for row in rows)
    return made.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
