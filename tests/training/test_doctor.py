"""The loss doctor: each check on runs written event by event, with something wrong and without."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import segexplorer
from segexplorer.core.errors import DataError, UnknownKindError
from segexplorer.core.events import (
    CaseScore,
    EpochDone,
    Event,
    Planned,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.frontends.cli.app import run as command
from segexplorer.training.doctor import Check, Diagnosis, Finding, checks, diagnose_run
from segexplorer.training.experiment import Experiment
from segexplorer.training.flight_recorder import exploded
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run

MakeRun = Callable[..., Run]
REFERENCES = {"perfect": 0.0, "all background": 1.0, "class frequencies": 0.98, "random": 0.96}


def write(path: Path, events: Sequence[Event], loss: Any = "dice_cross_entropy", **settings: Any) -> Path:
    """Write a run folder with these events."""
    experiment = Experiment.of({"data": "phantom", "loss": loss, **settings})
    folder = RunFolder.create(experiment, path)
    for number, event in enumerate(events, 1):
        folder.write(dataclasses.replace(event, seq=number))
    folder.close()
    return path


def steps(
    losses: Sequence[float],
    norms: dict[str, float] | None = None,
    weights: tuple[float, float] = (1.0, 1.0),
    **more: Any,
) -> list[StepDone]:
    """Return a step per loss; every fifth measures gradients and references."""
    return [
        StepDone(
            step=i,
            epoch=1,
            loss=loss,
            terms={"dice": (loss / 2, weights[0]), "cross_entropy": (loss / 2, weights[1])},
            learning_rate=0.01,
            gradient_norm=more.get("gradient_norms", [1.0] * len(losses))[i - 1],
            seconds=0.1,
            samples=1,
            cases=("case",),
            term_gradients=(norms or {"dice": 1.0, "cross_entropy": 0.5, "total": 1.2}) if i % 5 == 0 else {},
            references=REFERENCES if i % 5 == 0 else {},  # type: ignore[arg-type]
        )
        for i, loss in enumerate(losses, 1)
    ]


def planned(count: int) -> Planned:
    return Planned(steps=count, epochs=1, steps_per_epoch=count, classes=("liver", "lesion"))


def validation(
    step: int, predicted: dict[str, float], loss: float = 0.5, dice: float | None = None
) -> ValidationDone:
    """Return a validation of one case in which shares of the classes' volumes are found, all of it right."""
    shares = {name: 2 * min(p, 1) / (1 + p) for name, p in predicted.items()}
    scores = tuple(
        CaseScore(
            case="val",
            class_name=name,
            role="validation",
            state="scored" if p else "missed",
            metrics={"dice": shares[name]},
            false_positive_ml=10 * max(0.0, p - 1),
            false_negative_ml=10 * max(0.0, 1 - p),
            truth_ml=10.0,
        )
        for name, p in predicted.items()
    )
    mean = sum(shares.values()) / len(shares) if dice is None else dice
    return ValidationDone(
        step=step, epoch=1, loss=loss, scores=scores, mean_dice=mean, class_dice=shares, n_used=2, n_absent=0,
        n_missed=sum(not p for p in predicted.values()), best=False, seconds=0.1,
    )  # fmt: skip


FALLING = [math.exp(-i / 40) for i in range(100)]


def found(path: Path, name: str) -> list[Finding]:
    """Return what one check finds; it must be able to tell."""
    diagnosis = diagnose_run(path, [name])
    assert not diagnosis.not_checked, diagnosis.not_checked
    return list(diagnosis.findings)


# ---- classes


