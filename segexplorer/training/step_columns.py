"""Optimiser steps in columns: a quarter of a million of them are shown without making an object of each.

`StepColumns` are consecutive steps of one attempt. `RecordedEvents` are the events of a run in which most steps are
columns; they are a sequence of events like any other. Who needs only some kinds asks `events_of`, and who can add
up columns asks `stretches`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import Event, StepDone

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COUNTS = ("attempt", "seq", "step", "epoch", "samples", "memory_bytes")
NUMBERS = ("time", "loss", "learning_rate", "gradient_norm", "seconds")

Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class StepBlock:
    """Steps with the same terms, in any order of attempts.

    Attributes
    ----------
    counts, numbers
        (6, N) and (5, N) in the order of `COUNTS` and `NUMBERS`.
    terms, term_numbers
        Names of T terms, and their (2T, N) values and weights: value, weight, value, weight ...
    cases, case_starts, case_ids
        Names of cases; the cases of step n are `case_ids[case_starts[n]:case_starts[n + 1]]`.
    gradients, references, measured, measures
        Names of G gradients and R references; the K steps at which they were measured; their (G + R, K) values.
    """

    counts: Ints
    numbers: Floats
    terms: tuple[str, ...]
    term_numbers: Floats
    cases: tuple[str, ...]
    case_starts: Ints
    case_ids: Ints
    gradients: tuple[str, ...]
    references: tuple[str, ...]
    measured: Ints
    measures: Floats


@dataclass(frozen=True)
class StepColumns:
    """Steps `first` to before `end` of a block: at least one, of one attempt, their numbers rising."""

    block: StepBlock
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def counts(self, name: str) -> Ints:
        """Return one of `COUNTS`, (N,)."""
        found: Ints = self.block.counts[COUNTS.index(name), self.first : self.end]
        return found

    def numbers(self, name: str) -> Floats:
        """Return one of `NUMBERS`, (N,)."""
        found: Floats = self.block.numbers[NUMBERS.index(name), self.first : self.end]
        return found

    @property
    def steps(self) -> Ints:
        """Numbers of the steps, (N,)."""
        return self.counts("step")

    @property
    def attempt(self) -> int:
        """The attempt of all of them."""
        return int(self.block.counts[0, self.first])

    def terms(self) -> Iterator[tuple[str, Floats, Floats]]:
        """Yield the name of each term with its values and weights, (N,) each."""
        for number, name in enumerate(self.block.terms):
            value, weight = self.block.term_numbers[2 * number : 2 * number + 2, self.first : self.end]
            yield name, value, weight

    def measured(self) -> tuple[Ints, dict[str, Floats], dict[str, Floats]]:
        """Return which of them were measured, counted from the first, their gradients and references by name."""
        block = self.block
        begin, end = np.searchsorted(block.measured, (self.first, self.end))
        values = dict(enumerate(block.measures[:, begin:end]))
        gradients = {name: values[number] for number, name in enumerate(block.gradients)}
        references = {name: values[len(gradients) + number] for number, name in enumerate(block.references)}
        return block.measured[begin:end] - self.first, gradients, references

    def part(self, first: int, end: int) -> StepColumns:
        """Return some of them, counted from the first."""
        return replace(self, first=self.first + first, end=self.first + end)

    def alone(self) -> StepBlock:
        """Return them as a block without others, its cases in order of their first appearance."""
        block, rows = self.block, slice(self.first, self.end)
        starts = block.case_starts[self.first : self.end + 1]
        ids = block.case_ids[starts[0] : starts[-1]]
        used, at, places = np.unique(ids, return_index=True, return_inverse=True)
        order = np.argsort(at)
        begin, end = np.searchsorted(block.measured, (self.first, self.end))
        return replace(
            block,
            counts=block.counts[:, rows],
            numbers=block.numbers[:, rows],
            term_numbers=block.term_numbers[:, rows],
            cases=tuple(block.cases[n] for n in used[order].tolist()),
            case_starts=starts - starts[0],
            case_ids=np.argsort(order)[places],
            measured=block.measured[begin:end] - self.first,
            measures=block.measures[:, begin:end],
        )

    def event(self, number: int) -> StepDone:
        """Return one of them as an event, counted from the first."""
        return next(self.part(number, number + 1).events())

    def events(self) -> Iterator[StepDone]:
        """Yield them as events, equal to those that were recorded."""
        block, rows = self.block, slice(self.first, self.end)
        names = (*COUNTS, *NUMBERS)
        columns = [*block.counts[:, rows].tolist(), *_plain(block.numbers[:, rows])]
        pairs = _plain(block.term_numbers[:, rows])
        terms = [list(zip(pairs[n], pairs[n + 1], strict=True)) for n in range(0, len(pairs), 2)]
        starts = block.case_starts[self.first : self.end + 1].tolist()
        cases = [block.cases[n] for n in block.case_ids[starts[0] : starts[-1]].tolist()]
        at, gradients, references = self.measured()
        extras = {
            row: {
                "term_gradients": {name: _number(values[k]) for name, values in gradients.items()},
                "references": {name: _number(values[k]) for name, values in references.items()},
            }
            for k, row in enumerate(at.tolist())
        }
        nothing: dict[str, Any] = {}
        for row, values in enumerate(zip(*columns, strict=True)):
            begin, end = starts[row] - starts[0], starts[row + 1] - starts[0]
            yield StepDone(
                **dict(zip(names, values, strict=True)),
                terms=dict(zip(block.terms, (term[row] for term in terms), strict=True)),
                cases=tuple(cases[begin:end]),
                **extras.get(row, nothing),
            )


def _number(value: float) -> float:
    return float(value) if value == value else math.nan


def _plain(table: Floats) -> list[list[float]]:
    """Return rows of a table as lists; NaN is always the same one, so that equal events are equal."""
    rows: list[list[float]] = table.tolist()
    for number in np.flatnonzero(np.isnan(table).any(axis=1)).tolist():
        rows[number] = [value if value == value else math.nan for value in rows[number]]
    return rows


def split_steps(block: StepBlock, ends: Iterable[int] = ()) -> Iterator[StepColumns]:
    """Yield a block in pieces of one attempt, the steps rising; they end at the given places too."""
    count = block.counts.shape[1]
    if not count:
        return
    attempt, step = block.counts[0], block.counts[COUNTS.index("step")]
    breaks = 1 + np.flatnonzero((np.diff(attempt) != 0) | (np.diff(step) <= 0))
    places = sorted({*breaks.tolist(), *(n for n in ends if 0 < n < count), count})
    first = 0
    for end in places:
        yield StepColumns(block, first, end)
        first = end


class RecordedEvents(Sequence[Event]):
    """Events in order, most steps among them in columns.

    Parameters
    ----------
    pieces
        Events, and steps in columns, in order.
    """

    def __init__(self, pieces: Iterable[Event | StepColumns]) -> None:
        self.pieces = list(pieces)
        self._ends = list(accumulate(len(p) if isinstance(p, StepColumns) else 1 for p in self.pieces))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        place = bisect_right(self._ends, number)
        piece = self.pieces[place]
        if not isinstance(piece, StepColumns):
            return piece
        return piece.event(number - self._ends[place] + len(piece))

    def __iter__(self) -> Iterator[Event]:
        for piece in self.pieces:
            if isinstance(piece, StepColumns):
                yield from piece.events()
            else:
                yield piece

    def __reversed__(self) -> Iterator[Event]:
        for piece in reversed(self.pieces):
            if isinstance(piece, StepColumns):
                yield from reversed(list(piece.events()))
            else:
                yield piece

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (RecordedEvents, list)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} events>"


def stretches(events: Iterable[Event]) -> Iterator[Event | StepColumns]:
    """Yield events in order, steps in columns where they are recorded so."""
    yield from events.pieces if isinstance(events, RecordedEvents) else events


def until(events: Iterable[Event], limit: Callable[[int], int | None]) -> RecordedEvents:
    """Return the events whose step is at most the limit of their attempt; None: all of that attempt."""
    kept: list[Event | StepColumns] = []
    for piece in stretches(events):
        last = limit(piece.attempt)
        if not isinstance(piece, StepColumns):
            if last is None or piece.step <= last:
                kept.append(piece)
        elif count := len(piece) if last is None else int(np.searchsorted(piece.steps, last, "right")):
            kept.append(piece.part(0, count))
    return RecordedEvents(kept)


def last_step(events: Iterable[Event]) -> int:
    """Return the highest step of any event; 0 where there is none."""
    return max(
        (int(p.steps[-1]) if isinstance(p, StepColumns) else p.step for p in stretches(events)), default=0
    )


def events_of(events: Iterable[Event], *kinds: type[Kind]) -> list[Kind]:
    """Return the events of some kinds in order; steps are made of their columns only where they are asked for."""
    found: list[Kind] = []
    steps = any(issubclass(StepDone, kind) for kind in kinds)
    for piece in stretches(events):
        if isinstance(piece, kinds):
            found.append(piece)
        elif steps and isinstance(piece, StepColumns):
            found += piece.events()  # type: ignore[arg-type]
    return found
