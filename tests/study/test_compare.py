"""Comparisons of run folders written by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_CLASSES
from segexplorer.study import compare, compare_groups
from segexplorer.study.render import csv_table, markdown_tables

RunMaker = Callable[..., Path]
CASES = [f"c{i}" for i in range(8)]


def score(case: str, name: str, value: float, state: str = "scored", **more: float) -> CaseScore:
    """A score whose Dice and F2 are the value; HD95 is ten times what is missing of 1."""
    found = state in ("scored",)
    nan = float("nan")
    values = {
        "dice": nan if state == "absent" else value,
        "f2": nan if state == "absent" else value,
        "sensitivity": nan if state in ("absent", "spurious") else value,
        "precision": nan if state in ("absent", "missed") else value,
        "hd95": 10 * (1 - value) if found else nan,
        "hd95_penalised": 10 * (1 - value) if found else (nan if state == "absent" else 100.0),
        **more,
    }
    return CaseScore(
        case=case,
        class_name=name,
        role="validation",
        state=state,  # type: ignore[arg-type]
        metrics=values,
        false_positive_ml=0.0,
        false_negative_ml=0.0,
        truth_ml=1.0,
    )


def shifted(by: float) -> Callable[[CaseScore], CaseScore]:
    """Return a function that adds to every Dice of a score."""
    return lambda s: replace(
        s,
        metrics={n: v + (-10 * by if n.startswith("hd95") else by) for n, v in s.metrics.items()},
    )


def scores(shift: float = 0.0, name: str = "liver") -> list:
    return [
        score(case, name, 0.6 + 0.03 * i + shift + 0.002 * i * (shift > 0)) for i, case in enumerate(CASES)
    ]


JITTER = (0.0, 0.004, -0.004)
"""What three seeds add to every score."""


def test_cases_are_paired_and_the_difference_has_interval_and_p(make_run: RunMaker) -> None:
    tversky = {"kind": "tversky", "alpha": 0.3, "beta": 0.7}
    folders = [
        make_run(f"{name}{seed}", [*map(shifted(jitter), scores(shift))], loss=loss, seed=seed)
        for name, loss, shift in (("a", "cross_entropy", 0.0), ("b", "dice", 0.1), ("c", tversky, -0.02))
        for seed, jitter in enumerate(JITTER)
    ]
    result = compare(folders)
    assert [c.label for c in result.conditions] == ["cross_entropy", "dice", "tversky"]
    assert result.reference == "cross_entropy" and result.checkpoint == "best"
    dice, tversky = (d for d in result.differences if d.metric == "dice")
    assert dice.mean == pytest.approx(0.1 + 0.002 * 3.5)
    assert (dice.n_pairs, dice.n_unpaired, dice.better, dice.n_tests) == (8, 0, "condition", 2)
    assert dice.p_cases == pytest.approx(2 / 2**8)
    assert (dice.n_seeds, dice.n_folds, dice.withheld) == (3, 1, "")
    # seeds: two sides of variance 0.004^2 / 3; cases: 0.002 x (0 .. 7), over 8 of them
    variance = 2 * 0.004**2 / 3 + 0.002**2 * 6 / 8
    assert dice.standard_error == pytest.approx(variance**0.5)
    df = variance**2 / (2 * (0.004**2 / 3) ** 2 / 2 + (0.002**2 * 6 / 8) ** 2 / 7)
    assert dice.df == pytest.approx(df)
    assert dice.p == pytest.approx(2 * stats.t.sf(dice.mean / variance**0.5, df))
    assert dice.p_holm == pytest.approx(2 * dice.p)
    low, high = stats.t.interval(0.95, df, dice.mean, variance**0.5)
    assert (dice.low, dice.high) == pytest.approx((low, high))
    assert (tversky.mean, tversky.better) == (pytest.approx(-0.02), "reference")
    distance = next(d for d in result.differences if d.metric == "hd95")
    assert distance.mean < 0 and distance.better == "condition"  # lower is better
    assert any("10 optimiser steps" in note for note in result.notes)
    assert result.conditions[0].distribution("dice").mean == pytest.approx(0.6 + 0.03 * 3.5)


def test_seeds_are_one_condition_and_their_spread_is_reported(make_run: RunMaker) -> None:
    folders = [
        make_run(f"{loss}{seed}", scores(shift + 0.01 * seed), loss=loss, seed=seed)
        for loss, shift in (("dice", 0.0), ("tversky", 0.05))
        for seed in (0, 1, 2)
    ]
    result = compare(folders)
    assert [(c.label, c.seeds, c.n_cases) for c in result.conditions] == [
        ("dice", (0, 1, 2), 8),
        ("tversky", (0, 1, 2), 8),
    ]
    expected = float(np.std([0, 0.017, 0.027], ddof=1))
    assert result.conditions[0].seed_sd["dice"] == pytest.approx(expected)
    assert result.conditions[0].seed_means["dice"] == pytest.approx({0: 0.705, 1: 0.722, 2: 0.732})
    assert {d.n_pairs for d in result.differences} == {8}  # cases, not cases times seeds


def test_the_same_loss_with_other_parameters_is_distinguished(make_run: RunMaker) -> None:
    folders = [
        make_run(f"run{a}", scores(), loss={"kind": "tversky", "alpha": a, "beta": 1 - a})
        for a in (0.25, 0.4)
    ]
    labels = [c.label for c in compare(folders).conditions]
    assert labels == ["tversky alpha=0.25 beta=0.75", "tversky alpha=0.4 beta=0.6"]


def test_networks_under_one_loss_are_named_by_the_network_alone(make_run: RunMaker) -> None:
    folders = [
        make_run(f"n{levels}", scores(), loss="dice", network={"kind": "unet", "levels": levels})
        for levels in (2, 3)
    ]
    labels = [c.label for c in compare(folders, allow=["network"], metrics=["dice"]).conditions]
    assert labels == ["unet levels=2", "unet levels=3"]


def test_missed_structures_are_counted_and_penalised_never_dropped_silently(make_run: RunMaker) -> None:
    lazy = scores(0.1)
    lazy[0] = score("c0", "liver", 0.0, "missed")
    result = compare([make_run("a", scores(), loss="dice"), make_run("b", lazy, loss="tversky")])
    rows = {d.metric: d for d in result.differences}
    assert (rows["hd95"].n_pairs, rows["hd95"].n_unpaired, rows["hd95"].n_missed) == (7, 1, 1)
    assert rows["hd95"].mean < 0 < rows["hd95_penalised"].mean
    assert rows["hd95_penalised"].n_pairs == rows["dice"].n_pairs == 8
    assert rows["dice"].n_missed_reference == 0


def test_a_class_that_is_rightly_left_out_wins_over_one_made_up(make_run: RunMaker) -> None:
    right, wrong = scores(), scores()
    right[0], wrong[0] = score("c0", "liver", 0, "absent"), score("c0", "liver", 0.0, "spurious")
    result = compare([make_run("a", right, loss="dice"), make_run("b", wrong, loss="tversky")])
    rows = {d.metric: d for d in result.differences}
    assert rows["dice"].mean == pytest.approx(-1 / 8)
    assert rows["hd95_penalised"].mean == pytest.approx(100 / 8)
    assert (rows["dice"].n_spurious, rows["dice"].n_spurious_reference) == (1, 0)


def test_several_classes_have_a_row_each_and_one_of_the_cases_means(make_run: RunMaker) -> None:
    one = [*scores(), *scores(0.0, "spleen")]
    other = [*scores(0.1), *scores(-0.3, "spleen")]
    result = compare(
        [make_run("a", one, loss="dice"), make_run("b", other, loss="tversky")], metrics=["dice"]
    )
    rows = {d.class_name: d for d in result.differences}
    assert list(rows) == [ALL_CLASSES, "liver", "spleen"]
    assert rows[ALL_CLASSES].mean == pytest.approx((rows["liver"].mean + rows["spleen"].mean) / 2)
    assert rows[ALL_CLASSES].n_pairs == 8
    assert all(row.n_tests == 0 and row.better == "" for row in rows.values())  # one seed


def test_last_and_best_are_different_things_and_said(make_run: RunMaker) -> None:
    folders = [
        make_run("a", scores(), best=scores(0.2), loss="dice"),
        make_run("b", scores(0.1), best=scores(0.1), loss="tversky"),
    ]
    last, best = (compare(folders, checkpoint=c, metrics=["dice"]) for c in ("last", "best"))
    assert last.differences[0].mean > 0 > best.differences[0].mean
    assert "flatters" in best.notes[0] and "end of training" in last.notes[0]


def test_networks_steps_splits_and_data_that_differ_are_refused_by_name(make_run: RunMaker) -> None:
    a = make_run("a", scores(), loss="dice")
    network = make_run("net", scores(), loss="tversky", network={"kind": "unet", "levels": 3})
    steps = make_run("steps", scores(), loss="tversky", steps=20)
    roles = {"t1": "validation", **dict.fromkeys(CASES[1:], "validation"), "c0": "train"}
    split = make_run("split", [*scores()[1:], score("t1", "liver", 0.5)], loss="tversky", roles=roles)
    stopped = make_run("stopped", scores(), loss="tversky", finished=False)
    batch = make_run("batch", scores(), loss="tversky", sampling={"batch_size": 5})
    for other, words, what in (
        (network, "networks differ: network.levels is . in dice, unet and 3 in tversky, unet", "network"),
        (steps, "10 in a and 20 in steps", "steps"),
        (batch, "sampling.batch_size is 2 in dice and 5 in tversky", "batch"),
        (split, "case c0 is for validation in a and is for train in split", "split"),
        (stopped, "Not finished: stopped", "unfinished"),
    ):
        with pytest.raises(SpecError, match=words) as refused:
            compare([a, other])
        assert f"--allow {what}" in refused.value.remedy
        allowed = compare([a, other], allow=[what])  # type: ignore[list-item]
        assert any(words.split(":")[0] in note for note in allowed.notes)
    # only cases that neither run trained on are paired
    assert {d.n_pairs for d in compare([a, split], allow=["split"]).differences} == {7}
    hashes = {"t1": "hash of t1", **{c: f"hash of {c}" for c in CASES}, "c3": "another"}
    with pytest.raises(DataError, match="case c3 holds other data in moved than in a"):
        compare([a, make_run("moved", scores(), loss="tversky", data=hashes)])
    with pytest.raises(DataError, match="classes"):
        compare([a, make_run("classes", scores(name="spleen"), loss="tversky")])


def test_other_settings_that_differ_are_noted(make_run: RunMaker) -> None:
    result = compare(
        [
            make_run("a", scores(), loss="dice", optimiser={"kind": "adamw", "learning_rate": 0.01}),
            make_run("b", scores(), loss="tversky", optimiser={"kind": "adamw", "learning_rate": 0.1}),
        ]
    )
    assert any("also differ in optimiser.learning_rate (0.01 and 0.1)" in note for note in result.notes)


def test_what_is_no_comparison_is_refused(make_run: RunMaker, tmp_path: Path) -> None:
    a, b = make_run("a", scores(), loss="dice"), make_run("b", scores(), loss="dice", seed=1)
    with pytest.raises(SpecError, match="nothing but seed"):
        compare([a, b])
    with pytest.raises(DataError, match="not a run folder"):
        compare([a, tmp_path])
    c = make_run("c", scores(), loss="tversky")
    with pytest.raises(SpecError, match="tverski"):
        compare([a, c], reference="tverski")
    with pytest.raises(SpecError, match="Known: dice, tversky"):
        compare([a, c], reference="focal")
    for match_condition in ("tversky", "c", c, "tver"):  # label, run, its folder, an unambiguous beginning
        assert compare([a, c], reference=match_condition, metrics=["dice"]).reference == "tversky"
    assert compare([a, c], reference="tversky").reference == "tversky"


def test_a_metric_named_twice_is_one_metric(make_run: RunMaker) -> None:
    folders = [
        make_run(f"{loss}{seed}", scores(0.01 * i * (1 + seed)), loss=loss, seed=seed)
        for i, loss in enumerate(("dice", "tversky", "focal"))
        for seed in (0, 1)
    ]
    once, twice = (compare(folders, metrics=m) for m in (["dice"], ["dice", "dice"]))
    assert twice.metrics == ("dice",) and {d.n_tests for d in twice.differences} == {2}
    assert [d.p_holm for d in twice.differences] == [d.p_holm for d in once.differences]
    assert compare_groups(folders, metrics=["dice", "dice"]).metrics == ("dice",)


def test_what_is_near_one_by_volume_says_so_in_tables(make_run: RunMaker) -> None:
    folders = [
        make_run(loss, [score(c, "liver", 0.5, specificity=0.99 + on) for c in CASES], loss=loss)
        for loss, on in (("dice", 0.0), ("tversky", -0.00001))
    ]
    text = markdown_tables(compare(folders, metrics=["specificity"]))
    assert "Spec. (near 1 by volume) ↑" in text
    assert "-0.000" not in text and "| 0.000 |" in text


def test_a_run_without_norms_leaves_the_median_of_the_others(make_run: RunMaker) -> None:
    norms = (1.0, float("nan"), 3.0)
    folders = [
        make_run(f"{loss}{seed}", scores(), loss=loss, seed=seed, gradient_norm=scale * norm, optimiser=sgd)
        for loss, scale, sgd in (("dice", 1, {"kind": "sgd"}), ("tversky", 5, {"kind": "sgd"}))
        for seed, norm in enumerate(norms)
    ]
    result = compare(folders, metrics=["dice"])
    assert [c.gradient_norm for c in result.conditions] == [2.0, 10.0]
    assert any("tversky 5 times" in note for note in result.notes)


def test_a_comparison_goes_out_as_json_csv_and_tables(make_run: RunMaker) -> None:
    result = compare(
        [
            make_run(f"{loss}{seed}", scores(shift + 0.01 * seed), loss=loss, seed=seed)
            for loss, shift in (("dice", 0.0), ("tversky", 0.1))
            for seed in (0, 1)
        ]
    )
    assert json.loads(json.dumps(result.plain()))["reference"] == "dice"
    rows = list(csv.DictReader(io.StringIO(csv_table([result]))))
    kinds = {row["row"] for row in rows}
    assert kinds == {"mean", "seed mean", "difference", "rank"} and {row["checkpoint"] for row in rows} == {
        "best"
    }
    assert len(result.frame()) == 2 * 6 and len(result.difference_frame()) == 6
    assert not math.isnan(result.difference_frame()["p_holm"].iloc[0])


def test_comparing_needs_no_torch(make_run: RunMaker) -> None:
    folders = [make_run("a", scores(), loss="dice"), make_run("b", scores(0.1), loss="tversky")]
    code = (
        "import sys; from segexplorer.study import compare; "
        f"compare({[str(f) for f in folders]!r}); "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
