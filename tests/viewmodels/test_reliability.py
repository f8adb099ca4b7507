"""The reliability diagram of a watched case, and the curve of its error."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core.events import WatchedDone
from segexplorer.metrics.calibration import ANY_CLASS, CalibrationCounts
from segexplorer.viewmodels.curves import CALIBRATION, Curves
from segexplorer.viewmodels.reliability import WatchedCalibration


def watched(index: int, confidence: float, *, role: str = "validation", step: int = 0) -> WatchedDone:
    """Return the event of a case of 8^3 voxels, of which 6^3 are liver, seen everywhere with this probability."""
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[1:7, 1:7, 1:7] = 1
    liver = np.where(truth, confidence, 1 - confidence).astype(np.float32)
    counts = CalibrationCounts(["liver"])
    counts.add(np.stack([1 - liver, liver]), (liver > 0.5).astype(np.uint8), truth, (1.0, 1.0, 1.0))
    return WatchedDone(case="a", role=role, index=index, step=step, calibration=counts.reliability())  # type: ignore[arg-type]


def test_diagram_of_the_frame_that_is_shown() -> None:
    held = WatchedCalibration()
    held.extend([watched(0, 0.7), watched(1, 0.9), watched(0, 0.6, role="train")])
    shown = held.diagram("validation", 1)
    assert shown is not None and shown.class_name == ANY_CLASS
    # every voxel is right, and the network says 0.9
    (bar,) = shown.bars
    assert bar.right == 1 and bar.confidence == pytest.approx(0.9) and bar.voxels == 512
    assert shown.figures[:2] == ("ECE 0.1", "Brier 0.02") and shown.verdict == "too low on average"
    of_liver = held.diagram("validation", 0, "liver")
    assert of_liver is not None and [bar.right for bar in of_liver.bars] == [0, 1]
    assert of_liver.figures[0] == "ECE 0.3"
    assert held.diagram("train", 0) is not None and held.diagram("train", 5) is None


def test_calibration_error_becomes_a_curve_of_the_validation_case() -> None:
    curves = Curves()
    curves.extend(
        [
            watched(0, 0.7, step=10),
            watched(0, 0.6, step=10, role="train"),
            watched(1, 0.9, step=20),
            WatchedDone(case="a", role="validation", index=2, step=30),
        ]
    )
    steps, values = curves.series(CALIBRATION)[ANY_CLASS]
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_allclose(values, [0.3, 0.1], rtol=1e-6)
    assert CALIBRATION in [plot.key for plot in curves.plots()]
