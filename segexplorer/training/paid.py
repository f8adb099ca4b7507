"""What some steps paid: which regions of a watched case training improved from one recorded frame to another, and
which got worse for it.

Every frame has the soft volumes of extra (FP) and missed (FN) voxels of each class in each region of the loss,
on the training grid. Their difference between two frames says where the steps in between were spent: a loss that
mends one region at the cost of another shows it here, while the mean of the case hides it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport, Role
from segexplorer.core.regions import BoxRegions, MapRegions, Regions
from segexplorer.training.doctor.base import Box, box_of, middle_of
from segexplorer.training.history import HistoryFrame, RunRecord
from segexplorer.training.snapshots import WatchedSnapshot

LEAST_ML = 1e-3
"""Change of a region's error volume that is worth a row, ml: a cubic millimetre."""


@dataclass(frozen=True)
class RegionChange:
    """How the errors of one class changed in one region.

    Attributes
    ----------
    class_name, class_index
        The class; 0 is the background.
    region
        Number of the region in the whole volume.
    extra_ml, missed_ml
        Change of the soft volumes of false positives and false negatives, ml; negative: fewer errors.
    box
        Its voxels on the training grid; None for a region that is no box.
    world
        Its middle in RAS mm.
    """

    class_name: str
    class_index: int
    region: int
    extra_ml: float
    missed_ml: float
    box: Box | None
    world: tuple[float, ...]

    @property
    def change_ml(self) -> float:
        """Change of all errors of the class in the region, ml; negative: the region improved."""
        return self.extra_ml + self.missed_ml


@dataclass(frozen=True)
class Payment:
    """The difference of two frames of a watched case, region by region.

    Attributes
    ----------
    case, role, before, after
        Whose, and the steps of the two frames.
    changes
        The regions that changed, for every foreground class, the most improved first and those that paid last.
    report
        The same as numbers per class and region, ml: "extra", "missed" and "change"; a viewer paints it.
    affine
        (4, 4) voxel -> RAS mm of the training grid that the regions divide.
    """

    case: str
    role: Role
    before: int
    after: int
    changes: tuple[RegionChange, ...]
    report: RegionReport
    affine: NDArray[np.float64]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Classes of which something changed."""
        return tuple(dict.fromkeys(change.class_name for change in self.changes))

    def improved(self, class_name: str | None = None) -> tuple[RegionChange, ...]:
        """Return the regions with fewer errors than before, the most improved first."""
        return tuple(c for c in self._of(class_name) if c.change_ml < 0)

    def paid(self, class_name: str | None = None) -> tuple[RegionChange, ...]:
        """Return the regions with more errors than before, the worst first."""
        return tuple(c for c in reversed(self._of(class_name)) if c.change_ml > 0)

    def _of(self, class_name: str | None) -> Sequence[RegionChange]:
        return [c for c in self.changes if class_name in (None, c.class_name)]

    def sentence(self, class_name: str | None = None) -> str:
        """Return what the steps did, of one class or of all, in one or two sentences."""
        better, worse = self.improved(class_name), self.paid(class_name)
        what = class_name or "the case"
        if not better and not worse:
            return f"From step {self.before} to {self.after}, nothing changed in {what}."
        won, lost = -math.fsum(c.change_ml for c in better), math.fsum(c.change_ml for c in worse)
        text = (
            f"From step {self.before} to {self.after}, {what} has {_ml(won)} ml fewer errors in "
            f"{_regions(len(better))} and {_ml(lost)} ml more in {_regions(len(worse))}"
        )
        ends = [_named("most improved", better[:1], class_name), _named("most paid", worse[:1], class_name)]
        return f"{text}{''.join(ends)}."

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return the changes as rows of a table, the most improved first."""
        return [
            {
                "class": c.class_name,
                "region": c.region,
                "change_ml": c.change_ml,
                "extra_ml": c.extra_ml,
                "missed_ml": c.missed_ml,
                "box": "" if c.box is None else " x ".join(f"{a}-{b - 1}" for a, b in c.box),
                "x_mm": c.world[0],
                "y_mm": c.world[1],
                "z_mm": c.world[2],
            }
            for c in self.changes
        ]


def _ml(value: float) -> str:
    return f"{value:.3g}"


def _regions(count: int) -> str:
    return f"{count} region{'' if count == 1 else 's'}"


