"""What is in the event log, in columns: `events.index`, so that a run of 250,000 steps opens at once.

The index says nothing that `events.jsonl` does not say, and it is never needed. `EventIndex` appends a block for
every `BLOCK_LINES` lines of the log: the steps among them in columns, and the places of all other events, which
are read from the log itself. A block holds checksums of itself and of its part of the log, so that what a kill
left unfinished, or what does not belong to this log, is found; from there on the log alone is read, and the next
process that writes the log writes the index anew.

A file begins with a line that names what steps hold (`_HEAD`), so that another version's index is not taken for
this one's. Each block is a line (CRC-32 in hexadecimal, then JSON, `_Head`) and zlib-compressed arrays of 8 bytes
each, integers first, little-endian. It may come from anybody: numbers and texts are held to the limits of
`core.events`, and nothing is unpacked that its part of the log could not have said.
"""

from __future__ import annotations

import os
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import IO, Annotated, Any, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_core import from_json as parse_json

from segexplorer.core.errors import DataError
from segexplorer.core.events import MAX_TEXT, Count, Event, Reference, StepDone, from_json, is_plain
from segexplorer.core.printable import printable_values
from segexplorer.core.untrusted_files import open_regular
from segexplorer.training.run_files import EVENTS, INDEX, LIMITS, MAX_LINE, MiB
from segexplorer.training.step_columns import (
    COUNTS,
    NUMBERS,
    Ints,
    StepBlock,
    StepColumns,
    split_steps,
)

BLOCK_LINES = 1024
"""Lines of the log in a block; the index is that far behind at most, which takes some 20 ms to read."""
_BLOCK_BYTES = 8 * MiB
"""A block ends early where its lines are that long."""
_HEAD = f"segexplorer event index 1: {' '.join(f.name for f in fields(StepDone))}\n".encode()
_MAX_HEAD = 4 * MiB
_GROWTH = 4
"""No line becomes more than so many times its bytes as columns: the shortest number takes two bytes of the log."""
_LARGEST = 2**53
_LONGEST = 1e12
_TEXTS = {"terms", "cases", "gradients", "references"}
_REFERENCES = frozenset(get_args(Reference))

_Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class _Head(BaseModel):
    """The line before the arrays of a block.

    `begin`, `end` and `log` are the place of its part of the log and its checksum; `lines` how many lines of it are
    not empty; `steps`, `others`, `measured`, `named` how many of what; `crc` is the checksum of the `packed` bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    begin: Count
    end: Count
    log: Count
    lines: Count
    steps: Count
    others: Count
    measured: Count
    named: Count
    terms: list[_Text]
    cases: list[_Text]
    gradients: list[_Text]
    references: list[_Text]
    packed: Count
    crc: Count

    @property
    def integers(self) -> int:
        """How many integers there are, before the floats."""
        return (len(COUNTS) + 1) * self.steps + self.named + self.measured + 3 * self.others

    @property
    def floats(self) -> int:
        """How many floats there are."""
        columns = len(NUMBERS) + 2 * len(self.terms)
        return columns * self.steps + (len(self.gradients) + len(self.references)) * self.measured


# ---- reading


@dataclass(frozen=True)
class IndexedPart:
    """Events of the log from its beginning to byte `end`.

    Attributes
    ----------
    pieces
        In order of writing.
    lines
        How many lines of the log that is, empty ones not counted.
    size
        Bytes of the index that were of use.
    """

    pieces: list[Event | StepColumns]
    end: int = 0
    lines: int = 0
    size: int = 0


def read_indexed(folder: Path) -> IndexedPart:
    """Return as much of the event log as its index has; nothing where there is no index, or none of this log.

    Raises
    ------
    DataError
        When one of them is no regular file of the folder, or is too large.
    """
    found = IndexedPart([])
    with ExitStack() as stack:
        try:
            index = stack.enter_context(open_regular(folder / INDEX, LIMITS[INDEX], within=folder))
            log = stack.enter_context(open_regular(folder / EVENTS, LIMITS[EVENTS], within=folder))
        except FileNotFoundError:
            return found
        if index.readline(len(_HEAD)) != _HEAD:
            return found
        end, lines, size = 0, 0, len(_HEAD)
        while (read := _read_block(index, log, end)) is not None:
            head, pieces = read
            found.pieces.extend(pieces)
            end, lines, size = head.end, lines + head.lines, index.tell()
        return IndexedPart(found.pieces, end, lines, size)


def _read_block(
    index: IO[bytes], log: IO[bytes], begin: int
) -> tuple[_Head, list[Event | StepColumns]] | None:
    """Return the next block; None at the end, and where it is not whole or not of this log."""
    try:
        head = _read_head(index, begin)
        packed = index.read(head.packed)
        if len(packed) != head.packed or zlib.crc32(packed) != head.crc:
            return None
        written = log.read(head.end - head.begin)
        if len(written) != head.end - head.begin or zlib.crc32(written) != head.log:
            return None
        return head, _unpacked(head, packed, written)
    except (ValueError, zlib.error):
        return None


def _read_head(index: IO[bytes], begin: int) -> _Head:
    line = index.readline(_MAX_HEAD)
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("a line is not whole")
    head = _Head.model_validate(parse_json(text))
    length = head.end - head.begin
    if head.begin != begin or not 0 < length <= _BLOCK_BYTES + MAX_LINE or head.lines > BLOCK_LINES:
        raise ValueError("not the next part of a log")
    if max(head.steps, head.others, head.measured, 1) > max(head.lines, 1) or head.packed > length:
        raise ValueError("more than its lines can say")
    if 8 * (head.integers + head.floats) > _GROWTH * length:
        raise ValueError("more than its part of the log can say")
    return (
        head if is_plain(text) else head.model_copy(update=printable_values(head.model_dump(include=_TEXTS)))
    )


def _unpacked(head: _Head, packed: bytes, written: bytes) -> list[Event | StepColumns]:
    size = 8 * (head.integers + head.floats)
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(packed, size + 1)
    if len(content) != size or not unpacking.eof:
        raise ValueError("not what its line says")
    integers = np.frombuffer(content, "<i8", head.integers).astype(np.int64, copy=False)
    floats = np.frombuffer(content, "<f8", head.floats, 8 * head.integers).astype(np.float64, copy=False)
    if integers.size and (integers.min() < 0 or integers.max() > _LARGEST):
        raise ValueError("a number is out of range")
    n, k = head.steps, head.measured
    counts, named, ids, measured, others = _divided(
        integers, len(COUNTS) * n, n, head.named, k, 3 * head.others
    )
    numbers, term_numbers, measures = _divided(
        floats,
        len(NUMBERS) * n,
        2 * len(head.terms) * n,
        (len(head.gradients) + len(head.references)) * k,
    )
    block = StepBlock(
        counts.reshape(-1, n) if n else np.zeros((len(COUNTS), 0), np.int64),
        numbers.reshape(-1, n) if n else np.zeros((len(NUMBERS), 0)),
        _names(head.terms),
        term_numbers.reshape(2 * len(head.terms), n),
        _names(head.cases),
        np.concatenate([[0], np.cumsum(named)]),
        ids,
        _names(head.gradients),
        _names(head.references),
        measured,
        measures.reshape(len(head.gradients) + len(head.references), k),
    )
    _require_sound(block, head)
    return _in_order(block, others.reshape(3, head.others), written)


def _divided(array: Any, *sizes: int) -> list[Any]:
    return np.split(array, np.cumsum(sizes)[:-1])


def _names(texts: list[str]) -> tuple[str, ...]:
    if len(set(texts)) != len(texts):
        raise ValueError("a name occurs twice")
    return tuple(texts)


def _require_sound(block: StepBlock, head: _Head) -> None:
    """Require what `core.events` requires of a step, and that the parts of a block fit together."""
    times = block.numbers[[NUMBERS.index("time"), NUMBERS.index("seconds")]]
    if not (np.abs(times) <= _LONGEST).all():
        raise ValueError("a time is out of range")
    if block.case_starts[-1] != head.named or (head.named and block.case_ids.max() >= len(block.cases)):
        raise ValueError("a case has no name")
    if (np.diff(block.measured) <= 0).any() or (head.measured and block.measured[-1] >= head.steps):
        raise ValueError("a measured step does not exist")
    if not _REFERENCES.issuperset(block.references):
        raise ValueError("an unknown reference")


def _in_order(block: StepBlock, others: Ints, written: bytes) -> list[Event | StepColumns]:
    """Return steps and other events in order of their lines; the others are at (steps before them, place, size)."""
    befores, places, sizes = others.tolist()
    if any(later < earlier for earlier, later in pairwise(befores)):
        raise ValueError("events are not in order")
    pieces: list[Event | StepColumns] = []
    steps = split_steps(block, befores)
    done = 0
    for before, place, size in zip(befores, places, sizes, strict=True):
        while done < before:
            pieces.append(piece := next(steps, None) or _none())
            done = piece.end
        pieces.append(from_json(written[place : place + size]))
    pieces.extend(steps)
    return pieces


def _none() -> StepColumns:
    raise ValueError("a step does not exist")


# ---- writing


class EventIndex:
    """Appends to the index what is appended to the log.

    It is made once the log ends with a whole line, and goes on where the index ends. Where the log holds a line
    that is no event it stops, since readers have to say which one that is; and where the disk refuses.

    Parameters
    ----------
    folder
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INDEX
        self._file: IO[bytes] | None = None
        self._writing = True
        self._begin_block(0)
        try:
            known = read_indexed(folder)
            self._size = known.size
            self._begin_block(known.end)
            self._catch_up(folder, known.end)
        except (OSError, DataError):
            self.close()

    def _catch_up(self, folder: Path, begin: int) -> None:
        with open_regular(folder / EVENTS, LIMITS[EVENTS], within=folder) as log:
            log.seek(begin)
            while line := log.readline(MAX_LINE):
                self.add(line)

    def _begin_block(self, begin: int) -> None:
        self._begin = self._end = begin
        self._log = self._lines = 0
        self._steps: list[StepDone] = []
        self._others: list[tuple[int, int, int]] = []
        self._shape: tuple[tuple[str, ...], ...] | None = None
        self._measured_shape: tuple[tuple[str, ...], ...] | None = None

    def add(self, line: bytes) -> None:
        """Take a whole line that was written to the log."""
        if not self._writing:
            return
        if line.strip():
            try:
                self._take(from_json(line), len(line))
            except ValueError:
                if not broke_off(line):
                    self.close()
                    return
            self._lines += 1
        self._end += len(line)
        self._log = zlib.crc32(line, self._log)
        if self._lines >= BLOCK_LINES or self._end - self._begin >= _BLOCK_BYTES:
            try:
                self._write()
            except OSError:
                self.close()

    def _take(self, event: Event, size: int) -> None:
        if isinstance(event, StepDone) and self._fits(event):
            self._steps.append(event)
        else:
            self._others.append((len(self._steps), self._end - self._begin, size))

    def _fits(self, step: StepDone) -> bool:
        """Whether a step has the names of the block; the first one gives them."""
        shape = (tuple(step.terms),)
        measured = (tuple(step.term_gradients), tuple(step.references))
        self._shape = self._shape or shape
        if any(measured):
            self._measured_shape = self._measured_shape or measured
        return shape == self._shape and (not any(measured) or measured == self._measured_shape)

    def _open(self) -> IO[bytes]:
        """Open the file where its next block belongs; what does not belong to the log is cut off."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(self._path, flags, 0o666), "r+b")
        file.truncate(self._size)
        file.seek(self._size)
        if not self._size:
            file.write(_HEAD)
        return file

    def _write(self) -> None:
        self._file = self._file or self._open()
        steps, others = self._steps, self._others
        (terms,) = self._shape or ((),)
        gradients, references = self._measured_shape or ((), ())
        cases = {name: number for number, name in enumerate(dict.fromkeys(c for s in steps for c in s.cases))}
        measured = [n for n, s in enumerate(steps) if s.term_gradients or s.references]
        integers: list[list[int]] = [[getattr(s, name) for s in steps] for name in COUNTS]
        integers += [[len(s.cases) for s in steps], [cases[c] for s in steps for c in s.cases], measured]
        integers += [[other[n] for other in others] for n in range(3)]
        floats: list[list[float]] = [[getattr(s, name) for s in steps] for name in NUMBERS]
        floats += [[s.terms[name][part] for s in steps] for name in terms for part in range(2)]
        floats += [[steps[n].term_gradients[name] for n in measured] for name in gradients]
        floats += [[steps[n].references[name] for n in measured] for name in references]  # type: ignore[index]
        content = _bytes(integers, "<i8") + _bytes(floats, "<f8")
        packed = zlib.compress(content, 1)
        head = _Head(
            begin=self._begin,
            end=self._end,
            log=self._log,
            lines=self._lines,
            steps=len(steps),
            others=len(others),
            measured=len(measured),
            named=sum(len(s.cases) for s in steps),
            terms=list(terms),
            cases=list(cases),
            gradients=list(gradients),
            references=list(references),
            packed=len(packed),
            crc=zlib.crc32(packed),
        )
        text = head.model_dump_json().encode() + b"\n"
        self._file.write(b"%08x " % zlib.crc32(text) + text + packed)
        self._file.flush()
        self._begin_block(self._end)

    def close(self) -> None:
        """Write no more; lines that fill no block are read from the log."""
        file, self._file, self._writing = self._file, None, False
        if file is not None:
            file.close()


def _bytes(rows: list[Any], dtype: str) -> bytes:
    return b"".join(np.asarray(row, dtype).tobytes() for row in rows)


def broke_off(line: bytes) -> bool:
    """Whether a line is the beginning of an event, which a killed process left and a resume closed."""
    return line.startswith(b'{"event"'[: len(line.rstrip())]) and not line.rstrip().endswith(b"}")
