"""Scores and spreads as CSV that pandas reads back."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from segexplorer import metrics


def scores() -> list:
    truth = np.zeros((2, 6, 6, 6), np.uint8)
    truth[:, 1:4, 1:4, 1:4] = 1
    truth[0, 5, 5, 5] = 2
    found = truth.copy()
    found[0, 5, 5, 5] = 0
    found[1, 4, 1:4, 1:4] = 1
    return [
        s
        for case, p, t in zip(("a", 'quote", comma'), found, truth, strict=True)
        for s in metrics.score_case(p, t, ("organ", "lesion"), (2.0, 1.0, 1.0), case=case, surfaces=True)
    ]


def test_every_metric_and_state_of_every_case_and_class() -> None:
    table = pd.read_csv(io.StringIO(metrics.scores_to_csv(scores())))
    assert list(table["case"]) == ["a", "a", 'quote", comma', 'quote", comma']
    assert list(table["state"]) == ["scored", "missed", "scored", "absent"]
    assert set(metrics.default_names()) <= set(table.columns)
    for row, score in zip(table.to_dict("records"), scores(), strict=True):
        for name in metrics.default_names():
            assert row[name] == pytest.approx(score.metrics[name], nan_ok=True, rel=1e-15), name
        assert row["truth_ml"] == pytest.approx(score.truth_ml)
    assert np.isnan(table["hd95"][1]) and table["hd95_penalised"][1] == pytest.approx(
        np.hypot(12, 6 * 2**0.5)
    )


def test_the_spread_of_every_class_and_metric() -> None:
    table = pd.read_csv(io.StringIO(metrics.distributions_to_csv(metrics.distributions(scores()))))
    assert len(table) == 3 * len(metrics.default_names())
    organ = table[(table.class_name == "organ") & (table.metric == "hd")].iloc[0]
    assert (organ.n, organ.best_case, organ.worst_case, organ.best, organ.worst) == (
        2,
        "a",
        'quote", comma',
        0,
        2,
    )
    lesion = table[(table.class_name == "lesion") & (table.metric == "hd")].iloc[0]
    assert (lesion.n, lesion.n_missed, lesion.n_absent) == (0, 1, 1) and np.isnan(lesion["mean"])
