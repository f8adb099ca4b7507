"""SLURM with two nodes, and Ray with two nodes, on this computer; `make test-cluster` brings both.

SLURM's daemons are Debian's, unpacked and not installed. They listen on the loopback interface alone, which
matters, since they run as root and without authentication. Each node has host name, process ids and mounts of its
own (namespaces), so that processes on the two nodes see as little of each other as on two computers, and a node
can die.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.schedule import Schedule
from segexplorer.training.history import open_run

REPOSITORY = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
UNPACKED = os.environ.get("SEGEXPLORER_SLURM", "")
"""Folder into which `scripts/test_cluster.sh` unpacked SLURM."""

TINY = {
    "data": {"kind": "phantom", "size": 32, "count": 5},
    "split": {"validation_count": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 400},
    "schedule": {"kind": "constant", "epochs": 1},
    "loss": "dice",
    "compute": {"threads": 1, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give jobs this checkout, and one thread each."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SITE), str(REPOSITORY)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# ---- studies


class Study:
    """A study in a file, launched by the command as users do."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = folder / "study.yaml"
        self.file.write_text(yaml.safe_dump({**TINY, **settings}))
        self.folder = folder / "runs"
        self.schedule = Schedule(self.folder)

    def arguments(self, *options: str) -> list[str]:
        return ["study", str(self.file), "-o", str(self.folder), *options]

    def command(self, *options: str) -> int:
        """Carry out `segexplorer study` in this process."""
        return cli(self.arguments(*options))

    def process(self, *options: str) -> subprocess.Popen[str]:
        """Carry out `segexplorer study` in a process of its own."""
        words = [
            sys.executable,
            "-m",
            "segexplorer.frontends.cli",
            *self.arguments(*options),
        ]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def states(self) -> dict[str, str]:
        return {s.name: s.state for s in self.schedule.statuses()}

    def ends(self, name: str) -> list[str]:
        return [t.end for t in self.schedule.tries(name)]

    def step(self, name: str) -> int:
        """Return the last step that a run has written down."""
        if not (self.folder / name / "events.jsonl").exists():
            return 0
        return max((event.step for event in open_run(self.folder / name).events()), default=0)

    def is_as_uninterrupted(self, name: str) -> bool:
        """Whether a run's weights are, bit for bit, those of the same experiment trained here in one go."""
        whole = self.folder.parent / f"whole-{name}"
        experiment = self.schedule.folder / "experiments" / f"{name}.yaml"
        assert cli(["train", str(experiment), "-o", str(whole)]) == 0
        one, other = _weights(self.folder / name), _weights(whole)
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _weights(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    return {f"{f.name}/{k}": v for f in sorted(last.glob("*.safetensors")) for k, v in load_file(f).items()}


def wait_for(
    what: Callable[[], Any],
    seconds: float = 900,
    say: Callable[[], object] = lambda: "",
) -> Any:
    """Return what a function finds, once it finds something; `say` tells what was the matter where it does not."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, say()
        time.sleep(0.2)
    return found


# ---- SLURM

CONFIGURATION = """
ClusterName=segexplorer-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdPidFile={folder}/slurmd-%n.pid
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
KillWait=30
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SchedulerType=sched/backfill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname=n2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10
"""


class Slurm:
    """Two nodes and their controller."""

    NODES = ("n1", "n2")

    def __init__(self, folder: Path, unpacked: Path) -> None:
        self.folder = folder
        self._daemons = unpacked / "usr" / "sbin"
        libraries = next((unpacked / "usr" / "lib").glob("*-linux-gnu"))
        self.environment = {
            "LD_LIBRARY_PATH": f"{libraries}:{libraries / 'slurm-wlm'}",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{unpacked / 'usr' / 'bin'}:{os.environ['PATH']}",
        }
        for name in ("state", *(f"spool-{node}" for node in self.NODES)):
            (folder / name).mkdir(parents=True)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                ports=_free_ports(3),
                folder=folder,
                plugins=libraries / "slurm-wlm",
            )
        )
        hosts = Path("/etc/hosts").read_text()
        (folder / "hosts").write_text(f"{hosts}\n127.0.0.1 {' '.join(self.NODES)}\n")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._waiting: dict[str, float] = {}  # requeued job -> since when it has been seen to wait

    def start(self) -> None:
        """Start the controller and both nodes."""
        self._start(
            "controller",
            [
                str(self._daemons / "slurmctld-wlm"),
                "-D",
                "-f",
                str(self.folder / "slurm.conf"),
            ],
        )
        for node in self.NODES:
            self.start_node(node)
        wait_for(
            lambda: self.idle() == list(self.NODES),
            say=lambda: self.command("sinfo", "-N", "-l"),
        )
        text = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
        sockets = [line.split()[3] for line in text.splitlines() if "slurm" in line]
        assert sockets and all(s.startswith("127.0.0.1:") for s in sockets), "never listen but on loopback"

    def start_node(self, node: str) -> None:
        """Start a node: host name, processes and mounts of its own."""
        daemon = [
            str(self._daemons / "slurmd-wlm"),
            "-D",
            "-f",
            str(self.folder / "slurm.conf"),
        ]
        daemon += ["-d", str(self._daemons / "slurmstepd-wlm")]
        inside = f'hostname {node}; mount --bind "$0" /etc/hosts; exec "$@"'
        words = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._start(node, [*words, "sh", "-c", inside, str(self.folder / "hosts"), *daemon])

    def kill_node(self, node: str) -> None:
        """Let a node die at once, with everything on it."""
        process = self._processes.pop(node)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def inside(self, node: str, *words: str) -> None:
        """Carry out a command with the mounts of a node."""
        first = Path(
            f"/proc/{self._processes[node].pid}/task/{self._processes[node].pid}/children"
        ).read_text()
        subprocess.run(["nsenter", "--mount", "--target", first.split()[0], *words], check=True)

    def _start(self, name: str, words: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                words,
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End everything."""
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            self.command("scancel", "--user=root")
        for node in [n for n in self._processes if n != "controller"]:
            self.kill_node(node)
        for process in self._processes.values():
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()

    def command(self, *words: str) -> str:
        return subprocess.run(
            words,
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        ).stdout

    def idle(self) -> list[str]:
        """Return the nodes that could take jobs, also further ones."""
        states = self.command("sinfo", "--noheader", "--Node", "--partition=low", "--format=%N %T")
        return [line.split()[0] for line in states.splitlines() if line.split()[1] in ("idle", "mixed")]

    def jobs(self) -> dict[str, str]:
        """Return job -> its state, of all jobs that are not over; a requeued one waits 20 s, not two minutes."""
        lines = self.command("squeue", "--noheader", "--array", "--format=%i %T %r").splitlines()
        for line in lines:
            job, state, reason = line.split()[:3]
            if state != "PENDING" or "BeginTime" not in reason:
                self._waiting.pop(job, None)
            elif time.monotonic() - self._waiting.setdefault(job, time.monotonic()) > 20:
                with contextlib.suppress(subprocess.CalledProcessError):  # it has begun, or ended
                    self.command("scontrol", "update", f"JobId={job}", "StartTime=now")
        return {line.split()[0]: line.split()[1] for line in lines}

    def wait_until_idle(self) -> None:
        wait_for(
            lambda: not self.jobs(),
            say=lambda: self.command("scontrol", "show", "jobs"),
        )

    def preempt(self, node: str, seconds: int = 5) -> None:
        """Take a node's cores for a job of higher priority."""
        words = [
            "--partition=high",
            f"--nodelist={node}",
            "--cpus-per-task=2",
            "--output=/dev/null",
        ]
        self.command("sbatch", *words, f"--wrap=sleep {seconds}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """SLURM for all tests of a session; ends with them."""
    if not UNPACKED:
        pytest.skip("make test-cluster brings SLURM")
    if shutil.which("slurmctld") or Path("/etc/slurm").exists() or Path("/run/slurm").exists():
        pytest.skip("no second SLURM is started beside the one of this computer")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"), Path(UNPACKED))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(slurm_cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """SLURM, and its commands on the path; both nodes are up and free before each test."""
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm_cluster
    slurm_cluster.command("scancel", "--user=root")
    slurm_cluster.wait_until_idle()
    for node in Slurm.NODES:
        if node not in slurm_cluster._processes:
            slurm_cluster.start_node(node)
    wait_for(lambda: slurm_cluster.idle() == list(Slurm.NODES))
