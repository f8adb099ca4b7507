"""What is known of a study's runs beside their own folders: launches, tries, and how those ended.

```
scheduler/                        in the study's folder
  experiments/NAME.yaml           what each run trains, for workers; written by launches
  launches/TOKEN.json             one launch: its engine, its jobs, which earlier tries it forgives
  launches/TOKEN.cancelled        that launch was cancelled; nothing of it starts any more
  tries/NAME.3.json               the third try of a run: where, how far, how it ended
  logs/                           what workers print
```

Every file has one writer, and is replaced whole: a launch writes its own file, and a worker that of its own try.
The number of a try is claimed by creating its file, which succeeds once, also on NFS. Nothing here decides who
trains: the lease of the run folder alone does (`training.ownership`), so that files that a network drive shows late
cost at most a job that ends at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from segexplorer.core.atomic_files import atomic_write, name_once, translate_disk_errors
from segexplorer.core.errors import DataError, ExitCode, FolderGoneError, SpecError, did_you_mean
from segexplorer.core.events import RunFinished
from segexplorer.study.cluster import EngineKind, devices_of
from segexplorer.study.matrix import Point
from segexplorer.study.plan import PlannedRun, StudyPlan, planned_run, study_runs
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.host import job_id, this_host
from segexplorer.training.ownership import Holder, holder_of
from segexplorer.training.run_files import EXPERIMENT, RunFile, read_run_file

SCHEDULER = "scheduler"
TRIES = 3
"""How often a run is tried whose machines fail; what is preempted is requeued as often as it happens."""
MOST_TRIES = 99_999
"""Tries that are kept apart, however they ended."""
SAME_DEFECT = 3
"""Runs that end with the same defect, after which no further run of the study starts."""

_Text = Annotated[str, StringConstraints(max_length=4000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\x00]+$")]
_Token = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_Count = Annotated[int, Field(ge=0, lt=2**40)]
_Time = Annotated[float, Field(ge=0, lt=2**40, allow_inf_nan=False)]

End = Literal["", "finished", "preempted", "interrupted", "machine", "failed", "mistake"]
"""How a try ended; empty: it has not, or its process died."""
_ENDS: Mapping[int, End] = {
    ExitCode.DONE: "finished",
    ExitCode.PREEMPTED: "preempted",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.MACHINE: "machine",
    ExitCode.MISTAKE: "mistake",
}

State = Literal[
    "waiting", "queued", "running", "preempted", "stopped", "machine", "died",
    "failed", "mistake", "given up", "done",
]  # fmt: skip
STATES: Mapping[State, str] = {
    "waiting": "not started yet",
    "queued": "waits for its scheduler",
    "running": "is being trained",
    "preempted": "made room and saved its state; goes on",
    "stopped": "was interrupted or cancelled; goes on with the next launch",
    "machine": "its machine failed; is tried again, elsewhere if possible",
    "died": "its process died without a word; is tried again",
    "failed": "failed; --retry tries it again",
    "mistake": "something has to be corrected first; then --retry",
    "given up": f"its machine failed {TRIES} times; --retry tries it again",
    "done": "finished",
}
_REFUSED: Mapping[State, ExitCode] = {
    "done": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "mistake": ExitCode.MISTAKE,
    "given up": ExitCode.MACHINE,
}
OVER: frozenset[State] = frozenset({"done", "failed", "mistake", "given up"})
"""States in which no scheduler touches a run any more."""


class Try(RunFile):
    """One try of a run: `tries/NAME.N.json`."""

    number: Annotated[int, Field(ge=1, le=MOST_TRIES)]
    launch: _Token | Literal[""] = ""
    host: _Text = ""
    job: _Text = ""
    began: _Time = 0.0
    updated: _Time = 0.0
    step: _Count = 0
    steps: _Count = 0
    epoch: _Count = 0
    epochs: _Count = 0
    best: float | None = None
    end: End = ""
    error: _Text = ""
    remedy: _Text = ""
    defect: _Text = ""


class Launch(RunFile):
    """One launch of a study: `launches/TOKEN.json`."""

    token: _Token
    engine: EngineKind
    launcher: Holder
    since: _Time = 0.0
    gpus: _Count | None = None
    runs: list[_Name] = Field(default_factory=list)
    jobs: dict[_Name, _Text] = Field(default_factory=dict)
    forgiven: dict[_Name, _Count] = Field(default_factory=dict)


@dataclass(frozen=True)
class RunStatus:
    """What is known of one run of a study."""

    name: str
    state: State
    tries: tuple[Try, ...] = ()
    where: str = ""

    @property
    def worked_on_by(self) -> str:
        """Token of the launch whose worker has the run now; empty where none has."""
        last = self.last
        return last.launch if self.state == "running" and last is not None and not last.end else ""

    @property
    def last(self) -> Try | None:
        """The last try."""
        return self.tries[-1] if self.tries else None


@dataclass(frozen=True)
class Defect:
    """A defect that has ended so many runs that the rest of the study is stopped."""

    what: str
    runs: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a sentence."""
        names = ", ".join(self.runs[:SAME_DEFECT])
        return f"The same defect ended {len(self.runs)} runs ({names}): {self.what}"


