"""What a run reports: its events, the summaries inside them, and how an event is written as a line of JSON.

Events are frozen and picklable and hold plain numbers and text, never a tensor. Arrays (predictions of the watched
cases, region maps of the last patch) are kept by the run and in `history.zarr`; an event carries their index.
`attempt` counts from 1 and grows with every resume; readers drop steps that a later attempt repeated.

A line of JSON may come from somebody else: `from_json` accepts only the declared types, counts that a computer can
count, and times that are finite.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import from_json as parse_json

from segexplorer.core.printable import printable, printable_values
from segexplorer.core.regions import BoxRegions, Edges, Regions

RunState = Literal["idle", "preparing", "running", "paused", "stopping", "stopped", "finished", "failed"]
ACTIVE_STATES: frozenset[RunState] = frozenset({"preparing", "running", "paused", "stopping"})
"""States of a run that is being iterated."""
Role = Literal["train", "validation", "test"]
_ROLES: Mapping[Role, str] = {"train": "training", "validation": "validation", "test": "test"}
Number = Annotated[float, AfterValidator(lambda value: value if value == value else math.nan)]
"""A number that may be NaN, always the same one, so that an event read twice is equal to itself."""
Terms = Mapping[str, tuple[Number, Number]]
"""Name of a loss term -> (value, weight); the products add up to the loss."""
Reference = Literal["perfect", "all background", "class frequencies", "random"]
"""Predictions that need no network, which a loss is compared with."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things; up to 2^53 a float64 counts exactly, too."""
Seconds = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
SettingValue = Annotated[Any, BeforeValidator(lambda value: _revived(value))]


# ---- summaries, which losses and metrics make


