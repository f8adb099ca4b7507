"""Forms of ipywidgets: whatever a spec declares comes back from its form unchanged, and mistakes are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances

from segexplorer.core.errors import SpecError
from segexplorer.losses.base import registry as losses
from segexplorer.networks.base import registry as networks
from segexplorer.training.experiment import Experiment, shipped_experiments
from tests.frontends.notebook.conftest import EXPERIMENT


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = set(_instances)
    yield
    for key in set(_instances) - before:
        _instances[key].close()


@pytest.mark.parametrize("registry", [losses, networks], ids=["losses", "networks"])
def test_every_kind_comes_back_from_its_form(registry: Any) -> None:
    from segexplorer.frontends.notebook.forms import GroupField

    for kind, model in registry.specs().items():
        if any(field.is_required() for field in model.model_fields.values()):
            continue
        spec = model()
        assert registry.parse(GroupField(spec, lambda: None).get()) == spec, kind


@pytest.mark.parametrize("name", ["chen2023_phantom", "yeung2022_phantom", "compare_losses_phantom"])
def test_a_whole_experiment_comes_back_also_when_all_is_unfolded(name: str) -> None:
    from segexplorer.frontends.notebook.forms import SectionField, SpecForm

    path = next(found.path for found in shipped_experiments() if found.path.stem == name)
    experiment = Experiment.from_yaml(path)
    form = SpecForm(experiment)
    for field in form._group.fields.values():
        if isinstance(field, SectionField):
            field.open()
    assert form.value == experiment


def test_a_number_is_changed_and_a_kind_chosen() -> None:
    from segexplorer.frontends.notebook.forms import SpecForm

    heard: list[int] = []
    form = SpecForm(Experiment.of({**EXPERIMENT, "loss": "tversky"}), lambda: heard.append(1))
    form.field("loss.alpha").widget.value = 0.4
    form.field("loss.beta").widget.value = 0.6
    assert form.value.loss.alpha == 0.4 and heard
    picker = form._group.fields["loss"]._picker
    picker.value = "kind:focal_tversky"
    assert form.value.loss.kind == "focal_tversky"


def test_a_mistake_is_a_sentence() -> None:
    from segexplorer.frontends.notebook.forms import OptionalField, SpecForm

    form = SpecForm(Experiment.of(EXPERIMENT))
    patch = form.field("sampling.patch_size")
    assert isinstance(patch, OptionalField) and patch._inner is not None
    patch._inner.widget.value = "[16, 16, large]"
    with pytest.raises(SpecError, match=r"patch_size|Patch size"):
        _ = form.value


def test_live_settings_are_under_the_names_of_their_terms() -> None:
    import ipywidgets as w

    from segexplorer.frontends.notebook.forms import LiveForm, close_all

    experiment = Experiment.of({**EXPERIMENT, "loss": "squared_dice_ce_adaptive_region"})
    form = LiveForm(experiment, lambda path, value: None)
    heads = [child.value for child in form.widget.children if isinstance(child, w.HTML)]
    assert len(heads) == len(set(heads)) and any("Cross entropy" in head for head in heads)
    assert any("Optimiser" in head for head in heads)
    close_all(form.widget)
