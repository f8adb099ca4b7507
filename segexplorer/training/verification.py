"""Whether a run folder is whole: every file read as it would be when the run is used, and its checksum compared.

Checksums find damage (a bad disk, a broken transfer), not malice: whoever changes a file can change its checksum,
too. What is sound here can still hold false numbers.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Role, ValidationDone
from segexplorer.core.untrusted_files import (
    CHECKSUM,
    fits_checksum_comment,
    read_bytes,
    read_json,
    require_inside,
    size_text,
)
from segexplorer.training.checkpoint import AVERAGE, STATE, WEIGHTS, Checkpoint, read_state, verified_meta
from segexplorer.training.event_index import read_indexed
from segexplorer.training.event_log import drop_superseded, read_log
from segexplorer.training.flight_recorder import EXPLODED, FAILED, read_flights
from segexplorer.training.fork import FORK
from segexplorer.training.history import HistoryFrame, open_run, read_experiment
from segexplorer.training.recorded import RECORDED, RECORDED_CASES
from segexplorer.training.run_files import (
    CHECKPOINTS,
    EVENTS,
    EXPERIMENT,
    FLIGHT,
    HISTORY,
    INDEX,
    KEPT,
    LIMITS,
    METRICS,
    OTHER_LIMIT,
    PROVENANCE,
    RUN,
    STATUS,
    read_kept,
    read_pointer,
    read_provenance,
)
from segexplorer.training.scores import SCORES, read_scores
from segexplorer.training.sinks.record import metrics_text
from segexplorer.training.step_columns import RecordedEvents, events_of, last_step
from segexplorer.training.stored_frames import frame_name, frame_names, read_frame_facts
from segexplorer.training.verdicts import LOCK, VERDICTS, read_verdicts

State = Literal["sound", "note", "damaged"]
NO_CHECKSUM = "it has no checksum"


@dataclass(frozen=True)
class Finding:
    """What was found out about one file of a run folder, or about one frame or checkpoint.

    Attributes
    ----------
    name
        Its path in the run folder.
    state
        "sound"; "note" for what is no damage but worth knowing; "damaged" for what cannot be used as it is.
    text
        What it holds, or what is wrong, in a few words.
    """

    name: str
    state: State
    text: str


def verify_run(folder: str | Path) -> list[Finding]:
    """Read all that a run folder holds and say of each part whether it is sound.

    Raises
    ------
    DataError
        When it is not a run folder, or one of another format.
    """
    path = open_run(folder).folder
    found = [
        _read(RUN, lambda: _with_checksum(path, RUN)),
        _experiment(path),
        _read(PROVENANCE, lambda: _provenance(path)),
        *([_read(RECORDED, lambda: _with_checksum(path, RECORDED))] if (path / RECORDED).exists() else []),
        *([_read(STATUS, lambda: _with_checksum(path, STATUS))] if os.path.lexists(path / STATUS) else []),
        *_events(path),
        *_owners(path),
        *_scores(path),
        _verdicts(path),
        *_flights(path),
        *_checkpoints(path),
        *_history(path),
        *_others(path),
    ]
    return [finding for finding in found if finding is not None]


def is_sound(findings: list[Finding]) -> bool:
    """Whether nothing is damaged."""
    return all(finding.state != "damaged" for finding in findings)


def _read(name: str, read: Callable[[], str | None]) -> Finding | None:
    """Return what reading a file says of it; None where there is no such file."""
    try:
        text = read()
    except FileNotFoundError:
        return Finding(name, "damaged", "it is missing")
    except SegExplorerError as error:
        return Finding(name, "damaged", error.message.rstrip("."))
    if text is None:
        return None
    return Finding(name, "note" if text == NO_CHECKSUM else "sound", text)


def _with_checksum(folder: Path, name: str) -> str:
    """Return whether a JSON file has a checksum; that it fits was found out by reading it."""
    limit = LIMITS.get(Path(name).name, OTHER_LIMIT)
    content = read_json(folder / name, limit, within=folder)
    entries = content if isinstance(content, list) else [content]
    whole = all(isinstance(entry, dict) and CHECKSUM in entry for entry in entries)
    return "its checksum fits" if whole else NO_CHECKSUM


def _experiment(folder: Path) -> Finding:
    def read() -> str:
        read_experiment(folder)
        text = read_bytes(folder / EXPERIMENT, LIMITS[EXPERIMENT], within=folder).decode("utf-8", "replace")
        fits = fits_checksum_comment(text)
        return NO_CHECKSUM if fits is None else "its checksum fits" if fits else ""

    found = _read(EXPERIMENT, read)
    assert found is not None
    if found.state == "sound" and not found.text:
        return Finding(
            EXPERIMENT, "damaged", "it was changed after segexplorer wrote it, by hand or by damage"
        )
    return found


def _provenance(folder: Path) -> str | None:
    if not os.path.lexists(folder / PROVENANCE):
        return None
    attempts = read_provenance(folder)
    checked = _with_checksum(folder, PROVENANCE)
    return checked if checked == NO_CHECKSUM else f"{_count(len(attempts), 'attempt')}, the checksums fit"


def _events(folder: Path) -> Iterator[Finding | None]:
    """Yield what the event log says, and whether the table of metrics agrees with it."""
    if not os.path.lexists(folder / EVENTS):
        return
    try:
        log = read_log(folder, indexed=False)
    except SegExplorerError as error:
        yield Finding(EVENTS, "damaged", error.message.rstrip("."))
        return
    yield Finding(
        EVENTS,
        "sound",
        f"{_count(len(log.events), 'event')}, to step {last_step(log.events)}",
    )
    if log.damaged:
        lines = ", ".join(map(str, log.damaged[:5])) + (", ..." if len(log.damaged) > 5 else "")
        yield Finding(EVENTS, "damaged", f"{_count(len(log.damaged), 'line')} of it no event: {lines}")
    if log.unfinished:
        yield Finding(EVENTS, "note", "its last line is unfinished and is left out when it is read")
    if os.path.lexists(folder / INDEX):
        yield _read(INDEX, lambda: _index(folder, log.events))
    validations = events_of(drop_superseded(log.events), ValidationDone)
    if os.path.lexists(folder / METRICS):
        yield _read(METRICS, lambda: _metrics(folder, validations, damaged=bool(log.damaged)))


def _index(folder: Path, events: Sequence[Event]) -> str:
    found = RecordedEvents(read_indexed(folder).pieces)
    if found != list(events[: len(found)]):
        raise _differs(INDEX)
    return (
        f"{_count(len(found), 'event')}, as {EVENTS} says" if len(found) else "not of this log, and not read"
    )


def _metrics(folder: Path, validations: list[ValidationDone], *, damaged: bool) -> str:
    rows = len(open_run(folder).metrics)
    stored = read_bytes(folder / METRICS, LIMITS[METRICS], within=folder)
    if stored == metrics_text(validations).encode():
        return f"{_count(rows, 'row')}, as {EVENTS} says"
    if stored == metrics_text(validations[:-1]).encode():
        return f"{_count(rows, 'row')}, without the last validation"
    if damaged:
        return f"{_count(rows, 'row')}, which {EVENTS} cannot confirm"
    raise _differs(METRICS)


def _differs(name: str) -> SegExplorerError:
    return SegExplorerError(f"{name} does not agree with {EVENTS}.")


def _owners(folder: Path) -> Iterator[Finding | None]:
    for path in sorted(folder.glob("owner*.json")):
        yield _read(path.name, partial(_owner, folder, path.name))


def _owner(folder: Path, name: str) -> str:
    read_json(folder / name, OTHER_LIMIT, within=folder)
    return "a process has, or had, this run in hand"


def _scores(folder: Path) -> Iterator[Finding | None]:
    place = folder / SCORES
    if not os.path.lexists(place):
        return
    try:
        entries = sorted(require_inside(place, folder).iterdir())
    except (SegExplorerError, FileNotFoundError, NotADirectoryError) as error:
        yield Finding(SCORES, "damaged", str(error).rstrip("."))
        return
    for path in entries:
        name = f"{SCORES}/{path.name}"
        split = next((role for role in get_args(Role) if path.name.startswith(f"{role}.")), None)
        if split is None or path.suffix != ".json":
            yield Finding(name, "note", "no record of scores, and not read")
        else:
            yield _read(name, partial(_record, folder, path.name, split))


def _record(folder: Path, name: str, split: Role) -> str:
    record = read_scores(folder / SCORES / name, folder, split)
    checked = _with_checksum(folder, f"{SCORES}/{name}")
    return checked if checked == NO_CHECKSUM else f"{_count(len(record.cases), 'case')}, its checksum fits"


def _verdicts(folder: Path) -> Finding | None:
    def read() -> str:
        count = _count(len(read_verdicts(folder)), "verdict")
        checked = _with_checksum(folder, VERDICTS)
        return checked if checked == NO_CHECKSUM else f"{count}, its checksum fits"

    return _read(VERDICTS, read) if os.path.lexists(folder / VERDICTS) else None


def _flights(folder: Path) -> Iterator[Finding | None]:
    for name in (EXPLODED, FAILED):
        if os.path.lexists(folder / FLIGHT / f"{name}.json"):
            yield _read(f"{FLIGHT}/{name}.json", partial(_flight, folder, name))


def _flight(folder: Path, name: str) -> str:
    flight = next(found for found in read_flights(folder) if found.name == name)
    batch = flight.batch()
    held = "no batch" if batch is None else f"a batch of {_count(len(batch['images']), 'patch')}"
    return f"{_count(len(flight.steps), 'step')} up to step {flight.step}, {held}"


# ---- checkpoints


def _checkpoints(folder: Path) -> Iterator[Finding | None]:
    root = folder / CHECKPOINTS
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        yield Finding(CHECKPOINTS, "damaged", "it is no folder")
        return
    names = {entry.name for entry in root.iterdir()}
    for pointer in ("last", "previous", "best"):
        if pointer in names:
            yield _read(f"{CHECKPOINTS}/{pointer}", partial(_pointer, root, pointer, names))
    if KEPT in names:
        yield _read(f"{CHECKPOINTS}/{KEPT}", partial(_kept, root))
    for name in sorted(names - {"last", "previous", "best", KEPT}):
        if re.fullmatch(r"step_\d+(\.\d+)?", name, re.ASCII):
            yield _read(f"{CHECKPOINTS}/{name}", partial(_checkpoint, root, name))
        else:
            yield Finding(f"{CHECKPOINTS}/{name}", "note", "no part of a run folder, and not read")


def _pointer(root: Path, pointer: str, names: set[str]) -> str:
    found = read_pointer(root, pointer)
    if found is None:
        raise SegExplorerError("It names no checkpoint.")
    if found not in names:
        raise SegExplorerError(f"It names {found}, which is not there.")
    return found


def _kept(root: Path) -> str:
    return f"names {_count(len(read_kept(root)), 'checkpoint')} to fork from"


def _checkpoint(root: Path, name: str) -> str:
    """Read a checkpoint whole, as prediction and training further would."""
    from segexplorer.training.compute import Compute, resolve_compute
    from segexplorer.training.predict import Predictor

    checkpoint = Checkpoint(root / name, verified_meta(root, name))
    files = sorted(checkpoint.meta["sha256"])
    if STATE in files:
        read_state(root / name / STATE)
    if "experiment" in checkpoint.meta:
        Predictor(checkpoint, resolve_compute(Compute(device="cpu")))
    size = sum((root / name / file).stat().st_size for file in files)
    kinds = {WEIGHTS: "weights", AVERAGE: "averaged weights", STATE: "state of training"}
    held = ", ".join(kinds.get(file, file) for file in reversed(files))
    checked = "" if CHECKSUM in checkpoint.meta else "; meta.json has no checksum of its own"
    return f"{held}: {size_text(size)}, all finite, the checksums fit{checked}"


# ---- history


def _history(folder: Path) -> Iterator[Finding | None]:
    if not os.path.lexists(folder / HISTORY):
        return
    for role in get_args(Role):
        try:
            keys = frame_names(folder, role)
        except SegExplorerError as error:
            yield Finding(f"{HISTORY}/{role}", "damaged", error.message.rstrip("."))
            continue
        for key in keys:
            yield _read(frame_name(role, key), partial(_frame, folder, role, key))


def _frame(folder: Path, role: Role, key: str) -> str | None:
    facts = read_frame_facts(folder, role, key)
    if facts is None:
        return None  # being written, or left by a process that was killed; never shown
    shown = HistoryFrame(role, int(key), facts.step, facts.attempt, folder, facts).load()
    return f"step {facts.step}, {' x '.join(map(str, shown.prediction.shape))} voxels"


# ---- what else is there


def _others(folder: Path) -> Iterator[Finding]:
    """Yield what belongs to no run folder; sinks and people may keep files there, which are never read."""
    known = {
        RUN,
        FORK,
        EXPERIMENT,
        PROVENANCE,
        STATUS,
        EVENTS,
        INDEX,
        METRICS,
        CHECKPOINTS,
        HISTORY,
        SCORES,
        VERDICTS,
        FLIGHT,
        "README.txt",
        RECORDED,
        RECORDED_CASES,
    }
    for entry in sorted(folder.iterdir()):
        if entry.name == LOCK and not entry.is_symlink() and entry.is_file():
            continue
        if entry.name in known or re.fullmatch(r"owner.*\.json", entry.name):
            continue
        kind = stat.S_IFMT(entry.lstat().st_mode)
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            yield Finding(entry.name, "note", "no part of a run folder, and not read")
        else:
            what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
            yield Finding(entry.name, "note", f"{what}, and not followed")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
