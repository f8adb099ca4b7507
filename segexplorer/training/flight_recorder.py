"""The flight recorder: what a run did last, kept when training fails or the gradient explodes.

While it trains, the last steps' terms, norms and rates are in memory, a few numbers each. When the loss or the
gradient is no number any more, or the gradient is a hundred times as large as before, they are written into the run
folder (`flight/`) together with the batch of that step, as far as it fits into the space that
`monitoring.flight_recorder_mb` allows. There are at most two of them, each replaced by a later one of its sort:
`exploded`, the first explosion of an attempt, and `failed`, the end of one.

The batch holds voxels of patients. Like the preprocessed cases it stays in the run folder: copies that
`segexplorer share` makes are built from an allow-list, which it is not on.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from segexplorer.core.errors import DataError, TrainingError
from segexplorer.core.events import Count, Number, StepDone
from segexplorer.core.untrusted_files import read_bytes, size_text, with_checksum
from segexplorer.training.run_files import COPY_AGAIN, FLIGHT, Name, RunFile, Sha256, read_run_file

if TYPE_CHECKING:
    from segexplorer.data.sampler import Batch
    from segexplorer.training.folder import RunFolder

EXPLODED, FAILED = "exploded", "failed"
"""Names of the records."""
KEPT = 200
"""Steps that are remembered."""
WINDOW = 50
"""Steps before a gradient that it is compared with."""
TIMES = 100.0
"""A gradient has exploded when its norm is so many times the median of the steps before. Norms of the batches of
a run scatter by a factor of two or three (log-normally); a hundred is beyond four standard deviations even at a
factor of three."""
MAX_BATCH = 2**31
"""Largest file of a batch that is read, bytes."""
Reason = Literal["loss", "gradient", "prediction", "refused", "exploded"]
"""What was no number any more; that the loss refused the batch for another reason; or that the gradient
exploded."""


def exploded(before: Sequence[float], norm: float) -> bool:
    """Whether a gradient norm is beyond all that the norms of the steps before let expect.

    Norms that are not finite say nothing: in float16 they are part of finding the scale, and are skipped.
    """
    known = [n for n in before[-WINDOW:] if math.isfinite(n)]
    if len(known) < WINDOW // 2 or not math.isfinite(norm):
        return False
    usual = float(np.median(known))
    return usual > 0 and norm >= TIMES * usual


class FlightStep(RunFile):
    """One of the last steps."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings")

    step: Count
    loss: Number
    terms: dict[Name, tuple[Number, Number]] = Field(default_factory=dict)
    term_gradients: dict[Name, Number] = Field(default_factory=dict)
    gradient_norm: Number = math.nan
    learning_rate: Number = math.nan
    cases: list[Name] = Field(default_factory=list)


