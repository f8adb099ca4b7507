"""The index of the event log: never anything else than the log says, however long, torn, edited or forged."""

from __future__ import annotations

import json
import math
import os
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexplorer.core import events as module
from segexplorer.core.errors import DataError
from segexplorer.core.events import (
    EpochDone,
    Event,
    Notice,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    from_json,
    to_json,
)
from segexplorer.training import event_index
from segexplorer.training.deidentification import Pseudonyms, deidentify_events
from segexplorer.training.event_index import EventIndex, read_indexed
from segexplorer.training.event_log import EventLogContent, drop_superseded, read_log
from segexplorer.training.experiment import Experiment
from segexplorer.training.run_files import EVENTS, INDEX
from segexplorer.training.run_status import RunStatus, status_of
from segexplorer.training.sinks.record import EventLog
from segexplorer.training.step_columns import (
    COUNTS,
    NUMBERS,
    RecordedEvents,
    StepColumns,
    events_of,
    last_step,
    stretches,
    until,
)
from segexplorer.training.watch import LogTail
from segexplorer.viewmodels.curves import PLOTS, Curves
from segexplorer.viewmodels.status import Status

LINES = 8


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_index, "BLOCK_LINES", LINES)


def step_event(random: random.Random, **where: Any) -> StepDone:
    """Return a step as awkward as they come."""
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-320, 1, 3.25, random.random()]
    names = random.choice([("Dice", "cross entropy")] * 6 + [("Dice",), (), ("total", "\u202eecid\x1b[31m")])
    measured = random.random() < 0.2
    return StepDone(
        **where,
        epoch=1 + where["step"] // 4,
        loss=random.choice(odd),
        terms={name: (random.choice(odd), random.random()) for name in names},
        learning_rate=random.random(),
        gradient_norm=random.choice(odd),
        seconds=random.random(),
        samples=random.randint(1, 2**53),
        cases=tuple(random.choices(["a", "b\n", "Zoë", ""], k=random.randint(0, 3))),
        memory_bytes=random.randint(0, 2**40),
        term_gradients={name: random.choice(odd) for name in (*names, "total")} if measured else {},
        references={"perfect": 0.0, "random": random.choice(odd)} if measured else {},
    )


def attempts(seed: int, count: int) -> Iterator[tuple[Event, bool]]:
    """Yield the events of some attempts, and whether the process is killed in the middle of writing one."""
    random_, step = random.Random(seed), 0
    for attempt in range(1, count + 1):
        seq, time = 0, 1000.0 * attempt
        first: list[Event] = [StateChanged(state="preparing")] if random_.random() < 0.9 else []
        for number in range(random_.randint(0, 40)):
            made: list[Event] = []
            if number == 0:
                made += first
            made.append(step_event(random_, step=step + 1, attempt=attempt, seq=seq + 1, time=time))
            if random_.random() < 0.1:
                made.append(Notice(message="hm\x1b"))
            if step % 4 == 3:
                scores: Any = {"scores": (), "mean_dice": 0.5, "class_dice": {"liver": random_.random()}}
                counts: Any = {"n_used": 1, "n_absent": 0, "n_missed": 0, "best": True, "seconds": 1.0}
                made.append(ValidationDone(epoch=1, loss=math.nan, **scores, **counts))
                made.append(
                    EpochDone(epoch=1, epochs=9, loss=0.5, terms={}, adaptive={"w": random_.random()})
                )
            for event in made:
                if isinstance(event, StepDone):
                    step = event.step
                seq += 1
                time += random_.random()
                stamped = replace(event, attempt=attempt, seq=seq, time=time, step=step)
                yield stamped, False
        step = max(0, step - random_.randint(0, 6))  # the next attempt does some steps again
        yield replace(step_event(random_, step=step + 1), attempt=attempt, seq=seq + 1), True


