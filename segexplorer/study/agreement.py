"""Two readers' verdicts on the same errors: how far they agree beyond chance, where not, and both as one list.

Errors have no names, so a verdict of one reader finds that of the other by the voxels that both remember.
Agreement is Cohen's kappa over the errors that both judged (Cohen 1960, doi:10.1177/001316446002000104),
unweighted: no verdict is more of the same than another. Errors of one case are not independent of each other, so
the interval resamples cases where there are enough of them; else it is the large-sample interval of Fleiss, Cohen
and Everitt (1969, doi:10.1037/h0028106), which takes every error for itself and is too narrow then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.training.verdicts import JUDGEMENTS, Judgement, Verdict

SAME = 0.5
"""Share of the voxels of the smaller error that two verdicts have in common to be of the same error."""
FEWEST_CASES = 6
"""From so many cases on, cases are resampled."""
RESAMPLES = 9999
LEVEL = 0.95
_Z = 1.959963984540054


@dataclass(frozen=True)
class Pair:
    """What the readers said of one error; None where one of them said nothing of it."""

    first: Verdict | None
    second: Verdict | None

    @property
    def either(self) -> Verdict:
        """The first reader's verdict, or the second's where there is none."""
        found = self.first or self.second
        assert found is not None
        return found

    @property
    def judgements(self) -> tuple[Judgement, Judgement] | None:
        """Both judgements; None where one of the readers gave none."""
        if self.first is None or self.second is None:
            return None
        if self.first.judgement is None or self.second.judgement is None:
            return None
        return self.first.judgement, self.second.judgement

    @property
    def agrees(self) -> bool | None:
        """Whether both judged alike; None where one of them did not judge."""
        given = self.judgements
        return None if given is None else given[0] == given[1]


@dataclass(frozen=True)
class Agreement:
    """How far two readers agree.

    Attributes
    ----------
    names
        Of the readers.
    pairs
        Every error that at least one of them judged, the largest first.
    counts
        (J, J) errors by the judgement of the first (rows) and second reader, in the order of `JUDGEMENTS`.
    observed, expected
        Share of errors judged alike, and what chance would give.
    kappa, low, high
        Cohen's kappa and its 95 % interval; NaN where it is not defined.
    method
        How the interval was made: "cases", "errors", or "none".
    """

    names: tuple[str, str]
    pairs: tuple[Pair, ...]
    counts: NDArray[np.int64]
    observed: float
    expected: float
    kappa: float
    low: float
    high: float
    method: Literal["cases", "errors", "none"]

    @property
    def both(self) -> tuple[Pair, ...]:
        """The errors that both judged."""
        return tuple(pair for pair in self.pairs if pair.judgements is not None)

    @property
    def disagreements(self) -> tuple[Pair, ...]:
        """The errors that they judged differently."""
        return tuple(pair for pair in self.pairs if pair.agrees is False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known beside the figures."""
        found = []
        cases = len({pair.either.case for pair in self.both})
        if math.isnan(self.kappa):
            found.append(
                "Kappa is not defined: there is no error that both judged."
                if not self.both
                else "Kappa is not defined: both gave one and the same verdict throughout, so chance agrees too."
            )
        elif self.method == "errors":
            found.append(
                f"The interval takes the {len(self.both)} errors for independent, since they are of {cases} "
                f"{'case' if cases == 1 else 'cases'}; it is too narrow. From {FEWEST_CASES} cases on, cases are "
                "resampled."
            )
        elif self.method == "cases":
            found.append(f"The interval resamples the {cases} cases.")
        alone = [sum(pair.judgements is None and side(pair) for pair in self.pairs) for side in _SIDES]
        if any(alone):
            found.append(
                f"Judged by one reader alone, and not counted: {alone[0]} by {self.names[0]}, {alone[1]} by "
                f"{self.names[1]}."
            )
        return tuple(found)

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        words = list(JUDGEMENTS)
        return {
            "readers": list(self.names),
            "errors": len(self.pairs),
            "judged_by_both": len(self.both),
            "agreed": int(np.trace(self.counts)),
            "observed": _or_none(self.observed),
            "expected": _or_none(self.expected),
            "kappa": _or_none(self.kappa),
            "low": _or_none(self.low),
            "high": _or_none(self.high),
            "interval": self.method,
            "table": {
                a: {b: int(self.counts[i, j]) for j, b in enumerate(words)} for i, a in enumerate(words)
            },
            "disagreements": [_row(pair) for pair in self.disagreements],
            "notes": list(self.notes),
        }


