"""What a race shows: where only one of two lanes is right, three curves, and sentences that name no winner.

Two runs that differ in nothing but their batches come to different pictures, too. A difference between A and B is
therefore held against that between A and its controls. B is *beyond the control* where it is the odd one out of all
lanes: farther from the others, in voxels on which they disagree, than A or any control is. Were B's setting without
effect, each lane would be the odd one out equally often, so that this happens by chance in one of three races with
one control, in one of four with two. Only then voxels are coloured, and of those only where A and all controls
agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import Role, ValidationDone
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.data.case import CaseRef
from segexplorer.data.volume import Volume
from segexplorer.losses.base import LossSpec, penalty_range
from segexplorer.study.race import A, B, RacePlan, RaceRecord, open_race, plan_race
from segexplorer.training.explanation import Explanation, explain_snapshot
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels import errors, watched_case
from segexplorer.viewmodels.decision import counts_of, lanes_text
from segexplorer.viewmodels.errors import LegendEntry
from segexplorer.viewmodels.layer_images import Picture, fullest_slice, picture_of
from segexplorer.viewmodels.outlines import Outlines
from segexplorer.viewmodels.watched_case import RunHistoryLoader, Seen

ONLY_A, ONLY_B = 1, 2
"""Values of the map of a difference; 0 is nothing."""
NAMES: Mapping[int, str] = {ONLY_A: "only A right", ONLY_B: "only B right"}

Mask = NDArray[np.bool_]


# ---- a difference of pictures


@dataclass(frozen=True)
class LaneDifference:
    """Where the lanes of a race differ in one class of one case at one step.

    Attributes
    ----------
    class_name, step
        What is compared, "all classes" for every class at once.
    map
        (x, y, z) uint8: `ONLY_A`, `ONLY_B` where it is coloured, else 0.
    only_a_ml, only_b_ml
        Where A is right and B is wrong, and the other way round, ml; coloured or not.
    coloured_ml
        Volume of what is coloured.
    apart_ml
        Two lanes -> volume in which one of them is right and the other is wrong, ml.
    controls
        Names of the controls.
    """

    class_name: str
    step: int
    map: NDArray[np.uint8]
    only_a_ml: float
    only_b_ml: float
    coloured_ml: float
    apart_ml: Mapping[frozenset[str], float]
    controls: tuple[str, ...]

    @property
    def beyond(self) -> bool:
        """Whether B is the odd one out; False without a control."""
        return bool(self.controls) and odd_one_out(self.apart_ml) == B

    def between(self, one: str, other: str) -> float:
        """Return the volume in which one of two lanes is right and the other is wrong, ml."""
        return self.apart_ml[frozenset((one, other))]

    def sentences(self) -> list[str]:
        """Say how A and B differ, and whether that is beyond the control."""
        total = self.between(A, B)
        head = f"Step {self.step}, {self.class_name}: "
        if not total:
            return [f"{head}A and B are right in the same voxels."]
        found = [
            f"{head}in {_ml(total)} ml only one of A and B is right (only A in {_ml(self.only_a_ml)} ml, only B in "
            f"{_ml(self.only_b_ml)} ml)."
        ]
        if not self.controls:
            return [*found, "There is no control: other batches alone may change as much."]
        drift = _ml(max(self.between(A, name) for name in self.controls))
        nearest = _ml(min(self.between(B, name) for name in self.controls))
        if len(self.controls) == 1:
            compared = f"A and its control differ in {drift} ml, B and the control in {nearest} ml"
        else:
            compared = (
                f"A differs from its controls in up to {drift} ml, B from them in at least {nearest} ml"
            )
        if not self.beyond:
            return [*found, f"{compared}: by voxels, B is not beyond the control, so nothing is coloured."]
        lanes = len(self.controls) + 2
        return [
            *found,
            f"{compared}: by voxels, B is beyond the control. Coloured are the {_ml(self.coloured_ml)} ml in which "
            f"A and {'all controls agree' if len(self.controls) > 1 else 'the control agree'}.",
            f"A change without any effect would look like this in one of {lanes} races.",
        ]


def compare_lanes(
    truth: NDArray[np.uint8],
    predictions: Mapping[str, NDArray[np.uint8]],
    *,
    class_index: int | None,
    class_name: str,
    step: int,
    voxel_ml: float,
    scheme: LabelScheme = EXCLUSIVE,
) -> LaneDifference:
    """Compare the predictions of lanes.

    Parameters
    ----------
    truth
        (x, y, z) class indices; 255 for voxels that do not count.
    predictions
        Lane -> (x, y, z) class indices: "A", "B", and the controls.
    class_index
        One class against the rest; None for all at once.
    voxel_ml
        Volume of a voxel, ml.
    scheme
        What the label indices mean.

    Raises
    ------
    DataError
        When the predictions are not on the grid of the truth.
    """
    if any(found.shape != truth.shape for found in predictions.values()):
        raise DataError(
            "The lanes and the label are not on one grid.", "The label has changed since the race."
        )
    counts = truth != IGNORED
    right = {name: counts & _right(found, truth, class_index, scheme) for name, found in predictions.items()}
    controls = tuple(name for name in predictions if name not in (A, B))
    apart = {
        frozenset((one, other)): float(np.count_nonzero(right[one] ^ right[other])) * voxel_ml
        for one, other in itertools.combinations(right, 2)
    }
    only_a, only_b = right[A] & ~right[B], right[B] & ~right[A]
    shown = np.zeros(truth.shape, np.uint8)
    if not controls or odd_one_out(apart) == B:
        agreed = np.ones(truth.shape, bool)
        for name in controls:
            agreed &= right[name] == right[A]
        shown[only_a & agreed], shown[only_b & agreed] = ONLY_A, ONLY_B
    return LaneDifference(
        class_name,
        step,
        shown,
        float(np.count_nonzero(only_a)) * voxel_ml,
        float(np.count_nonzero(only_b)) * voxel_ml,
        float(np.count_nonzero(shown)) * voxel_ml,
        apart,
        controls,
    )


def difference_of(lanes: Mapping[str, WatchedSnapshot], class_index: int | None) -> LaneDifference:
    """Return where the lanes of a race differ in a watched case.

    Parameters
    ----------
    lanes
        Lane -> its prediction, at one step.
    class_index
        One class against the rest; None for all at once.

    Raises
    ------
    DataError
        When the case has no label here, or a prediction is on another grid.
    """
    first = lanes[A]
    if first.truth is None:
        raise DataError(f"{first.case} has no label here.", "Open the race where its data is.")
    return compare_lanes(
        first.truth,
        {name: snapshot.prediction for name, snapshot in lanes.items()},
        class_index=class_index,
        class_name=watched_case.class_name(first, class_index),
        step=first.step,
        voxel_ml=abs(float(np.linalg.det(first.affine[:3, :3]))) / 1000,
        scheme=first.scheme,
    )


def _right(
    found: NDArray[np.uint8], truth: NDArray[np.uint8], class_index: int | None, scheme: LabelScheme
) -> Mask:
    if class_index is None:
        return np.asarray(found == truth)
    return np.asarray(scheme.mask(found, class_index) == scheme.mask(truth, class_index))


def odd_one_out(apart: Mapping[frozenset[str], float]) -> str:
    """Return which lane is farthest from all others, by the sum of its distances; "" where none is alone in it."""
    lanes = sorted(set().union(*apart))
    sums = {lane: math.fsum(value for pair, value in apart.items() if lane in pair) for lane in lanes}
    first, second = sorted(sums.values(), reverse=True)[:2]
    return next(lane for lane in lanes if sums[lane] == first) if first > second * (1 + 1e-9) else ""


def _ml(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 or not value else f"{value:.2g}"


# ---- curves


@dataclass(frozen=True)
class RaceCurves:
    """Dice of one class of the watched case in every lane.

    Attributes
    ----------
    class_name
        Which class.
    lanes
        Lane -> (steps, Dice), in the order of steps; of a lane that still trains, what there is.
    """

    class_name: str
    lanes: Mapping[str, tuple[Sequence[int], Sequence[float]]]

    def at(self, step: int) -> dict[str, float]:
        """Return lane -> Dice at a step, of the lanes that have it."""
        found: dict[str, float] = {}
        for name, (steps, values) in self.lanes.items():
            if step in steps:
                found[name] = values[list(steps).index(step)]
        return found

    def note(self, lane: str, step: int) -> str:
        """Return the Dice of a lane at a step in two words; "" where it has none."""
        value = self.at(step).get(lane, math.nan)
        return f"Dice {value:.3f}" if math.isfinite(value) else ""

    def sentence(self, step: int) -> str:
        """Say what Dice the lanes have at a step, and whether B is beyond the control; "" where lanes lack it."""
        found = self.at(step)
        if set(found) != set(self.lanes) or not all(map(math.isfinite, found.values())):
            return ""
        values = ", ".join(f"{_lane(name)} {value:.3f}" for name, value in found.items())
        head = f"Dice of {self.class_name} at step {step}: {values}."
        if len(found) == 2:
            return head
        apart = {
            frozenset(pair): abs(found[pair[0]] - found[pair[1]]) for pair in itertools.combinations(found, 2)
        }
        is_beyond = odd_one_out(apart) == B
        return f"{head} By Dice, B is {'' if is_beyond else 'not '}beyond the control."


def _lane(name: str) -> str:
    return name.replace("_", " ")


# ---- a recorded race


class RaceView:
    """A race as it is shown: its frames compared, its curves, and its sentences.

    Parameters
    ----------
    folder
        Of the race, also while it is trained.

    Raises
    ------
    DataError
        When there is no race in the folder, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.record: RaceRecord = open_race(folder)
        self._loader = RunHistoryLoader(self.record.lanes[A].experiment)

    @property
    def lanes(self) -> dict[str, str]:
        """Lane -> what it trains."""
        return dict(self.record.file.lanes)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        return tuple(self.record.lanes[A].experiment.data.class_values())

    def steps(self, role: Role = "validation") -> list[int]:
        """Return the steps at which every lane has a frame."""
        return list(self.record.frames(role))

    def curves(self, class_name: str, role: Role = "validation") -> RaceCurves:
        """Return the Dice of a class of the watched case in every lane."""
        return RaceCurves(class_name, self.record.dice(class_name, role))

    def difference(
        self, class_name: str | None = None, *, step: int | None = None, role: Role = "validation"
    ) -> LaneDifference:
        """Return where the lanes differ.

        Parameters
        ----------
        class_name
            One class against the rest; None for all at once.
        step
            Of a frame that every lane has; None: the newest.

        Raises
        ------
        DataError
            When there is no such frame or class, or the case has no label here.
        """
        frames = self.record.frames(role)
        if not frames:
            raise DataError("No frame of this race is complete in every lane yet.", "Let it train further.")
        at = max(frames) if step is None else step
        if at not in frames:
            shown = ", ".join(map(str, list(frames)[:20]))
            raise DataError(f"The lanes have no frame of step {at}.", f"Choose one of {shown}.")
        loaded = {name: self._loader.snapshot(frame) for name, frame in frames[at].items()}
        names = loaded[A].class_names
        if class_name is not None and class_name not in names:
            raise DataError(f"There is no class {class_name!r}.", f"Choose one of {', '.join(names)}.")
        return difference_of(loaded, None if class_name is None else 1 + names.index(class_name))

    def sentences(self, role: Role = "validation") -> list[str]:
        """Say for every class how the lanes differ at their newest common frame."""
        return [said for name in self.class_names for said in self.class_sentences(name, role)]

    def class_sentences(self, class_name: str, role: Role = "validation") -> list[str]:
        """Say how the lanes differ in one class at their newest common frame."""
        difference = self.difference(class_name, role=role)
        dice = self.curves(class_name, role).sentence(difference.step)
        return [*([dice] if dice else []), *difference.sentences()]


