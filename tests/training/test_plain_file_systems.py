"""Runs, studies and the cache on file systems without hard links and without locks, as some network drives are."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from segexplorer.core.errors import ExitCode, RunHeldError
from segexplorer.core.events import StepDone
from segexplorer.data.cache_folder import CaseCache
from segexplorer.data.io import save_volume
from segexplorer.data.label_versions import save_version, versions_of
from segexplorer.data.volume import Volume
from segexplorer.data.voxel_file import write_voxels
from segexplorer.study.plan import plan_study
from segexplorer.study.schedule import Schedule
from segexplorer.training.history import open_run
from segexplorer.training.ownership import OWNER, Lease, holder_of
from segexplorer.training.run import Run
from segexplorer.training.verdicts import keep_verdict, read_verdicts
from tests.study.test_shared_study import write
from tests.training.test_ownership import RACE, answer, ask, forget, process
from tests.training.test_verdicts import verdict

if sys.platform == "win32":
    pytest.skip("locks are others there", allow_module_level=True)
import fcntl

PLAIN = """
import errno, fcntl, os
def refuse_link(*_, **__): raise OSError(errno.EPERM, "no links here")
def refuse_lock(*_): raise OSError(errno.ENOLCK, "no locks here")
os.link, fcntl.flock = refuse_link, refuse_lock
"""


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], autouse=True)
def plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse links and locks."""

    def refuse_link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    def refuse_lock(*_: Any) -> None:
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr(os, "link", refuse_link)
    monkeypatch.setattr(fcntl, "flock", refuse_lock)


only_once = pytest.mark.parametrize("plain", [errno.ENOLCK], indirect=True)


@only_once
def test_of_several_processes_one_gets_a_folder(tmp_path: Path) -> None:
    program = PLAIN + RACE
    with process(program) as a, process(program) as b, process(program) as c:
        racers = (a, b, c)
        for turn in range(6):
            (dead := tmp_path / f"dead{turn}").mkdir()
            forget(dead)
            for command, place in (("name", tmp_path / f"n{turn}"), ("take", dead)):
                for racer in racers:
                    ask(racer, f"{command} {place}")
                told = Counter(answer(racer) for racer in racers)
                assert told["RunHeldError"] + told["DataError"] == len(racers) - 1, (command, told)
                assert told[str(place)] + told["mine"] == 1, (command, told)
            assert holder_of(dead) is not None


@only_once
def test_a_lease_that_is_being_written_belongs_to_somebody(tmp_path: Path) -> None:
    (tmp_path / OWNER).touch()
    with pytest.raises(RunHeldError, match="unknown process"):
        Lease.take(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [OWNER]


@only_once
def test_tries_that_begin_at_the_same_moment_have_different_numbers(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path / "runs")
    schedule.prepare(plan_study(write(tmp_path, matrix={"seed": [0]}), tmp_path / "runs"))
    barrier, problems = threading.Barrier(8), []

    def begin() -> None:
        barrier.wait()
        try:
            for _ in range(5):
                schedule.begin("seed0").close(ExitCode.PREEMPTED)
                schedule.statuses()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert [t.number for t in schedule.tries("seed0")] == list(range(1, 41))
    assert not list((schedule.folder / "tries").glob(".*"))
    (schedule.folder / "tries" / "seed0.41.json").touch()  # claimed, and killed at that moment
    assert schedule.status("seed0").state == "died" and schedule.begin("seed0").facts.number == 42


@only_once
def test_a_run_trains_to_its_end_and_goes_on(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, StepDone) and event.step == 4:
            run.stop()
    again = Run(run.record)
    for _ in again:
        pass
    found = open_run(run.folder)
    assert found.state == "finished" and {event.attempt for event in found.events()} == {1, 2}
    assert not list(run.folder.glob("*owner*"))


def test_the_cache_is_used_and_nothing_that_is_read_is_deleted(tmp_path: Path) -> None:
    mine, other = CaseCache(tmp_path), CaseCache(tmp_path)

    def content(file: IO[bytes]) -> None:
        write_voxels(file, {"fill": 1}, {"a": np.ones((2, 3, 4), np.uint8)})

    assert mine.make("ab12", content) is not None
    mine.close()
    held = other.open("ab12")
    assert held is not None and mine.entries()[0].in_use
    mine.set_limit(0)
    assert [entry.key for entry in mine.entries()] == ["ab12"]
    other.close()
    mine.set_limit(0)
    assert not mine.entries()
    assert not list((tmp_path / "prepared" / "users").iterdir())


def test_two_may_make_an_entry_and_either_is_whole(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(2), []

    def content(file: IO[bytes]) -> None:
        packed = io.BytesIO()
        write_voxels(packed, {"fill": 1}, {"a": np.full((20, 30, 40), 3, np.uint8)})
        file.write(packed.getvalue())
        time.sleep(0.05)

    def make() -> None:
        barrier.wait()
        entry = CaseCache(tmp_path).make("cd34", content)
        assert entry is not None
        found.append(int(np.asarray(entry.arrays["a"]).sum()))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [72_000, 72_000] and not list(tmp_path.rglob("*.part"))


def test_verdicts_and_versions_of_labels_are_kept(make_run: Callable[..., Run], tmp_path: Path) -> None:
    folder = make_run().folder
    given = verdict()
    keep_verdict(folder, given)
    assert read_verdicts(folder) == (given,)
    label = tmp_path / "a.nii.gz"
    volume = Volume.from_array(np.zeros((4, 5, 6), np.uint8))
    save_volume(volume, label, integer=True)
    for number in (2, 3):
        corrected = volume.with_array(np.full((4, 5, 6), number, np.uint8))
        _, version = save_version(label, corrected, voxels_changed=120)
        assert version.number == number
    assert len(versions_of(label)) == 2