@pytest.mark.parametrize(
    ("course", "said"),
    [
        ([0.5, 0.9, 0.9, 0.0, 0.0], "lesion has collapsed: its Dice was 0.95 at step 20, and since step 40"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "lesion was never found"),
        ([30.0, 30.0, 30.0, 30.0, 30.0], "lesion is predicted nearly everywhere: since step 10"),
        ([0.5, 0.9, 0.0, 0.9, 0.9], ""),
        ([0.0, 0.0, 0.5, 0.9, 0.9], ""),
        ([0.9, 0.9, 0.9, 0.9, 0.0], ""),
    ],
    ids=["collapsed", "never found", "flooded", "recovered", "late", "one bad validation"],
)
def test_classes(tmp_path: Path, course: list[float], said: str) -> None:
    events = [validation(10 * (i + 1), {"liver": 0.9, "lesion": p}) for i, p in enumerate(course)]
    path = write(tmp_path / "run", [planned(50), *steps([0.5] * 50), *events])
    result = found(path, "collapsed_class")
    assert [f.sentence.startswith(said) for f in result] == ([True] if said else []), result
    for finding in result:
        assert (finding.place.class_name, finding.place.case) == ("lesion", "val") or "everywhere" in said
        assert finding.curve is not None and (finding.curve.plot, finding.curve.name) == ("dice", "lesion")


def test_an_early_run_is_not_blamed_for_classes_it_has_not_found_yet(tmp_path: Path) -> None:
    events = [validation(10 * i, {"liver": 0.5, "lesion": 0.0}) for i in (1, 2)]
    path = write(tmp_path / "run", [planned(1000), *steps([0.5] * 20), *events])
    assert not found(path, "collapsed_class")


# ---- terms


def test_a_silent_term_is_named_with_the_factor_that_it_needs(tmp_path: Path) -> None:
    norms = {"dice": 1.0, "cross_entropy": 1e-3, "total": 1.0}
    path = write(tmp_path / "run", [planned(100), *steps(FALLING, norms)])
    (finding,) = found(path, "silent_term")
    assert finding.severity == "problem" and "cross entropy is silent: from step 5 on" in finding.sentence
    assert finding.evidence["share of the gradients"] == pytest.approx(1e-3, rel=1e-2)
    assert "about 1.1e+02" in finding.remedy
    norms = {"dice": 1.0, "cross_entropy": 0.02, "total": 1.0}
    assert not found(write(tmp_path / "quiet", [planned(100), *steps(FALLING, norms)]), "silent_term")


def test_a_term_of_weight_0_is_a_remark(tmp_path: Path) -> None:
    norms = {"dice": 1.0, "cross_entropy": 0.0, "total": 1.0}
    path = write(tmp_path / "run", [planned(100), *steps(FALLING, norms, (1.0, 0.0))])
    (finding,) = found(path, "silent_term")
    assert finding.severity == "remark" and "weight 0" in finding.sentence


@pytest.mark.parametrize(("last", "problems"), [(0.995, 2), (0.9, 0)])
def test_an_adaptive_weight_at_its_limit(tmp_path: Path, last: float, problems: int) -> None:
    weights = [0.5, 0.8, last, last, last, last]
    events = [
        EpochDone(step=10 * i, epoch=i, epochs=6, loss=0.5, terms={},
                  adaptive={"weight of tversky": w, "weight of cross_entropy": 1 - w})
        for i, w in enumerate(weights, 1)
    ]  # fmt: skip
    path = write(tmp_path / "run", [planned(60), *events], "adaptive_tversky_cross_entropy")
    result = found(path, "weight_at_limit")
    assert len(result) == problems
    assert all(f.step == 30 and "since epoch 3" in f.sentence for f in result)


def test_a_sum_beside_a_mean_is_seen_in_the_loss_itself(tmp_path: Path) -> None:
    loss = {
        "kind": "weighted_sum",
        "terms": [{"loss": {"kind": "t_loss", "normalise": False}}, {"loss": "dice"}],
    }
    (finding,) = found(write(tmp_path / "run", [planned(10), *steps([1.0] * 10)], loss), "sum_beside_mean")
    assert "t loss adds up over all voxels" in finding.sentence
    assert not found(write(tmp_path / "means", [planned(10), *steps([1.0] * 10)]), "sum_beside_mean")


# ---- gradients


