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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import Role
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.study.race import A, B, RaceRecord, open_race
from segexplorer.viewmodels.watched_case import RunHistoryLoader

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
            return [*found, f"{compared}: that is not beyond the control, so nothing is coloured."]
        lanes = len(self.controls) + 2
        return [
            *found,
            f"{compared}: B is beyond the control. Coloured are the {_ml(self.coloured_ml)} ml in which A and "
            f"{'all controls agree' if len(self.controls) > 1 else 'the control agree'}.",
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
        return f"{head} B is {'' if is_beyond else 'not '}beyond the control."


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
        first = loaded[A]
        if first.truth is None:
            raise DataError(f"{first.case} has no label here.", "Open the race where its data is.")
        if class_name is not None and class_name not in first.class_names:
            raise DataError(
                f"There is no class {class_name!r}.", f"Choose one of {', '.join(first.class_names)}."
            )
        return compare_lanes(
            first.truth,
            {name: snapshot.prediction for name, snapshot in loaded.items()},
            class_index=None if class_name is None else 1 + first.class_names.index(class_name),
            class_name=class_name or "all classes",
            step=at,
            voxel_ml=abs(float(np.linalg.det(first.affine[:3, :3]))) / 1000,
            scheme=first.scheme,
        )

    def sentences(self, role: Role = "validation") -> list[str]:
        """Say for every class how the lanes differ at their newest common frame."""
        found = []
        for name in self.class_names:
            difference = self.difference(name, role=role)
            dice = self.curves(name, role).sentence(difference.step)
            found += [*([dice] if dice else []), *difference.sentences()]
        return found
