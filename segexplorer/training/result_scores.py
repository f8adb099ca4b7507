"""Scores of all cases of result sets: with progress, remembered on the disk, and ready to be stopped at any case.

A case is scored by `training.label_pairs.score_pair`, as `segexplorer evaluate` does. What was scored is kept in a
cache folder under a hash of everything the numbers depend on: path, size and time of the files, classes, options,
and the definitions of the metrics. Neither the name of the file nor its content says whose case it is. A case that
cannot be scored is a problem of that case.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import CaseScore
from segexplorer.core.untrusted_files import read_json, with_checksum
from segexplorer.data.cache_folder import base_folder
from segexplorer.data.case import Source, file_identity, files_of
from segexplorer.data.checks import Problem
from segexplorer.data.results.base import ResultCase, ResultListing, ResultsSpec
from segexplorer.data.sources import Recipe, Structures
from segexplorer.metrics import MetricOptions, complete
from segexplorer.metrics.scoring import BYTES_PER_VOXEL, metrics_to_compute
from segexplorer.training.compute import memory_limit
from segexplorer.training.label_pairs import Classes, open_label_source, score_pair

_FORMAT = 1
"""Raised when scores are computed otherwise, so that older ones are made anew."""
_MOST_BYTES = 2**22


@dataclass(frozen=True)
class ResultSet:
    """One set of results under the name that tables call it by."""

    label: str
    spec: ResultsSpec
    listing: ResultListing


@dataclass(frozen=True)
class Scoring:
    """How cases are scored; the same for all sets that are compared.

    Attributes
    ----------
    classes
        Class name -> label values; None takes what a set names, else what occurs.
    metrics
        Further metrics beside the default ones.
    surfaces
        Whether distances between surfaces are measured; they take most of the time.
    resample
        Whether predictions on another lattice are resampled onto the truth's.
    options
        Of the metrics.
    """

    classes: Classes | None = None
    metrics: tuple[str, ...] = ()
    surfaces: bool = True
    resample: bool = False
    options: MetricOptions = field(default_factory=MetricOptions)


@dataclass(frozen=True)
class CaseScored:
    """One case is done.

    Attributes
    ----------
    label, case
        Of the result set and the case.
    scores
        One per class; none where it could not be scored.
    problem
        Why it could not.
    remembered
        Whether the scores came from the cache.
    done, total
        Cases of all sets so far, and in all.
    notes
        What was done to bring prediction and truth onto one grid.
    """

    label: str
    case: str
    scores: tuple[CaseScore, ...]
    problem: Problem | None
    remembered: bool
    done: int
    total: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredSet:
    """A result set with the scores of its cases.

    Attributes
    ----------
    scores
        A row for every scored case and class; a class that a case has in neither file is absent there.
    problems
        Those of the listing, and of cases that could not be scored.
    notes
        Case -> what was done to bring its files onto one grid.
    """

    label: str
    listing: ResultListing
    scores: tuple[CaseScore, ...]
    problems: tuple[Problem, ...]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def cases(self) -> tuple[str, ...]:
        """The scored cases, each once."""
        return tuple(dict.fromkeys(score.case for score in self.scores))


def open_sets(specs: Iterable[ResultsSpec]) -> tuple[ResultSet, ...]:
    """List the cases of result folders, each under a label of its own.

    Raises
    ------
    DataError
        When a folder is not there or holds no prediction.
    """
    sets: list[ResultSet] = []
    titles = [(spec, spec.title) for spec in specs]
    for spec, title in titles:
        label = title
        if sum(other == title for _, other in titles) > 1:
            parent = Path(spec.root).expanduser().resolve().parent.name
            label = f"{parent}/{title}"
        taken = {known.label for known in sets}
        number = 2
        while label in taken:
            label, number = f"{title} ({number})", number + 1
        sets.append(ResultSet(label, spec, spec.listing()))
    return tuple(sets)


def cache_folder() -> Path:
    """Return the folder of remembered scores: the system's place for caches, or what SEGEXPLORER_CACHE names."""
    return base_folder() / "scores"