def test_an_explosion_counts_where_it_did_harm(tmp_path: Path) -> None:
    norms = [1.0] * 100
    norms[60] = 500.0
    harmed = [*FALLING[:61], *([2.0] * 39)]
    (finding,) = found(
        write(tmp_path / "harm", [planned(100), *steps(harmed, gradient_norms=norms)]), "exploding_gradient"
    )
    assert finding.step == 61 and finding.evidence["median norm before"] == 1.0
    assert "500 times" in finding.sentence
    assert not found(
        write(tmp_path / "none", [planned(100), *steps(FALLING, gradient_norms=norms)]), "exploding_gradient"
    )


def test_what_counts_as_exploded() -> None:
    assert exploded([1.0] * 50, 100.0) and not exploded([1.0] * 50, 99.0)
    assert not exploded([1.0] * 10, 1e6), "too few to know what is usual"
    assert not exploded([1.0] * 50, math.inf), "float16 looks for its scale in this way"
    assert exploded([math.inf, *[1.0] * 40], 100.0)


# ---- generalisation


def _validated(losses: Sequence[float], dice: Sequence[float], trained: Sequence[float]) -> list[Event]:
    events: list[Event] = []
    for i, (loss, mean, train) in enumerate(zip(losses, dice, trained, strict=True), 1):
        events.append(EpochDone(step=10 * i, epoch=i, epochs=10, loss=1 / i, terms={}))
        events.append(validation(10 * i, {"liver": 0.5, "lesion": 0.5}, loss, mean))
        events.append(WatchedDone(step=10 * i, case="t", role="train", index=i, class_dice={"liver": train}))
    return [planned(100), *steps([0.5] * 100), *events]


@pytest.mark.parametrize(
    ("losses", "dice", "trained", "said"),
    [
        ([1, 0.6, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9], [0.6] * 8, [0.7] * 8, "learned by heart"),
        ([1, 0.6, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9], [0.1 * i for i in range(8)], [0.7] * 8, "too certain"),
        ([1, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6], [0.6] * 8, [0.9] * 8, "a gap of at least 0.2 since step 10"),
        ([1, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6], [0.6] * 8, [0.7] * 8, ""),
        ([1, 0.8, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6], [0.6] * 8, [0.7] * 8, ""),
    ],
    ids=["by heart", "too certain", "gap", "healthy", "restless"],
)
def test_generalisation(tmp_path: Path, losses: Any, dice: Any, trained: Any, said: str) -> None:
    result = found(write(tmp_path / "run", _validated(losses, dice, trained)), "generalisation_gap")
    assert len(result) == bool(said) and all(said in f.sentence for f in result), result


# ---- plateaus


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.97] * 100, "where predicting the share of each class"),
        ([2.0] * 100, "worse than that of every prediction"),
        (FALLING, ""),
        ([1 - i / 200 for i in range(100)], ""),
    ],
    ids=["trivial", "worse", "falling", "slow"],
)
def test_plateaus(tmp_path: Path, losses: list[float], said: str) -> None:
    result = found(write(tmp_path / "run", [planned(100), *steps(losses)]), "plateau")
    assert len(result) == bool(said) and all(said in f.sentence for f in result), result


def test_a_floor_above_0_is_a_remark(tmp_path: Path) -> None:
    floor = {"perfect": 0.4, "all background": 1.0, "class frequencies": 1.0, "random": 0.96}
    events = [dataclasses.replace(e, references=floor if e.references else {}) for e in steps([0.41] * 100)]
    diagnosis = diagnose_run(write(tmp_path / "run", [planned(100), *events]), ["plateau"])
    (finding,) = diagnosis.findings
    assert finding.severity == "remark" and "that is its floor" in finding.sentence
    assert diagnosis.references["perfect"] == 0.4 and diagnosis.references["this run"] == 0.41


# ---- what cannot be told, and the faces