def write_run(folder: Path, seed: int, count: int) -> None:
    """Write attempts as the runner does; each ends in the middle of a line or of a block of the index."""
    cut = random.Random(seed)
    log = EventLog(folder)
    for event, killed in attempts(seed, count):
        if not killed:
            log.write(event)
            continue
        log.close()
        line = to_json(event).encode()
        with (folder / EVENTS).open("ab") as file:
            file.write(line[: cut.randint(0, len(line) - 1)])
        if (folder / INDEX).exists() and cut.random() < 0.5:
            os.truncate(folder / INDEX, cut.randint(0, (folder / INDEX).stat().st_size))
        log = EventLog(folder)
    log.close()


def both(folder: Path) -> tuple[EventLogContent, EventLogContent]:
    return read_log(folder), read_log(folder, indexed=False)


def same(left: Sequence[Event], right: Sequence[Event]) -> None:
    """Compare events with their types, which `==` of numbers does not."""
    assert list(left) == list(right)
    assert list(map(to_json, left)) == list(map(to_json, right))
    assert list(map(repr, left)) == list(map(repr, right))


def drawn(events: Sequence[Event]) -> tuple[str, int, list[str]]:
    curves = Curves()
    curves.extend(events)
    return curves.to_csv(), curves.revision, [n for p in PLOTS for n in curves.names(p.key)]


def told(events: Sequence[Event]) -> tuple[Any, ...]:
    status = Status()
    status.extend(events)
    return status.headline, status.progress, status.rate, status.memory, list(status.log), status.seconds_left


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
def test_with_and_without_index_everything_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, seed, count)
    quick, slow = both(folder)
    assert isinstance(slow.events, list)
    same(quick.events, slow.events)
    assert (quick.damaged, quick.unfinished) == (slow.damaged, slow.unfinished)
    kept, expected = drop_superseded(quick.events), drop_superseded(slow.events)
    same(kept, expected)
    assert drawn(kept) == drawn(expected)
    assert told(kept) == told(expected)
    assert drawn(quick.events) == drawn(slow.events)  # attempts that repeat steps, as a window hears of them
    assert status_of(kept) == status_of(expected)
    same(LogTail(folder).take(), slow.events)
    assert last_step(kept) == max((e.step for e in expected), default=0)
    for kinds in [(StepDone,), (ValidationDone, StateChanged), (Event,)]:
        assert events_of(kept, *kinds) == [e for e in expected if isinstance(e, kinds)]
    for limit in (0, 7, 10**6):
        assert list(until(kept, lambda _, limit=limit: limit)) == [e for e in expected if e.step <= limit]
    experiment = Experiment.of({"data": {"kind": "phantom"}, "loss": "dice_cross_entropy"})
    for recorded in (False, True):
        names, others = Pseudonyms(), Pseudonyms()
        left = deidentify_events(kept, experiment, names, recorded=recorded)
        same(left, deidentify_events(expected, experiment, others, recorded=recorded))
        assert names == others


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    where=st.floats(0, 1),
    name=st.sampled_from([EVENTS, INDEX]),
    how=st.booleans(),
)
def test_whatever_is_cut_or_changed_the_log_counts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, where: float, name: str, how: bool
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, seed, 3)
    path = folder / name
    if not path.exists():
        return
    content = bytearray(path.read_bytes())
    at = int(where * (len(content) - 1))
    if how:
        del content[at:]
    else:
        content[at] ^= 0x15
    path.write_bytes(content)
    quick, slow = both(folder)
    same(quick.events, slow.events)
    assert (quick.damaged, quick.unfinished) == (slow.damaged, slow.unfinished)
    log = EventLog(folder)  # whoever goes on with the run mends the index
    log.write(StateChanged(state="running"))
    log.close()
    same(*(content.events for content in both(folder)))


def whole_run(folder: Path, steps: int = 40) -> None:
    log = EventLog(folder)
    source = random.Random(3)
    for step in range(1, steps + 1):
        log.write(replace(step_event(source, step=step, seq=step), terms={"Dice": (0.5, 1.0)}, cases=("a",)))
    log.close()