# ---- a race in a window: offered, known, seen, drawn


@dataclass(frozen=True)
class RaceQuestion:
    """What a race from the displayed step would cost. Equal questions have equal answers.

    Attributes
    ----------
    run, step
        The run folder, and where the lanes would leave it.
    loss
        What lane B would train with.
    steps
        How far each lane would train.
    """

    run: str
    step: int
    loss: LossSpec
    steps: int

    def answer(self) -> RaceOffer:
        """Plan the race; slow, for a worker. Nothing is written."""
        try:
            plan = plan_race(Path(self.run), {"loss": self.loss.plain()}, step=self.step, steps=self.steps)
            return RaceOffer(plan, tuple(plan.sentences()))
        except SegExplorerError as error:
            return RaceOffer(problem=str(error))


@dataclass(frozen=True)
class RaceOffer:
    """The answer: the plan with its cost in sentences, or why there can be no such race."""

    plan: RacePlan | None = None
    sentences: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Racing:
    """A race that this window trains, or has trained.

    Attributes
    ----------
    key
        Its folder.
    origin
        The folder of the run that its lanes leave; "" where the race was opened from its own.
    words
        What it does now, or how it ended.
    running
        Whether it is being trained.
    share
        How much of it is done, from 0 to 1.
    failed
        Whether it ended by a failure.
    begun
        Whether its folder can be shown.
    """

    key: str
    origin: str
    words: str
    running: bool = True
    share: float = 0.0
    failed: bool = False
    begun: bool = False

    @property
    def elsewhere(self) -> str:
        """What is said of it while something else is displayed."""
        return f"A race is being trained in the background: {100 * self.share:.0f} %." if self.running else ""