@dataclass(frozen=True)
class EpochSummary:
    """What a loss or schedule may adapt to at the end of an epoch.

    Attributes
    ----------
    epoch, epochs
        The epoch that ended, counted from 1, and how many there will be.
    terms
        Term name -> sample-weighted mean of its value over the epoch's training steps.
    class_dice
        Class index (0 = background) -> hard Dice over the validation set, accumulated from one confusion
        matrix; 0 where a class was never predicted or never present; empty when nothing was validated.
    """

    epoch: int
    epochs: int
    terms: Mapping[str, float] = field(default_factory=dict)
    class_dice: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RegionReport:
    """Per-region numbers of one volume or patch, on the CPU, as events and histories carry them.

    Attributes
    ----------
    values
        Name ("alpha", "beta", "fp", "fn", "loss", "share") -> float32 array (C, R), NaN where the class is
        absent or the loss skips the pair. `fp` and `fn` are soft volumes in voxels.
    edges
        Box edges per spatial axis, e.g. ((0, 8, 16), (0, 8, 16), (0, 8)): R = product of the interval counts,
        the last axis running fastest. Empty where the regions are not boxes.
    divided
        The regions themselves, where they are more than boxes that cover the grid; None: those between `edges`.
    scope
        What was measured, as it is written beside the map: "whole case, evaluation mode, step 40" or
        "this patch, step 41".
    """

    values: Mapping[str, NDArray[np.float32]]
    edges: Edges = ()
    divided: Regions | None = None
    scope: str = ""

    @classmethod
    def of(cls, values: Mapping[str, NDArray[np.float32]], regions: Regions, scope: str = "") -> RegionReport:
        """Return a report on these regions."""
        edges = regions.edges if isinstance(regions, BoxRegions) else ()
        return cls(values, edges, regions, scope)

    @property
    def regions(self) -> Regions:
        """The regions: their places, and their numbers in the whole volume."""
        return BoxRegions.of(self.edges) if self.divided is None else self.divided

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of boxes along each axis; of regions of any shape, their number alone."""
        regions = self.regions
        return regions.counts if isinstance(regions, BoxRegions) else (len(regions.ids),)

    def paint(self, name: str) -> NDArray[np.float32]:
        """Return the values as voxels, (C, *spatial); regions are filled, never interpolated."""
        return self.regions.paint(self.values[name])

    def placed(self, regions: Regions) -> RegionReport:
        """Return the numbers on other regions of the same volume, by number; NaN on those that have none here."""
        own = self.regions.ids
        order = np.argsort(own)
        places = np.minimum(np.searchsorted(own, regions.ids, sorter=order), max(0, len(own) - 1))
        found = order[places] if len(own) else places
        missing = own[found] != regions.ids if len(own) else np.ones(len(regions.ids), bool)
        values = {}
        for name, rows in self.values.items():
            taken = rows[:, found] if len(own) else np.zeros((len(rows), len(found)), np.float32)
            values[name] = np.where(missing, np.float32(np.nan), taken).astype(np.float32)
        return RegionReport.of(values, regions, self.scope)


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """Metrics of one class in one case, on the whole volume in the case's own grid.

    `state` says whether the class was there: "scored", "absent" (neither in truth nor prediction),
    "missed" (only in the truth), "spurious" (only in the prediction). Metrics without meaning are NaN.
    """

    case: str
    class_name: str
    role: Role
    state: Literal["scored", "absent", "missed", "spurious"]
    metrics: Mapping[str, Number]
    false_positive_ml: Number
    false_negative_ml: Number
    truth_ml: Number
    badge: str = ""


CalibrationRegion = Literal["box", "all"]
"""Where calibration is measured: around the truth's foreground, or everywhere (`metrics.calibration`)."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often voxels were right, by the probability that the network stated: one curve of a reliability diagram.

    Attributes
    ----------
    class_name
        A class, whose probability it is; or "any class", for the probability of the predicted class.
    counts, confidences, corrects
        Per bin of equal width between 0 and 1: voxels, the sum of their probabilities, how many were right.
    brier, nll
        Sums over voxels of the squared error and of the negative log-likelihood.
    ece_mass
        Expected calibration error with bins of equal mass, which cannot be had from the other sums.
    """

    class_name: str
    region: CalibrationRegion
    counts: tuple[Count, ...]
    confidences: tuple[Number, ...]
    corrects: tuple[Count, ...]
    brier: Number
    nll: Number
    ece_mass: Number

    def __post_init__(self) -> None:
        if not len(self.counts) == len(self.confidences) == len(self.corrects) > 0:
            raise ValueError("the bins of a reliability curve differ in number")

    @property
    def voxels(self) -> int:
        """Number of voxels in all bins."""
        return sum(self.counts)


# ---- events


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events have: the attempt, the number of the event within it, and the optimiser steps done so far."""

    attempt: Count = 1
    seq: Count = 0
    step: Count = 0
    time: Seconds = 0.0
    """Seconds since the epoch (UTC), when the event was made."""

    _registered: ClassVar[dict[str, type[Event]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Event._registered[cls.__name__] = cls

    def __str__(self) -> str:
        """Return one short line for people, as `on_event=print` shows it; `repr` has every field."""
        return " ".join(f"step {self.step}: {self._told()}".split())

    def _told(self) -> str:
        return type(self).__name__


SHOWN = 8
"""Terms or classes in the line of an event; of more, the number of the others is said."""


def _listed(entries: Sequence[str]) -> str:
    more = len(entries) - SHOWN
    return ", ".join([*entries[:SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _loss_text(loss: float, terms: Terms) -> str:
    """Return a loss and its terms, unless its only term is the loss itself; weights of 1 are not named."""
    parts = [
        f"{name} {value:.4g}" + (f" (weight {weight:.3g})" if weight != 1 else "")
        for name, (value, weight) in terms.items()
    ]
    alone = len(terms) == 1 and all(weight == 1 for _, weight in terms.values())
    return f"loss {loss:.4g}" + (f": {_listed(parts)}" if parts and not alone else "")


@dataclass(frozen=True, kw_only=True)
class StateChanged(Event):
    """The run entered another state; `activity` says in words what it is doing."""

    state: RunState
    activity: str = ""

    def _told(self) -> str:
        return f"{self.state}, {self.activity}" if self.activity else self.state


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The plan was resolved; `summary` is what the window and the command line show of it."""

    steps: Count
    epochs: Count
    steps_per_epoch: Count
    summary: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    badges: tuple[str, ...] = ()
    """Short labels shown beside every number of this run, e.g. "training case, not held out"."""
    classes: tuple[str, ...] = ()
    """Names of the foreground classes, for values 1, 2, ..."""

    def _told(self) -> str:
        text = f"planned {self.steps} steps ({self.epochs} epochs of {self.steps_per_epoch})"
        text += f"; classes {_listed(self.classes)}" if self.classes else ""
        return "".join([text, *(f"; {badge}" for badge in self.badges), *(f"; {w}" for w in self.warnings)])


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Something long other than a training step made progress: reading, validating, predicting."""

    activity: str
    done: Count
    total: Count
    unit: str = "window"
    """What is counted: the windows of a prediction, or cases."""

    @property
    def sentence(self) -> str:
        """What is being done and how far it is, e.g. "validating case 1 of 2, window 6 of 8"."""
        return f"{self.activity}, {self.unit} {self.done} of {self.total}" if self.done else self.activity

    def _told(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """One optimiser step. Loss and terms are those of its batch, before the step."""

    epoch: Count
    loss: Number
    terms: Terms
    learning_rate: Number
    gradient_norm: Number
    seconds: Seconds
    samples: Count
    cases: tuple[str, ...] = ()
    memory_bytes: Count = 0
    """Peak device memory on CUDA, resident memory of the process on the CPU."""
    term_gradients: Mapping[str, Number] = field(default_factory=dict)
    """Term -> norm of its weighted gradient with respect to the logits, and "total"; empty where not measured."""
    references: Mapping[Reference, Number] = field(default_factory=dict)
    """What the loss is on this batch for predictions that need no network; see `losses.references`."""

    def _told(self) -> str:
        return f"epoch {self.epoch}, {_loss_text(self.loss, self.terms)}"


@dataclass(frozen=True, kw_only=True)
class EpochDone(Event):
    """The last step of an epoch is done: `terms` are means over the epoch, `adaptive` what the loss adapted to."""

    epoch: Count
    epochs: Count
    loss: Number
    terms: Terms
    adaptive: Mapping[str, Number] = field(default_factory=dict)
    learning_rate: Number = 0.0

    def _told(self) -> str:
        adapted = [f"{name} {value:.3g}" for name, value in self.adaptive.items()]
        text = f"epoch {self.epoch} of {self.epochs} ended, mean {_loss_text(self.loss, self.terms)}"
        return text + (f"; adapted to {_listed(adapted)}" if adapted else "")


@dataclass(frozen=True, kw_only=True)
class ValidationDone(Event):
    """Whole validation volumes were predicted and scored.

    `mean_dice` is the mean foreground Dice over (case, class) pairs whose class is present in truth or
    prediction; a missed or spurious structure counts 0. `n_used + n_absent` is the number of pairs;
    `n_missed` of the used ones were missed entirely. `loss` is the mean over whole cases, NaN where it was not
    computed.
    """

    epoch: Count
    loss: Number
    scores: tuple[CaseScore, ...]
    mean_dice: Number
    class_dice: Mapping[str, Number]
    n_used: Count
    n_absent: Count
    n_missed: Count
    best: bool
    seconds: Seconds
    badge: str = ""
    criterion: Literal["dice", "loss"] = "dice"
    """What `best` was judged by: the highest `mean_dice`, or the lowest `loss`."""

    def _told(self) -> str:
        classes = [f"{name} {dice:.3f}" for name, dice in self.class_dice.items()]
        text = f"validated after epoch {self.epoch}, mean Dice {self.mean_dice:.3f}"
        text += f": {_listed(classes)}" if classes else ""
        text += f"; loss {self.loss:.4g}" if math.isfinite(self.loss) else ""
        return text + ("; the best so far" if self.best else "") + (f"; {self.badge}" if self.badge else "")


@dataclass(frozen=True, kw_only=True)
class WatchedDone(Event):
    """A watched case was predicted whole; frame `index` of its role in the history, and in the run's slot.

    `calibration` has the curve of every class and of any class, in both regions; it is empty where the case has no
    label, or was predicted in part.
    """

    case: str
    role: Role
    index: Count
    calibration: tuple[Reliability, ...] = ()
    class_dice: Mapping[str, Number] = field(default_factory=dict)
    """Class -> Dice of this case, on its own grid; empty where it has no label."""

    def _told(self) -> str:
        return f"predicted the watched {_ROLES[self.role]} case {self.case} (frame {self.index})"


@dataclass(frozen=True, kw_only=True)
class ParameterApplied(Event):
    """A live change took effect before the next step."""

    field: str
    value: SettingValue
    previous: SettingValue

    def _told(self) -> str:
        return f"{self.field} is now {self.value} (was {self.previous})"


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is safely on the disk under these pointers (any of "last", "previous", "best")."""

    folder: str
    pointers: tuple[str, ...]

    def _told(self) -> str:
        return f"saved {self.folder} ({', '.join(self.pointers)})"


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something the user should know that does not stop the run."""

    message: str
    remedy: str = ""

    def _told(self) -> str:
        return f"{self.message} {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The last event of every run, whatever happened.

    `error` and `remedy` are sentences for the user; `cause` is the traceback, for reports, where there is one.
    """

    state: Literal["finished", "stopped", "failed"]
    reason: str
    error: str = ""
    remedy: str = ""
    cause: str = ""
    defect: bool = False
    """Whether the error is a bug of ours rather than something the user can mend."""
    exit_code: int = 0
    """`core.errors.ExitCode` of a command that ends with this run."""

    def _told(self) -> str:
        why = f"{self.error or self.reason} {self.remedy}" if self.state == "failed" else self.reason
        return f"{self.state}: {why}"


# ---- lines of JSON


def event_kinds() -> dict[str, type[Event]]:
    """Return every event class by name."""
    return dict(Event._registered)


def to_json(event: Event) -> str:
    """Return one line of JSON. Non-finite floats become the strings "NaN", "Infinity", "-Infinity"."""
    return json.dumps({"event": type(event).__name__, **_plain(asdict(event))}, allow_nan=False)


_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, Mapping):
        return {printable(str(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        return _plain(value.item())  # numpy scalars
    return value


MAX_TEXT = 100_000
"""Longest text in an event, in characters."""
_SUSPICIOUS = re.compile(
    rb"[\x00-\x1f\x7f-\xff]|\\[bfnrt]|\\u(?:00(?:[0189]|7[fF])|20[26]|[dD][89a-fA-F]|[fF][fF])"
)
"""What a line has, as bytes or as an escape, that holds a character which must not reach a terminal."""
_HARMLESS = bytes(set(range(0x20, 0x7F)) - {ord("\\")})


def is_plain(raw: bytes) -> bool:
    """Whether no text in a line of JSON can hold a character that must not reach a terminal."""
    text = raw.strip()
    # nearly every line has nothing else, and deleting takes a tenth of the time of searching
    return not text.translate(None, _HARMLESS) or not _SUSPICIOUS.search(text)


def from_json(line: str | bytes) -> Event:
    """Read a line that `to_json` wrote; keys that this version does not know are dropped.

    Raises
    ------
    ValueError
        For a torn line, an unknown event, or one that lacks what its kind needs or holds something else.
    """
    raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    if (quick := _read_plainly(raw)) is not None:
        return quick
    data = parse_json(raw)
    kind = data.get("event") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in Event._registered:
        raise ValueError("not an event")
    if len(raw) > MAX_TEXT:
        _require_short_texts(data)
    if not is_plain(raw):
        data = printable_values(data, keep_lines=_KEEP_LINES)
    cls = Event._registered[kind]
    try:
        event = _adapter(cls.__name__).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"not a whole {cls.__name__}: {place}: {first['msg']}") from error
    assert isinstance(event, Event)
    return event


_KEEP_LINES = frozenset({"cause"})
_FIRST = b'{"event": "'


def _read_plainly(raw: bytes) -> Event | None:
    """Return the event of a line as `to_json` writes nearly all of them; None where a closer look is needed.

    Parsing and checking at once takes half the time, which a run of a quarter of a million steps has to show.
    """
    end = raw.find(b'"', len(_FIRST), 80)
    if not raw.startswith(_FIRST) or end < 0 or len(raw) > MAX_TEXT or not is_plain(raw):
        return None
    kind = raw[len(_FIRST) : end].decode("ascii", "replace")
    if kind not in Event._registered or raw.count(b'"event"') != 1:
        return None
    try:
        event = _adapter(kind).validate_json(raw)
    except ValidationError:
        return None
    assert isinstance(event, Event)
    return event


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(Event._registered[name])


def _require_short_texts(value: Any) -> None:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError("a text is too long")
    if isinstance(value, dict):
        for key, item in value.items():
            _require_short_texts(key)
            _require_short_texts(item)
    elif isinstance(value, list):
        for item in value:
            _require_short_texts(item)


def _revived(value: Any) -> Any:
    """Return a setting's value as it was: tuples, which JSON writes as lists, and non-finite numbers."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_revived, value))
    return {key: _revived(item) for key, item in value.items()} if isinstance(value, dict) else value