def test_most_steps_are_columns_and_are_counted_as_events(tmp_path: Path) -> None:
    whole_run(tmp_path)
    events = read_log(tmp_path).events
    assert isinstance(events, RecordedEvents)
    columns = [p for p in stretches(events) if isinstance(p, StepColumns)]
    assert sum(map(len, columns)) > 30
    plain = read_log(tmp_path, indexed=False).events
    assert len(events) == len(plain) == 40
    assert [events[n] for n in range(-40, 40)] == [plain[n] for n in range(-40, 40)]
    assert events[5:30:7] == plain[5:30:7]
    assert list(reversed(events)) == list(reversed(plain))
    assert events == plain
    assert events != plain[:-1]
    with pytest.raises(IndexError):
        events[40]


def test_every_field_of_a_step_has_a_column() -> None:
    others = {"terms", "cases", "term_gradients", "references"}
    assert {field.name for field in fields(StepDone)} == {*COUNTS, *NUMBERS, *others}


def test_a_short_run_has_no_index(tmp_path: Path) -> None:
    whole_run(tmp_path, LINES - 1)
    assert not (tmp_path / INDEX).exists()
    whole_run(tmp_path, 1)
    assert (tmp_path / INDEX).exists()


def test_the_log_of_an_earlier_version_gets_an_index_when_it_is_gone_on_with(tmp_path: Path) -> None:
    whole_run(tmp_path)
    (tmp_path / INDEX).unlink()
    assert isinstance(read_log(tmp_path).events, list)
    EventLog(tmp_path).close()
    assert isinstance(read_log(tmp_path).events, RecordedEvents)
    same(*(content.events for content in both(tmp_path)))


def test_steps_of_another_version_are_read_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run(tmp_path)
    monkeypatch.setattr(event_index, "_HEAD", event_index._HEAD.replace(b" loss", b" loss colour"))
    assert read_indexed(tmp_path).pieces == []
    EventLog(tmp_path).close()
    assert len(RecordedEvents(read_indexed(tmp_path).pieces)) == 40


def test_the_index_stops_where_a_line_is_no_event(tmp_path: Path) -> None:
    whole_run(tmp_path, 2 * LINES)
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(b'{"event": "Unknown"}\n')
    whole_run(tmp_path, 2 * LINES)
    quick, slow = both(tmp_path)
    assert quick.damaged == slow.damaged == (2 * LINES + 1,)
    assert read_indexed(tmp_path).lines == 2 * LINES
    same(quick.events, slow.events)


def test_a_disk_that_refuses_the_index_does_not_stop_the_log(tmp_path: Path) -> None:
    (tmp_path / INDEX).mkdir()
    whole_run(tmp_path)
    assert len((tmp_path / EVENTS).read_bytes().splitlines()) == 40
    with pytest.raises(DataError, match="not a regular file"):
        read_log(tmp_path)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.write_text("mine")
    (run / INDEX).symlink_to(other)
    whole_run(run)
    assert other.read_text() == "mine"


def forge(folder: Path, content: bytes | None = None, **changes: Any) -> None:
    """Change what the first block says, its checksums being right again."""
    data = (folder / INDEX).read_bytes()
    start = data.index(b"\n") + 1
    end = data.index(b"\n", start) + 1
    head = json.loads(data[start + 9 : end])
    packed = data[end : end + head["packed"]]
    if content is not None:
        packed = zlib.compress(content)
        head |= {"packed": len(packed), "crc": zlib.crc32(packed)}
    text = json.dumps(head | changes).encode() + b"\n"
    (folder / INDEX).write_bytes(data[:start] + b"%08x " % zlib.crc32(text) + text + packed)


