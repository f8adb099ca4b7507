"""Where to compute: what "auto" resolves to, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from segexplorer.core.errors import SpecError
from segexplorer.training.compute import Compute, cores, resolve_compute, usable_threads


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be bound to eight cores, and nothing else be said."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def mounted(root: Path, group: str, mounts: str, **files: str) -> Path:
    """Write what Linux says of control groups: /proc/self/cgroup, mountinfo, and the files of the groups."""
    written = {"proc/self/cgroup": group, "proc/self/mountinfo": mounts, **files}
    for name, text in written.items():
        path = root / "sys/fs/cgroup" / name if not name.startswith("proc") else root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V1 = "29 25 0:26 {part} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V2 = "29 25 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate"


@pytest.mark.usefixtures("eight")
def test_the_least_of_affinity_slurm_and_quota_is_used(tmp_path: Path) -> None:
    def found(root: Path = tmp_path / "nowhere", **environment: str) -> int:
        return cores(environment=environment, root=root)

    assert found() == 8 and found(SLURM_CPUS_PER_TASK="3") == 3 and found(SLURM_CPUS_PER_TASK="16") == 8
    assert found(SLURM_CPUS_PER_TASK="many") == found(SLURM_CPUS_PER_TASK="0") == 8
    job = mounted(tmp_path / "v2", "0::/slurm/job_7", V2, **{"slurm/job_7/cpu.max": "250000 100000"})
    assert found(job) == 2, "2.5, rounded down"
    assert found(job, SLURM_CPUS_PER_TASK="1") == 1
    above = mounted(
        tmp_path / "above", "0::/a/b", V2, **{"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}
    )
    assert found(above) == 3, "the group above limits those below"
    small = mounted(tmp_path / "small", "0::/", V2, **{"cpu.max": "50000 100000"})
    assert found(small) == 1
    files = {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}
    assert found(mounted(tmp_path / "v1", "4:cpu,cpuacct:/x\n0::/", V1.format(part="/"), **files)) == 4
    free = {**files, "cpu,cpuacct/x/cpu.cfs_quota_us": "-1"}
    assert found(mounted(tmp_path / "free", "4:cpu,cpuacct:/x", V1.format(part="/"), **free)) == 8
    inside = {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    container = mounted(tmp_path / "c", "4:cpu,cpuacct:/docker/1", V1.format(part="/docker/1"), **inside)
    assert found(container) == 2, "only the container's own part is mounted"


@pytest.mark.usefixtures("eight")
def test_threads_follow_omp_num_threads_and_leave_the_window_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*, window: bool = False, **environment: str) -> int:
        return usable_threads(window=window, environment=environment)

    assert taken() == 8 and taken(window=True) == 7
    assert taken(OMP_NUM_THREADS="4") == taken(OMP_NUM_THREADS="4", window=True) == 4, "one is free already"
    assert taken(OMP_NUM_THREADS="8", window=True) == taken(OMP_NUM_THREADS="99", window=True) == 7
    assert (
        taken(OMP_NUM_THREADS="6,2") == 6 and taken(OMP_NUM_THREADS="") == taken(OMP_NUM_THREADS="all") == 8
    )
    assert taken(SLURM_CPUS_PER_TASK="1", window=True) == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert resolve_compute(Compute(device="cpu")).threads == 2


def test_a_window_is_left_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert resolve_compute(Compute(device="cpu")).threads == cores()
    assert resolve_compute(Compute(device="cpu"), window=True).threads == max(1, cores() - 1)
    assert resolve_compute(Compute(device="cpu", threads=3), window=True).threads == 3


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with resolve_compute(Compute(device="cpu", threads=1)).active():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_cpu_precisions() -> None:
    assert resolve_compute(Compute(device="cpu", precision="float32")).precision == "float32"
    with pytest.raises(SpecError, match="bfloat16 or float32"):
        resolve_compute(Compute(device="cpu", precision="float16"))


@pytest.mark.parametrize("device", ["gpu0", "cuda:99" if torch.cuda.is_available() else "cuda"])
def test_a_device_that_is_not_there_is_a_sentence(device: str) -> None:
    with pytest.raises(SpecError):
        resolve_compute(Compute(device=device))


def test_memory_in_use_is_reported() -> None:
    assert resolve_compute(Compute(device="cpu")).memory_in_use() > 50 * 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_is_taken_where_it_is() -> None:
    runtime = resolve_compute(Compute())
    assert runtime.device == "cuda" and runtime.precision in ("bfloat16", "float16")