class Schedule:
    """The `scheduler/` folder of a study."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.folder = study / SCHEDULER
        self._over: dict[str, Try] = {}  # file -> a try that has ended, which never changes any more

    # ---- what is to be trained

    def prepare(self, plan: StudyPlan) -> None:
        """Write what workers need: the order of the study, and one experiment file per run.

        Raises
        ------
        SpecError
            When a run of the matrix has the name of this folder.
        """
        if any(run.folder.name == SCHEDULER for run in plan.runs):
            raise SpecError(
                f"A run may not be called {SCHEDULER!r}: the folder of that name is the study's own.",
                "Rename the experiment file.",
            )
        self._require_no_links()
        plan.save()
        for run in plan.runs:
            text = run.point.experiment.to_yaml().encode()
            file = self._experiment_file(run.folder.name)
            with contextlib.suppress(OSError):
                if file.read_bytes() == text:
                    continue
            atomic_write(file, text)

    def _require_no_links(self) -> None:
        """Refuse a `scheduler/` that leads elsewhere: somebody else's study would choose where we write.

        Raises
        ------
        DataError
            Naming the link.
        """
        for place in (self.folder, *(self.folder / name for name in _PLACES)):
            if place.is_symlink():
                raise DataError(
                    f"{place} is a link, and nothing is written through it.",
                    "Put a folder in its place; do not use the study if you do not know where it comes from.",
                )

    def log_file(self, name: str) -> Path:
        """Return the file to which the worker of a run writes what it prints."""
        return self.folder / "logs" / f"{name}.log"

    def require_there(self) -> None:
        """Make sure that the study's folder has not been deleted or moved, lest parts of it come back.

        Raises
        ------
        FolderGoneError
            When it has.
        """
        if not self.study.is_dir():
            raise FolderGoneError(
                f"The folder of the study {self.study} was deleted or moved.",
                "Start the study again where it is now; its runs go on.",
            )

    def run(self, name: str) -> PlannedRun:
        """Return a run of the study by its name.

        Raises
        ------
        DataError
            When the study has no such run, with the nearest names.
        """
        file = self._experiment_file(name)
        if not _is_name(name) or not file.is_file():
            raise DataError(f"{self.study} has no run {name!r}.", did_you_mean(name, self.names()))
        return planned_run(Point(name, Experiment.from_yaml(file)), self.study / name)

    def names(self) -> list[str]:
        """Return the names of all runs, in the order of the matrix."""
        return study_runs(self.study)

    def _experiment_file(self, name: str) -> Path:
        return self.folder / "experiments" / f"{name}.yaml"

    # ---- launches

    def launch(
        self,
        engine: EngineKind,
        runs: Sequence[str],
        forgiven: Mapping[str, int],
        gpus: int | None = None,
    ) -> Launch:
        """Record a launch of this process, whose runs get so many GPUs each (None: it is not said)."""
        holder = Holder.this_process()
        made = Launch(
            token=holder.token,
            engine=engine,
            launcher=holder,
            since=time.time(),
            gpus=gpus,
            runs=list(runs),
            forgiven=dict(forgiven),
        )
        self.save_launch(made)
        return made

    def devices(self, experiment: Experiment, token: str) -> int:
        """Return how many devices share the steps of a run of a launch (`cluster.devices_of`)."""
        found = read_run_file(self.folder, f"launches/{token}.json", Launch) if token else None
        return devices_of(experiment, None if found is None else found.gpus)

    def save_launch(self, launch: Launch) -> None:
        """Replace the file of a launch; only the process that made it may."""
        atomic_write(self._launch_file(launch.token), launch.model_dump_json(indent=1).encode())

    def launches(self) -> list[Launch]:
        """Return all launches, the earliest first."""
        found = []
        for file in sorted((self.folder / "launches").glob("*.json")):
            if _TOKEN.fullmatch(file.stem) is None:
                continue  # a second copy, as programs make them that keep folders alike
            launch = read_run_file(self.folder, f"launches/{file.name}", Launch)
            if launch is None:
                continue
            if launch.token != file.stem:
                raise DataError(
                    f"launches/{file.name} is that of another launch.", f"Remove it from {self.folder}."
                )
            found.append(launch)
        return sorted(found, key=lambda one: one.since)

    def cancel(self, launch: Launch) -> None:
        """Mark a launch as cancelled: nothing of it starts any more, and what trains is saved and ends."""
        who = {"host": this_host().name, "pid": os.getpid(), "time": time.time()}
        atomic_write(self._cancelled_file(launch.token), json.dumps(who).encode())

    def is_cancelled(self, token: str) -> bool:
        """Whether a launch was cancelled."""
        return bool(token) and os.path.lexists(self._cancelled_file(token))

    def _launch_file(self, token: str) -> Path:
        return self.folder / "launches" / f"{token}.json"

    def _cancelled_file(self, token: str) -> Path:
        return self.folder / "launches" / f"{token}.cancelled"

    # ---- tries

    def begin(self, name: str, launch: str = "") -> OwnTry:
        """Begin the next try of a run: claim its number, which nobody else can have."""
        self.require_there()
        self._require_no_links()
        host = this_host().name
        now = time.time()
        folder = self.folder / "tries"
        with translate_disk_errors(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            number = max((t.number for t in self.tries(name)), default=0)
            while True:
                number += 1
                if number > MOST_TRIES:
                    raise DataError(
                        f"{name} has been tried {MOST_TRIES} times already.",
                        f"Look at {folder}, and remove some.",
                    )
                facts = Try(number=number, launch=launch, host=host, job=job_id(), began=now, updated=now)
                part = folder / f".{secrets.token_hex(8)}.part"
                file = folder / f"{name}.{number}.json"
                try:
                    part.write_text(facts.model_dump_json())
                    if name_once(part, file):
                        return OwnTry(file, facts)
                finally:
                    part.unlink(missing_ok=True)

    def tries(self, name: str) -> tuple[Try, ...]:
        """Return all tries of a run, in order."""
        return self._all_tries([name]).get(name, ())

    def _all_tries(self, names: Iterable[str]) -> dict[str, tuple[Try, ...]]:
        """Return run -> its tries; one look at the folder serves all runs."""
        wanted = set(names)
        found: dict[str, list[Try]] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder / "tries") as entries:
            for entry in entries:
                if (match := _TRY.fullmatch(entry.name)) is None or match[1] not in wanted:
                    continue
                facts = self._over.get(entry.name)
                if (
                    facts is None and not entry.stat().st_size
                ):  # claimed this instant, where there are no links
                    facts = Try(number=int(match[2]))
                facts = facts or read_run_file(self.folder, f"tries/{entry.name}", Try)
                if facts is None:
                    continue
                if facts.number != int(match[2]):
                    raise DataError(
                        f"tries/{entry.name} is that of another try.", f"Remove it from {self.folder}."
                    )
                if facts.end:
                    self._over[entry.name] = facts
                found.setdefault(match[1], []).append(facts)
        return {name: tuple(sorted(tries, key=lambda t: t.number)) for name, tries in found.items()}

    # ---- what that means

    def statuses(self, queued: Iterable[str] = ()) -> list[RunStatus]:
        """Return what is known of every run, in the order of the matrix.

        Parameters
        ----------
        queued
            Runs for which a scheduler has a job.
        """
        names = self.names()
        waiting, tries, forgiven = set(queued), self._all_tries(names), self._forgiven()
        return [
            self._status(name, tries.get(name, ()), forgiven.get(name, 0), queued=name in waiting)
            for name in names
        ]

    def status(self, name: str) -> RunStatus:
        """Return what is known of one run."""
        return self._status(name, self.tries(name), self._forgiven().get(name, 0), queued=False)

    def _status(self, name: str, tries: tuple[Try, ...], forgiven: int, *, queued: bool) -> RunStatus:
        folder = self.study / name
        last = tries[-1] if tries else None
        made = (folder / EXPERIMENT).exists()
        if made and last is not None and last.end == "finished":
            return RunStatus(name, "done", tries)
        holder = holder_of(folder) if made else None
        if holder is not None:
            return RunStatus(name, "running", tries, str(holder))
        if made and (last is None or not last.end) and open_run(folder).state == "finished":
            return RunStatus(name, "done", tries)
        counted = [t for t in tries if t.number > forgiven]
        at_fault = [t for t in counted if t.end in ("machine", "")]
        last = counted[-1] if counted else None
        state: State
        if last is not None and last.end in ("failed", "mistake"):
            state = "failed" if last.end == "failed" else "mistake"
        elif len(at_fault) >= TRIES:
            state = "given up"
        elif queued:
            state = "queued"
        elif last is None:
            state = "waiting"
        elif last.end == "":
            state = "died"
        elif last.end == "preempted" and self.is_cancelled(last.launch):
            state = "stopped"
        else:
            state = (
                "preempted" if last.end == "preempted" else "machine" if last.end == "machine" else "stopped"
            )
        return RunStatus(name, state, tries)

    def refusal(self, name: str, launch: str) -> tuple[ExitCode, str] | None:
        """Return why a worker of a launch is not to start a run, with its exit code; None where it is.

        Who starts a worker by hand, outside of a launch, knows what he does: nothing is refused.
        """
        if not launch:
            return None
        if self.is_cancelled(launch):
            return ExitCode.INTERRUPTED, f"{name} is not started: the launch was cancelled."
        status = self.status(name)
        code = _REFUSED.get(status.state)
        if code is not None:
            return code, f"{name} is not started: it {STATES[status.state]}."
        if (defect := self.widespread_defect()) is not None:
            return ExitCode.INTERRUPTED, f"{name} is not started. {defect} --retry starts it after all."
        return None

    def _forgiven(self) -> dict[str, int]:
        """Return run -> number of its last try that a launch with `--retry` forgave."""
        found: dict[str, int] = {}
        for launch in self.launches():
            for name, number in launch.forgiven.items():
                found[name] = max(found.get(name, 0), number)
        return found

    def hosts_at_fault(self, name: str) -> list[str]:
        """Return the hosts whose own fault ended tries of a run, each once."""
        return list(dict.fromkeys(t.host for t in self.tries(name) if t.end == "machine" and t.host))

    def widespread_defect(self) -> Defect | None:
        """Return the defect that has ended so many runs that no other should start; None without one."""
        names, forgiven = self.names(), self._forgiven()
        runs: dict[str, list[str]] = {}
        texts: dict[str, str] = {}
        for name, tries in self._all_tries(names).items():
            last = tries[-1]
            if last.end == "failed" and last.defect and last.number > forgiven.get(name, 0):
                runs.setdefault(last.defect, []).append(name)
                texts[last.defect] = last.error
        most = Counter({what: len(found) for what, found in runs.items()}).most_common(1)
        if not most or most[0][1] < SAME_DEFECT:
            return None
        what = most[0][0]
        return Defect(texts[what], tuple(sorted(runs[what], key=names.index)))


class OwnTry:
    """The try that this process has begun; it alone writes its file."""

    SECONDS = 10.0
    """How often progress is written, at most."""

    def __init__(self, file: Path, facts: Try) -> None:
        self._file, self.facts = file, facts
        self._written = time.monotonic()

    def progress(self, **facts: Any) -> None:
        """Take down how far the run is; written now and then."""
        self.facts = self.facts.model_copy(update=facts)
        if time.monotonic() - self._written >= self.SECONDS:
            self._save()

    def close(self, code: int, end: RunFinished | None = None, error: BaseException | None = None) -> None:
        """Take down how the try ended.

        Parameters
        ----------
        code
            `ExitCode` of the worker.
        end
            The run's own last event, where it came so far.
        error
            What ended the worker otherwise.
        """
        message = remedy = defect = ""
        if end is not None and code not in (ExitCode.DONE, ExitCode.PREEMPTED, ExitCode.INTERRUPTED):
            message, remedy = end.error or end.reason, end.remedy
            defect = defect_signature(end.cause) if end.defect else ""
        elif error is not None:
            message = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
            remedy = getattr(error, "remedy", "")
            if not hasattr(error, "exit_code"):
                import traceback

                defect = defect_signature("".join(traceback.format_exception(error)))
        self.facts = self.facts.model_copy(
            update={
                "end": _ENDS.get(code, "failed"),
                "error": message[:1000],
                "remedy": remedy[:1000],
                "defect": defect,
            }
        )
        self._save()

    def _save(self) -> None:
        if not self._file.parent.is_dir():
            return  # a study that was moved or deleted does not come back by it
        self._written = time.monotonic()
        self.facts = self.facts.model_copy(update={"updated": time.time()})
        atomic_write(self._file, self.facts.model_dump_json().encode())


_PLACES = ("experiments", "launches", "tries", "logs")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_TRY = re.compile(r"(.+)\.(\d{1,5})\.json")


def defect_signature(cause: str) -> str:
    """Return what two tracebacks of the same defect have in common: the kind of error and the way to it.

    Numbers, paths and texts of the error differ from run to run; functions and lines of code do not.
    """
    frames = re.findall(r'File "([^"]*)", line (\d+), in (\S+)', cause)
    way = [f"{Path(file).name}:{line}:{function}" for file, line, function in frames]
    kinds = re.findall(r"^([A-Za-z_][\w.]*?)(?::|$)", cause, re.MULTILINE)
    kind = kinds[-1] if kinds else ""
    return hashlib.sha256("\n".join([kind, *way[-8:]]).encode()).hexdigest()[:16]


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name and "\0" not in name