def content_of(folder: Path) -> tuple[dict[str, Any], bytearray]:
    data = (folder / INDEX).read_bytes()
    start = data.index(b"\n") + 1
    end = data.index(b"\n", start) + 1
    head = json.loads(data[start + 9 : end])
    return head, bytearray(zlib.decompress(data[end : end + head["packed"]]))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 2**40, "lines": 8},
        {"terms": ["x"] * 10**5},
        {"terms": ["Dice", "Dice"]},
        {"begin": 5},
        {"end": -1},
        {"end": 2**50},
        {"lines": 2**30},
        {"packed": 2**40},
        {"references": ["made up"]},
        {"others": 4},
        {"named": 7},
        {"cases": []},
        {"unknown": 1},
        {"steps": "8"},
    ],
)
def test_a_forged_head_is_not_believed(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole_run(tmp_path)
    forge(tmp_path, **changes)
    assert read_indexed(tmp_path).pieces == []
    same(*(content.events for content in both(tmp_path)))


@pytest.mark.parametrize("number", [-1, 2**60])
@pytest.mark.parametrize("at", range(9))
def test_forged_integers_are_held_to_their_limits(tmp_path: Path, number: int, at: int) -> None:
    whole_run(tmp_path)
    head, content = content_of(tmp_path)
    content[8 * at * head["steps"] : 8 * at * head["steps"] + 8] = number.to_bytes(8, "little", signed=True)
    forge(tmp_path, bytes(content))
    assert read_indexed(tmp_path).pieces == []


def test_forged_times_are_held_to_their_limits(tmp_path: Path) -> None:
    whole_run(tmp_path)
    head, content = content_of(tmp_path)
    integers = len(content) // 8 - (5 + 2) * head["steps"] - head["measured"] * 4
    for value in (np.nan, np.inf, 1e13):
        content[8 * integers : 8 * integers + 8] = np.float64(value).tobytes()
        forge(tmp_path, bytes(content))
        assert read_indexed(tmp_path).pieces == []


def test_nothing_is_unpacked_beyond_what_is_announced(tmp_path: Path) -> None:
    whole_run(tmp_path)
    _, content = content_of(tmp_path)
    forge(tmp_path, bytes(content) + bytes(2**20))
    assert read_indexed(tmp_path).pieces == []


def test_forged_names_are_made_printable(tmp_path: Path) -> None:
    whole_run(tmp_path)
    forge(tmp_path, terms=["\x1b[31m"])
    found = RecordedEvents(read_indexed(tmp_path).pieces)
    steps = [p for p in stretches(found) if isinstance(p, StepColumns)]
    assert {name for step in steps for name in step.event(0).terms} == {"\\x1b[31m"}


def test_what_is_plain_has_no_suspicious_character() -> None:
    for code in range(256):
        for text in (bytes([code]), b'a"' + bytes([code]) + b'b"', b"\\u00" + b"%02x" % code):
            line = b'"' + text + b'"'
            assert module.is_plain(line) == (module._SUSPICIOUS.search(line) is None)


def test_the_status_after_steps_is_that_after_each(tmp_path: Path) -> None:
    whole_run(tmp_path)
    columns = next(p for p in read_indexed(tmp_path).pieces if isinstance(p, StepColumns))
    status = RunStatus()
    for event in columns.events():
        status = status.after(event)
    assert RunStatus().after_steps(columns) == status


def test_an_index_catches_up_with_its_log(tmp_path: Path) -> None:
    source = random.Random(0)
    with (tmp_path / EVENTS).open("w") as file:
        for number in range(1, 5 * LINES + 3):
            file.write(to_json(step_event(source, step=number)) + "\n")
        file.write(to_json(RunFinished(state="finished", reason="done")) + "\n")
    EventIndex(tmp_path).close()
    assert read_indexed(tmp_path).lines == 5 * LINES
    same(*(content.events for content in both(tmp_path)))
    assert from_json((tmp_path / EVENTS).read_bytes().splitlines()[-1]) == read_log(tmp_path).events[-1]
