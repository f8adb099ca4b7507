"""The recipes of the papers' experiment files: what reaches torch, step by step, against the papers' numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segexplorer.study.matrix import expand
from segexplorer.training.experiment import Experiment, sample_configs
from segexplorer.training.schedules import ScheduleState


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGEXPLORER_DATA", str(tmp_path))


def recipe(name: str) -> tuple[Experiment, torch.optim.Optimizer]:
    experiment = Experiment.from_yaml(sample_configs() / f"{name}.yaml")
    return experiment, experiment.optimiser.build([{"params": [torch.nn.Parameter(torch.zeros(3))]}])


def rates(experiment: Experiment, dice: list[float]) -> list[float]:
    """The learning rate of each epoch of one step, with these validation scores after them."""
    state, found = ScheduleState(), []
    for step, score in enumerate(dice):
        found.append(experiment.optimiser.learning_rate * experiment.schedule.scale(step, len(dice), state))
        experiment.schedule.epoch_end(state, score)
    return found


@pytest.mark.parametrize(
    ("name", "kind", "rate", "batch", "epochs"),
    [
        ("zhang2025_nih_pancreas", torch.optim.Adam, 5e-3, 10, 150),
        ("perera2025_msseg2", torch.optim.Adam, 1e-3, 4, 250),
        ("yeung2022_bus2017", torch.optim.SGD, 1e-2, 32, 100),
        ("yeung2022_bus2017_deep", torch.optim.SGD, 1e-2, 32, 1000),
        ("yeung2022_brats20", torch.optim.Adam, 3e-4, 2, 400),
        ("yeung2022_brats20_deep", torch.optim.SGD, 1e-2, 2, 1000),
        ("yeung2022_kits19", torch.optim.Adam, 3e-4, 2, 500),
        ("yeung2022_kits19_deep", torch.optim.SGD, 1e-2, 2, 1000),
    ],
)
def test_optimiser_rate_batch_and_length(
    name: str, kind: type[torch.optim.Optimizer], rate: float, batch: int, epochs: int
) -> None:
    experiment, optimiser = recipe(name)
    (group,) = optimiser.param_groups
    assert type(optimiser) is kind and group["lr"] == rate and group["weight_decay"] == 0
    assert experiment.optimiser.gradient_clip is None
    assert experiment.sampling.batch_size == batch and experiment.schedule.epochs == epochs
    if kind is torch.optim.SGD:
        assert group["momentum"] == 0.99 and group["nesterov"]


def test_sgd_falls_by_the_polynomial_of_equation_21() -> None:
    experiment, _ = recipe("yeung2022_bus2017")
    assert rates(experiment, [0.5] * 100) == pytest.approx(
        [0.01 * (1 - epoch / 100) ** 0.9 for epoch in range(100)]
    )


def test_adam_falls_on_plateaus_down_to_the_smallest_rate_of_the_paper() -> None:
    pancreas, _ = recipe("zhang2025_nih_pancreas")
    rising, flat = [n / 20 for n in range(10)], [0.1] * 12
    assert rates(pancreas, rising) == [5e-3] * 10
    assert rates(pancreas, flat) == pytest.approx([5e-3] * 6 + [2.5e-3] * 5 + [1.25e-3])
    brats, _ = recipe("yeung2022_brats20")
    assert rates(brats, [0.1] * 100)[-1] == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("zhang2025_nih_pancreas", {"augmentation.enabled": False, "split.validation_count": 8}),
        (
            "perera2025_msseg2",
            {
                "preprocessing.spacing": (0.5, 0.75, 0.75),
                "preprocessing.difference": True,
                "sampling.patch_size": (80, 80, 80),
                "sampling.foreground_ratio": 1.0,
                "sampling.shift": 10,
            },
        ),
        (
            "yeung2022_brats20",
            {
                "data.sequences": ("t1ce",),
                "data.classes": {"enhancing tumour": 4},
                "preprocessing.intensity.scale": "unit",
                "sampling.patch_size": (96, 96, 96),
                "validation.overlap": 0.5,
            },
        ),
        (
            "yeung2022_kits19",
            {
                "preprocessing.intensity.ends": (-79, 304),
                "preprocessing.spacing": (1.62, 1.62, 3.22),
                "sampling.patch_size": (160, 160, 80),
                "validation.overlap": 0.5,
            },
        ),
        (
            "chen2023_pddca",
            {
                "preprocessing.crop.to": "body",
                "preprocessing.spacing": (1.5, 1.5, 1.5),
                "preprocessing.intensity.ends": (-200, 400),
                "preprocessing.intensity.scale": "symmetric",
                "sampling.patch_size": None,
            },
        ),
        ("chen2023_abdomen", {"preprocessing.resize": (144, 96, 112), "preprocessing.crop.to": "body"}),
        ("chen2023_lits", {"preprocessing.resize": (192, 144, 80), "preprocessing.crop.to": "body"}),
    ],
)
def test_preprocessing_and_sampling(name: str, settings: dict[str, Any]) -> None:
    experiment, _ = recipe(name)
    for path, expected in settings.items():
        value: Any = experiment
        for part in path.split("."):
            value = getattr(value, part)
        assert value == expected, path


def test_the_ablations_of_chen_2023_vary_one_thing() -> None:
    regions = expand(sample_configs() / "chen2023_pddca_regions.yaml")
    ranges = expand(sample_configs() / "chen2023_pddca_range.yaml")
    third = [point.experiment.loss.plain()["terms"][2]["loss"] for point in regions]
    assert [loss["grid"] for loss in third] == [1, 2, 4, 8, 16]
    assert {loss["kind"] for loss in third} == {"region_dice"}
    ends = [point.experiment.loss.plain()["terms"][2]["loss"] for point in ranges]
    assert [round(loss["a"] + loss["b"] / 2, 6) for loss in ends] == [0.5] * len(ends)
    assert any((loss["a"], loss["b"]) == (0.3, 0.4) for loss in ends)
