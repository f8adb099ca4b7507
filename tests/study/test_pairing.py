"""Units: a case counts once, however many seeds, folds and classes it was scored with; by hand and by scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segexplorer.core.events import CaseScore
from segexplorer.metrics import values_by_case
from segexplorer.study import compare
from segexplorer.study.inference import crossed_estimate
from segexplorer.study.render import latex_tables
from segexplorer.study.statistics import over_runs, paired, spurious_classes

RunMaker = Callable[..., Path]
NAN = math.nan


def score(case: str, value: float, name: str = "liver", state: str = "scored") -> CaseScore:
    return CaseScore(
        case=case,
        class_name=name,
        role="validation",
        state=state,  # type: ignore[arg-type]
        metrics={"dice": value, "hd95": NAN if state == "missed" else 10 * (1 - value)},
        false_positive_ml=0.0,
        false_negative_ml=0.0,
        truth_ml=1.0,
    )


def test_seeds_are_paired_then_averaged_then_classes() -> None:
    ours = {
        0: [score("a", 0.5), score("a", 0.9, "spleen"), score("b", 0.6)],
        1: [score("a", 0.7), score("a", 0.9, "spleen"), score("b", 0.8)],
    }
    theirs = {
        0: [score("a", 0.4), score("a", 0.5, "spleen"), score("b", 0.6)],
        1: [score("a", 0.4), score("a", 0.7, "spleen"), score("b", 0.7)],
    }
    pairs = paired(ours, theirs, "dice")
    # a: liver (0.1 + 0.3) / 2, spleen (0.4 + 0.2) / 2; b: (0 + 0.1) / 2
    assert pairs.by_case == pytest.approx({"a": (0.2 + 0.3) / 2, "b": 0.05})
    # seed 0: a (0.1 + 0.4) / 2, b 0; seed 1: a (0.3 + 0.2) / 2, b 0.1
    assert pairs.by_seed == pytest.approx({0: (0.25 + 0.0) / 2, 1: (0.25 + 0.1) / 2})


def test_only_seeds_of_both_sides_are_paired_and_without_any_their_means_are() -> None:
    ours = {0: [score("a", 0.5)], 7: [score("a", 0.9)]}
    assert paired(ours, {0: [score("a", 0.4)], 8: [score("a", 0.0)]}, "dice").by_case == pytest.approx(
        {"a": 0.1}
    )
    apart = paired(ours, {8: [score("a", 0.2)], 9: [score("a", 0.4)]}, "dice")
    assert apart.by_case == pytest.approx({"a": 0.7 - 0.3}) and apart.by_seed == {}


def test_a_seed_that_missed_a_structure_is_counted_not_averaged_away() -> None:
    ours = {0: [score("a", 0.5)], 1: [score("a", 0.0, state="missed")]}
    theirs = {0: [score("a", 0.6)], 1: [score("a", 0.6)]}
    pairs = paired(ours, theirs, "hd95")
    assert pairs.by_case == pytest.approx({"a": 1.0}) and pairs.n_unpaired == 1
    (average,) = over_runs([*ours[0], *ours[1]])
    assert average.metrics == pytest.approx({"dice": 0.25, "hd95": 5.0}) and average.state == "scored"


@settings(max_examples=15, deadline=None)
@given(
    st.integers(6, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(1, 98).map(lambda v: v / 100), min_size=n, max_size=n),
            min_size=4,
            max_size=4,
        )
    )
)
def test_seeds_add_nothing_to_n(values: list[list[float]]) -> None:
    names = [f"c{i:02d}" for i in range(len(values[0]))]
    ours, theirs = (
        {seed: [score(c, v) for c, v in zip(names, row, strict=True)] for seed, row in enumerate(two)}
        for two in (values[:2], values[2:])
    )
    pairs = paired(ours, theirs, "dice")
    expected = np.mean(values[:2], axis=0) - np.mean(values[2:], axis=0)
    assert list(pairs.by_case.values()) == pytest.approx(list(expected), abs=1e-12)
    doubled = paired({**ours, 2: ours[0], 3: ours[1]}, {**theirs, 2: theirs[0], 3: theirs[1]}, "dice")
    assert doubled.by_case == pytest.approx(pairs.by_case, abs=1e-12)


def test_p_and_spread_of_a_comparison_over_seeds_agree_with_scipy(make_run: RunMaker) -> None:
    rng = np.random.default_rng(3)
    cases = [f"c{i:02d}" for i in range(10)]
    base = rng.uniform(0.5, 0.7, (3, 10))
    other = base + rng.normal(0.02, 0.03, (3, 10))
    folders = [
        make_run(
            f"{loss}{seed}",
            [score(c, v) for c, v in zip(cases, rows[seed], strict=True)],
            loss=loss,
            seed=seed,
        )
        for loss, rows in (("dice", base), ("tversky", other))
        for seed in range(3)
    ]
    (row,) = compare(folders, metrics=["dice"]).differences
    by_case = (other - base).mean(axis=0)
    assert row.p_cases == pytest.approx(stats.wilcoxon(by_case).pvalue)
    estimate = crossed_estimate(other, base)
    assert row.p == pytest.approx(float(estimate.p))
    assert (row.low, row.high) == pytest.approx(
        (row.mean - float(estimate.half_width()), row.mean + float(estimate.half_width()))
    )
    assert row.n_pairs == 10 and list(row.seed_means) == [0, 1, 2]
    assert row.mean == pytest.approx(by_case.mean())
    assert row.seed_sd == pytest.approx((other - base).mean(axis=1).std(ddof=1))
    interval = stats.bootstrap((by_case,), np.mean, n_resamples=20000, rng=np.random.default_rng(1))
    assert row.low_cases == pytest.approx(interval.confidence_interval.low, abs=2e-3)
    assert row.high_cases == pytest.approx(interval.confidence_interval.high, abs=2e-3)


def test_a_class_made_up_in_one_seed_of_two_counts_as_half(make_run: RunMaker) -> None:
    right = score("a", NAN, state="absent")
    wrong = replace(score("a", 0.0, state="spurious"), metrics={"dice": 0.0, "hd95": NAN})
    ours = {0: [wrong], 1: [right]}
    theirs = {0: [right], 1: [right]}
    pairs = paired(theirs, ours, "dice")
    assert pairs.by_case == {"a": 0.5} and pairs.by_seed == {0: 1.0, 1: 0.0}
    assert paired(theirs, {7: [wrong], 8: [right]}, "dice").by_case == {"a": 0.5}  # no seed is shared
    assert paired(theirs, theirs, "dice").by_case == {}  # nobody made it up
    distance = paired(theirs, ours, "hd95")  # has no value for what is made up
    assert distance.by_case == {} and distance.n_unpaired == 1
    (average,) = over_runs([wrong, right])
    assert average.metrics["dice"] == 0.5 and math.isnan(average.metrics["hd95"])
    assert over_runs([right, right])[0].state == "absent"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from([NAN, 0.0]), min_size=4, max_size=4),  # no truth: left out, or made up
            st.lists(st.integers(0, 9).map(lambda v: v / 10), min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_mean_difference_is_the_difference_of_means(cases: list[list[float]]) -> None:
    def side(columns: tuple[int, int]) -> dict[int, list[CaseScore]]:
        return {
            seed: [
                replace(
                    score(f"c{i}", values[column], state=state(values, column)),
                    metrics={"dice": values[column]},
                )
                for i, values in enumerate(cases)
            ]
            for seed, column in enumerate(columns)
        }

    def state(values: list[float], column: int) -> str:
        if all(math.isnan(v) or v == 0 for v in values):
            return "absent" if math.isnan(values[column]) else "spurious"
        return "missed" if values[column] == 0 else "scored"

    ours, theirs = side((0, 1)), side((2, 3))
    spurious = spurious_classes([*ours[0], *ours[1], *theirs[0], *theirs[1]])
    one, other = (values_by_case(over_runs([*s[0], *s[1]], spurious), "dice") for s in (ours, theirs))
    assert one.keys() == other.keys()
    pairs = paired(ours, theirs, "dice", spurious)
    assert pairs.by_case == pytest.approx({case: one[case] - other[case] for case in one}, abs=1e-12)
    assert pairs.n_unpaired == 0


def test_means_are_over_the_same_cases_when_one_condition_makes_a_class_up(make_run: RunMaker) -> None:
    rest = [score(f"c{i}", 0.6) for i in range(7)]
    right = replace(score("x", NAN, state="absent"), metrics={"dice": NAN, "hd95": NAN})
    wrong = replace(score("x", 0.0, state="spurious"), metrics={"dice": 0.0, "hd95": NAN})
    cases = {"dice": (right, right), "tversky": (wrong, right), "focal": (right, right)}
    folders = [
        make_run(f"{loss}{seed}", [*rest, last], loss=loss, seed=seed)
        for loss, lasts in cases.items()
        for seed, last in enumerate(lasts)
    ]
    result = compare(folders, metrics=["dice", "hd95"])
    means = {c.label: c.distribution("dice") for c in result.conditions}
    assert {d.n for d in means.values()} == {8} and {d.n_pairs for d in result.differences_of("dice")} == {8}
    assert means["dice"].mean == pytest.approx((7 * 0.6 + 1.0) / 8)
    assert means["tversky"].mean == pytest.approx((7 * 0.6 + 0.5) / 8)
    assert (means["tversky"].n_spurious, means["tversky"].n_absent, means["dice"].n_absent) == (1, 1, 2)
    for row in result.differences_of("dice"):
        assert row.mean == pytest.approx(means[row.condition].mean - means["dice"].mean)
    assert result.condition("tversky").seed_means["dice"] == pytest.approx(
        {0: 7 * 0.6 / 8, 1: (7 * 0.6 + 1.0) / 8}
    )
    assert {c.distribution("hd95").n for c in result.conditions} == {7}


def test_a_star_needs_three_seeds_that_agree(make_run: RunMaker) -> None:
    def folders(tag: str, shifts: tuple[float, ...]) -> list[Path]:
        return [
            make_run(
                f"{tag}-{loss}{seed}",
                [
                    score(f"c{i}", 0.5 + 0.01 * i + 0.001 * seed + on * shift * (1 + 0.1 * i))
                    for i in range(9)
                ],
                loss=loss,
                seed=seed,
            )
            for on, loss in ((0, "dice"), (1, "tversky"))
            for seed, shift in enumerate(shifts)
        ]

    torn, agreed, two, alone = (
        compare(folders(tag, shifts), metrics=["dice"])
        for tag, shifts in (
            ("torn", (0.1, -0.02, 0.06)),
            ("agreed", (0.1, 0.09, 0.11)),
            ("two", (0.1, 0.1)),
            ("one", (0.1,)),
        )
    )
    row = torn.differences[0]
    assert row.p_cases < 0.05 < row.p and not row.marked and row.better == "" and row.low < 0 < row.high
    assert agreed.differences[0].marked and agreed.differences[0].better == "condition"
    assert "$^{*}$" not in latex_tables(torn) and "$^{*}$" in latex_tables(agreed)
    (few,) = two.differences
    assert few.p < 0.05 and few.significant and not few.marked and few.better == ""
    assert "No star: a star needs at least 3 seeds of each condition, and there are 2." in two.notes
    assert any(note.startswith("~ p is below 0.05") for note in two.notes)
    assert "allows no star" in latex_tables(two) and "$^{*}$" not in latex_tables(two)
    (single,) = alone.differences
    assert math.isnan(single.p) and math.isnan(single.low) and single.better == ""
    assert single.p_cases < 0.05 and single.low_cases > 0  # these two networks do differ on other cases
    assert any(note.startswith("One seed") for note in alone.notes)


def test_dropped_pairs_and_seeds_on_other_cases_have_no_star(make_run: RunMaker) -> None:
    def folders(tag: str, missed: int, first: int = 0) -> list[Path]:
        return [
            make_run(
                f"{tag}-{loss}{seed}",
                [
                    score(f"c{i}", 0.0, state="missed")
                    if on and seed == 1 and i < missed
                    else score(f"c{i}", 0.5 + 0.01 * i + 0.2 * on + 0.001 * seed)
                    for i in range(first * seed, 12 + first * seed)
                ],
                loss=loss,
                seed=seed,
                split={"validation": [f"c{i}" for i in range(first * seed, 12 + first * seed)]},
            )
            for on, loss in ((0, "dice"), (1, "tversky"))
            for seed in (0, 1, 2)
        ]

    result = compare(folders("missed", 1), metrics=["dice", "hd95"])
    dice, distance = result.differences
    assert dice.marked and dice.better == "condition"
    assert distance.significant and not distance.marked and distance.better == ""
    assert (distance.n_dropped, distance.n_unpaired) == (1, 1)
    assert (
        "No star for tversky in hd95: pairs were dropped because a structure was missed or made up (1 in all), "
        "so the mean is over what was found." in result.notes
    )
    everyone = {s: [score("a", 0.0, state="missed"), score("b", 0.5)] for s in (0, 1)}
    both = paired(everyone, everyone, "hd95")
    assert (both.n_unpaired, both.n_dropped, list(both.by_case)) == (0, 2, ["b"])
    other = compare(folders("moved", 0, first=1), metrics=["dice"])
    assert other.differences[0].better == "" and any("scored on different cases" in n for n in other.notes)


def test_folds_are_pooled_with_each_case_once(make_run: RunMaker) -> None:
    cases = [f"c{i}" for i in range(8)]
    folders = []
    for loss, shift in (("dice", 0.0), ("tversky", 0.1)):
        for fold in (0, 1):
            held = cases[fold::2]
            roles = {c: "validation" if c in held else "train" for c in cases}
            values = [score(c, 0.5 + shift + 0.01 * int(c[1])) for c in held]
            folders.append(
                make_run(f"{loss}{fold}", values, loss=loss, roles=roles, split={"validation": held})
            )
    result = compare(folders, metrics=["dice"])
    (row,) = result.differences
    assert (row.n_pairs, row.mean) == (8, pytest.approx(0.1))
    assert [c.n_cases for c in result.conditions] == [8, 8]
    assert any("2 folds are pooled; each validates in one" in note for note in result.notes)
    # one fold is missing on one side: both sides stand on the other fold's cases
    part = compare(folders[:3], metrics=["dice"])
    assert [c.n_cases for c in part.conditions] == [4, 4] and part.differences[0].n_pairs == 4
    assert any("Left out" in note and "dice1" in note for note in part.notes)


def test_splits_that_overlap_are_reported(make_run: RunMaker) -> None:
    cases = [f"c{i}" for i in range(8)]
    folders = []
    for loss in ("dice", "tversky"):
        for seed, held in enumerate((cases[:6], cases[2:])):
            roles = {c: "validation" if c in held else "train" for c in cases}
            folders.append(
                make_run(f"{loss}{seed}", [score(c, 0.5) for c in held], loss=loss, roles=roles, seed=seed)
            )
    notes = " ".join(compare(folders, metrics=["dice"]).notes)
    assert "2 splits are pooled; one that validates in several is averaged" in notes
    assert "Seeds validate on different cases" in notes


def test_the_scale_of_the_gradient_is_reported_and_warned_of_under_sgd(make_run: RunMaker) -> None:
    values = [score(f"c{i}", 0.5 + 0.01 * i) for i in range(8)]
    folders = [
        make_run("a", values, loss="dice", gradient_norm=0.5, optimiser={"kind": "sgd"}),
        make_run("b", values, loss="cross_entropy", gradient_norm=5.0, optimiser={"kind": "sgd"}),
    ]
    result = compare(folders, metrics=["dice"])
    assert [c.gradient_norm for c in result.conditions] == [0.5, 5.0]
    assert result.gradient_ratio("cross_entropy") == 10
    assert any("cross_entropy 10 times" in note for note in result.notes)
    adam = [
        make_run(f"{name}-adam", values, loss=loss, gradient_norm=norm)
        for name, loss, norm in (("a", "dice", 0.5), ("b", "cross_entropy", 5.0))
    ]
    assert not any("times" in note for note in compare(adam, metrics=["dice"]).notes)
