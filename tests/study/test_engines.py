"""Where a study is trained: what each run gets, and how several processes here train it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from segexplorer.core.errors import ExitCode, SpecError
from segexplorer.core.events import RunFinished
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.cluster import Cluster, devices_of, read_cluster
from segexplorer.study.engines import local
from segexplorer.study.engines.local import Machine, Slot, run_locally, slots
from segexplorer.study.plan import plan_study
from segexplorer.study.schedule import Schedule
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from tests.study.test_matrix import BASE
from tests.study.test_schedule import CAUSE
from tests.study.test_shared_study import REPOSITORY, write

EXPERIMENT = Experiment.of({**BASE, "compute": {}, "sampling": {**BASE["sampling"], "batch_size": 4}})


# ---- the section of the file


def test_the_section_is_no_part_of_a_run(tmp_path: Path) -> None:
    bare = Experiment.from_yaml(write(tmp_path))
    file = write(tmp_path, cluster={"kind": "slurm", "gpus": 2, "time": 48, "setup": ["module load cuda"]})
    assert Experiment.from_yaml(file) == bare
    assert "cluster" not in bare.to_yaml()
    found = read_cluster(file)
    assert (found.kind, found.gpus, found.time, found.setup) == ("slurm", 2, 48, ("module load cuda",))
    assert read_cluster(file, kind="local", max_jobs=3).model_dump(exclude_none=True)["kind"] == "local"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "pbs"}, "kind must be one of"),
        ({"gpu": 1}, "no setting 'gpu'.*gpus"),
        ({"time": "24:00:00"}, "time must be a number"),
        ({"time": 86400}, "time must be at most 2000"),
        ({"setup": ["a\nb"]}, "setup"),
        (["slurm"], "no mapping"),
    ],
)
def test_what_is_wrong_in_the_section_is_named(tmp_path: Path, section: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_cluster(write(tmp_path, cluster=section))


# ---- room for runs

BIG = Machine(cpus=32, memory=100.0, gpus=("0", "1", "2", "3"))
SMALL = Machine(cpus=8, memory=16.0, gpus=())


@pytest.mark.parametrize(
    ("machine", "cluster", "needed", "expected"),
    [
        (SMALL, {}, None, [Slot(1)] * 8),
        (SMALL, {}, 5.0, [Slot(1)] * 3),
        (SMALL, {}, 500.0, [Slot(1)]),
        (SMALL, {"max_jobs": 2}, None, [Slot(4)] * 2),
        (SMALL, {"cpus": 3}, None, [Slot(3)] * 2),
        (SMALL, {"memory": 6}, None, [Slot(1)] * 2),
        (BIG, {}, None, [Slot(8, (gpu,)) for gpu in "0123"]),
        (BIG, {"gpus": 2}, None, [Slot(16, ("0", "1")), Slot(16, ("2", "3"))]),
        (BIG, {"gpus": 0, "cpus": 16}, None, [Slot(16, ())] * 2),
        (BIG, {"max_jobs": 3, "cpus": 4}, None, [Slot(4, (gpu,)) for gpu in "012"]),
    ],
)
def test_as_many_runs_at_once_as_cores_memory_and_gpus_allow(
    machine: Machine, cluster: dict[str, Any], needed: float | None, expected: list[Slot]
) -> None:
    assert slots(machine, Cluster.of(cluster), EXPERIMENT, needed) == expected


def test_the_threads_of_the_experiment_are_the_cores_of_a_run() -> None:
    four = EXPERIMENT.with_settings({"compute.threads": 4})
    assert slots(SMALL, Cluster(), four) == [Slot(4)] * 2


TWO = EXPERIMENT.with_settings({"compute.devices": 2})


def test_a_run_on_several_devices_has_a_gpu_or_the_cores_for_each() -> None:
    assert slots(BIG, Cluster(), TWO) == [Slot(16, ("0", "1")), Slot(16, ("2", "3"))]
    assert slots(BIG, Cluster(gpus=2), TWO) == slots(BIG, Cluster(), TWO)
    assert slots(SMALL, Cluster(), TWO) == [Slot(2)] * 4
    assert slots(SMALL, Cluster(), TWO.with_settings({"compute.threads": 3})) == [Slot(6)]


def test_the_gpus_of_a_run_are_its_devices() -> None:
    on_cpu = EXPERIMENT.with_settings({"compute.device": "cpu"})
    asked = {None: 1, 0: 1, 1: 1, 4: 4}
    assert {gpus: devices_of(EXPERIMENT, gpus) for gpus in asked} == asked
    assert {devices_of(on_cpu, gpus) for gpus in asked} == {1}
    assert [devices_of(TWO, gpus) for gpus in (None, 2)] == [2, 2]
    with pytest.raises(SpecError, match=r"compute\.devices is 2, and cluster\.gpus is 4"):
        devices_of(TWO, 4)
    with pytest.raises(SpecError, match="A batch of 4 cannot be divided equally among 3 devices"):
        devices_of(EXPERIMENT, 3)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [({"gpus": 1}, "1 GPUs.*can use 0"), ({"cpus": 9}, "9 CPU cores.*8"), ({"memory": 17}, "17 GB.*16.0 GB")],
)
def test_a_machine_without_room_for_one_run_is_refused(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        slots(SMALL, Cluster.of(cluster), EXPERIMENT)


# ---- several processes; what a worker does is given by a function, so that no training is needed

Script = Callable[[Schedule, str, str, int], int]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], list[str]]:
    """Return a function that works through a study of five runs by a script, and returns what it says."""
    file = write(tmp_path, matrix={"seed": [0, 1, 2, 3, 4]})
    plan = plan_study(file, tmp_path / "runs")
    schedule = Schedule(tmp_path / "runs")
    schedule.prepare(plan)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(local, "CANCEL_SECONDS", 0.0)

    def work(script: Script, runs: Sequence[str] = (), elsewhere: Sequence[str] = ()) -> list[str]:
        class Scripted(local.Worker):
            def __init__(self, schedule: Schedule, name: str, launch: str, *_: object) -> None:
                code = script(schedule, name, launch, len(schedule.tries(name)) + 1)
                self.schedule, self.name, self.launch, self.log = schedule, name, launch, None
                self._before = len(schedule.tries(name)) - (code >= 0)
                self._process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({abs(code)})"])

        monkeypatch.setattr(local, "Worker", Scripted)
        said: list[str] = []
        launch = schedule.launch("local", runs or schedule.names(), {})
        run_locally(schedule, launch, [Slot(1)], said.append, elsewhere)
        return said

    work.schedule = schedule  # type: ignore[attr-defined]
    return work


def finish(schedule: Schedule, name: str, launch: str) -> None:
    from segexplorer.training.folder import RunFolder

    if not (schedule.study / name).exists():
        RunFolder.create(schedule.run(name).point.experiment, schedule.study / name).release()
    schedule.begin(name, launch).close(0, RunFinished(state="finished", reason=""))


def test_preempted_runs_go_on_and_a_machines_fault_is_retried_twice(pool: Any) -> None:
    def script(schedule: Schedule, name: str, launch: str, number: int) -> int:
        code = {"seed0": ExitCode.PREEMPTED, "seed1": ExitCode.MACHINE, "seed2": ExitCode.MISTAKE}.get(
            name, 0
        )
        if code == 0 or (code == ExitCode.PREEMPTED and number > 5) or (name == "seed1" and number == 3):
            finish(schedule, name, launch)
            return 0
        schedule.begin(name, launch).close(code)
        return code

    pool(script)
    tried = {s.name: (s.state, len(s.tries)) for s in pool.schedule.statuses()}
    assert tried == {
        "seed0": ("done", 6),
        "seed1": ("done", 3),
        "seed2": ("mistake", 1),
        "seed3": ("done", 1),
        "seed4": ("done", 1),
    }


def test_after_three_faults_of_machines_a_run_is_given_up(pool: Any) -> None:
    def script(schedule: Schedule, name: str, launch: str, number: int) -> int:
        if name == "seed3":
            schedule.begin(name, launch).close(ExitCode.MACHINE)
            return ExitCode.MACHINE
        finish(schedule, name, launch)
        return 0

    pool(script)
    assert pool.schedule.status("seed3").state == "given up"
    assert len(pool.schedule.tries("seed3")) == 3


def test_the_same_defect_in_three_runs_stops_the_rest_and_says_so(pool: Any) -> None:
    started: list[str] = []

    def script(schedule: Schedule, name: str, launch: str, number: int) -> int:
        started.append(name)
        event = RunFinished(
            state="failed",
            reason="",
            error="ValueError: x",
            cause=CAUSE.format(text=name),
            defect=True,
            exit_code=1,
        )
        schedule.begin(name, launch).close(1, event)
        return 1

    said = pool(script)
    assert started == ["seed0", "seed1", "seed2"]
    assert "The same defect ended 3 runs (seed0, seed1, seed2): ValueError: x" in said[-1]
    assert "The other 2 are not started" in said[-1]


def test_a_worker_that_does_not_even_start_is_not_tried_for_ever(pool: Any) -> None:
    pool(lambda schedule, name, launch, number: -127)
    for status in pool.schedule.statuses():
        assert (status.state, len(status.tries)) == ("failed", 1)
        assert "ended with exit code 127 at once" in status.tries[0].error


def test_a_cancelled_launch_starts_nothing_more(pool: Any) -> None:
    def script(schedule: Schedule, name: str, launch: str, number: int) -> int:
        schedule.cancel(schedule.launches()[-1])
        schedule.begin(name, launch).close(ExitCode.PREEMPTED)
        return ExitCode.PREEMPTED

    said = pool(script)
    assert said[-1] == "The study was cancelled: its runs are saved."
    assert [s.state for s in pool.schedule.statuses()] == ["stopped"] + ["waiting"] * 4


def test_what_another_launch_gives_back_is_trained_here(pool: Any) -> None:
    other = pool.schedule.launch("slurm", ["seed0", "seed1", "seed2"], {})

    def script(schedule: Schedule, name: str, launch: str, number: int) -> int:
        if name == "seed3":  # meanwhile
            for code, given in ((ExitCode.INTERRUPTED, "seed0"), (ExitCode.MISTAKE, "seed1")):
                schedule.begin(given, other.token).close(code)
            finish(schedule, "seed2", other.token)
        finish(schedule, name, launch)
        return 0

    pool(script, runs=["seed3", "seed4"], elsewhere=["seed0", "seed1", "seed2"])
    assert [s.state for s in pool.schedule.statuses()] == ["done", "mistake", "done", "done", "done"]


@pytest.mark.slow
def test_a_study_that_is_moved_while_it_trains_ends_with_a_sentence_and_goes_on_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    sampling = {**BASE["sampling"], "steps_per_epoch": 400}
    file, out = write(tmp_path, sampling=sampling, matrix={"seed": [0]}), tmp_path / "runs"
    moved = tmp_path / "moved"

    def move() -> None:
        wait_for(
            lambda: (out / "seed0" / "events.jsonl").exists() and len(open_run(out / "seed0").events()) > 9
        )
        out.rename(moved)

    thread = threading.Thread(target=move)
    thread.start()
    assert cli(["study", str(file), "-o", str(out), "--on", "local"]) == ExitCode.MACHINE
    thread.join()
    assert "The folder of the study" in capsys.readouterr().err
    assert not out.exists(), "no part of it comes back"
    assert cli(["study", str(file), "-o", str(moved), "--on", "local"]) == 0
    assert open_run(moved / "seed0").state == "finished"


# ---- the real thing


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    return {f"{f.name}/{k}": v for f in sorted(last.glob("*.safetensors")) for k, v in load_file(f).items()}


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what a function finds once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.slow
def test_a_worker_that_is_preempted_is_queued_again_and_its_run_is_that_of_an_uninterrupted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    file, out = (
        write(tmp_path, sampling={**BASE["sampling"], "steps_per_epoch": 150}, matrix={"seed": [0]}),
        tmp_path / "runs",
    )
    run = out / "seed0"

    def preempt() -> None:
        def training() -> Any:
            return (run / "events.jsonl").exists() and any(e.step >= 5 for e in open_run(run).events())

        wait_for(training)
        os.kill(open_run(run).holder.pid, signal.SIGTERM)  # type: ignore[union-attr]

    thread = threading.Thread(target=preempt)
    thread.start()
    assert cli(["study", str(file), "-o", str(out), "--on", "local"]) == 0
    thread.join()
    ends = [t.end for t in Schedule(out).tries("seed0")]
    assert ends == ["preempted", "finished"]
    assert "queued again" in capsys.readouterr().err
    events = open_run(run).events()
    assert {e.attempt for e in events} == {1, 2}
    whole = tmp_path / "whole"
    assert cli(["train", str(Schedule(out).folder / "experiments" / "seed0.yaml"), "-o", str(whole)]) == 0
    assert same_weights(run, whole)
    capsys.readouterr()
    assert cli(["study", str(file), "-o", str(out), "--on", "local"]) == 0, "and never again"
    assert len(Schedule(out).tries("seed0")) == 2
    assert cli(["study", str(file), "-o", str(out), "--status"]) == 0
    assert "1 done." in capsys.readouterr().out


def test_the_list_has_a_command_per_run_that_any_scheduler_may_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path, matrix={"seed": [0, 1]}), tmp_path / "a study"
    assert cli(["study", str(file), "-o", str(out), "--on", "list"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [c[:4] for c in commands] == [[sys.executable, "-m", "segexplorer.frontends.cli", "run-one"]] * 2
    assert cli(commands[1][3:]) == 0
    assert open_run(out / "seed1").state == "finished"
    events = len(open_run(out / "seed1").events())
    assert cli(commands[1][3:]) == 0 and len(open_run(out / "seed1").events()) == events
    capsys.readouterr()
    assert cli(["study", str(file), "-o", str(out), "--on", "list"]) == 0
    assert [shlex.split(line)[-1] for line in capsys.readouterr().out.splitlines()] == ["seed0"]


@pytest.mark.slow
def test_a_run_of_a_study_is_trained_by_several_devices_and_refused_beforehand_where_it_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    settings = {"sampling": {**BASE["sampling"], "batch_size": 2}, "matrix": {"seed": [0]}}
    out = tmp_path / "runs"
    on_two = {**BASE["compute"], "device": "cpu", "devices": 2}
    file = write(tmp_path, **settings, compute=on_two, cluster={"kind": "local"})
    assert cli(["study", str(file), "-o", str(out), "-s", "sampling.batch_size=3"]) == ExitCode.MISTAKE
    assert "A batch of 3 cannot be divided equally among 2 devices" in capsys.readouterr().err
    assert not out.exists()
    assert cli(["study", str(file), "-o", str(out)]) == 0
    assert [t.end for t in Schedule(out).tries("seed0")] == ["finished"]
    provenance = json.loads((out / "seed0" / "provenance.json").read_text())
    assert "'devices': 2" in str(provenance), provenance
    assert cli(["study", str(file), "-o", str(out), "-s", "compute.devices=1"]) == 0, "the same run"
    assert len(Schedule(out).tries("seed0")) == 1


def test_a_mistake_is_taken_down_and_tried_again_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, split={"validation": ["nobody"]}, matrix={"loss": ["dice"]})
    out = tmp_path / "runs"
    assert cli(["study", str(file), "-o", str(out), "--on", "list"]) == 0
    schedule = Schedule(out)
    (name,) = schedule.names()
    assert cli(["run-one", str(out), name]) == ExitCode.MISTAKE
    assert schedule.status(name).state == "mistake"
    assert "nobody" in schedule.tries(name)[0].error
    assert not (out / name).exists(), "nothing was planned: the corrected study may have the folder"
    told = capsys.readouterr()
    assert cli(["study", str(file), "-o", str(out), "--on", "local"]) == ExitCode.MISTAKE
    told = capsys.readouterr()
    assert f"Not tried again without --retry: {name}." in told.err
    assert "1 mistake." in told.err and len(schedule.tries(name)) == 1


@pytest.mark.parametrize(
    "options",
    [["--status", "--cancel"], ["--retry", "--dry-run"], ["--cancel", "--on", "list"], ["--jobs", "2"]],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, matrix={"seed": [0]})
    assert cli(["study", str(file), "-o", str(tmp_path / "runs"), *options]) == ExitCode.MISTAKE
    assert capsys.readouterr().err.startswith("segexplorer: --")
    assert not (tmp_path / "runs" / "seed0").exists()


def test_the_status_of_a_study_that_was_not_launched_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, matrix={"seed": [0]})
    assert cli(["study", str(file), "-o", str(tmp_path / "runs"), "--status"]) == ExitCode.MISTAKE
    assert "holds no study" in capsys.readouterr().err


# ---- jobs of SLURM


def test_a_job_asks_for_what_the_section_says(tmp_path: Path) -> None:
    from segexplorer.study.engines.slurm import SAVING_SECONDS, job_options

    schedule = Schedule(tmp_path / "my study")
    found = job_options(
        schedule,
        Cluster(
            partition="gpu", gpus=2, cpus=8, memory=1.5, time=0.5, max_jobs=7, setup=("module load x",),
            options={"account": "lab", "exclusive": True, "qos": False},
        ),
        EXPERIMENT,
    )  # fmt: skip
    assert found["job_name"] == "segexplorer-my-study"
    assert (found["partition"], found["gpus_per_node"], found["cpus_per_task"]) == ("gpu", 2, 8)
    assert (found["mem"], found["time"], found["array_parallelism"]) == ("1536M", 30, 7)
    assert found["setup"] == ["set -e", "module load x", "set +e"], "a line that fails ends the job"
    assert found["signal_delay_s"] == SAVING_SECONDS
    assert found["srun_args"] == ["--cpus-per-task=8"]
    assert found["additional_parameters"] == {"requeue": True, "account": "lab", "exclusive": True}
    several = job_options(schedule, Cluster(), TWO)
    assert (several["gpus_per_node"], several["cpus_per_task"]) == (2, 2)
    bare = job_options(schedule, Cluster(), EXPERIMENT.with_settings({"compute.threads": 3}))
    assert bare["cpus_per_task"] == 3 and bare["time"] == 24 * 60
    assert not {"partition", "gpus_per_node", "mem", "setup"} & set(bare), "left to the cluster"


def test_without_slurm_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    file = write(tmp_path, matrix={"seed": [0]})
    assert cli(["study", str(file), "-o", str(tmp_path / "runs"), "--on", "slurm"]) == ExitCode.MISTAKE
    assert "There is no SLURM here" in capsys.readouterr().err


# ---- what a study will need


def test_the_plan_of_hours_and_disk_is_that_of_the_runs_that_are_left(tmp_path: Path) -> None:
    from segexplorer.study.sizing import run_bytes, size_of
    from segexplorer.training.plan import resolve

    file, out = write(tmp_path, matrix={"loss": ["dice", "focal"], "seed": [0, 1]}), tmp_path / "runs"
    schedule = Schedule(out)
    schedule.prepare(plan_study(file, out))
    assert cli(["run-one", str(out), "dice_seed0"]) == 0
    content = sum(f.stat().st_size for f in (out / "dice_seed0").rglob("*") if f.is_file())
    estimate = run_bytes(resolve(schedule.run("dice_seed0").point.experiment))
    assert content / 2 < estimate < 4 * content, "an upper limit of the right size"
    took = schedule.tries("dice_seed0")[0]
    size = size_of(plan_study(file, out).runs, schedule, measured=lambda plan: 5.0)
    assert [(c.label, c.runs) for c in size.conditions] == [("dice", 1), ("focal", 2)]
    assert size.conditions[0].hours == pytest.approx((took.updated - took.began) / 3600)
    assert size.conditions[1].hours == 5.0
    assert size.hours == pytest.approx(10 + (took.updated - took.began) / 3600)
    (*_, total, disk) = size.sentences(at_once=2)
    assert total == "In all 10.0 h of nodes; with 2 at once about 5.0 h."
    assert disk.startswith("In all at most ")
    assert size_of(plan_study(file, out).runs, schedule, measured=lambda plan: None).hours is None


def test_prepared_cases_that_do_not_fit_into_memory_are_counted_once(tmp_path: Path) -> None:
    from segexplorer.study.sizing import size_of

    compute = {"cache_gb": 1e-6, "cache_folder": str(tmp_path / "cache")}
    file = write(tmp_path, matrix={"loss": ["dice", "focal"], "seed": [0, 1]}, compute=compute)
    size = size_of(plan_study(file, tmp_path / "runs").runs, measured=lambda plan: 1.0)
    (one, two) = size.conditions
    assert one.prepared_gb == two.prepared_gb > 0
    assert size.prepared_gb == {str(tmp_path / "cache"): one.prepared_gb}
    assert size.sentences()[-1].startswith("Prepared cases, once for all runs: at most ")
    assert size.disk_gb == pytest.approx(2 * (one.disk_gb + two.disk_gb))


def test_a_run_that_cannot_be_planned_is_said_before_the_study_starts(tmp_path: Path) -> None:
    from segexplorer.study.sizing import size_of

    file = write(tmp_path, split={"validation": ["nobody"]}, matrix={"loss": ["dice"]})
    size = size_of(plan_study(file, tmp_path / "runs").runs, measured=lambda plan: 1.0)
    assert size.conditions == () and "nobody" in size.sentences()[0]


def test_one_after_the_other_too_the_same_defect_stops_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from segexplorer.frontends.cli import study as command

    file, out = write(tmp_path, matrix={"seed": [0, 1, 2, 3, 4]}), tmp_path / "runs"
    tried: list[str] = []

    def fail(planned: Any, title: str, schedule: Schedule, *_: object) -> int:
        tried.append(planned.folder.name)
        event = RunFinished(
            state="failed",
            reason="",
            error="KeyError: x",
            cause=CAUSE.format(text="x"),
            defect=True,
            exit_code=1,
        )
        schedule.begin(planned.folder.name).close(1, event)
        return 1

    monkeypatch.setattr(command, "_train", fail)
    for _ in range(2):  # the same command tries again
        tried.clear()
        assert cli(["study", str(file), "-o", str(out)]) == ExitCode.FAILED
        assert tried == ["seed0", "seed1", "seed2"]
        assert "The same defect ended 3 runs" in capsys.readouterr().err


def test_what_no_launch_trains_is_named_when_a_study_is_cancelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from segexplorer.training.folder import RunFolder

    file, out = write(tmp_path, matrix={"seed": [0]}), tmp_path / "runs"
    schedule = Schedule(out)
    schedule.prepare(plan_study(file, out))
    folder = RunFolder.create(schedule.run("seed0").point.experiment, out / "seed0")
    folder.hold()
    assert cli(["study", str(file), "-o", str(out), "--cancel"]) == 0
    told = capsys.readouterr().err
    assert "Nothing to cancel." in told and "seed0 belongs to no launch: end it where it is trained" in told
    folder.release()
