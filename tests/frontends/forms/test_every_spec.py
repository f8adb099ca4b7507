"""Every registered kind and every sample experiment goes through a form and comes back the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import segexplorer.training.experiment as training
from segexplorer.core.errors import SpecError
from segexplorer.core.fields import Parameter, parameters
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


_DOCK_WIDTH = 360
"""Pixels that a form has in the narrowest dock, without the bar that scrolls it."""


def _other_values(declared: Parameter) -> Iterator[Any]:
    """Yield values that the widget of a plain parameter can take, in the hope that one of them is allowed."""
    form, default = declared.shape.form, declared.default
    if form == "flag":
        yield not default
    elif form == "choice":
        yield from (choice for choice in declared.shape.choices if choice != default)
    elif form in {"integer", "number"}:
        kind = int if form == "integer" else float
        low, high = declared.minimum, declared.maximum
        for number in (default * 2, default / 2, default + 1, default - 1, 1, 0.5, low, high):
            if number is not None:
                yield kind(number)


@pytest.mark.parametrize("spec", _SPECS)
def test_every_kind_fits_a_narrow_dock_and_each_setting_reaches_the_experiment(spec: type[Spec]) -> None:
    form = SpecForm(spec)
    default = spec()
    assert form.value == default
    assert form.problems == ()
    assert form.native.minimumSizeHint().width() <= _DOCK_WIDTH
    for declared in parameters(spec):
        if declared.shape.optional:
            continue
        for wanted in _other_values(declared):
            changed = {**default.plain(), declared.name: wanted}
            try:
                expected = spec.of(changed)
            except SpecError:
                continue
            if expected == default:
                continue
            form.widget_for(declared.name).value = wanted
            assert form.value == expected, declared.name
            assert spec.of(json.loads(json.dumps(form.value.plain()))) == expected, declared.name
            form.editor_at(declared.name).set(declared.default)
            break
    assert form.value == default


@pytest.fixture(scope="module")
def forms(qapp: Any) -> Iterator[dict[type[Spec], SpecForm[Any]]]:
    """Forms by what they edit: each is built once, and shows one spec after the other."""
    made: dict[type[Spec], SpecForm[Any]] = {}
    yield made
    made.clear()


@pytest.mark.parametrize("spec", _PRESETS)
def test_every_preset(spec: Spec, forms: dict[type[Spec], SpecForm[Any]]) -> None:
    if type(spec) not in forms:
        forms[type(spec)] = SpecForm(type(spec))
    form = forms[type(spec)]
    form.set(spec)
    assert form.value == spec


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_every_sample_experiment(path: Path, forms: dict[type[Spec], SpecForm[Any]]) -> None:
    experiment = training.Experiment.from_yaml(path)
    if training.Experiment not in forms:
        forms[training.Experiment] = SpecForm(training.Experiment)
    form = forms[training.Experiment]
    form.set(experiment)
    assert form.value == experiment, "and nothing is left of the experiment before"
    assert training.Experiment.of(yaml.safe_load(form.value.to_yaml())) == experiment
    assert LiveForm(experiment).changes == {}


def test_an_experiment_from_scratch_fits_a_dock() -> None:
    form = SpecForm(training.Experiment, exclude=("data", "split", "changes"))
    assert form.problems == ()
    assert form.native.minimumSizeHint().width() <= 340
