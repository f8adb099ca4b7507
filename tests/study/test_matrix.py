"""Matrices: one file, many experiments; folds; a study that goes on where it was broken off."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from segexplorer.core.errors import ExitCode, SpecError
from segexplorer.data.splits import Split, assign_roles
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.matrix import Point, expand, fold_cases
from segexplorer.study.plan import forecast, plan_study, runs_of
from segexplorer.training.experiment import Experiment

BASE = {
    "data": {"kind": "phantom", "size": 32, "count": 5},
    "split": {"validation_count": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1},
    "schedule": {"kind": "constant", "epochs": 1},
    "loss": "dice",
    "compute": {"threads": 1},
}


def write(folder: Path, matrix: object) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**BASE, "matrix": matrix}))
    return file


def test_every_mix_is_an_experiment_with_a_name(tmp_path: Path) -> None:
    tversky = {"kind": "tversky", "alpha": 0.3, "beta": 0.7}
    points = expand(write(tmp_path, {"loss": ["dice", tversky], "seed": [0, 1, 2]}))
    assert [p.name for p in points] == [
        "dice_seed0",
        "dice_seed1",
        "dice_seed2",
        "tversky-alpha0.3-beta0.7_seed0",
        "tversky-alpha0.3-beta0.7_seed1",
        "tversky-alpha0.3-beta0.7_seed2",
    ]
    assert [p.experiment.seed for p in points] == [0, 1, 2] * 2
    assert points[4].experiment.loss.plain()["alpha"] == 0.3
    assert points[0].experiment.network == points[5].experiment.network


def test_seeds_train_on_the_same_cases_and_folds_leave_the_test_cases_out(tmp_path: Path) -> None:
    def roles(points: list[Point]) -> list[dict[str, str]]:
        return [
            dict(assign_roles(p.experiment.data.cases(), p.experiment.split, p.experiment.seed))
            for p in points
        ]

    file = write(tmp_path, {"seed": [0, 1, 2]})
    alike = roles(expand(file))
    assert alike[0] == alike[1] == alike[2]
    base = Experiment.from_yaml(file)
    assert alike[0] == assign_roles(base.data.cases(), base.split, base.seed)
    folded = roles(expand(write(tmp_path, {"folds": 2, "seed": [0, 1]}), {"split.test_fraction": 0.2}))
    tests = [{c for c, role in r.items() if role == "test"} for r in folded]
    assert len(tests[0]) == 1 and all(t == tests[0] for t in tests)
    held = [{c for c, role in r.items() if role == "validation"} for r in folded]
    assert held[0] == held[1] and held[2] == held[3] and not held[0] & held[2]


def test_equal_words_get_numbers_and_settings_hold_for_all(tmp_path: Path) -> None:
    values = [
        {"kind": "weighted_sum", "terms": [{"loss": one}, {"loss": "cross_entropy"}]}
        for one in ("dice", "jaccard")
    ]
    points = expand(write(tmp_path, {"loss": values}), {"seed": 9})
    assert [p.name for p in points] == ["dice+cross_entropy", "jaccard+cross_entropy"]
    assert {p.experiment.seed for p in points} == {9}
    alike = [{**values[0], "terms": [{"loss": "dice"}, {"loss": "focal", "weight": w}]} for w in (0.5, 2)]
    named = expand(write(tmp_path, {"loss": [*alike, alike[0]]}))
    assert [p.name for p in named] == ["dice+focal-weight0.5", "dice+focal-weight2", "dice+focal-weight0.5-2"]


def test_without_a_matrix_there_is_one_experiment_and_train_leaves_it_aside(tmp_path: Path) -> None:
    file = write(tmp_path, {"seed": [4, 5]})
    assert Experiment.from_yaml(file).seed == 0
    alone = tmp_path / "alone.yaml"
    alone.write_text(yaml.safe_dump(BASE))
    assert [p.experiment for p in expand(alone)] == [Experiment.from_yaml(alone)]


def test_folds_hold_every_patient_out_once_and_are_kept(tmp_path: Path) -> None:
    kept = tmp_path / "folds.json"
    file = write(tmp_path, {"folds": 5})
    points = expand(file, assignment=kept)
    assert [p.name for p in points] == [f"fold{n}" for n in range(5)]
    validating = []
    for point in points:
        roles = assign_roles(point.experiment.data.cases(), point.experiment.split, point.experiment.seed)
        validating += [case for case, role in roles.items() if role == "validation"]
    assert len(validating) == len(set(validating)) == 5
    before = json.loads(kept.read_text())
    assert expand(file, {"seed": 77}, kept)[0].experiment.split.validation == tuple(before[0])
    with pytest.raises(SpecError, match="other cases"):
        expand(write(tmp_path, {"folds": 2}), assignment=kept)
    with pytest.raises(SpecError, match="5 patients"):
        fold_cases(Experiment.of(BASE), 6)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ({"losses": ["dice"]}, "Did you mean loss"),
        ({"seed": 3}, r"seed: \[first"),
        ({"folds": 1}, "at least 2"),
        (["dice"], "no mapping"),
        ({"seed": list(range(2000))}, "2000 experiments"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_one_sentence(tmp_path: Path, matrix: object, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        expand(write(tmp_path, matrix))
    import re

    assert re.search(words, str(caught.value))


def test_a_study_trains_what_is_not_done_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path, {"loss": ["tversky", "dice"]}), tmp_path / "runs"
    assert cli(["study", str(file), "-o", str(out), "--list"]) == 0
    assert not out.exists()  # looking writes nothing
    assert "Will compare tversky with dice." in capsys.readouterr().err
    assert [run.todo for run in plan_study(file, out).runs] == ["new", "new"]
    assert cli(["study", str(file), "-o", str(out), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert [c["label"] for c in told["conditions"]] == ["tversky", "dice"]
    assert told["reference"] == "dice"  # the file's own loss, though the matrix names it last
    assert [run.todo for run in plan_study(file, out).runs] == ["done", "done"]
    first = sorted(p.stat().st_mtime_ns for p in out.glob("*/events.jsonl"))
    assert cli(["study", str(file), "-o", str(out)]) == 0
    assert sorted(p.stat().st_mtime_ns for p in out.glob("*/events.jsonl")) == first
    found = runs_of([out])
    assert [p.name for p in found.folders] == ["tversky", "dice"]
    assert found.reference == out / "dice"
    with pytest.raises(SpecError, match=r"schedule\.epochs is 1 there and 2 in the file"):
        plan_study(file, out, {"schedule.epochs": 2})
    with pytest.raises(SpecError, match="contains none"):
        runs_of([tmp_path / "nothing", tmp_path])
    # another axis gives other names; what was trained is known by its experiment
    own = Experiment.from_yaml(file).optimiser.learning_rate
    more = write(tmp_path, {"loss": ["tversky", "dice"], "optimiser.learning_rate": [own, 2 * own]})
    plan = plan_study(more, out)
    assert [r.folder.name for r in plan.runs if r.todo == "done"] == ["tversky", "dice"]
    assert [r.todo for r in plan.runs].count("new") == 2 and plan.others == ()
    assert plan_study(write(tmp_path, {"loss": ["dice"]}), out).others == ("tversky",)


def test_what_cannot_be_compared_is_reported_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = {"loss": ["dice", "tversky"], "network": ["unet", "segresnet"], "schedule.epochs": [1, 2]}
    file = write(tmp_path, matrix)
    assert cli(["study", str(file), "--dry-run", "-o", str(tmp_path / "runs")]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("Will compare") == 4 and told.count("Will not compare") == 3
    assert "1 in dice" in told and "2 in dice" in told  # steps by number and condition
    assert "across them only with --allow network --allow steps" in told
    expected = forecast(expand(file), ["network", "steps"])
    assert len(expected.groups) == 1 and not expected.refusals
    assert {len(g) for g in forecast(expand(file), ["steps"]).groups} == {4}
    seeds = forecast(expand(write(tmp_path, {"seed": [0, 1]})))
    assert "nothing to be compared with" in seeds.sentences()[0]
    batches = forecast(expand(write(tmp_path, {"sampling.batch_size": [1, 2]})))
    assert batches.allowances == ("batch",)


def test_an_interrupted_study_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from segexplorer.frontends.cli import run_one

    monkeypatch.setattr(run_one, "follow", lambda run: ExitCode.INTERRUPTED)
    file, out = write(tmp_path, {"loss": ["dice"]}), tmp_path / "my runs"
    arguments = ["study", str(file), "-o", str(out), "-s", "schedule.epochs=2", "--allow", "network"]
    assert cli(arguments) == ExitCode.INTERRUPTED
    words = shlex.split(capsys.readouterr().err.strip().splitlines()[-1].partition("with: ")[2])
    assert words[1:] == [
        *("study", str(file), "--output", str(out)),
        *("--set", "schedule.epochs=2", "--allow", "network"),
    ]


def test_folds_are_of_one_data_set(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"matrix.folds of study.yaml cannot go with matrix.data.count"):
        expand(write(tmp_path, {"folds": 2, "data.count": [4, 5]}))
    points = expand(write(tmp_path, {"seed": [0, 1], "data.count": [4, 5]}))
    held = [p.experiment.split.validation for p in points]  # seed 0 with 4 and 5 cases, then seed 1
    assert held[:2] == held[2:] and all(held)


def test_folds_override_what_the_data_set_says_of_training_and_validation(tmp_path: Path) -> None:
    given = {"a": "validation", "b": "validation", "c": "train", "d": None, "e": None, "f": None, "t": "test"}
    for name in ("image.nii.gz", "label.nii.gz"):
        (tmp_path / name).touch()
    files = {"image": "image.nii.gz", "label": "label.nii.gz"}
    pairs = [{"case": case, "role": role, **files} for case, role in given.items()]
    # two cases of one patient; nobody has said what the others are of
    pairs += [{"case": f"a{n}", "patient": "a", **files} for n in (1, 2)]
    file = tmp_path / "study.yaml"
    for matrix in ({"folds": 3}, {"folds": 3, "seed": [0, 1]}):
        plain = {**BASE, "split": {}, "data": {"kind": "pairs", "pairs": pairs}, "matrix": matrix}
        file.write_text(yaml.safe_dump(plain))
        held: dict[int, set[str]] = {}
        for point in expand(file):
            split = point.experiment.split
            roles = assign_roles(point.experiment.data.cases(), split, point.experiment.seed)
            validating = {case for case, role in roles.items() if role == "validation"}
            assert validating == set(split.validation)
            assert {case for case, role in roles.items() if role == "train"} == set(roles) - validating - {
                "t"
            }
            assert roles["t"] == "test" and roles["a"] == roles["a1"] == roles["a2"]
            held[int(point.name[4])] = validating
        assert set().union(*held.values()) == {*given, "a1", "a2"} - {"t"}
        assert sum(map(len, held.values())) == 8  # each validates in one fold


def test_cases_without_a_patient_are_patients_of_their_own_and_one_is_counted_as_one() -> None:
    from segexplorer.data.case import CaseRef
    from segexplorer.data.datasets.phantom import Phantoms

    class Nameless(Phantoms):
        def cases(self) -> list[CaseRef]:
            return [replace(ref, patient="") for ref in super().cases()]

    def of(count: int) -> Experiment:
        base = Experiment.of(BASE)
        return base.model_copy(update={"data": Nameless(count=count, size=32), "split": Split()})

    assert sorted(map(len, fold_cases(of(4), 2))) == [2, 2]
    with pytest.raises(SpecError, match=r"^1 patient cannot make 2 folds"):
        fold_cases(of(1), 2)