@dataclass(frozen=True)
class RaceFacts:
    """What is known of a race that is open, as far as its lanes have come.

    Attributes
    ----------
    key
        Its folder.
    source, step, steps
        The run that the lanes leave, where they leave it, and how far each trains.
    lanes
        Lane -> what it trains.
    class_names
        Foreground classes.
    frames
        Role -> step -> lane -> frame, of the steps at which every lane has one.
    dice
        Role -> class -> its curves; under "" the mean of the classes.
    validations
        Step -> validation of lane A.
    load, find, explain
        Read a frame, find a case by its id, and explain a prediction of lane A; called by a worker.
    penalties
        As of `displayed.RunFacts`, of lane A.
    finished
        Whether every lane has come to its end.
    """

    key: str
    source: str
    step: int
    steps: int
    lanes: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    frames: Mapping[Role, Mapping[int, Mapping[str, HistoryFrame]]] = field(default_factory=dict)
    dice: Mapping[Role, Mapping[str, RaceCurves]] = field(default_factory=dict)
    validations: Mapping[int, ValidationDone] = field(default_factory=dict)
    load: Callable[[HistoryFrame], WatchedSnapshot] | None = None
    find: Callable[[str], CaseRef | None] | None = None
    explain: Callable[[WatchedSnapshot, WatchedSnapshot | None, Explanation | None], Explanation] | None = (
        None
    )
    penalties: tuple[float, float] | None = None
    finished: bool = False

    @classmethod
    def read(cls, folder: Path, before: RaceFacts | None = None) -> RaceFacts:
        """Read what the folder of a race holds now; slow, for a worker.

        Parameters
        ----------
        before
            What was known of it, whose labels are not read again.

        Raises
        ------
        DataError
            When there is no race in the folder, or it is damaged.
        """
        record = open_race(folder)
        first = record.lanes[A]
        experiment, names = first.experiment, tuple(first.experiment.data.class_values())
        frames = {role: found for role in get_args(Role) if (found := record.frames(role))}
        if before is not None and before.key == str(folder):
            load, find = before.load, before.find
        else:
            loader = RunHistoryLoader(experiment)
            load, find = _or_alone(loader.snapshot), loader.ref

        def explain(
            of: WatchedSnapshot, after: WatchedSnapshot | None, known: Explanation | None
        ) -> Explanation:
            return explain_snapshot(open_run(folder / A), of, after, known=known)

        return cls(
            key=str(folder),
            source=record.file.source,
            step=record.file.step,
            steps=record.file.steps,
            lanes=dict(record.file.lanes),
            class_names=names,
            frames=frames,
            dice={role: _curves(record, names, role) for role in frames},
            validations={e.step: e for e in events_of(first.events(), ValidationDone)},
            load=load,
            find=find,
            explain=explain,
            penalties=penalty_range(experiment.loss),
            finished=record.finished,
        )

    @property
    def begun(self) -> bool:
        """Whether there is a frame of every lane to look at."""
        return any(self.frames.values())

    @property
    def head(self) -> str:
        """Where the lanes begin and how far they train."""
        return (
            f"{len(self.lanes)} lanes leave {self.source} at step {self.step} and train {self.steps} steps."
        )

    def curves(self, class_index: int | None, role: Role | None) -> RaceCurves | None:
        """Return the curves of one class, or of the mean of all; None before the first frame."""
        known = {} if role is None else self.dice.get(role, {})
        return known.get("" if class_index is None else self.class_names[class_index - 1])


