"""Studies as jobs of SLURM: what is preempted, dies, fails, is cancelled or launched twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.study.engines import slurm as engine
from segexplorer.training.history import open_run
from tests.cluster.conftest import Slurm, Study, wait_for

SLURM = {"kind": "slurm", "partition": "low", "time": 1}


def attempts(study: Study, name: str) -> set[int]:
    return {event.attempt for event in open_run(study.folder / name).events()}


def node_of(study: Study, name: str) -> str:
    """Return the node on which a run is trained now, once it has taken some steps."""

    def training() -> str:
        tries = study.schedule.tries(name)
        return tries[-1].host if tries and not tries[-1].end and study.step(name) >= 20 else ""

    found: str = wait_for(training, say=lambda: logs(study))
    return found


def logs(study: Study) -> str:
    return "\n".join(f.read_text(errors="replace") for f in (study.schedule.folder / "logs").glob("*.out"))


def test_a_study_is_an_array_of_jobs_and_a_finished_run_is_never_run_again(
    tmp_path: Path, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    sampling = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2}
    study = Study(
        tmp_path,
        matrix={"loss": ["dice", "focal"], "seed": [0]},
        cluster=SLURM,
        sampling=sampling,
    )
    assert study.command() == 0
    told = capsys.readouterr().err
    assert "Submitted 2 jobs to SLURM as" in told and "--status" in told
    assert study.command("--status", "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert {run["state"] for run in runs} <= {"queued", "running", "done"}
    slurm.wait_until_idle()
    assert set(study.states().values()) == {"done"}, logs(study)
    assert {try_.job.partition("_")[0] for try_ in study.schedule.tries("dice_seed0")} == {
        f"SLURM {study.schedule.launches()[0].jobs['dice_seed0'].partition('_')[0]}"
    }
    capsys.readouterr()
    assert study.command() == 0, "nothing is left: the runs are compared"
    assert "focal" in capsys.readouterr().out
    assert not slurm.jobs() and attempts(study, "dice_seed0") == {1}


def test_a_preempted_job_is_requeued_and_goes_on_bit_for_bit(tmp_path: Path, slurm: Slurm) -> None:
    study = Study(tmp_path, matrix={"seed": [0]}, cluster=SLURM)
    assert study.command() == 0
    slurm.preempt(node_of(study, "seed0"))
    wait_for(lambda: study.ends("seed0")[:1] == ["preempted"], say=lambda: logs(study))
    slurm.wait_until_idle()
    assert study.ends("seed0") == ["preempted", "finished"], logs(study)
    assert attempts(study, "seed0") == {1, 2}
    assert study.is_as_uninterrupted("seed0")


def test_a_node_that_dies_is_noticed_by_its_lease_and_the_run_goes_on_elsewhere(
    tmp_path: Path, slurm: Slurm
) -> None:
    study = Study(tmp_path, matrix={"seed": [0]}, cluster=SLURM)
    assert study.command() == 0
    first = node_of(study, "seed0")
    slurm.kill_node(first)
    slurm.wait_until_idle()
    tries = study.schedule.tries("seed0")
    assert [t.end for t in tries] == ["", "finished"], logs(study)
    assert (tries[0].host, tries[1].host) == (first, "n2" if first == "n1" else "n1")
    assert "which has shown no sign of life for" in logs(study)
    assert not list((study.folder / "seed0").glob("*owner*"))
    assert study.is_as_uninterrupted("seed0")


def test_a_machines_fault_is_retried_on_another_node(tmp_path: Path, slurm: Slurm) -> None:
    study = Study(tmp_path, matrix={"seed": [0]}, cluster=SLURM)
    slurm.command("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    (study.folder / "seed0").mkdir(parents=True)
    # the disk of one node is full: there, and only there, another small one is in the place of the run folder
    slurm.inside(
        "n1",
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=48k",
        "tmpfs",
        str(study.folder / "seed0"),
    )
    try:
        assert study.command() == 0
        wait_for(lambda: study.schedule.tries("seed0"), say=lambda: logs(study))
        slurm.command("scontrol", "update", "NodeName=n2", "State=RESUME")
        slurm.wait_until_idle()
    finally:
        slurm.inside("n1", "umount", str(study.folder / "seed0"))
    tries = study.schedule.tries("seed0")
    assert [(t.host, t.end) for t in tries] == [
        ("n1", "machine"),
        ("n2", "finished"),
    ], logs(study)
    assert "There is no space left" in tries[0].error
    assert study.is_as_uninterrupted("seed0")


def test_the_users_mistake_is_never_retried_and_the_other_runs_go_on(
    tmp_path: Path, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = {"split.validation": [["nobody"], ["phantom_000"]]}
    sampling = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2}
    study = Study(tmp_path, matrix=matrix, cluster=SLURM, split={}, sampling=sampling)
    study.command()
    slurm.wait_until_idle()
    bad, good = study.schedule.names()
    assert study.ends(bad) == ["mistake"], logs(study)
    capsys.readouterr()
    assert study.command() == ExitCode.MISTAKE
    assert not slurm.jobs() and len(study.ends(bad)) == 1
    assert f"Not tried again without --retry: {bad}" in capsys.readouterr().err
    assert study.command("--retry") == 0
    slurm.wait_until_idle()
    assert study.ends(bad) == ["mistake", "mistake"]
    assert good in study.states()


def test_two_launches_and_a_process_here_share_a_study_and_train_each_run_once(
    tmp_path: Path, slurm: Slurm
) -> None:
    sampling = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 60}
    study = Study(tmp_path, matrix={"seed": [0, 1, 2, 3]}, cluster=SLURM, sampling=sampling)
    launched = [
        study.process(),
        study.process(),
        study.process("--on", "local", "--jobs", "1"),
    ]
    told = [process.communicate(timeout=900)[0] for process in launched]
    assert [process.returncode for process in launched] == [0, 0, 0], told
    slurm.wait_until_idle()
    assert set(study.states().values()) == {"done"}, [*told, logs(study)]
    for name in study.schedule.names():
        assert attempts(study, name) == {1}, name
        assert study.ends(name) == ["finished"], name


def test_what_is_cancelled_is_saved_and_not_requeued_and_the_next_launch_goes_on(
    tmp_path: Path, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(tmp_path, matrix={"seed": [0, 1, 2]}, cluster={**SLURM, "max_jobs": 1})
    assert study.command() == 0
    name = "seed0"
    node_of(study, name)
    assert study.command("--cancel") == 0
    slurm.wait_until_idle()
    assert study.states() == {
        "seed0": "stopped",
        "seed1": "waiting",
        "seed2": "waiting",
    }, logs(study)
    assert study.ends(name) == ["preempted"] and study.step(name) >= 20
    assert study.command() == 0
    slurm.wait_until_idle()
    assert set(study.states().values()) == {"done"}
    assert study.is_as_uninterrupted(name)


def test_a_job_whose_time_is_nearly_over_saves_and_goes_on_in_the_next(
    tmp_path: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SAVING_SECONDS", 30)
    sampling = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 20_000}
    study = Study(
        tmp_path,
        matrix={"seed": [0]},
        cluster={**SLURM, "time": 2 / 60},
        sampling=sampling,
    )
    assert study.command() == 0
    wait_for(lambda: study.ends("seed0")[:1] == ["preempted"], say=lambda: logs(study))
    wait_for(lambda: slurm.jobs() and len(study.ends("seed0")) >= 2, say=lambda: logs(study))
    assert study.command("--cancel") == 0


def test_what_slurm_refuses_is_said_in_a_sentence(
    tmp_path: Path, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(tmp_path, matrix={"seed": [0]}, cluster={**SLURM, "partition": "nowhere"})
    assert study.command() == ExitCode.MISTAKE
    assert "SLURM refuses the jobs: sbatch: error: invalid partition" in capsys.readouterr().err
    assert not slurm.jobs()
    assert isinstance(subprocess.run(["squeue"], check=True, capture_output=True).returncode, int)
