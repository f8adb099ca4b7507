"""Measure how often comparisons are wrong where the truth is known: `make study`.

Scores are simulated because only then the truth is known, and because rates of 5 % need thousands of studies. They
look like those of studies of losses: a few cases that differ much more than the conditions do, seeds that move all
cases of a run together, and cases that some runs fail on. The result is the table that decides about stars
(`segexplorer/study/measured_rates.json`), and `scripts/write_pages.py` prints it into the documentation.

Everything is drawn from fixed seeds: the same versions of numpy and scipy give the same file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import t, wilcoxon

from segexplorer.core.atomic_files import atomic_write
from segexplorer.metrics import bootstrap_interval
from segexplorer.study.inference import crossed_estimate

FILE = Path(__file__).resolve().parents[1] / "segexplorer" / "study" / "measured_rates.json"

CASES = (5, 8, 16, 30)
SEEDS = (1, 2, 3, 5, 10)
FOLDS = (1, 2, 5)
SPREADS = (0.0, 0.5, 1.0, 4.0)
"""Standard deviation of what a seed adds to all its cases, over that of what it adds to a single one."""
LEVEL = 0.05
FEWEST_CASES_OF_A_FOLD = 3

Array = NDArray[np.float64]


# ---- populations


def normal(rng: np.random.Generator, case: Array, noise: Array) -> Array:
    """Dice around 0.8 without skew: cases 0.08, residuals 0.02."""
    return 0.8 + 0.08 * case + 0.02 * noise


def skewed(rng: np.random.Generator, case: Array, noise: Array) -> Array:
    """Dice with a long tail of hard cases, on which trainings differ more, too (normal on the logit scale)."""
    return expit(2 + case + 0.25 * noise)


def _failing(share: float) -> Callable[[np.random.Generator, Array, Array], Array]:
    def scores(rng: np.random.Generator, case: Array, noise: Array) -> Array:
        hard = rng.random(case.shape) < 2 * share
        missed = hard & (rng.random(noise.shape) < 0.5)
        return np.where(missed, 0.0, skewed(rng, case, noise))

    return scores


def collapsing(rng: np.random.Generator, case: Array, noise: Array) -> Array:
    """One training in ten ends at 30 % of its Dice."""
    collapsed = rng.random((*noise.shape[:-1], 1)) < 0.1
    return np.where(collapsed, 0.3, 1.0) * skewed(rng, case, noise)


Scores = Callable[[np.random.Generator, Array, Array], Array]
POPULATIONS: dict[str, tuple[float, str, Scores]] = {
    "normal": (0.0, "Dice around 0.8, normal", normal),
    "skewed": (0.0, "Dice with a tail of hard cases", skewed),
    "collapsing seeds": (0.0, "skewed, and 10 % of trainings lose 70 % of their Dice", collapsing),
    "10 % failing": (
        0.1,
        "skewed; 10 % of scores are 0: half of the runs miss each of 20 % of cases",
        _failing(0.1),
    ),
    "30 % failing": (
        0.3,
        "skewed; 30 % of scores are 0: half of the runs miss each of 60 % of cases",
        _failing(0.3),
    ),
}
"""Name -> share of failing scores, meaning, scores from standard normal cases (N, 1, n) and noise (N, seeds, n)."""


def drawn(
    population: str, studies: int, seeds: int, cases: int, spread: float, folds: int, rng: np.random.Generator
) -> Array:
    """Draw scores (studies, seeds, cases) of one condition; every seed trains anew in each fold."""
    case = rng.standard_normal((studies, 1, cases))
    effects = rng.standard_normal((studies, seeds, folds))[..., np.arange(cases) % folds]
    noise = rng.standard_normal((studies, seeds, cases)) + spread * effects
    return POPULATIONS[population][2](rng, case, noise)


# ---- a condition against itself


def aa_rates(
    population: str,
    seeds: int,
    cases: int,
    spread: float,
    folds: int = 1,
    studies: int = 20_000,
    entropy: int = 0,
) -> tuple[float, float]:
    """Return the share of A/A studies with p below 5 %: crossed with seeds (NaN for one), and over cases alone.

    The latter is Wilcoxon's test of the cases' mean differences over seeds, on the first 4,000 studies.
    """
    found = []
    rng = np.random.default_rng([entropy, seeds, cases, folds, int(10 * spread), len(population)])
    for _ in range(max(1, studies // 10_000)):
        scores = drawn(population, min(studies, 10_000), 2 * seeds, cases, spread, folds, rng)
        ours, theirs = scores[:, :seeds], scores[:, seeds:]
        if not found:
            differences = (ours.mean(1) - theirs.mean(1))[:4000]
            over_cases = float((wilcoxon(differences, axis=1, method="exact").pvalue < LEVEL).mean())
        found.append(crossed_estimate(ours, theirs).p < LEVEL if seeds > 1 else np.array([np.nan]))
    return float(np.concatenate(found).mean()), over_cases


def measure_aa(studies: int = 20_000) -> Iterator[dict[str, Any]]:
    """Yield one row per design and population: the rates of the spread of seeds for which each is highest."""
    for cases in CASES:
        for folds in FOLDS:
            if folds > 1 and cases < FEWEST_CASES_OF_A_FOLD * folds:
                continue
            for seeds in SEEDS:
                for name, (failing, _, _) in POPULATIONS.items():
                    rates = [aa_rates(name, seeds, cases, spread, folds, studies) for spread in SPREADS]
                    crossed = [rate for rate, _ in rates]
                    place = int(np.argmax(crossed))
                    used = studies
                    if crossed[place] > 0.9 * LEVEL:  # near the limit: a closer look, by studies of their own
                        used = 5 * studies
                        crossed[place], _ = aa_rates(name, seeds, cases, SPREADS[place], folds, used, 1)
                    rate = crossed[place]
                    yield {
                        "cases": cases,
                        "folds": folds,
                        "seeds": seeds,
                        "failing": failing,
                        "population": name,
                        "spread": SPREADS[place] if seeds > 1 else None,
                        "rate": round(rate, 4) if seeds > 1 else None,
                        "studies": used,
                        "over_cases": round(max(over for _, over in rates), 4),
                    }


# ---- intervals of a difference that is known

TRUTHS = {
    "normal": "Dice around 0.8, normal; the condition gains 0.02, differently by case",
    "skewed": "Dice with a tail of hard cases, which gain most",
    "10 % failing in both": "skewed, and both fail on 10 % of scores",
    "10 % failing in one": "skewed, and the condition alone fails on 10 % of cases, always",
}


def two_conditions(
    truth: str, studies: int, seeds: int, cases: int, spread: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw scores (studies, seeds, cases) of two conditions on the same cases."""
    case = rng.standard_normal((studies, 1, cases))
    gain = rng.standard_normal((studies, 1, cases))  # what the condition does to a case, in every training
    noise = [
        rng.standard_normal((studies, seeds, cases)) + spread * rng.standard_normal((studies, seeds, 1))
        for _ in range(2)
    ]
    if truth == "normal":
        return normal(rng, case, noise[0]) + 0.02 + 0.02 * gain, normal(rng, case, noise[1])
    shifted = 2 + case + 0.3 + 0.3 * gain + 0.25 * noise[0]
    ours, theirs = expit(shifted), skewed(rng, case, noise[1])
    if truth == "10 % failing in both":
        hard = rng.random(case.shape) < 0.2
        ours, theirs = (np.where(hard & (rng.random(y.shape) < 0.5), 0.0, y) for y in (ours, theirs))
    if truth == "10 % failing in one":
        ours = np.where(rng.random(case.shape) < 0.1, 0.0, ours)
    return ours, theirs


