"""The computer, the job and the processes: what tells the process that trains a run apart from all others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """A computer, as far as processes on it can be told apart from those of others.

    Attributes
    ----------
    name
        Host name.
    machine
        Hash of what identifies the installation; empty where nothing does.
    boot
        Identifies the time since it was started; empty on systems without such a thing.
    namespace
        Where its process ids are valid: containers on one computer have ids of their own.
    """

    name: str
    machine: str
    boot: str
    namespace: str


@cache
def this_host() -> Host:
    """Return the computer that this process runs on."""
    machine = _text("/etc/machine-id") or _text("/var/lib/dbus/machine-id")
    if not machine and platform.system() != "Linux":
        machine = f"{uuid.getnode():012x}"
    # machine-id(5) asks not to give the identifier itself away
    hashed = hashlib.sha256(f"segexplorer {machine}".encode()).hexdigest()[:16] if machine else ""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    boot = _text("/proc/sys/kernel/random/boot_id")
    return Host(_printable(platform.node()), hashed, _printable(boot), _printable(namespace))


def job_id(environment: Mapping[str, str] = os.environ) -> str:
    """Return which job of a scheduler this process belongs to, e.g. "SLURM 812_3"; empty outside of one."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    slurm = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "")
    known = {
        "SLURM": slurm,
        "PBS": environment.get("PBS_JOBID", ""),
        "LSF": environment.get("LSB_JOBID", ""),
        "Grid Engine": environment.get("JOB_ID", "") if "SGE_ROOT" in environment else "",
    }
    return next((_printable(f"{name} {number}") for name, number in known.items() if number), "")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _printable(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:100]


def process_start(pid: int) -> str | None:
    """Return when a process of this computer started, as text to compare; None where there is no such process.

    Empty where the process is there but does not say so. A process that has ended, but was not collected by its
    parent yet (a zombie), is not there.
    """
    if Path("/proc/self/stat").exists():
        try:
            # the name in parentheses may contain anything; after it: state ... start in ticks since boot (proc(5))
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return "" if _is_hidden(pid) else None
        except OSError:
            return ""
        return None if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return ""


def _is_hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show (mounted with hidepid, processes of other users)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False  # ended and replaced in between, or a thread


NICENESS = 5
"""A third of the share of a thread that has none: the window goes first, and training does not stand still beside
other programs that want every core (with 10, it gets a tenth)."""


def lower_priority() -> None:
    """Let other threads than this one go first where both want a core: on Linux, niceness belongs to a thread.

    Threads that training starts (the loader's) inherit it; results do not depend on it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
