"""Scores of a run's own test, validation or training cases, on request, kept in the run folder.

```
scores/test.json      the first scoring of the test cases
scores/test.2.json    the second, which somebody asked for with `again`; and so on
```

A record is never replaced, so their number says how often the cases were looked at: a test set that has been scored
after every change is a validation set. `recorded_scores` reads the records without torch, `score_split` makes one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import CaseScore, Progress, Reliability, Role
from segexplorer.core.untrusted_files import read_json, with_checksum
from segexplorer.metrics import ALL_METRICS, MetricOptions, choose, score_case
from segexplorer.metrics.calibration import CalibrationCounts, calibration_values
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.run_files import PROVENANCE, read_pointer, read_provenance

if TYPE_CHECKING:
    from segexplorer.data.case import CaseRef
    from segexplorer.training.history import RunRecord
    from segexplorer.training.predict import PredictedCase, Predictor

SCORES = "scores"
"""Folder of the records in a run folder."""

MOST_BYTES = 2**28
"""A record above this size was not written by this package: 10,000 cases of ten classes take a tenth of it."""

Weights = Literal["best", "last"]
DEFAULT_WEIGHTS: Weights = "best"
"""Which weights of a run are predicted with, scored, exported and compared unless asked otherwise."""

GRID = "each case's own grid: the voxels and index order of its first image"
"""Where cases are scored, as tables and records say it."""


class SplitScores(BaseModel):
    """One scoring of the cases of a split.

    Attributes
    ----------
    split
        Whose cases were scored.
    number
        1 for the first scoring of this split in this run, 2 for the next.
    checkpoint, weights, step, sha256
        Pointer, its folder under `checkpoints/`, optimiser steps, and checksum of the file of weights.
    time, seconds
        When it was done, in seconds since the epoch (UTC), and how long it took.
    version
        Of segexplorer.
    grid
        On which grid prediction and truth were compared.
    definitions
        Metric name -> definition, as this version computed it.
    fingerprints
        Case -> hash of its files.
    scores
        One per case and class, cases in order.
    calibration
        Reliability curves of every class and of any class over the voxels of all cases, see `metrics.calibration`.
    """

    # a metric without meaning is NaN, which JSON does not have: written as a string
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format: Literal[1] = 1
    split: Role
    number: int = Field(ge=1)
    checkpoint: Weights
    weights: str = Field(max_length=200)
    step: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    time: float = Field(ge=0, lt=2.0**40)
    seconds: float = Field(ge=0)
    version: str = Field(max_length=100)
    grid: str = GRID
    definitions: Mapping[str, str]
    fingerprints: Mapping[str, str]
    scores: tuple[CaseScore, ...] = Field(min_length=1)
    calibration: tuple[Reliability, ...] = ()

    @property
    def when(self) -> str:
        """Date and time in UTC."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.time))

    @property
    def cases(self) -> tuple[str, ...]:
        """Cases in order, each once."""
        return tuple(dict.fromkeys(score.case for score in self.scores))


# ---- records


def recorded_scores(folder: Path, split: Role) -> tuple[SplitScores, ...]:
    """Return the records of a split, the oldest first; none where it was never scored.

    Raises
    ------
    DataError
        When a record is damaged.
    """
    numbered: dict[int, Path] = {}
    place = folder / SCORES
    for path in place.iterdir() if place.is_dir() else ():
        if found := re.fullmatch(rf"{split}(?:\.([1-9]\d{{0,5}}))?\.json", path.name):
            numbered[int(found[1] or 1)] = path
    return tuple(read_scores(path, folder, split) for _, path in sorted(numbered.items()))


def read_scores(path: Path, folder: Path, split: Role) -> SplitScores:
    """Return one record of a run folder.

    Raises
    ------
    DataError
        When it is damaged, or of another split than its name says.
    """
    try:
        record = SplitScores.model_validate(read_json(path, MOST_BYTES, within=folder))
        if record.split != split:
            raise ValueError("of another split")
    except (OSError, ValueError) as error:  # pydantic's own error is a ValueError, DataError is one
        at = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        why = f" ({at})" if at else f": {error.message}" if isinstance(error, DataError) else "."
        raise DataError(
            f"The scores in {path} are damaged{why}{'.' if at else ''}",
            "Copy the whole run folder again; or remove the file, and the cases can be scored anew.",
        ) from error
    return record


