"""The reliability diagram of a watched case: which curve is shown, its bars, and its figures in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from segexplorer.core.events import CalibrationRegion, Event, Reliability, Role, WatchedDone
from segexplorer.metrics.calibration import (
    ANY_CLASS,
    MARGIN_MM,
    DiagramBar,
    brier_score,
    curve_of,
    diagram,
    ece,
    negative_log_likelihood,
)
from segexplorer.training.step_columns import events_of

WHERE: dict[CalibrationRegion, str] = {
    "box": f"the box around the truth's foreground, {MARGIN_MM:g} mm wider",
    "all": "all voxels",
}
"""Regions in words."""


@dataclass(frozen=True)
class ReliabilityDiagram:
    """What is drawn: one bar per bin that has voxels, beside the diagonal of a calibrated network.

    Attributes
    ----------
    class_name
        The class, or "any class" for the predicted one.
    bars
        Mean probability and share of right voxels per bin.
    figures
        Lines of text: ECE, Brier score, negative log-likelihood, voxels, region.
    verdict
        On which side of the diagonal most voxels of the curve are.
    """

    class_name: str
    bars: tuple[DiagramBar, ...]
    figures: tuple[str, ...]
    verdict: str


class WatchedCalibration:
    """The curves of every prediction of the watched cases, by role and frame."""

    def __init__(self) -> None:
        self._curves: dict[tuple[Role, int], tuple[Reliability, ...]] = {}

    def extend(self, events: Iterable[Event]) -> None:
        """Take over what a run reports."""
        for event in events_of(events, WatchedDone):
            if event.calibration:
                self._curves[event.role, event.index] = event.calibration

    def diagram(
        self, role: Role, index: int, class_name: str = "", region: CalibrationRegion = "box"
    ) -> ReliabilityDiagram | None:
        """Return the diagram of a class in a frame, by default of any class; None where nothing is recorded."""
        curves = self._curves.get((role, index))
        return None if curves is None else reliability_diagram(curves, class_name, region)


def reliability_diagram(
    curves: tuple[Reliability, ...], class_name: str = "", region: CalibrationRegion = "box"
) -> ReliabilityDiagram | None:
    """Return the diagram of a class, by default of any class; None where its region has no voxel."""
    curve = curve_of(curves, class_name or ANY_CLASS, region)
    if not curve.voxels:
        return None
    return ReliabilityDiagram(
        class_name=curve.class_name,
        bars=diagram(curve),
        figures=(
            f"ECE {ece(curve):.3g}",
            f"Brier {brier_score(curve):.3g}",
            f"NLL {negative_log_likelihood(curve):.3g}",
            f"{curve.voxels:,} voxels",
            WHERE[region],
        ),
        verdict=_verdict(curve),
    )


def _verdict(curve: Reliability) -> str:
    """Return whether probabilities are too high or too low on the whole, by more than a tenth of the error."""
    excess = (sum(curve.confidences) - sum(curve.corrects)) / curve.voxels
    if abs(excess) <= ece(curve) / 10:
        return "too high in some bins, too low in others"
    return "too high on average" if excess > 0 else "too low on average"