def _or_alone(read: Callable[[HistoryFrame], WatchedSnapshot]) -> Callable[[HistoryFrame], WatchedSnapshot]:
    """Return what reads a frame with the label of its case, or alone where the data is not on this machine."""

    def load(frame: HistoryFrame) -> WatchedSnapshot:
        try:
            return read(frame)
        except SegExplorerError:
            return frame.load()

    return load


def _curves(record: RaceRecord, names: Sequence[str], role: Role) -> dict[str, RaceCurves]:
    found = {name: RaceCurves(name, record.dice(name, role)) for name in names}
    return found | {"": _mean(found) if len(found) > 1 else found[names[0]]}


def _mean(known: Mapping[str, RaceCurves]) -> RaceCurves:
    """Return the mean of the classes that a lane has a Dice of, at every step."""
    found: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
    first = next(iter(known.values()))
    for lane, (steps, _) in first.lanes.items():
        rows = np.array([curves.lanes[lane][1] for curves in known.values()], float)
        some = np.isfinite(rows)
        sums, counts = np.where(some, rows, 0).sum(0), some.sum(0)
        found[lane] = (steps, np.where(counts, sums / np.maximum(counts, 1), math.nan).tolist())
    return RaceCurves("all classes, mean", found)


DIFFERENCE = "difference"
"""Key of the picture, and name of the view, that shows where one lane alone is right."""
COLOURS: Mapping[int, str] = {ONLY_A: colours.ONLY_A, ONLY_B: colours.ONLY_B}
LANE_COLOURS: Mapping[str, str] = {A: colours.ONLY_A, B: colours.ONLY_B}
"""Lane -> colour of its curve; a control is grey."""


