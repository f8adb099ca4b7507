"""Who owns a run folder: one process at a time, whatever happens to it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from segexplorer.core.atomic_files import name_once
from segexplorer.core.errors import (
    DataError,
    ExitCode,
    FolderGoneError,
    OwnershipLostError,
    RunHeldError,
)
from segexplorer.core.events import CheckpointSaved, Event, Notice, RunFinished, StepDone
from segexplorer.frontends.cli.app import run as cli
from segexplorer.training import host, ownership
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.ownership import OWNER, Holder, Lease, holder_of
from segexplorer.training.run import Run

MakeRun = Callable[..., Run]
REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from segexplorer.core.errors import SegExplorerError
from segexplorer.training.ownership import Lease
lease = Lease.take(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    try:
        lease.check()
        print("mine", flush=True)
    except SegExplorerError as error:
        print(type(error).__name__, error, flush=True)
"""
RACE = """
import sys
from pathlib import Path
from segexplorer.core.errors import SegExplorerError
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.ownership import Lease
experiment = Experiment.of({"data": {"kind": "phantom"}, "name": "race"})
kept = []
print("ready", flush=True)
for line in sys.stdin:
    command, place = line.split()
    try:
        if command == "create":
            print(RunFolder.create(experiment, parent=Path(place)).path, flush=True)
        elif command == "name":
            print(RunFolder.create(experiment, Path(place)).path, flush=True)
        else:
            kept.append(Lease.take(Path(place)))
            print("mine", flush=True)
    except SegExplorerError as error:
        print(type(error).__name__, flush=True)
"""


@contextmanager
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process and wait until it says that it is ready."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            assert answer(started) == "ready"
            yield started
        finally:
            started.kill()


def answer(started: subprocess.Popen[str]) -> str:
    """Read a line that a process printed."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def ask(started: subprocess.Popen[str], line: str = "") -> None:
    """Send a line to a process."""
    assert started.stdin is not None
    started.stdin.write(f"{line}\n")
    started.stdin.flush()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take itself for one on another computer."""
    other = dataclasses.replace(host.this_host(), name="node7", machine="m", boot="b")
    monkeypatch.setattr(ownership, "this_host", lambda: other)


def make_silent(folder: Path, seconds: float = 400.0) -> None:
    """Let the owner of a folder have shown no sign of life for some time."""
    for lease in folder.glob("owner*.json"):
        os.utime(lease, (time.time() - seconds, time.time() - seconds))


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def forget(folder: Path) -> None:
    """Leave a lease of a process that has died."""
    dead = Holder.this_process().model_copy(update={"pid": 2**22 + 1, "started": "1"})
    (folder / OWNER).write_text(dead.model_dump_json())


# ---- one at a time


