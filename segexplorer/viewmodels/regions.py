"""The regional FP-FN balance of one class: as colours over the anatomy, as a sentence, and as a histogram.

Alpha weighs false positives and beta false negatives. Their sum is constant in every region loss, so one
diverging colour scale shows both: from missed (violet) to extra (gold). Those are not the colours of errors, and
regions are filled boxes over which errors are outlines, so that neither is taken for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.core.regions import BoxRegions, Regions

Quantity = Literal["balance", "alpha", "beta"]
TITLES: dict[Quantity, str] = {
    "balance": "FP-FN balance",
    "alpha": "penalty for false positives (alpha)",
    "beta": "penalty for false negatives (beta)",
}
LEVELS, STRENGTHS = 31, 8
"""Colours of a map along its scale, and opacities of each; an odd number of colours, so that one is the middle."""
OPAQUE_SHARE = 0.1
"""A region is drawn fully opaque from so much error on, as a part of the volume of the median region."""


@dataclass(frozen=True)
class RegionPicture:
    """One class's regions, ready to be painted.

    Attributes
    ----------
    values
        (n1, n2, n3) float32, one number per box, or (R,) per region of any shape; NaN where nothing is shown.
    opacity
        As `values`, from 0 to 1: the square root of the error volume as a part of `full_ml`; 0 where nothing is
        shown.
    limits
        Values at the ends of the colours.
    regions
        Where the regions are, as in `RegionReport`.
    full_ml
        Error volume of a region drawn fully opaque, ml.
    """

    quantity: Quantity
    values: NDArray[np.float32]
    opacity: NDArray[np.float32]
    limits: tuple[float, float]
    regions: Regions
    full_ml: float

    def colour_indices(self) -> NDArray[np.uint8]:
        """Return (R,) the place of each region's colour in `map_colours`; 0 where nothing is shown."""
        low, high = self.limits
        values, opacity = self.values.ravel(), self.opacity.ravel()
        shown = np.isfinite(values)
        position = (np.where(shown, values, low) - low) / (high - low)
        level = np.rint(np.clip(position, 0, 1) * (LEVELS - 1))
        strength = np.floor(opacity * STRENGTHS)  # next to no error is nothing to see
        found = np.where(shown & (strength > 0), 1 + level * STRENGTHS + strength - 1, 0)
        return found.astype(np.uint8)

    def paint(self) -> NDArray[np.uint8]:
        """Return the colour indices as voxels; regions are filled, never interpolated."""
        # voxels without a region have a negative number: they take the last entry
        painted: NDArray[np.uint8] = np.append(self.colour_indices(), np.uint8(0))[self.regions.numbers()]
        return painted

    @property
    def names(self) -> dict[int, str]:
        """Colour index -> the value that it stands for, e.g. "balance -0.47"."""
        low, high = self.limits
        return {
            1
            + level * STRENGTHS
            + strength: f"{self.quantity} {low + (high - low) * level / (LEVELS - 1):.2f}"
            for level in range(LEVELS)
            for strength in range(STRENGTHS)
        }


def map_colours(quantity: Quantity) -> NDArray[np.float32]:
    """Return (1 + LEVELS * STRENGTHS, 4) colours of the colour indices of a map; the first is transparent.

    They are the same for every frame, case and run. A high beta means that much was missed, so its scale is turned.
    """
    ramp = np.repeat(colours.diverging(LEVELS, flipped=quantity == "beta"), STRENGTHS, axis=0)
    ramp[:, 3] = np.tile(np.arange(1, STRENGTHS + 1) / STRENGTHS, LEVELS)
    return np.concatenate([np.zeros((1, 4), np.float32), ramp])