def score_sets(
    sets: Sequence[ResultSet],
    scoring: Scoring | None = None,
    *,
    workers: int = 1,
    threads: bool = False,
    cache: Path | None = None,
    memory: int | None = None,
    remark: Callable[[str], object] = lambda text: None,
) -> Generator[CaseScored, None, None]:
    """Score every case that has a label, and yield each as it is done; closing the generator stops after that.

    Cases that are remembered come first. What was scored before a stop is remembered, so that a second call goes on
    where the first one stopped.

    Parameters
    ----------
    workers
        Processes; 1 scores here, in the caller's thread.
    threads
        Whether they are threads instead: they start at once and need no memory of their own, but several of them
        are slower than processes, since a part of the work is done by one at a time.
    cache
        Folder of remembered scores; None remembers nothing.
    memory
        Bytes that all of them may take together; by default four fifths of what is free. There are fewer than
        `workers` where the largest case, predicted as badly as can be, would not fit so often.
    remark
        Gets a sentence where there are fewer.
    """
    scoring = scoring or Scoring()
    jobs = [
        _Job(one.label, case, scoring, one.listing, _key(case, scoring, one.listing))
        for one in sets
        for case in one.listing.scorable
    ]
    done = 0
    waiting: list[_Job] = []
    for job in jobs:
        known = _remembered(cache, job) if cache is not None else None
        if known is None:
            waiting.append(job)
            continue
        done += 1
        yield CaseScored(job.label, job.case.id, known[0], None, True, done, len(jobs), known[1])
    if workers > 1 and len(waiting) > 1:
        workers = _workers_that_fit([job.case for job in waiting], workers, memory, remark)
    for job, answer in _computed(waiting, workers, threads):
        if cache is not None and isinstance(answer, _Scores):
            _remember(cache, job, answer)
        done += 1
        scores, problem, notes = _outcome(job, answer)
        yield CaseScored(job.label, job.case.id, scores, problem, False, done, len(jobs), notes)


def collect(sets: Sequence[ResultSet], scored: Iterable[CaseScored]) -> tuple[ScoredSet, ...]:
    """Return the sets with their scores, as far as cases are done."""
    by_set: dict[str, list[CaseScored]] = {one.label: [] for one in sets}
    for event in scored:
        by_set[event.label].append(event)
    classes = {
        name for events in by_set.values() for e in events for name in (s.class_name for s in e.scores)
    }
    found = []
    for one in sets:
        events = {event.case: event for event in by_set[one.label]}
        done = [
            case.id for case in one.listing.cases if case.id in events and events[case.id].problem is None
        ]
        scores = [score for case in done for score in events[case].scores]
        problems = [event.problem for event in events.values() if event.problem is not None]
        found.append(
            ScoredSet(
                one.label,
                one.listing,
                tuple(complete(scores, done)) if classes else (),
                (*one.listing.problems, *problems),
                {case: event.notes for case, event in events.items() if event.notes},
            )
        )
    return tuple(found)


# ---- one case


@dataclass(frozen=True)
class _Job:
    label: str
    case: ResultCase
    scoring: Scoring
    listing: ResultListing
    key: str