def test_a_folder_has_one_owner_until_it_is_given_back(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    lease.check()
    assert [f.name for f in tmp_path.iterdir()] == [OWNER]
    assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
    assert holder_of(tmp_path) == lease.holder and not lease.notice
    with pytest.raises(RunHeldError, match="in use by this process, since 20"):
        Lease.take(tmp_path)
    lease.release()
    lease.release()
    assert not list(tmp_path.iterdir()) and holder_of(tmp_path) is None
    Lease.take(tmp_path).release()


def test_a_lease_that_nobody_refers_to_is_given_back(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    del lease
    assert not list(tmp_path.iterdir())


def test_a_living_process_is_named_and_a_dead_one_succeeded_at_once(tmp_path: Path) -> None:
    with process(HOLD, tmp_path) as owner:
        with pytest.raises(RunHeldError, match=f"process {owner.pid} on this computer, since 20") as refused:
            Lease.take(tmp_path)
        assert refused.value.exit_code == ExitCode.MISTAKE
        os.kill(owner.pid, signal.SIGKILL)
        while host.process_start(owner.pid) is not None:  # a zombie counts as dead
            time.sleep(0.01)
        assert holder_of(tmp_path) is None
        lease = Lease.take(tmp_path)
        assert f"from process {owner.pid}" in lease.notice and "has died" in lease.notice
        assert len(lease.died) == 1 and len(list(tmp_path.iterdir())) == 2
        lease.release()
        assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("elsewhere")
def test_an_owner_elsewhere_is_succeeded_after_five_minutes_of_silence_and_stops_writing(
    tmp_path: Path,
) -> None:
    with process(HOLD, tmp_path) as owner:
        with pytest.raises(RunHeldError, match="5 minutes after its last sign of life"):
            Lease.take(tmp_path)
        ask(owner)
        assert answer(owner) == "mine"
        os.kill(owner.pid, signal.SIGSTOP)
        make_silent(tmp_path, 290)
        with pytest.raises(RunHeldError):
            Lease.take(tmp_path)
        make_silent(tmp_path, 301)
        lease = Lease.take(tmp_path)
        assert "no sign of life for 5 minutes" in lease.notice and not lease.died
        os.kill(owner.pid, signal.SIGCONT)
        ask(owner)
        told = answer(owner)
        assert told.startswith("OwnershipLostError") and "taken over by process" in told and "node7" in told
        lease.check()


# ---- races


def test_of_several_processes_one_gets_a_folder(tmp_path: Path) -> None:
    """Created by itself, created by name, or succeeded: never two in one folder."""
    starts = 3
    with process(RACE) as a, process(RACE) as b, process(RACE) as c:
        racers = (a, b, c)
        for turn in range(6):
            (dead := tmp_path / f"dead{turn}").mkdir()
            forget(dead)
            for command, place in (("create", tmp_path), ("name", tmp_path / f"n{turn}"), ("take", dead)):
                for racer in racers:
                    ask(racer, f"{command} {place}")
                told = Counter(answer(racer) for racer in racers)
                if command == "create":
                    assert len(told) == starts and all(open_run(folder).folder for folder in told)
                else:
                    refused = told["RunHeldError"] + told["DataError"]
                    assert refused == starts - 1 and told[str(place)] + told["mine"] == 1, (command, told)
            assert holder_of(dead) is not None


def test_a_process_that_comes_late_to_a_dead_lease_leaves_the_new_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read that the owner is dead; before it acts, others take over, end, and a new owner comes."""
    forget(tmp_path)
    publish, others = ownership.name_once, []

    def late(part: Path, target: Path) -> bool:
        monkeypatch.setattr(ownership, "name_once", publish)
        Lease.take(tmp_path).release()
        others.append(Lease.take(tmp_path))
        return publish(part, target)

    monkeypatch.setattr(ownership, "name_once", late)
    with pytest.raises(RunHeldError, match="this process"):
        Lease.take(tmp_path)
    others[0].check()
    assert [f.name for f in tmp_path.iterdir()] == [OWNER]


def test_whoever_succeeds_a_successor_that_died_has_it(tmp_path: Path) -> None:
    forget(tmp_path)
    tokens = [json.loads((tmp_path / OWNER).read_text())["token"]]
    for _ in range(3):
        dead = Holder.this_process().model_copy(update={"pid": 2**22 + 1})
        (tmp_path / f"owner.{tokens[-1]}.json").write_text(dead.model_dump_json())
        tokens.append(dead.token)
    lease = Lease.take(tmp_path)
    assert list(lease.died) == tokens and (tmp_path / f"owner.{tokens[-1]}.json").exists()
    with pytest.raises(RunHeldError):
        Lease.take(tmp_path)
    lease.release()
    assert not list(tmp_path.iterdir())


# ---- file systems


def test_without_hard_links_a_lease_is_created_exclusively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    lease = Lease.take(tmp_path)
    assert not name_once(tmp_path / OWNER, tmp_path / OWNER)
    lease.check()
    lease.release()
    assert not list(tmp_path.iterdir())


def test_a_link_whose_reply_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lossy(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "a repeated request")

    monkeypatch.setattr(os, "link", lossy)
    lease = Lease.take(tmp_path)
    lease.check()
    lease.release()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x00" * 4000, b'{"token": "../../etc"}', b"[" * 4000, b"\xff\xfe"]
)
def test_a_damaged_lease_belongs_to_an_unknown_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / OWNER).write_bytes(content)
    with pytest.raises(RunHeldError, match="an unknown process"):
        Lease.take(tmp_path)
    make_silent(tmp_path)
    Lease.take(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_what_is_no_lease_at_all_is_refused(tmp_path: Path) -> None:
    makers: dict[str, Callable[[Path], object]] = {
        "regular": os.mkfifo,
        "not a regular": Path.mkdir,
        "leads out": lambda p: p.symlink_to("/dev/zero"),
        "larger": lambda p: p.write_bytes(b"x" * 5000),
    }
    for reason, make in makers.items():
        (folder := tmp_path / reason).mkdir()
        make(folder / OWNER)
        with pytest.raises(DataError, match=reason):
            Lease.take(folder)
        with pytest.raises(DataError, match=reason):
            holder_of(folder)


def test_leases_in_a_circle_are_refused(tmp_path: Path) -> None:
    forget(tmp_path)
    content = (tmp_path / OWNER).read_text()
    (tmp_path / f"owner.{json.loads(content)['token']}.json").write_text(content)
    with pytest.raises(DataError, match="circle"):
        Lease.take(tmp_path)


# ---- what is known of a process


def test_pid_start_and_boot_decide_on_one_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    here = host.this_host()
    me = Holder.this_process()
    other = os.getppid()
    parent = me.model_copy(update={"pid": other, "started": host.process_start(other)})
    assert parent.is_alive() is True
    assert parent.model_copy(update={"started": "1"}).is_alive() is False, (
        "its number was given to another process"
    )
    assert parent.model_copy(update={"started": ""}).is_alive() is True, (
        "what cannot be told apart is left alone"
    )
    assert parent.model_copy(update={"pid": 2**22 + 1}).is_alive() is False
    assert parent.model_copy(update={"host": "node7"}).is_alive() is None
    assert parent.model_copy(update={"namespace": "pid:[1]"}).is_alive() is None, (
        "a container has its own numbers"
    )
    assert parent.model_copy(update={"boot": "another"}).is_alive() is (False if here.machine else None)
    assert me.is_alive() is False, "a lease that this process does not have, as one copied with its folder"
    monkeypatch.setattr(ownership, "this_host", lambda: dataclasses.replace(here, machine=""))
    unknown = parent.model_copy(update={"machine": "", "boot": "another"})
    assert unknown.is_alive() is None, "computers of one name, which nothing tells apart"


def test_the_job_of_a_scheduler_is_named() -> None:
    assert host.job_id({}) == ""
    assert host.job_id({"SLURM_JOB_ID": "81"}) == "SLURM 81"
    array = {"SLURM_JOB_ID": "84", "SLURM_ARRAY_JOB_ID": "81", "SLURM_ARRAY_TASK_ID": "3"}
    assert host.job_id(array) == "SLURM 81_3"
    assert host.job_id({"PBS_JOBID": "7.pbs\n\x1b[2J"}) == "PBS 7.pbs??[2J"
    assert (
        host.job_id({"JOB_ID": "5"}) == ""
        and host.job_id({"JOB_ID": "5", "SGE_ROOT": "/"}) == "Grid Engine 5"
    )


# ---- the heart


def test_the_heart_beats_and_notices_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.02)
    lease = Lease.take(tmp_path)
    make_silent(tmp_path)
    deadline = time.monotonic() + 20
    while time.time() - (tmp_path / OWNER).stat().st_mtime > 60:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.check_last_beat()
    (tmp_path / OWNER).unlink()
    with pytest.raises(OwnershipLostError, match="was removed"):
        while time.monotonic() < deadline:
            lease.check_last_beat()
            time.sleep(0.01)
    (tmp_path / OWNER).write_text("{}")
    lease.release()
    assert (tmp_path / OWNER).read_text() == "{}", "what is not its own is left alone"


# ---- runs


def test_a_run_is_its_process_own_while_it_goes_on(make_run: MakeRun) -> None:
    run = make_run()
    assert not (run.folder / OWNER).exists()
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            record = open_run(run.folder)
            assert record.state == "running" and record.holder is not None
            second = Run(RunFolder.open(run.folder))
            refused = list(second)
            assert [type(e) for e in refused] == [RunFinished] and second.state == "failed"
            assert "in use by this process" in refused[0].error and refused[0].exit_code == ExitCode.MISTAKE
            with pytest.raises(RunHeldError):
                second.claim()
            with pytest.raises(RunHeldError):
                RunFolder.open(run.folder).write_text("note.txt", "x")
            second.record.discard()
    assert run.state == "finished", run.state
    assert not list(run.folder.glob("*owner*"))
    assert len([e for e in open_run(run.folder).events() if isinstance(e, StepDone)]) == 6


def test_the_command_line_says_who_has_a_run(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run().folder
    lease = Lease.take(folder)
    before = contents(folder)
    assert cli(["train", "--resume", str(folder)]) == ExitCode.MISTAKE
    assert f"The run {folder} is in use by this process, since 20" in " ".join(
        capsys.readouterr().err.split()
    )
    assert cli(["train", str(folder / "experiment.yaml"), "--output", str(folder)]) == ExitCode.MISTAKE
    assert "never overwritten" in capsys.readouterr().err
    assert contents(folder) == before
    lease.release()


@pytest.mark.parametrize("how", ["interrupted", "left", "failed"])
def test_the_folder_is_given_back_however_a_run_ends(make_run: MakeRun, how: str) -> None:
    wrong = {"data": {"kind": "folder", "root": "/nowhere"}} if how == "failed" else {}
    run = make_run(**wrong)
    source = iter(run)
    for event in source:
        assert (run.folder / OWNER).exists()
        if isinstance(event, StepDone):
            break
    if how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            source.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    del source
    assert run.state == ("failed" if how == "failed" else "stopped")
    assert not list(run.folder.glob("*owner*"))


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
@pytest.mark.parametrize("at", [StepDone, CheckpointSaved])
def test_a_folder_that_goes_away_ends_the_run(make_run: MakeRun, how: str, at: type[Event]) -> None:
    run = make_run(validation__every_epochs=1)
    folder, end, done = run.folder, None, False
    for event in run:
        end = event
        if isinstance(event, at) and not done:
            done = True
            if how == "deleted":
                shutil.rmtree(folder)
            else:
                folder.rename(folder.with_name("aside"))
            if how == "replaced":
                shutil.copytree(folder.with_name("aside"), folder)
                before = contents(folder)
    assert isinstance(end, RunFinished) and end.state == "failed" and not end.defect, end
    assert end.exit_code == ExitCode.MACHINE and how.split("d")[0] in end.error
    if how == "replaced":
        assert contents(folder) == before
    else:
        assert not folder.exists()
    if how == "moved":
        assert str(folder.with_name("aside")) in end.error


def test_a_paused_run_hears_that_its_folder_is_gone(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.05)
    run = make_run()
    end = None
    for event in run:
        end = event
        if isinstance(event, StepDone) and event.step == 1:
            run.pause()
            shutil.rmtree(run.folder)
            run.record._history = None
            monkeypatch.setattr(run.record, "require_ownership", lambda: None)  # the loop itself must notice
    assert isinstance(end, RunFinished) and "was deleted" in end.error


TRAIN = """
import sys
from pathlib import Path
from segexplorer.core.events import StepDone, RunFinished
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
for event in Run(RunFolder.open(Path(sys.argv[1]))):
    if isinstance(event, StepDone) and event.step == 2:
        print("ready", flush=True)
    if isinstance(event, RunFinished):
        print(event.state, event.exit_code, event.error, flush=True)
"""


def test_a_suspended_training_that_lost_its_folder_ends_without_writing(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun
) -> None:
    folder = make_run(schedule__epochs=100_000).folder
    with process(TRAIN, folder) as trainer:
        assert open_run(folder).state == "running"
        os.kill(trainer.pid, signal.SIGSTOP)
        other = dataclasses.replace(host.this_host(), name="node7", machine="m", boot="b")
        monkeypatch.setattr(ownership, "this_host", lambda: other)
        make_silent(folder)
        assert open_run(folder).state == "interrupted"
        run = Run(RunFolder.open(folder))
        notices = []
        for event in run:
            if isinstance(event, Notice):
                notices.append(event.message)
            if isinstance(event, StepDone):
                run.stop()
        assert run.state == "stopped" and "Took the run over" in notices[0]
        lease = Lease.take(folder)  # the next owner
        before = contents(folder)
        os.kill(trainer.pid, signal.SIGCONT)
        told = answer(trainer)
        assert told.startswith("failed 1 This process no longer owns the run"), told
        assert contents(folder) == before
        lease.check()


def test_only_leftovers_of_processes_known_to_be_dead_are_removed(make_run: MakeRun) -> None:
    run = make_run()
    run.record.checkpoints.mkdir()
    forget(run.folder)
    token = json.loads((run.folder / OWNER).read_text())["token"]
    dead, foreign = (run.record.checkpoints / f".step_9.{t}.tmp" for t in (token, "0" * 32))
    dead.mkdir()
    foreign.mkdir()
    list(run)
    assert run.state == "finished" and not dead.exists() and foreign.exists()


def test_a_folder_that_was_being_made_by_a_killed_process_can_be_used(
    tiny: Experiment, tmp_path: Path
) -> None:
    (folder := tmp_path / "run").mkdir()
    forget(folder)
    (folder / "run.json").write_text("{}")
    (folder / ".run.json.1234.part").write_text("")
    made = RunFolder.create(tiny, folder)
    assert open_run(folder).state == "idle" and made.path == folder
    with pytest.raises(DataError, match="never overwritten"):
        RunFolder.create(tiny, folder)
    assert RunFolder.create(tiny, parent=tmp_path).path.parent == tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="never overwritten"):
        RunFolder.create(tiny, tmp_path / "file")


def test_a_folder_gone_is_the_machines_fault() -> None:
    assert FolderGoneError("x").exit_code == ExitCode.MACHINE
    assert OwnershipLostError("x").exit_code == ExitCode.FAILED