@dataclass(frozen=True)
class Scale:
    """The scale of a map, as a colour bar draws it.

    Attributes
    ----------
    quantity, title, scope
        What is mapped, of which class, and measured on what.
    limits
        Values at the ends.
    full_ml
        Error volume of a region drawn fully opaque, ml.
    """

    quantity: Quantity
    title: str
    scope: str
    limits: tuple[float, float] = (-1.0, 1.0)
    full_ml: float = 0.0

    @property
    def colours(self) -> NDArray[np.float32]:
        """(n, 4) opaque colours from the lower end to the upper."""
        return map_colours(self.quantity)[STRENGTHS::STRENGTHS]

    @property
    def ticks(self) -> tuple[str, ...]:
        """Numbers below the bar, evenly spaced from its lower end to its upper."""
        low, high = self.limits
        if self.quantity == "balance":
            return "−1", "0", "+1"
        return f"{low:.2f}", f"{(low + high) / 2:.2f}", f"{high:.2f}"

    @property
    def ends(self) -> tuple[str, str]:
        """What the lower and the upper end mean."""
        if self.quantity == "balance":
            return "missed", "extra"
        return ("extra", "missed") if self.quantity == "beta" else ("missed", "extra")

    @property
    def note(self) -> str:
        """What fainter colours mean."""
        return f"fainter = less error, full at {millilitres(self.full_ml)}"


def region_picture(
    report: RegionReport,
    class_index: int,
    voxel_ml: float,
    *,
    quantity: Quantity = "balance",
    threshold_ml: float = 0.0,
    limits: tuple[float, float] | None = None,
) -> RegionPicture:
    """Make the picture of one class. Nothing in it depends on other frames, and scale and opacity on no frame.

    Parameters
    ----------
    report
        Region numbers of a volume or patch, `fp` and `fn` in voxels.
    class_index
        Row of the report, 0 = background.
    voxel_ml
        Volume of a voxel of the report's grid, ml.
    quantity
        "balance" is (fp - fn) / (fp + fn), from -1 (all missed) to 1 (all extra).
    threshold_ml
        Boxes whose error volume (fp + fn) is below it are not shown; nor are those without any error or that
        the loss skips (NaN).
    limits
        Least and greatest penalty under the loss (`losses.base.penalty_range`); None where that is unknown: from 0
        to the sum of both.

    Raises
    ------
    DataError
        When the report has no such class or does not carry what the quantity needs.
    """
    fp, fn = _row(report, "fp", class_index), _row(report, "fn", class_index)
    error_ml = (fp + fn) * voxel_ml
    values = _balance(fp, fn) if quantity == "balance" else _row(report, quantity, class_index)
    shown = np.isfinite(values) & np.isfinite(error_ml) & (error_ml > 0) & (error_ml >= threshold_ml)
    full = OPAQUE_SHARE * _median_voxels(report.regions) * voxel_ml
    opacity = np.sqrt(np.clip(np.where(shown, error_ml, 0) / full, 0, 1))
    if quantity == "balance":
        limits = (-1.0, 1.0)
    return RegionPicture(
        quantity=quantity,
        values=np.where(shown, values, np.nan).astype(np.float32).reshape(report.counts),
        opacity=opacity.astype(np.float32).reshape(report.counts),
        limits=limits or _penalty_limits(report, class_index),
        regions=report.regions,
        full_ml=full,
    )


def _median_voxels(regions: Regions) -> float:
    """Return the volume of the median region, in voxels; 1 at least."""
    if isinstance(regions, BoxRegions):
        sizes: NDArray[Any] = np.ones(1)
        for edges in regions.edges:
            sizes = np.multiply.outer(sizes, np.diff(edges))
    else:
        sizes = np.bincount(regions.labels.ravel() + 1, minlength=1)[1:]
    sizes = sizes[sizes > 0]
    return float(np.median(sizes)) if sizes.size else 1.0


def _row(report: RegionReport, name: str, class_index: int) -> NDArray[np.float64]:
    if name not in report.values:
        raise DataError(
            f"The loss reports no {name} per region.", f"It reports {', '.join(report.values) or 'nothing'}."
        )
    rows = report.values[name]
    if not 0 <= class_index < len(rows):
        raise DataError(f"The report has {len(rows)} classes, counted from 0; there is no {class_index}.")
    row: NDArray[np.float64] = rows[class_index].astype(np.float64)
    return row


def _balance(fp: NDArray[np.float64], fn: NDArray[np.float64]) -> NDArray[np.float64]:
    total = fp + fn
    balance: NDArray[np.float64] = np.full_like(total, np.nan)
    np.divide(fp - fn, total, out=balance, where=total > 0)
    return balance


