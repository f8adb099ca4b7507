"""`--set` and `--classes`: values mean what they look like, and mistakes are told in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli.settings import parse_classes, parse_settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.7", 0.7),
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("[64, 64, 32]", [64, 64, 32]),
        ("{kind: tversky, alpha: 0.3}", {"kind": "tversky", "alpha": 0.3}),
        ("../data/Task04", "../data/Task04"),
        ("a=b", "a=b"),
        ("", None),
    ],
)
def test_values_are_yaml(text: str, value: Any) -> None:
    assert parse_settings([f"loss.alpha={text}"]) == {"loss.alpha": value}


@settings(max_examples=30)
@given(
    st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
)
def test_numbers_come_back_as_they_are(value: float) -> None:
    assert parse_settings([f"a.b={value!r}".replace("True", "true").replace("False", "false")]) == {
        "a.b": value
    }


def test_later_setting_wins() -> None:
    assert parse_settings(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize("entry", ["loss.alpha", "=3", "loss.alpha=[1, 2"])
def test_unreadable_settings_are_named(entry: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_settings([entry])
    assert entry.partition("=")[2] in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["{kidneys: [2, 3], liver: 5}", "kidneys: [2, 3], liver: 5"])
def test_classes_are_a_mapping_with_or_without_braces(text: str) -> None:
    assert parse_classes(text) == {"kidneys": (2, 3), "liver": (5,)}


def test_no_classes_means_all() -> None:
    assert parse_classes(None) is None


@pytest.mark.parametrize("text", ["liver: five", "liver: []", "liver: true", "liver", "[1, 2]"])
def test_classes_that_are_no_label_values_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_classes(text)


def test_classes_take_what_an_experiment_file_says() -> None:
    section = {"kidneys": [2, 3], "aorta": [52]}
    text = yaml.safe_dump(section, default_flow_style=True)
    assert parse_classes(text) == {name: tuple(values) for name, values in section.items()}