_SIDES: tuple[Callable[[Pair], bool], Callable[[Pair], bool]] = (
    lambda pair: pair.first is not None and pair.first.judgement is not None,
    lambda pair: pair.second is not None and pair.second.judgement is not None,
)


def agreement(
    first: Sequence[Verdict], second: Sequence[Verdict], names: tuple[str, str] = ("A", "B"), seed: int = 0
) -> Agreement:
    """Compare the verdicts of two readers.

    Raises
    ------
    DataError
        When neither judged anything.
    """
    pairs = sorted(match(first, second), key=lambda pair: (-pair.either.volume_ml, pair.either.case))
    judged = tuple(p for p in pairs if any(v is not None and v.judgement for v in (p.first, p.second)))
    if not judged:
        raise DataError("Neither reader has judged an error.", "Judge errors in the tab Inspect first.")
    given = [pair.judgements for pair in judged]
    both = [
        (pair.either.case, *found) for pair, found in zip(judged, given, strict=True) if found is not None
    ]
    counts = _table([(a, b) for _, a, b in both])
    observed, expected, kappa = cohen_kappa(counts)
    low, high, method = _interval(both, counts, seed)
    return Agreement(names, judged, counts, observed, expected, kappa, low, high, method)


def cohen_kappa(counts: NDArray[Any]) -> tuple[float, float, float]:
    """Return observed and expected agreement and kappa of a (J, J) table; NaN where they are not defined."""
    total = float(counts.sum())
    if total == 0:
        return math.nan, math.nan, math.nan
    shares = counts / total
    observed = float(np.trace(shares))
    expected = float(shares.sum(axis=1) @ shares.sum(axis=0))
    kappa = math.nan if expected > 1 - 1e-12 else (observed - expected) / (1 - expected)
    return observed, expected, kappa