def lane_colour(lane: str) -> str:
    """Return the colour of a lane's curve."""
    return LANE_COLOURS.get(lane, colours.CONTROL)


@dataclass(frozen=True, eq=False)
class RaceSeen(Seen):
    """Lane A's prediction as it is seen, with the other lanes of the race at the same step.

    Attributes
    ----------
    others
        Lane -> its prediction with the same overlays, of all lanes but A.
    difference
        Where the lanes differ in the chosen class; None where the case has no label here.
    map
        Its picture.
    truth
        Lines of the truth alone, for the same.
    problem
        Why there is no difference.
    beside_curve
        Where the other lanes lie beside the curve on which a bias moves A; "" where nobody looks at its decision.
    """

    others: Mapping[str, Seen] = field(default_factory=dict)
    difference: LaneDifference | None = None
    map: Picture | None = None
    truth: Outlines | None = None
    problem: str = ""
    beside_curve: str = ""


def see_race(
    seen: Seen,
    read: Callable[[], Mapping[str, WatchedSnapshot]],
    *,
    threshold_ml: float = 0.0,
    known: Seen | None = None,
) -> RaceSeen:
    """See the other lanes as lane A is seen, and where they differ.

    Parameters
    ----------
    seen
        What `watched_case.see` made of lane A.
    read
        Returns lane -> prediction of the other lanes at that step.
    known
        What was seen of the same predictions before, which are not read again.
    """
    before = known if isinstance(known, RaceSeen) else None
    # of the other lanes nothing is listed, scored or turned into surfaces, and no bias moves their decision
    wanted = replace(seen.wanted, listed=False, settled=False, solid=False, bias=None)
    given = read() if before is None else {name: other.recorded for name, other in before.others.items()}
    others = {
        name: watched_case.see(snapshot, None, wanted, threshold_ml=threshold_ml)
        for name, snapshot in given.items()
    }
    own = {part.name: getattr(seen, part.name) for part in fields(Seen)}
    own["beside_curve"] = _beside_curve(seen, given)
    index = seen.wanted.class_index
    if before is not None and before.wanted.class_index == index:
        kept = {name: getattr(before, name) for name in ("difference", "map", "truth", "problem")}
        return RaceSeen(**own, others=others, **kept)
    try:
        difference = difference_of({A: seen.recorded, **given}, index)
    except DataError as error:
        return RaceSeen(**own, others=others, problem=str(error))
    lines = Outlines.of(seen.recorded, index)
    # what a lane predicts is in its own view
    truth = None if lines is None else replace(lines, prediction=np.zeros_like(lines.truth))
    picture = _difference_picture(seen.recorded, difference)
    return RaceSeen(**own, others=others, difference=difference, map=picture, truth=truth)