def _penalty_limits(report: RegionReport, class_index: int) -> tuple[float, float]:
    """Return 0 and the sum of both penalties, which is the same in every region and frame."""
    both = _row(report, "alpha", class_index) + _row(report, "beta", class_index)
    both = both[np.isfinite(both)]
    return 0.0, (round(float(np.median(both)), 2) if both.size else 0.0) or 1.0


def box_at(edges: Sequence[Sequence[int]], voxel: Sequence[float]) -> int | None:
    """Return the flat index of the box that a voxel is in, the last axis running fastest; None outside."""
    return BoxRegions.of(edges).region_at(_whole(voxel))


def _whole(voxel: Sequence[float]) -> tuple[int, ...]:
    """Return the voxel that a position is in; centres are whole numbers."""
    return tuple(int(np.floor(position + 0.5)) for position in voxel)


def read_out(report: RegionReport, class_index: int, voxel: Sequence[float], voxel_ml: float) -> str:
    """Return the sentence for the region under the cursor; empty outside all regions.

    Parameters
    ----------
    voxel
        Position in voxels of the report's grid; voxel centres are whole numbers.
    """
    box = report.regions.region_at(_whole(voxel))
    if box is None:
        return ""
    fp, fn = (float(_row(report, name, class_index)[box]) for name in ("fp", "fn"))
    if not np.isfinite([fp, fn]).all():
        return "the loss skips this class here"
    text = f"{millilitres(fp * voxel_ml)} extra, {millilitres(fn * voxel_ml)} missed"
    if {"alpha", "beta"} <= report.values.keys():
        alpha, beta = (float(_row(report, name, class_index)[box]) for name in ("alpha", "beta"))
        if np.isfinite([alpha, beta]).all():
            return f"{text}: FP penalty {_short(alpha)}, FN {_short(beta)}"
        return f"{text}: the loss skips this class here"
    return text


def millilitres(volume: float) -> str:
    """Return a volume with a sensible number of digits: "0.02 ml", "3.1 ml", "41 ml"."""
    digits = 0 if volume >= 10 else 1 if volume >= 0.1 or volume == 0 else 2
    return f"{volume:.{digits}f} ml"


def _short(value: float) -> str:
    """Two decimals, without the zero before the point."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text


BINS = 20


@dataclass(frozen=True)
class BalanceHistogram:
    """Error volume by balance.

    Attributes
    ----------
    class_name
        Whose errors.
    edges
        (BINS + 1,) balances from -1 (all missed) to 1 (all extra).
    error_ml
        (BINS,) soft error volume of the regions in each bin, ml.
    regions
        Number of regions with error.
    scope
        What was measured, as `RegionReport.scope`.
    """

    class_name: str
    edges: NDArray[np.float64]
    error_ml: NDArray[np.float64]
    regions: int
    scope: str = ""

    @property
    def colours(self) -> NDArray[np.float32]:
        """(BINS, 4) colours of the bins, as in the picture over the anatomy."""
        return colours.diverging(BINS)


def balance_histogram(
    report: RegionReport, class_index: int, voxel_ml: float, class_name: str
) -> BalanceHistogram:
    """Sum the error volume of one class's regions by their balance (FP - FN) / (FP + FN).

    Weighting by volume keeps the many regions with next to no error from hiding the few that matter.

    Parameters
    ----------
    class_index
        Row of the report, 0 = background.
    voxel_ml
        Volume of a voxel of the report's grid, ml.

    Raises
    ------
    DataError
        When the report has no such class, or reports no errors.
    """
    balance = region_picture(report, class_index, voxel_ml).values.ravel()
    # numpy adds up the weights of a histogram in their own type
    error = (_row(report, "fp", class_index) + _row(report, "fn", class_index)) * voxel_ml
    shown = np.isfinite(balance)
    sums, edges = np.histogram(balance[shown], bins=BINS, range=(-1, 1), weights=error[shown])
    return BalanceHistogram(class_name, edges, sums, int(shown.sum()), report.scope)