def test_what_was_not_recorded_is_said_to_be_unchecked(tmp_path: Path) -> None:
    bare = [dataclasses.replace(e, term_gradients={}, references={}) for e in steps([0.5] * 10)]
    diagnosis = diagnose_run(write(tmp_path / "run", [planned(10), *bare]))
    reasons = {one.check: one.reason for one in diagnosis.not_checked}
    assert "monitoring.gradients_every" in reasons["silent_term"] and "references" in reasons["plateau"]
    assert str(diagnosis) == "Nothing wrong was found." and not diagnosis.references
    with pytest.raises(UnknownKindError, match="silent_term"):
        diagnose_run(tmp_path / "run", ["silent_terms"])
    with pytest.raises(DataError):
        segexplorer.diagnose(tmp_path)


def test_a_check_of_somebody_elses(tmp_path: Path) -> None:
    own = Check(
        "always", "Always", "Finds something.", lambda _: iter([Finding("always", "remark", "Here.")])
    )
    checks.register(own)
    try:
        assert [f.kind for f in diagnose_run(write(tmp_path / "run", [planned(1)]), ["always"]).findings] == [
            "always"
        ]
    finally:
        checks.unregister("always")


def test_the_command_prints_sentences_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    norms = {"dice": 1.0, "cross_entropy": 1e-3, "total": 1.0}
    path = write(tmp_path / "run", [planned(100), *steps(FALLING, norms)])
    assert command(["doctor", str(path)]) == 0
    shown = capsys.readouterr()
    assert "problem  The term cross entropy is silent" in shown.out
    assert "curve cross_entropy of term_gradients" in shown.out and "all background" in shown.out
    assert "Not checked" in shown.err
    assert command(["doctor", str(path), "--json", "--check", "silent_term"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "silent_term" and finding["curve"] == {
        "plot": "term_gradients",
        "name": "cross_entropy",
    }


def test_a_finished_run_of_ours_is_diagnosed_with_its_data(make_run: MakeRun) -> None:
    run = make_run(monitoring__gradients_every=1)
    list(run)
    diagnosis: Diagnosis = segexplorer.diagnose(run)
    assert "lost_on_grid" in diagnosis.healthy, diagnosis
    record = open_run(run.folder)
    assert list(record.term_gradients.columns) == ["tversky", "cross_entropy", "total"]
    assert set(record.references.columns) >= {"this run", "perfect", "random"}
    assert diagnosis.references["this run"] > diagnosis.references["perfect"]
    watched = [e for e in record.events() if isinstance(e, WatchedDone)]
    assert {e.role for e in watched if e.class_dice} == {"train", "validation"}


QUIET = {
    "kind": "weighted_sum",
    "terms": [{"loss": "dice"}, {"loss": "cross_entropy", "weight": 1e-4}],
}


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"loss": QUIET}, "silent_term", "cross entropy is silent: from step 1 on"),
        (
            {"data__classes": {"liver": 1, "vessel": 6}, "preprocessing__spacing": [60, 60, 60]},
            "lost_on_grid",
            "class vessel",
        ),
        ({}, "", ""),
    ],
    ids=["silent term", "lost on the grid", "healthy"],
)
def test_trained_runs(make_run: MakeRun, settings: dict[str, Any], kind: str, said: str) -> None:
    cheap = {
        "data__classes": {"liver": 1},
        "sampling__patch_size": [8, 8, 8],
        "monitoring__gradients_every": 1,
    }
    run = make_run(**{**cheap, **settings})
    list(run)
    able = ["silent_term", "lost_on_grid", "exploding_gradient", "sum_beside_mean", "weight_at_limit"]
    problems = segexplorer.diagnose(run, only=able).problems
    assert [p.kind for p in problems] == ([kind] if kind else []), problems
    assert all(said in p.sentence for p in problems)


def test_a_run_without_steps_is_not_called_healthy(tmp_path: Path) -> None:
    diagnosis = diagnose_run(write(tmp_path / "run", [StateChanged(state="preparing")]))
    assert not diagnosis.findings
    assert diagnosis.healthy == ("sum_beside_mean",), "only the loss itself can be looked at"