def _beside_curve(seen: Seen, others: Mapping[str, WatchedSnapshot]) -> str:
    """Say where the other lanes lie beside the curve of lane A, where its decision is looked at."""
    decision = seen.decision
    if decision is None or seen.curve is None:
        return ""
    index = decision.class_index
    counts = {
        name: counts_of(found.prediction, decision.labels, index, found.scheme)
        for name, found in others.items()
        if found.prediction.shape == decision.labels.shape
    }
    return lanes_text(seen.curve, counts)


def _difference_picture(snapshot: WatchedSnapshot, difference: LaneDifference) -> Picture:
    picture = picture_of(
        DIFFERENCE,
        "labels",
        f"only one of A and B right, {difference.class_name} ({watched_case.trained(snapshot)})",
        Volume.from_array(difference.map, affine=snapshot.affine),
        values=dict(NAMES),
        colours="lanes",
    )
    return replace(picture, open_at=fullest_slice(picture.data, list(NAMES)))


@dataclass(frozen=True, eq=False)
class LaneShown:
    """What the view of a lane, or of the difference, draws.

    Attributes
    ----------
    name, title
        Which it is, and what it trains.
    note
        Dice of the lane at the displayed step, or what the difference says in short.
    layers
        Overlay -> picture, over the image of the case.
    outlines
        Lines of truth and prediction; None where none are drawn.
    """

    name: str
    title: str
    note: str = ""
    layers: Mapping[str, Picture] = field(default_factory=dict)
    outlines: Outlines | None = None

    def same(self, other: LaneShown) -> bool:
        """Whether both draw the same."""
        return (
            (self.name, self.title, self.note) == (other.name, other.title, other.note)
            and self.outlines is other.outlines
            and self.layers.keys() == other.layers.keys()
            and all(picture is other.layers[key] for key, picture in self.layers.items())
        )


