"""Which comparisons may have a star: those whose design was measured to be wrong in at most 5 % of A/A studies.

An A/A study compares a condition with itself under other seeds, so whatever it finds is a false alarm. `make study`
simulates the rates, and the coverage of the intervals, and writes them to `measured_rates.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

HIGHEST_RATE = 0.05
"""Share of A/A studies that may find a difference."""

FEWEST_SEEDS = 3
"""Trainings of each condition below which there is no star, whatever was measured."""

RATES_FILE = "measured_rates.json"


@dataclass(frozen=True)
class Design:
    """What a comparison consists of, as far as its A/A rate depends on it.

    Attributes
    ----------
    cases, seeds, folds
        Cases that are compared; seeds of the side that has fewer; folds that the cases come from, 1 without.
    failing
        Share of scores that are of a missed structure or of one that is not there, of both sides together.
    """

    cases: int
    seeds: int
    folds: int = 1
    failing: float = 0.0


@cache
def measured() -> Mapping[str, Any]:
    """Return the shipped file: rates and coverages by design, and what the words in them mean."""
    text = files("segexplorer.study").joinpath(RATES_FILE).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def aa_rate(design: Design) -> float:
    """Return the measured A/A rate of the nearest design that has no more of anything that helps; NaN for none.

    That is the largest measured number of cases, seeds and folds that the design reaches, and the smallest measured
    share of failing cases that it stays under. The rate is the highest over the distributions and seed spreads that
    were simulated.
    """
    rows = measured()["aa"]
    for name, value in (("cases", design.cases), ("folds", design.folds), ("seeds", design.seeds)):
        largest = max((row[name] for row in rows if row[name] <= value), default=None)
        rows = [row for row in rows if row[name] == largest]
    # a study without a failing case may yet come from a population that has some
    covering = sorted({row["failing"] for row in rows if row["failing"] >= design.failing - 1e-9})
    rates = [row["rate"] for row in rows if covering and row["failing"] <= covering[0]]
    return max(rates, default=math.nan) if None not in rates else math.nan


def withheld(design: Design) -> str:
    """Return why a comparison of this design has no star, as the clause of a sentence; "" if it may have one."""
    if design.seeds < FEWEST_SEEDS:
        there = "there is one" if design.seeds == 1 else f"there are {design.seeds}"
        return f"a star needs at least {FEWEST_SEEDS} seeds of each condition, and {there}"
    rate = aa_rate(design)
    what = f"{design.cases} cases, {design.seeds} seeds"
    what += f", {design.folds} folds" if design.folds > 1 else ""
    what += f" and {100 * design.failing:.0f} % failing scores" if design.failing else ""
    if math.isnan(rate):
        return f"no A/A rate was measured for {what}"
    if rate > HIGHEST_RATE:
        return f"a condition differs from itself in {100 * rate:.1f} % of A/A studies with {what}"
    return ""
