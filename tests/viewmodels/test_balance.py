"""The balance histogram: volumes by hand, nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core.events import RegionReport
from segexplorer.viewmodels.regions import BINS, balance_histogram


def report(fp: list[float], fn: list[float]) -> RegionReport:
    values = {"fp": np.array([fp, fp], np.float32), "fn": np.array([fn, fn], np.float32)}
    edges = tuple(tuple(range(0, 2 * n + 1, 2)) for n in (len(fp), 1, 1))
    return RegionReport(values, edges)


def test_volumes_land_in_the_bin_of_their_balance() -> None:
    found = balance_histogram(report([10, 0, 3, 0], [0, 20, 3, 0]), 1, 0.5, "liver")
    assert found.regions == 3 and found.class_name == "liver"
    assert found.error_ml[-1] == 5 and found.error_ml[0] == 10
    assert found.error_ml[BINS // 2] == 3
    assert found.error_ml.sum() == pytest.approx(18)
    assert len(found.edges) == len(found.colours) + 1 == BINS + 1


def test_regions_that_the_loss_skips_do_not_count() -> None:
    found = balance_histogram(report([10, float("nan")], [0, float("nan")]), 1, 1.0, "liver")
    assert found.regions == 1 and found.error_ml.sum() == 10