@dataclass(frozen=True, eq=False)
class RaceShown:
    """Everything that is drawn of a race beside lane A, which is drawn as any prediction is.

    Attributes
    ----------
    key
        Its folder.
    lanes
        The views: lane A (without layers, which are the viewer's own), the other lanes, and the difference.
    curves
        Dice of the chosen class in every lane; None before the first frame.
    step, first, last
        Step of what is drawn, None before there is a picture; and where the lanes begin and end.
    head, sentences
        Where the lanes begin, and what is said of their difference at that step.
    legend
        Colours of curves and of the difference.
    finished
        Whether every lane has come to its end.
    """

    key: str
    lanes: tuple[LaneShown, ...]
    curves: RaceCurves | None
    step: int | None
    first: int
    last: int
    head: str
    sentences: tuple[str, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    finished: bool = False

    def same(self, other: RaceShown) -> bool:
        """Whether both draw the same."""
        plain = ("key", "step", "first", "last", "head", "sentences", "legend", "finished")
        return (
            all(getattr(self, name) == getattr(other, name) for name in plain)
            and (self.curves is other.curves or self.curves == other.curves)
            and len(self.lanes) == len(other.lanes)
            and all(one.same(two) for one, two in zip(self.lanes, other.lanes, strict=True))
        )


def show_race(
    facts: RaceFacts, seen: Seen | None, overlays: frozenset[Any], class_index: int | None, role: Role | None
) -> RaceShown:
    """Return what is drawn of a race.

    Parameters
    ----------
    seen
        What is seen of it; None before there is a picture.
    overlays
        Overlays that are on; a picture may have been prepared with others.
    class_index, role
        The chosen class (None: all), and as what the case is watched.
    """
    curves = facts.curves(class_index, role)
    found = seen if isinstance(seen, RaceSeen) else None
    step = None if found is None else found.snapshot.step
    lanes = []
    for name, label in facts.lanes.items():
        note = "" if curves is None or step is None else curves.note(name, step)
        other = None if found is None else found.others.get(name)
        layers = {} if other is None else {p.key: p for p in other.pictures if p.key in overlays}
        lines = other.outlines if other is not None and "errors" in layers else None
        lanes.append(LaneShown(name, lane_title(name, label), note, layers, lines))
    lanes.append(_difference_shown(found))
    return RaceShown(
        facts.key,
        tuple(lanes),
        curves,
        step,
        facts.step,
        facts.step + facts.steps,
        facts.head,
        _sentences(curves, found),
        _legend(facts),
        facts.finished,
    )


def lane_title(name: str, label: str) -> str:
    """Return a lane with what it trains; a control says how it differs from A."""
    return f"{_lane(name)}: {label if name in (A, B) else 'as A, with other batches'}"


def _difference_shown(found: RaceSeen | None) -> LaneShown:
    title = "A against B"
    if found is None or found.difference is None or found.map is None:
        return LaneShown(DIFFERENCE, title)
    difference = found.difference
    if not difference.between(A, B):
        note = "right in the same voxels"
    elif not difference.controls:
        note = "without a control"
    elif difference.beyond:
        note = f"beyond the control: {_ml(difference.coloured_ml)} ml"
    else:
        note = "not beyond the control: nothing is coloured"
    return LaneShown(DIFFERENCE, title, note, {DIFFERENCE: found.map}, found.truth)


def _sentences(curves: RaceCurves | None, found: RaceSeen | None) -> tuple[str, ...]:
    if found is None:
        return ()
    dice = "" if curves is None else curves.sentence(found.snapshot.step)
    said = [dice] if dice else []
    if found.difference is not None:
        said += found.difference.sentences()
    return (*said, *(text for text in (found.problem, found.beside_curve) if text))


def _legend(facts: RaceFacts) -> tuple[LegendEntry, ...]:
    lines = (LegendEntry(lane_title(n, label), lane_colour(n), "line") for n, label in facts.lanes.items())
    return (
        *lines,
        *(LegendEntry(NAMES[value], colour) for value, colour in COLOURS.items()),
        *errors.legend(),
    )
