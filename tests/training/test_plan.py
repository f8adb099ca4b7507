"""The plan: what an experiment comes to on these data and this machine, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.spec import replace_values
from segexplorer.data.transforms.elastic import Elastic
from segexplorer.training.compute import memory_limit
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import NOT_HELD_OUT, resolve


def test_roles_steps_and_watched_cases(tiny: Experiment) -> None:
    plan = resolve(tiny)
    assert (len(plan.ids("train")), len(plan.ids("validation")), len(plan.ids("test"))) == (2, 1, 0)
    assert (plan.steps_per_epoch, plan.steps) == (3, 6)
    assert plan.watched == {"train": plan.ids("train")[0], "validation": plan.ids("validation")[0]}
    assert plan.badges == ()
    assert plan.badge_of(plan.ids("train")[0], "train") == NOT_HELD_OUT
    assert plan.badge_of(plan.ids("validation")[0], "validation") == ""
    assert "2 train, 1 validate" in plan.summary()["Cases"]
    assert plan.memory_bytes > 0 and plan.network_parameters > 0


def test_a_patch_is_enlarged_to_what_the_network_divides_and_it_is_said(tiny: Experiment) -> None:
    plan = resolve(replace_values(tiny, {"sampling.patch_size": [17, 16, 15]}))
    assert plan.patch == (18, 16, 16)
    assert any("17 × 16 × 15" in sentence for sentence in plan.warning_sentences())


def test_whole_volumes_are_padded_windows(tiny: Experiment) -> None:
    plan = resolve(replace_values(tiny, {"sampling.patch_size": None, "network.levels": 3}))
    assert plan.patch is None and plan.patch_for((31, 32, 29)) == (32, 32, 32)


def test_one_case_alone_trains_only_when_that_is_confirmed(tiny: Experiment) -> None:
    lone = replace_values(tiny, {"data.count": 1, "split.validation_count": None})
    with pytest.raises(DataError, match=r"split\.self_validation"):
        resolve(lone)
    plan = resolve(replace_values(lone, {"split.self_validation": True}))
    assert plan.badges == (NOT_HELD_OUT,)
    assert plan.ids("validation") == plan.ids("train")
    assert list(plan.watched) == ["train"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation.watch_train": "nobody"}, "nobody"),
        ({"split.validation": ["nobody"]}, "nobody"),
        ({"split.validation_count": 3}, "training"),
        ({"compute.device": "cuda:77"}, "cuda"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    tiny: Experiment, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((SpecError, DataError)) as caught:
        resolve(replace_values(tiny, changes))
    assert words in str(caught.value).lower() + str(caught.value)


def test_a_schedule_that_reads_validation_says_so(tiny: Experiment) -> None:
    plan = resolve(replace_values(tiny, {"schedule": {"kind": "plateau", "epochs": 2}}))
    assert any("flattered" in sentence for sentence in plan.warning_sentences())


def test_penalties_that_may_reward_errors_are_told_in_the_plan(tiny: Experiment) -> None:
    loss = {"kind": "adaptive_region_tversky", "detach": False}
    inside = {"kind": "weighted_sum", "terms": [{"loss": "dice"}, {"loss": loss}]}
    for given in (loss, inside):
        said = resolve(replace_values(tiny, {"loss": given})).warning_sentences()
        assert any("A = 0.3 is below B = 0.4" in sentence for sentence in said), said
    safe = resolve(replace_values(tiny, {"loss": {**loss, "a": 0.4}}))
    assert not any("below B" in sentence for sentence in safe.warning_sentences())


def test_a_loss_that_follows_the_validation_says_when_there_is_none(tiny: Experiment) -> None:
    changes = {"loss": "adaptive_t_vmf_dice", "split.validation_count": 0}
    said = resolve(replace_values(tiny, changes)).warning_sentences()
    assert any("stays as it starts" in sentence for sentence in said), said
    assert not any(
        "stays as it starts" in s
        for s in resolve(replace_values(tiny, {"loss": "adaptive_t_vmf_dice"})).warning_sentences()
    )


def test_what_is_left_out_is_not_even_looked_at(tiny: Experiment) -> None:
    names = [ref.id for ref in tiny.data.cases()]
    plan = resolve(replace_values(tiny, {"split.excluded": (names[0],)}))
    assert names[0] not in plan.refs and names[0] not in plan.roles
    assert set(plan.refs) == set(names[1:])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {
                "augmentation.elastic.probability": 1.0,
                "augmentation.elastic.distance": 2.0,
                "augmentation.elastic.displacement": 0.1,
                "preprocessing.spacing": [9.0, 9.0, 0.01],
                "sampling.patch_size": [64, 64, 64],
            },
            r"elastic deformation of a patch .* would take about [\d,]+ GiB .* augmentation\.elastic\.distance",
        ),
        ({"preprocessing.spacing": [0.05, 0.05, 0.05]}, r"The case phantom_.* larger preprocessing\.spacing"),
        ({"preprocessing.resize": [20_000, 20_000, 20_000]}, r"The case phantom_.* preprocessing\.resize"),
        ({"data.size": 9_000}, r"The case phantom_.* preprocessing\.resize"),
        (
            {"sampling.batch_size": 256, "sampling.patch_size": [512, 512, 512]},
            r"A batch would take .* sampling\.batch_size",
        ),
    ],
)
def test_memory_that_the_machine_does_not_have_is_refused_before_it_is_asked_for(
    settings: dict[str, Any], told: str, tiny: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.training.plan.memory_limit", lambda device="cpu": 16 * 2**30)
    with pytest.raises(SpecError, match=told):
        resolve(replace_values(tiny, settings))
    monkeypatch.setattr("segexplorer.training.plan.memory_limit", lambda device="cpu": None)
    resolve(tiny)


def test_a_step_that_exceeds_the_memory_is_refused(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segexplorer.training.plan.memory_limit", lambda device="cpu": 2 * 2**20)
    with pytest.raises(SpecError, match=r"A training step would take"):
        resolve(tiny)


def test_the_memory_of_the_elastic_field_is_what_is_allocated() -> None:
    elastic = Elastic(probability=1.0, distance=4.0, displacement=0.5)
    shape, spacing = (24, 20, 12), (1.0, 1.0, 5.0)
    drawn = elastic.draw(np.random.default_rng(0), shape, spacing)
    assert drawn is not None
    held = drawn.pushes.nbytes + drawn.field(shape).nbytes
    assert held <= elastic.memory(shape, spacing) <= 6 * held
    assert memory_limit() is None or memory_limit() > 2**28  # type: ignore[operator]