def kappa_error(counts: NDArray[Any]) -> float:
    """Return the large-sample standard error of kappa (Fleiss, Cohen and Everitt 1969, equation 13)."""
    total = float(counts.sum())
    _, expected, kappa = cohen_kappa(counts)
    if math.isnan(kappa):
        return math.nan
    shares = counts / total
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    diagonal = float((np.diag(shares) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    # (i, j): how often the first says j and the second says i, whatever the error
    others = (columns[:, np.newaxis] + rows[np.newaxis]) ** 2
    off = float((shares * others).sum() - (np.diag(shares) * np.diag(others)).sum())
    variance = diagonal + (1 - kappa) ** 2 * off - (kappa - expected * (1 - kappa)) ** 2
    return math.sqrt(max(0.0, variance) / total) / (1 - expected)


def _interval(
    both: Sequence[tuple[str, Judgement, Judgement]], counts: NDArray[np.int64], seed: int
) -> tuple[float, float, Literal["cases", "errors", "none"]]:
    kappa = cohen_kappa(counts)[2]
    if math.isnan(kappa):
        return math.nan, math.nan, "none"
    cases = list(dict.fromkeys(case for case, _, _ in both))
    if len(cases) < FEWEST_CASES:
        reach = _Z * kappa_error(counts)
        return max(-1.0, kappa - reach), min(1.0, kappa + reach), "errors"
    tables = np.stack([_table([(a, b) for case, a, b in both if case == name]) for name in cases])
    drawn = np.random.default_rng(seed).multinomial(len(cases), [1 / len(cases)] * len(cases), RESAMPLES)
    shares = np.tensordot(drawn, tables, 1) / (drawn @ tables.sum(axis=(1, 2)))[:, np.newaxis, np.newaxis]
    observed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    # a draw in which chance agrees throughout has no kappa
    defined = expected <= 1 - 1e-12
    found = (observed[defined] - expected[defined]) / (1 - expected[defined])
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), "cases"


def _table(given: Sequence[tuple[Judgement, Judgement]]) -> NDArray[np.int64]:
    words = list(JUDGEMENTS)
    counts = np.zeros((len(words), len(words)), np.int64)
    for one, other in given:
        counts[words.index(one), words.index(other)] += 1
    return counts


# ---- which verdicts are of the same error


def match(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[Pair]:
    """Return the verdicts in pairs of the same error, those with most in common first, and the others alone."""
    shared = [
        (-common, i, j)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
        if (common := overlap(one, other)) >= SAME
    ]
    taken: tuple[set[int], set[int]] = set(), set()
    pairs = []
    for _, i, j in sorted(shared):
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            pairs.append(Pair(first[i], second[j]))
    pairs += [Pair(one, None) for i, one in enumerate(first) if i not in taken[0]]
    pairs += [Pair(None, other) for j, other in enumerate(second) if j not in taken[1]]
    return pairs


def overlap(one: Verdict, other: Verdict) -> float:
    """Return which share of the smaller error is in the larger one, from 0 to 1, as far as samples tell.

    A verdict remembers up to 512 voxels of its error. Of a larger one a voxel is taken to be in it where a
    remembered voxel is as near as they are apart on average.
    """
    keys = [(v.case, v.family, v.class_name, tuple(v.shape)) for v in (one, other)]
    if keys[0] != keys[1] or not one.samples or not other.samples:
        return 0.0
    if one.samples == other.samples:
        return 1.0
    small, large = sorted((one, other), key=lambda verdict: verdict.voxels)
    if max(*small.samples, *large.samples) >= int(np.prod(one.shape)):
        return 0.0
    from scipy.spatial import KDTree

    points = [np.stack(np.unravel_index(v.samples, v.shape), axis=1) for v in (small, large)]
    apart = large.voxels / len(large.samples)
    reach = 0.5 if apart <= 1 else 1.3 * apart ** (1 / 3)
    distances, _ = KDTree(points[1]).query(points[0])
    return float((distances <= reach).mean())


# ---- one list of two


def merged(found: Agreement) -> tuple[Verdict, ...]:
    """Return one verdict per error: what both said, "unclear" where they differ, with both verdicts in the note."""
    return tuple(_merged(pair, found.names) for pair in found.pairs)


def _merged(pair: Pair, names: tuple[str, str]) -> Verdict:
    first, second = pair.first, pair.second
    if first is None or second is None:
        return pair.either
    said = [f"{name}: {_words(verdict)}" for name, verdict in zip(names, (first, second), strict=True)]
    if pair.agrees:
        notes = dict.fromkeys(note for note in (first.note, second.note) if note)
        return first.model_copy(update={"note": "; ".join(notes), "done": first.done or second.done})
    judgement = first.judgement or second.judgement if pair.agrees is None else "unclear"
    return first.model_copy(update={"judgement": judgement, "note": "; ".join(said), "done": False})


def _words(verdict: Verdict) -> str:
    word = JUDGEMENTS[verdict.judgement] if verdict.judgement else "not judged"
    return f"{word} ({verdict.note})" if verdict.note else word


def rows(found: Agreement) -> list[Mapping[str, Any]]:
    """Return a row per error for a table: both verdicts and notes side by side."""
    return [_row(pair) for pair in found.pairs]


def _row(pair: Pair) -> dict[str, Any]:
    either = pair.either
    return {
        "case": either.case,
        "class": either.class_name,
        "kind": either.kind or either.family,
        "volume_ml": either.volume_ml,
        "place": either.place,
        "first": "" if pair.first is None else pair.first.judgement or "",
        "second": "" if pair.second is None else pair.second.judgement or "",
        "first_note": "" if pair.first is None else pair.first.note,
        "second_note": "" if pair.second is None else pair.second.note,
        "agree": pair.agrees,
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
