"""The algebra on specs: reading, replacing, walking, comparing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError, model_validator

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import (
    Spec,
    differences,
    get_value,
    live_parameters,
    replace_value,
    replace_values,
    walk,
)
from segexplorer.training.experiment import Experiment


class Leaf(Spec):
    """Two numbers that depend on each other."""

    low: float = parameter(0.0, title="Low", description="Lower end.", live=True)
    high: float = parameter(1.0, title="High", description="Upper end.", live=True)

    @model_validator(mode="after")
    def _ordered(self) -> Leaf:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class Tree(Spec):
    """A bit of everything."""

    leaf: Leaf = parameter(title="Leaf", description="One.", default_factory=Leaf)
    leaves: tuple[Leaf, ...] = parameter((Leaf(), Leaf(high=2)), title="Leaves", description="Several.")
    sizes: tuple[int, int] = parameter((3, 4), title="Sizes", description="Two.")
    classes: dict[str, int] = parameter(title="Classes", description="By name.", default_factory=dict)
    count: int = parameter(1, title="Count", description="How many.", ge=0)


TREE = Tree(classes={"liver": 5})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("count", 1),
        ("leaf.high", 1.0),
        ("leaves.1.high", 2.0),
        ("sizes.0", 3),
        ("classes.liver", 5),
        ("leaves.0", Leaf()),
    ],
)
def test_values_are_read_by_their_dotted_path(path: str, value: Any) -> None:
    assert get_value(TREE, path) == value


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("cuont", "count"),
        ("leaf.hihg", "high"),
        ("leaves.2", "2 entries"),
        ("leaves.-1", "entries"),
        ("leaves.one", "entries"),
        ("classes.livre", "liver"),
        ("count.x", "single value"),
    ],
)
def test_a_path_that_leads_nowhere_is_explained(path: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        get_value(TREE, path)
    if not path.startswith("classes"):
        with pytest.raises(SpecError, match=says):
            replace_value(TREE, path, 1)


def test_replacing_makes_a_new_validated_spec() -> None:
    changed = replace_value(TREE, "leaves.1.low", 1.5)
    assert get_value(changed, "leaves.1.low") == 1.5
    assert get_value(TREE, "leaves.1.low") == 0.0
    assert differences(TREE, changed) == {"leaves.1.low": (0.0, 1.5)}
    with pytest.raises(SpecError, match="count must be at least 0"):
        replace_value(TREE, "count", -1)


def test_two_that_depend_are_replaced_at_once() -> None:
    with pytest.raises(SpecError, match="low must not be above high"):
        replace_value(TREE, "leaf.low", 5)
    changed = replace_values(TREE, {"leaf.low": 5, "leaf.high": 6})
    assert changed.leaf == Leaf(low=5, high=6)


def test_a_path_below_an_earlier_one_belongs_to_its_new_value() -> None:
    changed = replace_values(TREE, {"leaf": {"low": 1, "high": 9}, "leaf.high": 6})
    assert (changed.leaf.low, changed.leaf.high) == (1, 6)


def test_mappings_take_new_entries_and_specs_replace_specs() -> None:
    assert replace_value(TREE, "classes.spleen", 1).classes == {"liver": 5, "spleen": 1}
    assert replace_value(TREE, "leaves.0", Leaf(high=9)).leaves[0].high == 9
    assert replace_value(TREE, "sizes.1", 7).sizes == (3, 7)


def test_walk_meets_every_setting_and_its_paths_lead_back() -> None:
    found = {path: value for path, _, value in walk(TREE)}
    assert {"leaf", "leaf.low", "leaves.0.high", "leaves.1.low", "sizes", "classes", "count"} <= found.keys()
    for path, value in found.items():
        assert get_value(TREE, path) == value


def test_live_parameters_are_found_wherever_they_are() -> None:
    assert sorted(live_parameters(TREE)) == sorted(
        f"{where}.{end}" for where in ("leaf", "leaves.0", "leaves.1") for end in ("low", "high")
    )


trees = st.builds(
    Tree,
    leaf=st.builds(Leaf, low=st.floats(-5, 0), high=st.floats(0, 5)),
    leaves=st.lists(st.builds(Leaf, low=st.floats(-5, 0), high=st.floats(0, 5)), max_size=3).map(tuple),
    sizes=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    classes=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3)),
    count=st.integers(0, 5),
)


@settings(max_examples=40, deadline=None)
@given(trees, trees)
def test_replacing_all_differences_turns_one_spec_into_the_other(a: Tree, b: Tree) -> None:
    changes = differences(a, b)
    assert (not changes) == (a == b)
    assert replace_values(a, {path: after for path, (_, after) in changes.items()}) == b


def test_specs_are_frozen_equal_by_value_and_refuse_what_is_not_finite() -> None:
    with pytest.raises(ValidationError):
        TREE.count = 2  # type: ignore[misc]
    assert Tree() == Tree()
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(SpecError, match="finite"):
            Leaf.of({"high": wrong})


@pytest.mark.parametrize("order", [1, -1])
def test_settings_beside_a_new_kind_are_those_of_that_kind(order: int) -> None:
    experiment = Experiment.of({"data": {"kind": "phantom"}, "loss": "dice"})
    changes = [("loss.kind", "tversky"), ("loss.alpha", 0.1), ("loss.beta", 0.9)][::order]
    found = replace_values(experiment, dict(changes)).loss
    assert (found.kind, found.alpha, found.beta) == ("tversky", 0.1, 0.9)
    with pytest.raises(SpecError, match="gamma_of_nothing"):
        replace_values(experiment, {"loss.kind": "tversky", "loss.gamma_of_nothing": 1})