def is_current(folder: Path, record: SplitScores) -> bool:
    """Whether the run's pointer still leads to the weights that were scored; it moves when training goes on."""
    from segexplorer.training.checkpoint import open_checkpoint

    try:
        checkpoint, _ = open_checkpoint(folder / "checkpoints", record.checkpoint)
    except DataError:  # a copy without weights
        return True
    return checkpoint.weights_sha256 == record.sha256


def _record_name(split: Role, number: int) -> str:
    return f"{SCORES}/{split}.json" if number == 1 else f"{SCORES}/{split}.{number}.json"


# ---- scoring


def score_split_steps(
    folder: str | Path,
    split: Role = "test",
    *,
    checkpoint: Weights | None = None,
    again: bool = False,
    metrics: Sequence[str] = (),
    options: MetricOptions | None = None,
) -> Generator[Progress, None, SplitScores]:
    """Return the recorded scores of a split; where there are none, predict and score its cases, and record that.

    Every metric is computed on each case's own grid. Cases are those that had this role when the run was trained,
    whatever the data set's folder holds now.

    Parameters
    ----------
    checkpoint
        "best" (chosen by validation) or "last"; by default that of the newest record, else best, or last where
        nothing was validated.
    again
        Whether to score the cases although there is a record, which is kept.
    metrics
        Further metrics, tasks or protocols beside those of the experiment.
    options
        Of further metrics; None: those of the experiment.

    Yields
    ------
    Progress
        Per window; nothing where the scores are recorded.

    Raises
    ------
    DataError
        When the run has no such cases or no checkpoint, or a case is missing or has other data than in training.
    SpecError
        When the recorded scores are of other weights than those asked for, or lack metrics.
    """
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.history import open_run

    record = open_run(folder)
    earlier = recorded_scores(record.folder, split)
    if earlier and not again:
        return _with_metrics(_asked_for(earlier, checkpoint), metrics)
    owned = RunFolder.open(record.folder)
    with owned.held():  # nobody else looks at the cases at the same time, or trains the weights further
        made = yield from _score_split(record, split, checkpoint or DEFAULT_WEIGHTS, metrics, options)
        text = json.dumps(with_checksum(json.loads(made.model_dump_json())), indent=1)
        owned.write_text(_record_name(split, made.number), text)
    return made


def _score_split(
    record: RunRecord,
    split: Role,
    checkpoint: Weights,
    metrics: Sequence[str] = (),
    options: MetricOptions | None = None,
) -> Generator[Progress, None, SplitScores]:
    experiment = record.experiment
    hashes, badge = _cases_of(record.folder, experiment.split.self_validation, split)
    cases = _unchanged(hashes, experiment.data.cases(), record.folder.name)
    further = choose((*experiment.validation.metrics, *metrics))
    options = options or experiment.validation.metric_options
    began = time.time()
    predictor, pointer = _open_weights(record.folder, checkpoint)
    scores: list[CaseScore] = []
    calibration = CalibrationCounts(predictor.classes.names, predictor.classes.scheme)
    for number, ref in enumerate(cases, start=1):
        activity = f"case {number} of {len(cases)}"
        case = yield from _score_case(predictor, ref, split, badge, activity, further, options)
        scores += case.scores
        calibration.merge(case.calibration)
    return SplitScores(
        split=split,
        number=len(recorded_scores(record.folder, split)) + 1,
        checkpoint=pointer,
        weights=predictor.checkpoint.folder.name,
        step=predictor.checkpoint.step,
        sha256=predictor.checkpoint.weights_sha256,
        time=began,
        seconds=time.time() - began,
        version=segexplorer.__version__,
        definitions={name: ALL_METRICS[name].definition for name in scores[0].metrics},
        fingerprints=hashes,
        scores=tuple(scores),
        calibration=calibration.reliability(),
    )


def score_split(
    folder: str | Path, split: Role = "test", *, checkpoint: Weights | None = None, again: bool = False
) -> SplitScores:
    """Score the cases of a split, or return what is recorded, without progress; see `score_split_steps`."""
    source = score_split_steps(folder, split, checkpoint=checkpoint, again=again)
    while True:
        try:
            next(source)
        except StopIteration as end:
            record: SplitScores = end.value
            return record


def _with_metrics(record: SplitScores, metrics: Sequence[str]) -> SplitScores:
    """Return a record that has all metrics that are asked for.

    Raises
    ------
    SpecError
        Naming those that it lacks.
    """
    missing = [name for name in choose(metrics) if name not in record.definitions]
    if missing:
        raise SpecError(
            f"The recorded scores of the {record.split} cases have no {', '.join(missing)}.",
            "--again scores the cases once more, with these metrics, and keeps the record.",
        )
    return record


