"""Which runs are one condition, what a condition is called, and which label values may stand side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from segexplorer.core.errors import DataError
from segexplorer.core.events import ValidationDone, from_json, to_json
from segexplorer.study import compare, compare_groups
from segexplorer.study.matrix import expand
from segexplorer.study.plan import forecast, runs_of
from segexplorer.study.runs import labels_of, read_run
from segexplorer.training.experiment import Experiment, sample_configs
from tests.study.test_compare import score

RunMaker = Callable[..., Path]
SCORES = [score(f"c{i}", "lesion", 0.5 + 0.03 * i) for i in range(7)]
DICE_CE = [{"loss": "dice"}, {"loss": "cross_entropy"}]


def labels(*losses: Any, **settings: Any) -> list[str]:
    experiments = [Experiment.of({"data": {"kind": "phantom"}, "loss": loss, **settings}) for loss in losses]
    return labels_of(experiments, [Path(f"run{n}") for n in range(len(losses))])


def on(values: dict[str, Any], root: str = "/data/a", **more: Any) -> dict[str, Any]:
    return {"kind": "decathlon", "root": root, "classes": values, **more}


def test_other_label_values_are_neither_pooled_nor_compared(make_run: RunMaker) -> None:
    five = make_run("five", SCORES, data_set=on({"lesion": 5}))
    four = make_run("four", SCORES, data_set=on({"lesion": 4}), loss="tversky")
    for other in (four, make_run("seed", SCORES, data_set=on({"lesion": 4}), seed=1)):
        with pytest.raises(DataError, match=f"class lesion is label 5 in five and 4 in {other.name}"):
            compare([five, other])
        groups = compare_groups([five, other])
        assert not groups.comparisons and len(groups.alone) == 2
        assert "Not compared: The class lesion is label 5" in groups.notes[0]
    merged = make_run("merged", SCORES, data_set=on({"lesion": [4, 5]}), loss="tversky")
    with pytest.raises(DataError, match="label 5 in five and 4,5 in merged"):
        compare({"by": [five], "hand": [merged]})
    ignored = make_run("ignored", SCORES, data_set=on({"lesion": 5}, other_labels="ignored"), loss="tversky")
    with pytest.raises(DataError, match="are background in five and ignored in ignored"):
        compare([five, ignored])


def test_the_same_data_elsewhere_or_in_another_spelling_is_the_same(make_run: RunMaker) -> None:
    runs = [
        make_run("here", SCORES, data_set=on({"lesion": 5})),
        make_run("there", SCORES, data_set=on({"lesion": [5]}, "/mnt/b"), seed=1),
        make_run("tversky", SCORES, data_set=on({"lesion": 5}, "/mnt/c"), loss="tversky"),
    ]
    result = compare(runs, metrics=["dice"])
    assert [(c.label, c.seeds) for c in result.conditions] == [("dice", (0,)), ("tversky", (0,))]
    assert not any("also differ" in note for note in result.notes)


def test_label_values_that_differ_are_reported_before_training(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    plain = {"data": on({"lesion": 5}), "matrix": {"data.classes": [{"lesion": 5}, {"lesion": 4}]}}
    file.write_text(yaml.safe_dump(plain))
    (refusal,) = forecast(expand(file)).refusals
    assert refusal == (
        "The class lesion is label 5 in dice_cross_entropy classes=lesion:5 and 4 in "
        "dice_cross_entropy classes=lesion:4."
    )


def test_another_precision_is_noted(make_run: RunMaker) -> None:
    runs = [
        make_run("a", SCORES, compute={"precision": "float32"}),
        make_run("b", SCORES, loss="tversky", compute={"precision": "bfloat16"}),
    ]
    assert "Precision of computing differs: bfloat16 in b; float32 in a." in compare(runs).notes
    provenance = json.loads((runs[1] / "provenance.json").read_text())
    provenance[-1]["precision"] = "float32"  # what was computed in counts, not what was asked for
    (runs[1] / "provenance.json").write_text(json.dumps(provenance))
    assert not any("Precision" in note for note in compare(runs).notes)


def test_sums_are_named_by_the_term_that_tells_them_apart() -> None:
    def total(*more: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "weighted_sum", "terms": [*DICE_CE, *more]}

    grid = {"kind": "region_dice", "grid": 8}
    adaptive = {"kind": "adaptive_region_tversky", "grid": 8}
    assert labels(total({"loss": grid}), total({"loss": adaptive})) == [
        "weighted_sum region_dice",
        "weighted_sum adaptive_region_tversky",
    ]
    assert labels(
        total({"loss": grid}), total({"loss": {**grid, "reduction": "sum"}}), total({"loss": adaptive})
    ) == [
        "weighted_sum region_dice reduction=present_mean",
        "weighted_sum region_dice reduction=sum",
        "weighted_sum adaptive_region_tversky",
    ]
    assert labels(total({"loss": grid}), total({"loss": grid}, {"loss": "focal"})) == [
        "weighted_sum dice+cross_entropy+region_dice",
        "weighted_sum dice+cross_entropy+region_dice+focal",
    ]
    weights = [
        total({"loss": "focal", "weight": w}, {"loss": "jaccard", "weight": 1 - w}) for w in (0.25, 0.5)
    ]
    assert labels(*weights) == [
        "weighted_sum terms.2.weight=0.25 terms.3.weight=0.75",
        "weighted_sum terms.2.weight=0.5 terms.3.weight=0.5",
    ]


def test_of_many_settings_a_label_holds_those_that_tell() -> None:
    varied = [
        {
            "kind": "adamw",
            "learning_rate": 0.001 * (1 + n),
            "weight_decay": 0.1 * n,
            "gradient_clip": None if n else 1.0,
        }
        for n in range(3)
    ]
    experiments = [
        Experiment.of(
            {"data": {"kind": "phantom"}, "optimiser": o, "sampling": {"batch_size": 2 + n}, "seed": n}
        )
        for n, o in enumerate(varied)
    ]
    told = labels_of(experiments, [Path("x")] * 3)
    assert told == [f"dice_cross_entropy learning_rate={r}" for r in ("0.001", "0.002", "0.003")]
    assert labels("dice", "dice", "dice") == ["dice [run0]", "dice [run1]", "dice [run2]"]
    same_names = labels_of([experiments[0]] * 2, [Path("a/run"), Path("b/run")])
    assert same_names == ["dice_cross_entropy [run] 1", "dice_cross_entropy [run] 2"]


@pytest.mark.parametrize("name", ["chen2023_pddca", "chen2023_lits", "chen2023_pddca_range"])
def test_labels_of_shipped_files_are_short_and_unique(name: str) -> None:
    points = expand(sample_configs() / f"{name}.yaml")
    varied = labels_of([p.experiment for p in points], [Path(p.name) for p in points])
    assert len(set(varied)) == len(varied)
    assert all(len(label) <= 60 and "[" not in label and "'" not in label for label in varied)


def test_a_run_counts_once_however_its_path_is_spelled(
    make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_run("one", SCORES)
    monkeypatch.chdir(tmp_path)
    spelled = [one, Path("one"), tmp_path / "x" / ".." / "one", Path(os.path.relpath(one))]
    (tmp_path / "x").mkdir()
    assert runs_of(spelled).folders == (one,)
    (alone,) = compare_groups(spelled).alone
    assert (alone.runs, alone.n_scores) == (("one",), 7)
    (tmp_path / "study.json").write_text('{"runs": ["one"], "reference": ["one"]}')
    assert runs_of([one, Path()]).reference == one


def test_time_holds_every_validation_whichever_weights_are_compared(make_run: RunMaker) -> None:
    run = make_run("run", SCORES, best=SCORES)  # two steps of 2 s, two validations of 1 s, the first is best
    lines = (run / "events.jsonl").read_text().splitlines()
    unscored = next(e for e in map(from_json, lines) if isinstance(e, ValidationDone))
    lines.insert(2, to_json(replace(unscored, step=5, scores=(), best=False, seconds=4.0)))
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert read_run(run, "last").seconds == read_run(run, "best").seconds == 2 * 2.0 + 2 * 1.0 + 4.0