class FlightFile(RunFile):
    """`flight/failed.json` or `flight/exploded.json`."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings")

    reason: Reason
    attempt: Count
    step: Count
    message: Name = ""
    steps: Annotated[list[FlightStep], Field(min_length=1, max_length=KEPT)]
    batch: Sha256 | None = None
    left_out: Name = ""


class StepError(TrainingError):
    """A step whose loss, gradient or prediction is no number, with what was computed before that was seen."""

    def __init__(self, message: str, remedy: str, reason: Reason, facts: FlightStep) -> None:
        super().__init__(message, remedy)
        self.reason, self.facts = reason, facts

    def __reduce__(self) -> tuple[type[StepError], tuple[Any, ...]]:
        return type(self), (self.message, self.remedy, self.reason, self.facts)


# ---- writing


class FlightRecorder:
    """Remembers the last steps of a run, and writes them down when something goes wrong.

    Parameters
    ----------
    folder
        The run's.
    attempt
        Number of this attempt.
    megabytes
        Most space that a record may take; 0: nothing is written.
    earlier
        Steps of earlier attempts that this one goes on from.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, megabytes: int, earlier: Iterable[StepDone] = ()
    ) -> None:
        self._folder, self._attempt, self.megabytes = folder, attempt, megabytes
        self._steps: deque[FlightStep] = deque((flight_step(e) for e in earlier), maxlen=KEPT)
        self._told = False

    def add(self, step: FlightStep, batch: Batch) -> str:
        """Remember a step. The first explosion of an attempt is written down and returned as a sentence."""
        before = [s.gradient_norm for s in self._steps]
        self._steps.append(step)
        if self._told or not exploded(before, step.gradient_norm):
            return ""
        self._told = True
        usual = float(np.median([n for n in before[-WINDOW:] if math.isfinite(n)]))
        message = (
            f"The gradient exploded at step {step.step}: its norm is {step.gradient_norm:.3g}, "
            f"{step.gradient_norm / usual:.0f} times the median of the steps before."
        )
        self._write(EXPLODED, "exploded", message, step.step, batch)
        return message

    def fail(self, reason: Reason, message: str, step: FlightStep, batch: Batch) -> None:
        """Write down what the steps before a failure were, and the batch of that step.

        Raises
        ------
        DiskError
            When it cannot be written.
        """
        self._steps.append(step)
        self._write(FAILED, reason, message, step.step, batch)

    def _write(self, name: str, reason: Reason, message: str, step: int, batch: Batch) -> None:
        if self.megabytes <= 0:
            return
        voxels, left_out = self._packed(batch)
        facts = FlightFile(
            reason=reason,
            attempt=self._attempt,
            step=step,
            message=message,
            steps=list(self._steps),
            batch=None if voxels is None else sha256(voxels).hexdigest(),
            left_out=left_out,
        )
        # the numbers last: they name the checksum of the voxels, so that a record is whole or without its batch
        if voxels is not None:
            self._folder.write_part(f"{FLIGHT}/{name}.safetensors", voxels)
        numbers = with_checksum(json.loads(facts.model_dump_json()))
        self._folder.write_part(f"{FLIGHT}/{name}.json", json.dumps(numbers, indent=1).encode())

    def _packed(self, batch: Batch) -> tuple[bytes | None, str]:
        """Return the arrays of a batch as one file, or why they are left out."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {
            "images": np.ascontiguousarray(batch.images),
            "labels": np.ascontiguousarray(batch.labels),
            "origins": np.ascontiguousarray(batch.origins.astype(np.int64)),
        }
        needed = sum(array.nbytes for array in arrays.values())
        if needed > self.megabytes * 10**6:
            return None, (
                f"The batch takes {size_text(needed)}, more than monitoring.flight_recorder_mb allows "
                f"({self.megabytes} MB)."
            )
        return save(arrays), ""


def flight_step(event: StepDone) -> FlightStep:
    """Return a step as the flight recorder keeps it."""
    return FlightStep(
        step=event.step,
        loss=event.loss,
        terms=dict(event.terms),
        term_gradients=dict(event.term_gradients),
        gradient_norm=event.gradient_norm,
        learning_rate=event.learning_rate,
        cases=list(event.cases),
    )


# ---- reading


@dataclass(frozen=True)
class Flight:
    """What a flight recorder kept.

    Attributes
    ----------
    name
        "exploded" or "failed".
    reason
        What was no number any more, or "exploded".
    attempt, step
        When; the step that failed is counted.
    message
        What was said of it.
    steps
        The last steps, the one at fault last; the terms of a failed one as far as they were computed.
    left_out
        Why there is no batch; empty where there is one.
    folder
        The run's.
    """

    name: str
    reason: Reason
    attempt: int
    step: int
    message: str
    steps: tuple[FlightStep, ...]
    left_out: str
    folder: Path
    sha256: str | None = None

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases of the batch."""
        return tuple(self.steps[-1].cases)

    def batch(self) -> Mapping[str, NDArray[Any]] | None:
        """Read the batch: "images" (B, C, *S) float32, "labels" (B, 1, *S) uint8, "origins" (B, D); None without
        one.

        Raises
        ------
        DataError
            When it is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        if self.sha256 is None:
            return None
        name = f"{FLIGHT}/{self.name}.safetensors"
        try:
            content = read_bytes(self.folder / name, MAX_BATCH, within=self.folder)
        except FileNotFoundError as error:
            raise DataError(f"{name} is missing.", COPY_AGAIN) from error
        if sha256(content).hexdigest() != self.sha256:
            raise DataError(f"{name} is damaged: its checksum does not fit its content.", COPY_AGAIN)
        try:
            arrays: dict[str, NDArray[Any]] = load(content)
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{name} is damaged.", COPY_AGAIN) from error
        return arrays


def read_flights(folder: Path) -> tuple[Flight, ...]:
    """Return what the flight recorder of a run kept: the explosion, then the failure; empty where nothing happened.

    Raises
    ------
    DataError
        When a record is damaged.
    """
    found = []
    for name in (EXPLODED, FAILED):
        facts = read_run_file(folder, f"{FLIGHT}/{name}.json", FlightFile)
        if facts is not None:
            found.append(
                Flight(
                    name,
                    facts.reason,
                    facts.attempt,
                    facts.step,
                    facts.message,
                    tuple(facts.steps),
                    facts.left_out,
                    folder,
                    facts.batch,
                )
            )
    return tuple(found)