def _asked_for(earlier: Sequence[SplitScores], checkpoint: Weights | None) -> SplitScores:
    """Return the newest record of the weights asked for.

    Raises
    ------
    SpecError
        When there is none.
    """
    fitting = [record for record in earlier if checkpoint in (None, record.checkpoint)]
    if not fitting:
        newest = earlier[-1]
        raise SpecError(
            f"The {newest.split} cases were scored with the weights {newest.checkpoint!r} on {newest.when}; "
            f"with {checkpoint!r} they would be looked at once more.",
            "Leave out the checkpoint to see those scores, or ask for another scoring with --again.",
        )
    return fitting[-1]


def _cases_of(folder: Path, self_validation: bool, split: Role) -> tuple[dict[str, str], str]:
    """Return case -> hash of its files, of the cases that had a role when the run was trained; and their badge.

    Raises
    ------
    DataError
        When there are none, or the run does not say so.
    """
    attempts = read_provenance(folder)
    if not attempts or attempts[-1].roles is None or attempts[-1].data is None:
        raise DataError(
            f"{folder.name} does not say which cases it trained on ({PROVENANCE} lacks them).",
            "Score whole run folders, as training left them.",
        )
    roles, data = attempts[-1].roles, attempts[-1].data
    chosen = [case for case, role in roles.items() if role == split]
    trained = split == "train"
    if split == "validation" and not chosen and self_validation:
        chosen, trained = [case for case, role in roles.items() if role == "train"], True
    if not chosen:
        keep = (
            "Name cases in split.test, or set split.test_fraction, and train again"
            if split == "test"
            else "Set split.validation_fraction, and train again"
        )
        raise DataError(
            f"No case of {folder.name} was kept for {'testing' if split == 'test' else split}.",
            f"{keep}; or score files of your own: segexplorer evaluate PREDICTION TRUTH.",
        )
    return {case: data.get(case, "") for case in chosen}, NOT_HELD_OUT if trained else ""


def _unchanged(wanted: Mapping[str, str], refs: Sequence[CaseRef], run: str) -> list[CaseRef]:
    """Return the cases, found in the data set as they were in training.

    Raises
    ------
    DataError
        When one is missing, has no label, or other data.
    """
    known = {ref.id: ref for ref in refs}
    for case, fingerprint in wanted.items():
        if case not in known or known[case].label is None:
            raise DataError(
                f"{case} of {run} is no longer in the data set{' with its label' if case in known else ''}.",
                "Put its files back where the experiment's data settings expect them.",
            )
        if known[case].fingerprint() != fingerprint:
            raise DataError(
                f"The case {case} has other data now than when {run} was trained.",
                "Put its files back; or score the new ones: segexplorer predict, then evaluate PREDICTION TRUTH.",
            )
    return [known[case] for case in wanted]


def _open_weights(folder: Path, asked: Weights) -> tuple[Predictor, Weights]:
    """Return the network, and which weights it has: "last" where nothing was validated, so that none is best."""
    from segexplorer.training.predict import load_predictor

    best = read_pointer(folder / "checkpoints", "best") is not None
    pointer: Weights = asked if best else "last"
    return load_predictor(folder, pointer), pointer


@dataclass(frozen=True)
class _Scored:
    scores: tuple[CaseScore, ...]
    calibration: CalibrationCounts


def _score_case(
    predictor: Predictor,
    ref: CaseRef,
    split: Role,
    badge: str,
    activity: str,
    metrics: Sequence[str],
    options: MetricOptions,
) -> Generator[Progress, None, _Scored]:
    case = ref.open()
    assert case.label is not None
    truth = predictor.classes.encode(np.asarray(case.label.array))
    calibration = CalibrationCounts(predictor.classes.names, predictor.classes.scheme)
    source = predictor.class_steps(case.images, calibration=calibration, truth=truth)
    while True:
        try:
            at = next(source)
        except StopIteration as end:
            predicted: PredictedCase = end.value
            break
        yield replace(at, activity=f"{activity}: {at.activity}")
    spacing = case.images[0].spacing
    scores = score_case(
        predicted.classes,
        truth,
        predictor.classes.names,
        spacing,
        case=ref.id,
        role=split,
        badge=badge,
        surfaces=True,
        metrics=metrics,
        options=options,
        scheme=predictor.classes.scheme,
    )
    curves = calibration.reliability()
    complete = (
        replace(score, metrics={**score.metrics, **calibration_values(curves, score.class_name)})
        for score in scores
    )
    return _Scored(tuple(complete), calibration)
