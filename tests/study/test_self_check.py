"""The self-check: a condition against itself from one's own runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.runs import grouped, read_run
from segexplorer.study.self_check import MOST_SPLITS, _splits, self_check

RunMaker = Callable[..., Path]


def folders(make_run: RunMaker, seeds: int, of_seeds: float = 0.03) -> list[Path]:
    rng = np.random.default_rng(1)
    case = rng.normal(size=10) * 0.05
    found = []
    for seed in range(seeds):
        values = 0.7 + case + of_seeds * rng.normal() + 0.005 * rng.normal(size=10)
        scores = [
            CaseScore(
                case=f"c{i}",
                class_name="liver",
                role="validation",
                state="scored",
                metrics={"dice": float(v)},
                false_positive_ml=0.0,
                false_negative_ml=0.0,
                truth_ml=1.0,
            )
            for i, v in enumerate(values)
        ]
        found.append(make_run(f"s{seed}", scores, loss="dice", seed=seed))
    return found


def test_single_seeds_differ_over_cases_and_halves_have_no_star(make_run: RunMaker) -> None:
    single, halves = self_check(grouped([read_run(f) for f in folders(make_run, 6)]), ["dice"])
    assert (single.seeds_per_side, single.splits, halves.seeds_per_side, halves.splits) == (1, 15, 3, 10)
    assert single.over_cases > 0.5 and single.starred == 0  # seeds move all cases together
    assert halves.crossed <= 0.1 and halves.starred == halves.crossed and halves.withheld == ""
    assert halves.n_cases == 10


def test_two_and_four_seeds_have_no_star_and_it_is_said(make_run: RunMaker) -> None:
    runs = folders(make_run, 4)
    checks = self_check(grouped([read_run(f) for f in runs]), ["dice"])
    assert [(c.seeds_per_side, c.splits) for c in checks] == [(1, 6), (2, 3)]
    assert checks[1].withheld.startswith("a star needs at least 3 seeds") and checks[1].starred == 0
    (only,) = self_check(grouped([read_run(f) for f in runs[:2]]), ["dice"])
    assert (only.seeds_per_side, only.splits) == (1, 1)
    with pytest.raises(SpecError, match="No condition has two seeds"):
        self_check(grouped([read_run(runs[0])]), ["dice"])


def test_splits_are_disjoint_and_each_is_taken_once() -> None:
    halves = list(_splits(range(6), 3))
    assert len(halves) == len({frozenset(pair) for pair in halves}) == 10
    assert all(not set(one) & set(other) and len(one) == len(other) == 3 for one, other in halves)
    many = list(_splits(range(20), 10))
    assert len(many) == len(set(many)) == MOST_SPLITS


def test_the_command_prints_it(make_run: RunMaker, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(f) for f in folders(make_run, 6)]
    assert cli(["compare", *runs, "--metrics", "dice", "--self-check"]) == 0
    shown = capsys.readouterr().out
    assert "dice, 3 seeds against 3" in shown and "10 splits of 6 seeds; n = 10 cases" in shown
    assert cli(["compare", *runs, "--metrics", "dice", "--self-check", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["self_check"]) == 2
    assert cli(["compare", runs[0], "--self-check"]) == 2