def true_difference(truth: str, spread: float) -> float:
    """Return the mean difference of a population, from so many cases and trainings that its error is negligible."""
    rng = np.random.default_rng(2)
    ours, theirs = two_conditions(truth, 2_000_000, 1, 1, spread, rng)
    return float(ours.mean() - theirs.mean())


def coverage(
    truth: str, seeds: int, cases: int, spread: float, known: float, studies: int = 4000
) -> tuple[float, float]:
    """Return how often 95 % intervals contain the true difference: crossed (NaN for one seed), over cases alone."""
    rng = np.random.default_rng([3, seeds, cases, int(10 * spread), len(truth)])
    ours, theirs = two_conditions(truth, studies, seeds, cases, spread, rng)
    differences = ours.mean(1) - theirs.mean(1)
    half = t.ppf(0.975, cases - 1) * differences.std(1, ddof=1) / np.sqrt(cases)
    student = float((np.abs(differences.mean(1) - known) <= half).mean())
    if seeds == 1:
        return np.nan, student
    estimate = crossed_estimate(ours, theirs)
    return float((np.abs(estimate.mean - known) <= estimate.half_width()).mean()), student


def measure_coverage(studies: int = 4000) -> Iterator[dict[str, Any]]:
    """Yield one row per population and design: the coverages of the spread of seeds for which each is lowest."""
    for truth in TRUTHS:
        known = {spread: true_difference(truth, spread) for spread in SPREADS}
        for cases in CASES:
            for seeds in SEEDS:
                rates = [coverage(truth, seeds, cases, s, known[s], studies) for s in SPREADS]
                yield {
                    "population": truth,
                    "cases": cases,
                    "seeds": seeds,
                    "crossed": round(min(r for r, _ in rates), 3) if seeds > 1 else None,
                    "over_cases": round(min(r for _, r in rates), 3),
                    "studies": studies,
                }


# ---- intervals of the mean of one condition


def measure_means(samples: int = 1000) -> Iterator[dict[str, Any]]:
    """Yield how often the interval of a mean over cases, as tables print it, contains the true one."""
    for name in ("normal", "skewed", "10 % failing"):
        truth = float(drawn(name, 2_000_000, 1, 1, 0.0, 1, np.random.default_rng(4)).mean())
        for cases in CASES:
            scores = drawn(name, samples, 1, cases, 0.0, 1, np.random.default_rng([5, cases, len(name)]))[
                :, 0
            ]
            intervals = [bootstrap_interval(list(row), resamples=1999) for row in scores]
            if all(np.isfinite(i.low) for i in intervals):
                covered = [i.low <= truth <= i.high for i in intervals]
                yield {
                    "population": name,
                    "cases": cases,
                    "coverage": round(float(np.mean(covered)), 3),
                    "studies": samples,
                }


def main() -> None:
    """Measure everything and write the file."""
    started = time.perf_counter()
    content = {
        "level": LEVEL,
        "spreads": SPREADS,
        "populations": {name: meaning for name, (_, meaning, _) in POPULATIONS.items()},
        "truths": TRUTHS,
        "aa": list(measure_aa()),
        "coverage": list(measure_coverage()),
        "means": list(measure_means()),
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in content.items() if not isinstance(value, list)]
    for key in ("aa", "coverage", "means"):
        rows = ",\n  ".join(json.dumps(row) for row in content[key])  # type: ignore[arg-type]
        lines.append(f'"{key}": [\n  {rows}\n ]')
    atomic_write(FILE, ("{\n " + ",\n ".join(lines) + "\n}\n").encode())
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{FILE.name} is written anew: {len(content['aa'])} A/A rates in {seconds:.0f} s.\n")


if __name__ == "__main__":
    main()