def _named(what: str, changes: Sequence[RegionChange], class_name: str | None) -> str:
    if not changes:
        return ""
    one = changes[0]
    whose = "" if class_name else f"{one.class_name} "
    kind = "missed" if abs(one.missed_ml) >= abs(one.extra_ml) else "extra"
    at = ", ".join(f"{v:.0f}" for v in one.world)
    return f"; {what}: {whose}at ({at}) mm, {one.change_ml:+.3g} ml, mostly {kind}"


def what_was_paid(
    record: RunRecord, *, role: Role = "validation", before: int | None = None, after: int | None = None
) -> Payment:
    """Return which regions of a watched case the steps between two of its frames improved, and which paid.

    Parameters
    ----------
    role
        "validation" or "train": which of the watched cases.
    before, after
        Steps of two recorded frames; None: the first and the last one.

    Raises
    ------
    DataError
        When there are no such frames, they are of different cases, or their regions differ.
    """
    frames = record.watched(role)
    if len(frames) < 2:
        raise DataError(
            f"{record.folder.name} has {len(frames)} recorded predictions of a {role} case, and two are compared.",
            "Wait for the next validation.",
        )
    one, two = _frame(frames, before, frames[0]), _frame(frames, after, frames[-1])
    return compare_snapshots(one.load(), two.load())


def _frame(frames: Sequence[HistoryFrame], step: int | None, default: HistoryFrame) -> HistoryFrame:
    if step is None:
        return default
    found = [frame for frame in frames if frame.step == step]
    if not found:
        steps = ", ".join(str(frame.step) for frame in frames[:20])
        raise DataError(f"There is no frame of step {step}.", f"Choose one of {steps}.")
    return found[-1]


def compare_snapshots(before: WatchedSnapshot, after: WatchedSnapshot) -> Payment:
    """Return what changed between two predictions of a case, live or recorded; see `what_was_paid`."""
    if before.case != after.case:
        raise DataError(
            f"The frames are of two cases, {before.case} and {after.case}.", "Choose frames of one case."
        )
    if before.regions is None or after.regions is None or after.regions_affine is None:
        raise DataError(
            f"There are no numbers per region of {after.case}.",
            "The case needs a label, and a loss that fits it.",
        )
    regions = after.regions.regions
    if not _same(before.regions.regions, regions):
        raise DataError(
            "The loss divided the case differently at the two steps.", "Choose frames of one setting."
        )
    affine = after.regions_affine
    ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    extra, missed = (_difference(before.regions, after.regions, name) * ml for name in ("fp", "fn"))
    report = RegionReport.of(
        {"extra": extra, "missed": missed, "change": extra + missed},
        regions,
        f"whole case, step {before.step} to {after.step}",
    )
    middles = _middles(regions, affine)
    changes = [
        RegionChange(
            name, index, int(regions.ids[r]), float(extra[index, r]), float(missed[index, r]), box_of(regions, r),
            middles[r],
        )
        for index, name in enumerate(after.class_names, 1)
        for r in range(len(regions.ids))
        if abs(float(extra[index, r])) + abs(float(missed[index, r])) >= LEAST_ML
    ]  # fmt: skip
    changes.sort(key=lambda c: c.change_ml)
    return Payment(after.case, after.role, before.step, after.step, tuple(changes), report, affine)


def _difference(before: RegionReport, after: RegionReport, name: str) -> NDArray[np.float32]:
    """Return (C, R) what there is more of after than before; 0 where the loss skips a class in a region."""
    if name not in before.values or name not in after.values:
        raise DataError(
            "The loss recorded no volumes of extra and missed voxels.", "Compare frames of another run."
        )
    return np.asarray(np.nan_to_num(after.values[name]) - np.nan_to_num(before.values[name]), np.float32)


def _same(one: Regions, other: Regions) -> bool:
    if isinstance(one, BoxRegions) and isinstance(other, BoxRegions):
        return one.edges == other.edges
    if isinstance(one, MapRegions) and isinstance(other, MapRegions):
        return np.array_equal(one.labels, other.labels) and np.array_equal(one.ids, other.ids)
    return False


def _middles(regions: Regions, affine: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Return the middle of each region in mm: of a box its centre, of another region its centre of mass."""
    if isinstance(regions, BoxRegions):
        boxes = [box_of(regions, r) for r in range(len(regions.ids))]
        return [middle_of(box, affine) for box in boxes if box is not None]
    from scipy import ndimage

    numbers = regions.numbers()
    centres = ndimage.center_of_mass(np.ones(numbers.shape, np.uint8), numbers, range(len(regions.ids)))
    return [tuple(float(v) for v in affine[:3, :3] @ np.asarray(c) + affine[:3, 3]) for c in centres]
