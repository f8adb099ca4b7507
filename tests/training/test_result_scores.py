"""Scores of all cases of result sets: the same as `evaluate`, remembered, resumable; and sets side by side."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segexplorer
from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore
from segexplorer.data.results import ResultCase, ResultListing, open_results
from segexplorer.study.result_comparison import compare_sets
from segexplorer.training import result_scores
from segexplorer.training.result_scores import (
    CaseScored,
    ResultSet,
    ScoredSet,
    Scoring,
    cache_folder,
    collect,
    open_sets,
    score_sets,
)
from tests.data.results.layouts import label, nnunet, predictions, structures, write

FAST = Scoring(surfaces=False)


def sets_of(*folders: Path, **settings: str) -> tuple[ResultSet, ...]:
    return open_sets([spec for folder in folders for spec in open_results(folder, **settings)])


def scored(sets: Sequence[ResultSet], scoring: Scoring = FAST, **how: object) -> tuple[ScoredSet, ...]:
    return collect(sets, list(score_sets(sets, scoring, **how)))  # type: ignore[arg-type]


def test_scores_are_those_of_evaluate(tmp_path: Path) -> None:
    sets = sets_of(nnunet(tmp_path))
    (found,) = scored(sets, Scoring())
    for case in sets[0].listing.cases:
        own = [score for score in found.scores if score.case == case.id]
        assert isinstance(case.prediction, Path) and isinstance(case.truth, Path)
        other = segexplorer.evaluate(
            case.prediction, case.truth, {"anterior": 1, "posterior": 2}, case=case.id
        )
        assert own == list(other)
    worst = min(found.scores, key=lambda s: s.metrics["dice"])
    assert (worst.case, worst.class_name) == ("hippo_003", "posterior")


def test_regions_are_scored_as_unions_and_ignored_labels_count_nowhere(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    sets = sets_of(nnunet(tmp_path, labels=labels))
    case = sets[0].listing.cases[1]
    assert isinstance(case.truth, Path)
    truth = label(1)
    truth[8:10] = 3  # the voxels that the moved box has left
    write(case.truth, truth)
    (found,) = scored(sets)
    own = {score.class_name: score for score in found.scores if score.case == case.id}
    assert list(own) == ["whole", "core"]
    assert own["core"].false_negative_ml == 0 and own["core"].metrics["sensitivity"] == 1


def test_what_was_scored_is_remembered_without_names(tmp_path: Path) -> None:
    sets = sets_of(predictions(tmp_path / "a", range(3)))
    cache = tmp_path / "cache"
    first = list(score_sets(sets, FAST, cache=cache))
    again = list(score_sets(sets, FAST, cache=cache))
    assert [event.remembered for event in first] == [False] * 3
    assert again == [replace(event, remembered=True) for event in first]
    for path in cache.rglob("*.json"):
        assert "case_" not in path.name and "case_" not in path.read_text()
        assert {score["case"] for score in json.loads(path.read_text())["scores"]} == {""}


def test_a_changed_file_another_class_or_a_damaged_memory_is_scored_anew(tmp_path: Path) -> None:
    folder = predictions(tmp_path / "a", range(2))
    cache = tmp_path / "cache"
    (before,) = scored(sets_of(folder), cache=cache)
    write(folder / "case_0.nii.gz", label(0, moved=3))
    events = list(score_sets(sets_of(folder), FAST, cache=cache))
    assert {event.case: event.remembered for event in events} == {"case_0": False, "case_1": True}
    (after,) = collect(sets_of(folder), events)
    assert after.scores[1].metrics["dice"] < before.scores[1].metrics["dice"]
    chosen = Scoring(classes={"posterior": 2}, surfaces=False)
    assert not any(event.remembered for event in score_sets(sets_of(folder), chosen, cache=cache))
    for path in cache.rglob("*.json"):
        path.write_text(path.read_text().replace("dice", "dise", 1))
    assert not any(event.remembered for event in score_sets(sets_of(folder), FAST, cache=cache))


def test_scoring_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    sets = sets_of(predictions(tmp_path / "a", range(4)))
    cache = tmp_path / "cache"
    run = score_sets(sets, FAST, cache=cache)
    assert [next(run).done for _ in range(2)] == [1, 2]
    run.close()
    events = list(score_sets(sets, FAST, cache=cache))
    assert [event.remembered for event in events] == [True, True, False, False]
    assert events[-1].done == events[-1].total == 4


def test_several_processes_give_the_same_scores(tmp_path: Path) -> None:
    sets = sets_of(predictions(tmp_path / "a", range(3)))
    assert scored(sets, workers=2) == scored(sets)


def test_there_are_as_many_processes_as_the_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = sets_of(predictions(tmp_path / "a", range(4)))
    needed = result_scores.BYTES_PER_VOXEL * label(0).size
    used: list[int] = []
    original = result_scores._computed

    def counting(jobs: Any, workers: int, threads: bool) -> Any:
        used.append(workers)
        return original(jobs, workers, threads)

    monkeypatch.setattr(result_scores, "_computed", counting)
    said: list[str] = []
    for memory in (needed // 2, 2 * needed, 9 * needed, None):
        list(score_sets(sets, workers=3, threads=True, memory=memory, remark=said.append))
    assert used == [1, 2, 3, 3]
    assert [text.split(":")[0] for text in said] == ["1 of 3 cases at a time", "2 of 3 cases at a time"]


def test_a_case_that_cannot_be_scored_is_a_problem_of_its_own(tmp_path: Path) -> None:
    folder = predictions(tmp_path / "a", range(3))
    (folder / "case_1.nii.gz").write_bytes(b"no image")
    write(folder / "case_2.nii.gz", label(2)[:-2])
    (found,) = scored(sets_of(folder))
    assert found.cases == ("case_0", "case_2")  # a crop by whole voxels is on the same lattice
    (problem,) = found.problems
    assert (problem.case, problem.code) == ("case_1", "not_scored") and "case_1.nii.gz" in problem.message


def test_structures_are_compared_by_name_with_a_label_that_names_its_values(tmp_path: Path) -> None:
    names = {1: "liver", 2: "spleen", 3: "aorta"}
    structures(tmp_path / "out/s1", label(1, moved=1), names)
    write(tmp_path / "ref/s1.seg.nrrd", label(1), {2: "spleen", 1: "liver"})
    (found,) = scored(sets_of(tmp_path / "out", labels=str(tmp_path / "ref")))
    dice = {score.class_name: score.metrics["dice"] for score in found.scores}
    assert dice["liver"] == 1 and dice["spleen"] == pytest.approx(0.75)


def test_structures_are_not_compared_by_chance_with_unnamed_values(tmp_path: Path) -> None:
    names = {1: "liver", 2: "spleen", 3: "aorta"}
    structures(tmp_path / "out/s1", label(1), names)
    write(tmp_path / "ref/s1.nii.gz", label(1))
    sets = sets_of(tmp_path / "out", labels=str(tmp_path / "ref"))
    (found,) = scored(sets)
    assert not found.scores and "does not name its label values" in found.problems[-1].message
    (found,) = scored(sets, Scoring(classes={"liver": 1, "spleen": 2}, surfaces=False))
    assert {score.metrics["dice"] for score in found.scores} == {1.0}


def test_sets_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [predictions(tmp_path / name, range(2)) for name in ("a", "b")]
    assert [one.label for one in sets_of(*folders)] == ["a/predictions", "b/predictions"]


def test_the_cache_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "scores"


# ---- side by side


def made_up(label: str, dice: Sequence[float], truth_ml: float = 1.0) -> ScoredSet:
    cases = [f"case {n}" for n in range(len(dice))]
    scores = tuple(
        CaseScore(
            case=case,
            class_name="liver",
            role="test",
            state="missed" if value == 0 else "scored",
            metrics={"dice": value, "hd95": math.nan if value == 0 else 10 * (1 - value)},
            false_positive_ml=0.1,
            false_negative_ml=0.1,
            truth_ml=truth_ml,
        )
        for case, value in zip(cases, dice, strict=True)
    )
    listing = ResultListing(tuple(ResultCase(case, Path(case)) for case in cases))
    return ScoredSet(label, listing, scores, ())


def test_a_comparison_is_paired_and_claims_nothing_about_trainings() -> None:
    base = [0.5 + 0.01 * n for n in range(12)]
    found = compare_sets([made_up("a", base), made_up("b", [v + 0.1 for v in base])], metrics=("dice",))
    (row,) = found.differences
    assert row.mean == pytest.approx(0.1) and row.low == pytest.approx(0.1) == row.high
    assert (row.n_cases, row.n_better, row.n_worse) == (12, 12, 0) and row.p_holm < 0.001
    assert "no difference has a star" in found.notes[1] and "at least 3 seeds" in found.notes[1]


def test_p_is_adjusted_for_the_number_of_sets() -> None:
    rng = random.Random(3)
    base = [0.5 + 0.02 * n for n in range(10)]
    others = [made_up(name, [v + rng.uniform(-0.02, 0.06) for v in base]) for name in "bcd"]
    found = compare_sets([made_up("a", base), *others], metrics=("dice",))
    assert all(row.n_tests == 3 and row.p_holm >= row.p_cases for row in found.differences)


def test_only_shared_cases_are_compared_and_other_labels_are_mentioned() -> None:
    one, other = made_up("a", [0.5] * 8), made_up("b", [0.6] * 6, truth_ml=2.0)
    found = compare_sets([one, other], metrics=("dice",))
    assert len(found.cases) == 6 and found.differences[0].n_cases == 6
    assert any("case 6, case 7 (a)" in note for note in found.notes)
    assert any("labels differ" in note for note in found.notes)


def test_distances_to_missed_structures_are_counted_as_dropped() -> None:
    found = compare_sets([made_up("a", [0.5] * 7), made_up("b", [0.0] + [0.6] * 6)], metrics=("hd95",))
    assert found.differences[0].n_dropped == 1 and found.differences[0].n_cases == 6
    assert any("1 pairs" in note for note in found.notes)


def test_one_set_or_no_common_case_cannot_be_compared() -> None:
    with pytest.raises(SpecError, match="not two sets"):
        compare_sets([made_up("a", [0.5])])
    other = replace(
        made_up("b", [0.5]), scores=tuple(replace(s, case="x") for s in made_up("b", [0.5]).scores)
    )
    with pytest.raises(SpecError, match="no case in common"):
        compare_sets([made_up("a", [0.5]), other])
    with pytest.raises(SpecError, match="no set of results"):
        compare_sets([made_up("a", [0.5]), made_up("b", [0.5])], reference="c")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=12))
def test_swapping_two_sets_turns_the_difference_round(values: list[tuple[float, float]]) -> None:
    one, other = made_up("a", [v for v, _ in values]), made_up("b", [v for _, v in values])
    (row,) = compare_sets([one, other], metrics=("dice",)).differences
    (back,) = compare_sets([one, other], metrics=("dice",), reference="b").differences
    assert row.mean == pytest.approx(-back.mean, abs=1e-9)
    assert (row.n_better, row.n_worse) == (back.n_worse, back.n_better)
    assert row.p_cases == pytest.approx(back.p_cases, nan_ok=True)


def test_events_count_up_to_all_cases(tmp_path: Path) -> None:
    events: list[CaseScored] = list(score_sets(sets_of(predictions(tmp_path, range(2))), FAST))
    assert [(event.done, event.total) for event in events] == [(1, 2), (2, 2)]
