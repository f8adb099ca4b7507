"""The small files of a study: tries, launches, and what follows from them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError, DiskError, ExitCode, FolderGoneError, SpecError
from segexplorer.core.events import RunFinished
from segexplorer.frontends.cli import study
from segexplorer.study.engines.slurm import RunJob
from segexplorer.study.engines.worker import Worker
from segexplorer.study.plan import plan_study
from segexplorer.study.schedule import MOST_TRIES, TRIES, Schedule, State, defect_signature
from segexplorer.training.folder import RunFolder
from tests.study.test_shared_study import write

CAUSE = """Traceback (most recent call last):
  File "/a/engine.py", line 12, in run
    go()
  File "/a/loss.py", line 7, in compute
    raise ValueError("{text}")
ValueError: {text}
"""


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    """Return the schedule of a study with five runs, none of them started."""
    file = write(tmp_path, matrix={"seed": [0, 1, 2, 3, 4]})
    found = Schedule(tmp_path / "runs")
    found.prepare(plan_study(file, tmp_path / "runs"))
    return found


def end(schedule: Schedule, name: str, code: int, launch: str = "", cause: str = "") -> None:
    """Add a try that ended with an exit code; with a cause, by a defect."""
    event = RunFinished(
        state="failed", reason="failed", error="it broke", cause=cause, defect=bool(cause), exit_code=code
    )
    schedule.begin(name, launch).close(code, event)


def state(schedule: Schedule, name: str = "seed0") -> State:
    return schedule.status(name).state


def test_a_study_has_its_runs_in_the_order_of_the_matrix_and_each_its_experiment(schedule: Schedule) -> None:
    assert schedule.names() == ["seed0", "seed1", "seed2", "seed3", "seed4"]
    assert [s.state for s in schedule.statuses(["seed3"])] == ["waiting"] * 3 + ["queued", "waiting"]
    planned = schedule.run("seed3")
    assert planned.point.experiment.seed == 3 and planned.todo == "new"
    with pytest.raises(DataError, match=r"no run 'sead3'.*seed3"):
        schedule.run("sead3")
    for outside in ("../seed3", "..", "", "/etc/passwd"):
        with pytest.raises(DataError, match="no run"):
            schedule.run(outside)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([ExitCode.PREEMPTED], "preempted"),
        ([ExitCode.PREEMPTED] * 9, "preempted"),
        ([ExitCode.INTERRUPTED], "stopped"),
        ([ExitCode.MACHINE], "machine"),
        ([ExitCode.MACHINE, ExitCode.PREEMPTED, ExitCode.MACHINE], "machine"),
        ([ExitCode.MACHINE] * TRIES, "given up"),
        ([ExitCode.MACHINE, ExitCode.MISTAKE], "mistake"),
        ([ExitCode.FAILED], "failed"),
        ([127], "failed"),
    ],
)
def test_the_ends_of_its_tries_say_what_becomes_of_a_run(
    schedule: Schedule, codes: list[int], expected: State
) -> None:
    for code in codes:
        end(schedule, "seed0", code)
    assert state(schedule) == expected
    assert state(schedule, "seed1") == "waiting"


# every example writes files, which takes its time on a busy computer
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([int(c) for c in ExitCode if c]), max_size=8))
def test_the_users_mistake_and_a_failure_stay_until_forgiven_and_machines_have_three_tries(
    tmp_path_factory: pytest.TempPathFactory, codes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.json").write_text(json.dumps({"runs": ["a"], "reference": []}))
    schedule = Schedule(folder)
    for code in codes:
        end(schedule, "a", code)
    token = schedule.launch("local", ["a"], {}).token
    refusal = schedule.refusal("a", token)
    if codes and codes[-1] in (ExitCode.FAILED, ExitCode.MISTAKE):
        assert refusal is not None and refusal[0] == codes[-1]
    elif codes.count(ExitCode.MACHINE) >= TRIES:
        assert refusal is not None and refusal[0] == ExitCode.MACHINE
    else:
        assert refusal is None
    assert schedule.refusal("a", "") is None, "by hand everything may be tried"
    again = schedule.launch("local", ["a"], {"a": len(codes)})
    assert schedule.refusal("a", again.token) is None and state(schedule, "a") == "waiting"


def test_a_try_without_an_end_is_a_process_that_died_and_the_third_is_the_last(schedule: Schedule) -> None:
    for expected in ("died", "died", "given up"):
        schedule.begin("seed0")
        assert state(schedule) == expected


def test_a_run_that_a_process_holds_is_running_whatever_its_tries_say(schedule: Schedule) -> None:
    folder = RunFolder.create(schedule.run("seed0").point.experiment, schedule.study / "seed0")
    folder.hold()
    schedule.begin("seed0")
    found = schedule.status("seed0")
    assert found.state == "running" and "this process" in found.where
    folder.release()
    assert state(schedule) == "died"


def test_a_finished_run_is_done_only_while_its_folder_is_there(schedule: Schedule) -> None:
    folder = RunFolder.create(schedule.run("seed0").point.experiment, schedule.study / "seed0")
    folder.write(RunFinished(attempt=1, state="finished", reason="x"))
    folder.release()
    assert state(schedule) == "done", "trained without a scheduler"
    schedule.begin("seed0").close(0, RunFinished(state="finished", reason=""))
    assert state(schedule) == "done"
    folder.path.rename(folder.path.with_name("elsewhere"))
    assert state(schedule) != "done"


def test_tries_that_begin_at_the_same_moment_have_different_numbers(schedule: Schedule) -> None:
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        schedule.begin("seed0").close(ExitCode.PREEMPTED)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [t.number for t in schedule.tries("seed0")] == list(range(1, 9))
    assert {t.end for t in schedule.tries("seed0")} == {"preempted"}
    assert not list((schedule.folder / "tries").glob(".*")), "nothing half written is left"


def test_progress_is_written_now_and_then_and_always_at_the_end(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = schedule.begin("seed0")
    own.progress(step=3, steps=10)
    assert schedule.tries("seed0")[0].step == 0
    monkeypatch.setattr(own, "SECONDS", 0.0)
    own.progress(step=4)
    assert (schedule.tries("seed0")[0].step, schedule.tries("seed0")[0].steps) == (4, 10)
    own.close(ExitCode.MACHINE, error=DiskError("The disk is full.", "Free some space."))
    last = schedule.tries("seed0")[0]
    assert (last.end, last.error, last.remedy) == ("machine", "The disk is full.", "Free some space.")
    assert schedule.hosts_at_fault("seed0") == [last.host]


def test_the_same_defect_in_three_runs_stops_the_rest_and_other_ends_do_not(schedule: Schedule) -> None:
    token = schedule.launch("local", schedule.names(), {}).token
    for name in ("seed0", "seed1"):
        end(schedule, name, ExitCode.FAILED, cause=CAUSE.format(text=f"of {name}"))
    end(schedule, "seed2", ExitCode.FAILED)  # the loss was not finite: no defect
    assert schedule.widespread_defect() is None
    assert schedule.refusal("seed4", token) is None
    end(schedule, "seed3", ExitCode.FAILED, cause=CAUSE.format(text="of seed3"))
    assert str(schedule.widespread_defect()) == (
        "The same defect ended 3 runs (seed0, seed1, seed3): it broke"
    )
    refused = schedule.refusal("seed4", token)
    assert refused is not None and "The same defect ended 3 runs" in refused[1]
    schedule.launch("local", schedule.names(), {"seed0": 1})
    assert schedule.widespread_defect() is None, "two are left that nobody forgave"


def test_the_same_defect_is_known_by_its_way_through_the_code() -> None:
    one, other = CAUSE.format(text="shape (3, 4)"), CAUSE.format(text="shape (5, 6)")
    assert defect_signature(one) == defect_signature(other)
    assert defect_signature(one) == defect_signature(one.replace("/a/", "/node7/b/")), "installed elsewhere"
    assert defect_signature(one) != defect_signature(one.replace("line 7", "line 8"))
    assert defect_signature(one) != defect_signature(one.replace("ValueError", "KeyError"))


def test_nothing_of_a_cancelled_launch_starts_and_the_next_launch_goes_on(schedule: Schedule) -> None:
    launch = schedule.launch("slurm", schedule.names(), {})
    end(schedule, "seed0", ExitCode.PREEMPTED, launch.token)
    assert state(schedule) == "preempted"
    schedule.cancel(launch)
    assert state(schedule) == "stopped"
    refused = schedule.refusal("seed1", launch.token)
    assert refused is not None and refused[0] == ExitCode.INTERRUPTED
    assert schedule.refusal("seed1", schedule.launch("local", ["seed1"], {}).token) is None


def test_a_damaged_file_is_named(schedule: Schedule) -> None:
    schedule.begin("seed0")
    (schedule.folder / "tries" / "seed0.1.json").write_text('{"number": -1}')
    with pytest.raises(DataError, match=r"seed0\.1\.json is damaged"):
        schedule.statuses()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tries/NAME.1.json", {"number": 7}, "is that of another try"),
        ("tries/NAME.1.json", {"number": 10**9}, "damaged"),
        ("tries/NAME.1.json", {"number": 1, "updated": 1e300}, "damaged"),
        ("tries/NAME.1.json", {"number": 1, "end": "won"}, "damaged"),
        ("tries/NAME.1.json", ["number"], "damaged"),
        ("launches/" + 32 * "a" + ".json", {"token": "../../x"}, "damaged"),
        ("launches/" + 32 * "a" + ".json", {"runs": ["../x"]}, "damaged"),
    ],
)
def test_what_somebody_else_wrote_into_a_state_file_is_said_in_one_sentence(
    schedule: Schedule, file: str, content: object, said: str
) -> None:
    place = schedule.folder / file.replace("NAME", schedule.names()[0])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        schedule.statuses()


def test_a_state_file_that_leads_elsewhere_is_refused(schedule: Schedule, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps({"number": 1}))
    (schedule.folder / "tries").mkdir()
    (schedule.folder / "tries" / f"{schedule.names()[0]}.1.json").symlink_to(outside)
    with pytest.raises(DataError):
        schedule.statuses()


def test_a_study_that_was_moved_goes_on_there_and_does_not_come_back(schedule: Schedule) -> None:
    launch = schedule.launch("local", schedule.names(), {})
    begun = schedule.begin("seed0", launch.token)
    begun.close(ExitCode.PREEMPTED)
    going_on = schedule.begin("seed1", launch.token)
    moved = schedule.study.rename(schedule.study.with_name("elsewhere"))
    going_on.close(ExitCode.MACHINE)
    with pytest.raises(FolderGoneError, match=r"study .*runs was deleted or moved.*where it is now"):
        schedule.begin("seed0", launch.token)
    with pytest.raises(FolderGoneError, match="deleted or moved"):
        RunJob(str(schedule.study), "seed0", launch.token)()
    assert not schedule.study.exists()
    there = Schedule(moved)
    assert [s.state for s in there.statuses()] == ["preempted", "died", "waiting", "waiting", "waiting"]
    assert there.begin("seed0").facts.number == 2


@pytest.mark.parametrize("place", ["", "tries", "launches", "experiments", "logs"])
def test_nothing_is_written_through_a_link_of_somebody_elses(
    schedule: Schedule, tmp_path: Path, place: str
) -> None:
    linked = schedule.folder / place
    if linked.exists():
        linked.rename(tmp_path / "before")
    (outside := tmp_path / "outside").mkdir()
    linked.symlink_to(outside)
    file = write(tmp_path, matrix={"seed": [0]})
    with pytest.raises(DataError, match="is a link, and nothing is written through it"):
        schedule.begin("seed0")
    with pytest.raises(DataError, match="is a link, and nothing is written through it"):
        schedule.prepare(plan_study(file, schedule.study))
    assert not list(outside.iterdir())


def test_what_a_worker_prints_gets_into_no_other_file(schedule: Schedule, tmp_path: Path) -> None:
    (mine := tmp_path / ".bashrc").write_text("mine")
    log = schedule.log_file("seed0")
    log.parent.mkdir()
    log.symlink_to(mine)
    with pytest.raises(DataError, match=r"seed0\.log is a link, and nothing is written through it"):
        Worker(schedule, "seed0", "", log=log)
    assert mine.read_text() == "mine"


def test_copies_of_launches_are_left_alone_and_a_launch_under_another_name_is_refused(
    schedule: Schedule,
) -> None:
    launch = schedule.launch("local", ["seed0"], {"seed0": 3})
    file = schedule.folder / "launches" / f"{launch.token}.json"
    file.with_name(f"{launch.token} (conflicted copy).json").write_text("{")
    assert schedule.launches() == [launch]
    file.rename(file.with_name(f"{'0' * 32}.json"))
    with pytest.raises(DataError, match="is that of another launch"):
        schedule.launches()


def test_a_launch_waits_until_what_was_cancelled_is_saved(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "LOOK_SECONDS", 0.01)
    said: list[str] = []
    launches = [schedule.launch("slurm", schedule.names(), {}) for _ in range(2)]
    folders = [
        RunFolder.create(schedule.run(name).point.experiment, schedule.study / name)
        for name in ("seed0", "seed1")
    ]
    for folder in folders:
        folder.hold()
    begun = [
        schedule.begin(folder.path.name, launch.token)
        for folder, launch in zip(folders, launches, strict=True)
    ]
    study._await_cancelled(schedule, said.append)
    assert not said, "what others train is left to them"
    schedule.cancel(launches[0])

    def save() -> None:
        begun[0].close(ExitCode.PREEMPTED)
        folders[0].release()

    later = threading.Timer(0.3, save)
    later.start()
    study._await_cancelled(schedule, said.append)
    later.join()
    assert said == ["Waiting until what was cancelled is saved: seed0."]
    assert [s.state for s in schedule.statuses()][:2] == ["stopped", "running"]
    folders[1].release()


def test_there_are_so_many_tries_and_no_more(schedule: Schedule) -> None:
    name = schedule.names()[0]
    last = schedule.folder / "tries" / f"{name}.{MOST_TRIES}.json"
    last.parent.mkdir()
    last.write_text(json.dumps({"number": MOST_TRIES}))
    with pytest.raises(DataError, match=f"{name} has been tried {MOST_TRIES} times already"):
        schedule.begin(name)


def test_no_run_has_the_name_of_the_folder(tmp_path: Path) -> None:
    file = write(tmp_path)
    file = file.rename(file.with_name("scheduler.yaml"))
    with pytest.raises(SpecError, match="may not be called 'scheduler'"):
        Schedule(tmp_path / "runs").prepare(plan_study(file, tmp_path / "runs"))
