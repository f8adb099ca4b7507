"""Every registered kind and every sample experiment goes through a form and comes back the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import segexplorer.training.experiment as training
from segexplorer.core.fields import parameters
from segexplorer.core.registry import families
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import LiveForm, SpecForm

SAMPLES = sorted(training.sample_configs().glob("*.yaml"))
pytestmark = pytest.mark.usefixtures("qapp")

_SPECS: list[Any] = [
    pytest.param(spec, id=f"{family}-{kind}")
    for family, registry in families().items()
    if not family.startswith("test")
    for kind, spec in registry.specs().items()
    if not any(p.required for p in parameters(spec))
]
_PRESETS: list[Any] = [
    pytest.param(preset.spec, id=f"{family}-{name}")
    for family, registry in families().items()
    if not family.startswith("test")
    for name, preset in registry.presets().items()
]


@pytest.mark.parametrize("spec", _SPECS)
def test_defaults_of_every_kind(spec: type[Spec]) -> None:
    form = SpecForm(spec)
    assert form.value == spec()
    assert form.problems == ()


@pytest.mark.parametrize("spec", _PRESETS)
def test_every_preset(spec: Spec) -> None:
    assert SpecForm(spec).value == spec


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_every_sample_experiment(path: Path) -> None:
    experiment = training.Experiment.from_yaml(path)
    form = SpecForm(experiment)
    assert form.value == experiment
    assert training.Experiment.of(yaml.safe_load(form.value.to_yaml())) == experiment
    assert LiveForm(experiment).changes == {}


def test_an_experiment_from_scratch_fits_a_dock() -> None:
    form = SpecForm(training.Experiment, exclude=("data", "split", "changes"))
    assert form.problems == ()
    assert form.native.minimumSizeHint().width() <= 340