@dataclass(frozen=True)
class _Scores:
    scores: tuple[CaseScore, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Refusal:
    message: str
    remedy: str


def _score(job: _Job) -> _Scores | _Refusal:
    """Score one case; what a file is refused for is an answer, so that it also comes back from another process."""
    scoring, case = job.scoring, job.case
    assert case.truth is not None
    classes = scoring.classes or job.listing.classes or None
    try:
        prediction, truth = comparable_sources(case.prediction, case.truth, classes)
        scores, notes = score_pair(
            prediction,
            truth,
            classes,
            case=case.id,
            badge=case.badge,
            surfaces=scoring.surfaces,
            resample=scoring.resample,
            ignored=job.listing.ignored,
            metrics=scoring.metrics,
            options=scoring.options,
        )
    except SegExplorerError as error:
        return _Refusal(error.message, error.remedy)
    return _Scores(scores, notes)


def comparable_sources(prediction: Source, truth: Source, classes: Classes | None) -> tuple[Source, Source]:
    """Return prediction and truth of a case, where a file per structure has the values that the classes give it.

    Raises
    ------
    DataError
        When no structure is one of the classes, or a label without names stands against structures.
    """
    prediction, truth = with_class_values(prediction, classes), with_class_values(truth, classes)
    _require_names(prediction, truth, classes)
    return prediction, truth


def with_class_values(source: Source, classes: Classes | None) -> Source:
    """Return a label of one file per structure with the values that the classes give to these names."""
    if classes is None or not isinstance(source, Structures):
        return source
    values = {name: given if isinstance(given, int) else next(iter(given)) for name, given in classes.items()}
    parts = tuple((values[name], name, path) for _, name, path in source.parts if name in values)
    if not parts:
        raise DataError(
            f"None of the structures is called {' or '.join(list(classes)[:3])}.",
            f"They are called {', '.join(name for _, name, _ in source.parts[:5])}.",
        )
    return Structures(parts)


def _require_names(prediction: Source, truth: Source, classes: Classes | None) -> None:
    """Refuse to compare structures, which have names and no values, with a label that names no values."""
    sides = {"prediction": prediction, "truth": truth}
    structures = [noun for noun, source in sides.items() if isinstance(source, Structures)]
    if classes is not None or len(structures) != 1:
        return
    other = next(noun for noun in sides if noun not in structures)
    from segexplorer.data.io import open_volume

    source = sides[other]
    names = open_volume(source, label=True).label_names if isinstance(source, Path) else {1: ""}
    if not names:
        raise DataError(
            f"The {structures[0]} has a file per structure, and the {other} does not name its label values.",
            "Say which value is which structure, e.g. --classes '{liver: 5, spleen: 1}'.",
        )


def _outcome(
    job: _Job, answer: _Scores | _Refusal
) -> tuple[tuple[CaseScore, ...], Problem | None, tuple[str, ...]]:
    if isinstance(answer, _Refusal):
        return (), Problem("error", "not_scored", answer.message, answer.remedy, job.case.id), ()
    if not answer.scores:
        text = "Neither prediction nor label has a value above 0."
        return (), Problem("warning", "empty", text, "", job.case.id), answer.notes
    return answer.scores, None, answer.notes


def _computed(
    jobs: Sequence[_Job], workers: int, threads: bool
) -> Generator[tuple[_Job, _Scores | _Refusal], None, None]:
    if workers <= 1 or len(jobs) < 2:
        for job in jobs:
            yield job, _score(job)
        return
    # few are in flight at a time, so that a stop waits for these alone
    left = iter(jobs)
    count = min(workers, len(jobs))
    with _pool(count, threads) as pool:
        flying: dict[Future[_Scores | _Refusal], _Job] = {}
        try:
            for job in left:
                flying[pool.submit(_score, job)] = job
                if len(flying) >= workers + 1:
                    break
            while flying:
                ready, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in ready:
                    job = flying.pop(future)
                    if (following := next(left, None)) is not None:
                        flying[pool.submit(_score, following)] = following
                    yield job, future.result()
        finally:
            for future in flying:
                future.cancel()


def _workers_that_fit(
    cases: Sequence[ResultCase], workers: int, memory: int | None, remark: Callable[[str], object]
) -> int:
    """Return for how many cases at once there is memory, at most `workers` and at least 1."""
    import psutil

    if memory is None:
        free, limit = psutil.virtual_memory().available, memory_limit()
        memory = int(0.8 * (free if limit is None else min(free, limit)))
    voxels = 0
    for case in cases:
        assert case.truth is not None
        with contextlib.suppress(SegExplorerError):  # it is told when the case is scored
            voxels = max(voxels, math.prod(open_label_source(case.truth).shape))
    needed = BYTES_PER_VOXEL * voxels
    count = max(1, min(workers, memory // max(needed, 1)))
    if count < min(workers, len(cases)):
        remark(
            f"{count} of {workers} cases at a time: the largest takes up to {needed / 1e9:.1f} GB, and "
            f"{memory / 1e9:.1f} GB may be used."
        )
    return count


def _pool(workers: int, threads: bool) -> Executor:
    if threads:
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


class ScoringJob:
    """Scoring that goes on in one thread while another one, a window, takes what is done.

    Parameters
    ----------
    sets, scoring, workers, cache
        As of `score_sets`; the workers are threads, since a window may belong to a script that no other process
        must run again.
    """

    def __init__(
        self,
        sets: Sequence[ResultSet],
        scoring: Scoring | None = None,
        *,
        workers: int = 1,
        cache: Path | None = None,
    ) -> None:
        self.sets = tuple(sets)
        self.total = sum(len(one.listing.scorable) for one in self.sets)
        self._scoring, self._workers, self._cache = scoring, workers, cache
        self._done: deque[CaseScored] = deque()
        self._stop = threading.Event()

    def run(self) -> None:
        """Score; returns when all is done, or after the cases in hand once it is stopped."""
        run = score_sets(self.sets, self._scoring, workers=self._workers, threads=True, cache=self._cache)
        try:
            while not self._stop.is_set() and (event := next(run, None)) is not None:
                self._done.append(event)
        finally:
            run.close()

    def take(self) -> list[CaseScored]:
        """Return what was done since the last time; from any thread."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def stop(self) -> None:
        """Stop after the cases in hand; they are remembered."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()


# ---- what is remembered


class _Record(BaseModel):
    """Scores of one case without its name."""

    # a metric without meaning is NaN, which JSON does not have: written as a string
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    scores: tuple[CaseScore, ...]
    notes: tuple[str, ...] = ()


def _key(case: ResultCase, scoring: Scoring, listing: ResultListing) -> str:
    """Return a hash of everything the scores depend on; "" where a file has no identity (not there, in memory)."""
    identities = [_identity(source) for source in (case.prediction, case.truth)]
    if None in identities:
        return ""
    classes = scoring.classes or listing.classes or None
    defined = {
        metric.name: metric.definition
        for metric in metrics_to_compute(scoring.metrics, surfaces=scoring.surfaces)
    }
    content = {
        "format": _FORMAT,
        "files": identities,
        "classes": None
        if classes is None
        else [[n, v if isinstance(v, int) else list(v)] for n, v in classes.items()],
        "ignored": list(listing.ignored),
        "resample": scoring.resample,
        "options": scoring.options.plain(),
        "metrics": defined,
        "badge": case.badge,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _identity(source: Source | None) -> list[Any] | None:
    """Return path, size and time of every file of a source; None where one cannot be known."""
    found = [file_identity(path) for path in files_of(source)]
    what = source.recipe if isinstance(source, Recipe) else ""
    return None if None in found or not found else [what, found]


def _place(cache: Path, key: str) -> Path:
    return cache / key[:2] / f"{key[2:]}.json"


def _remembered(cache: Path, job: _Job) -> tuple[tuple[CaseScore, ...], tuple[str, ...]] | None:
    """Return what is remembered of a case; None where nothing is, or the file is damaged and is made anew."""
    if not job.key:
        return None
    try:
        content = read_json(_place(cache, job.key), _MOST_BYTES, within=cache)
        record = _Record.model_validate({name: content[name] for name in ("scores", "notes")})
    except (OSError, DataError, ValidationError, KeyError, TypeError):
        return None
    return tuple(replace(score, case=job.case.id) for score in record.scores), record.notes


def _remember(cache: Path, job: _Job, answer: _Scores) -> None:
    """Keep the scores of a case without its name; notes may quote the name of a file."""
    if not job.key:
        return
    names = [
        job.case.id,
        *(path.name for source in (job.case.prediction, job.case.truth) for path in files_of(source)),
    ]
    notes = tuple(note for note in answer.notes if not any(name in note for name in names))
    record = _Record(scores=tuple(replace(score, case="") for score in answer.scores), notes=notes)
    content = with_checksum(json.loads(record.model_dump_json()))
    atomic_write(_place(cache, job.key), json.dumps(content).encode())
