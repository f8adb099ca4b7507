"""Errors: one sentence and a remedy, pickled whole, worded for people."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segexplorer.core import errors
from segexplorer.core.errors import (
    DataError,
    MissingExtraError,
    SegExplorerError,
    SpecError,
    did_you_mean,
    explain_validation,
    nearest,
    require,
    validation_problems,
)
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec

KINDS = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, SegExplorerError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_error_keeps_message_and_remedy_through_pickling(kind: type[SegExplorerError]) -> None:
    error = kind("The label is empty.", "Choose another.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.remedy) == ("The label is empty.", "Choose another.")
    assert str(again) == "The label is empty. Choose another."
    assert str(kind("Alone.", "")) == "Alone."
    assert kind.__doc__


def test_errors_are_also_the_builtin_ones_that_callers_expect() -> None:
    assert issubclass(DataError, ValueError) and issubclass(SpecError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(errors.TrainingError, RuntimeError)


def test_a_missing_extra_names_the_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package.figures", "notebook", "A figure in a notebook")
    error = caught.value
    assert (
        error.message == "A figure in a notebook needs the package no_such_package, which is not installed."
    )
    assert error.remedy == 'Run: pip install "segexplorer[notebook]"'
    assert isinstance(error.__cause__, ImportError)


def test_an_optional_module_that_is_installed_is_returned() -> None:
    assert require("json.decoder", "notebook").JSONDecoder is json.JSONDecoder


def test_the_nearest_names_come_first() -> None:
    known = ["dice", "tversky", "focal_tversky", "cross_entropy"]
    assert nearest("tversk", known)[0] == "tversky"
    assert "cross_entropy" in nearest("entropy", known)
    assert nearest("Task04", ["Task06_Lung", "Task10_Colon", "Task04_Hippocampus"])[0] == "Task04_Hippocampus"
    assert did_you_mean("dise", known) == "Did you mean dice?"
    assert did_you_mean("zzzz", known) == "Known: dice, tversky, focal_tversky, cross_entropy."
    assert did_you_mean("x", []) == ""


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=6), st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=6))
def test_nearest_names_are_known_names(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert set(found) <= set(known)
    assert len(found) == len(set(found)) <= 3
    if name in known:
        assert found[0] == name


class Form(Spec):
    """One of each."""

    count: int = parameter(1, title="Count", description="Number.", ge=1, le=5)
    rate: float = parameter(0.1, title="Rate", description="Number.", gt=0, lt=1)
    mode: Literal["a", "b"] = parameter("a", title="Mode", description="Choice.")
    flag: bool = parameter(False, title="Flag", description="Yes or no.")
    size: int | tuple[int, int] = parameter(3, title="Size", description="One or two.")
    names: tuple[str, ...] = parameter(("x",), title="Names", description="Texts.", min_length=1)
    needed: str = parameter("here", title="Needed", description="Text.", min_length=1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"count": 9}, "count must be at most 5 (got 9)."),
        ({"count": "x"}, "count must be a whole number (got 'x')."),
        ({"count": 1.5}, "count must be a whole number (got 1.5)."),
        ({"rate": 0}, "rate must be more than 0 (got 0)."),
        ({"rate": float("nan")}, "rate must be a finite number (got nan)."),
        ({"mode": "c"}, "mode must be one of 'a' or 'b' (got 'c')."),
        ({"flag": "perhaps"}, "flag must be true or false (got 'perhaps')."),
        ({"names": ()}, "names needs at least 1 entries."),
        ({"needed": ""}, "needed must not be empty (got '')."),
        ({"count": 9, "rate": 2}, "count must be at most 5 (got 9); rate must be less than 1 (got 2)."),
    ],
)
def test_a_wrong_value_is_one_sentence(data: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        Form.of(data)
    assert str(caught.value) == sentence


def test_branches_of_a_union_are_one_problem() -> None:
    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"size": "big"})
    problems = validation_problems(caught.value)
    assert [path for path, _ in problems] == ["size"]
    assert "whole number" in problems[0][1] and "list" in problems[0][1]


def test_where_it_is_comes_first() -> None:
    with pytest.raises(SpecError, match=r"^run\.yaml: count must be"):
        Form.of({"count": 9}, "run.yaml")
    with pytest.raises(ValidationError) as caught:
        Form.model_validate(3)
    assert isinstance(explain_validation(caught.value), SpecError)


def test_a_misspelt_key_is_reported_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"^has no setting 'raet'\. Did you mean rate\?$|'raet'.*rate\?"):
        Form.of({"raet": 1})


def test_sentences_stay_readable_whatever_they_quote() -> None:
    error = SpecError(f"The setting {'x' * 50_000} is not known.", f"Choose {'y' * 50_000}.")
    assert len(error.message) < 420 and len(error.remedy) < 420 and len(str(error)) < 850
    assert error.message.startswith("The setting xxx") and error.message.endswith("is not known.")

    class Many(Spec):
        number: int = parameter(1, title="Number", description="One.")
        numbers: tuple[int, ...] = parameter((), title="Numbers", description="Many.")

    with pytest.raises(SpecError) as caught:
        Many.of({"number": "z" * 10_000, "numbers": ["a"] * 1000})
    assert "number must be a whole number (got 'zzz" in caught.value.message
    assert "and 996 more" in caught.value.message and len(caught.value.message) < 450


def raised(code: str, filename: str, **names: object) -> SegExplorerError:
    try:
        exec(compile(code, filename, "exec"), names)
    except SegExplorerError as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_cell_shows_the_sentences_and_its_own_line_and_code_of_others_its_traceback() -> None:
    from segexplorer.losses import registry

    code = "\nregistry.spec('nothing')"
    error = raised(code, "/tmp/ipykernel_12/34.py", registry=registry)
    first, *_, last = error._render_traceback_()
    assert first == f"{type(error).__name__}: {error.message}" and last.startswith("Line 2 of the cell:")
    # as in the constructor that Python makes for a dataclass
    made: dict[str, Any] = {}
    exec(compile("def find(registry): registry.spec('nothing')", "<string>", "exec"), made)
    between = raised("\nfind(registry)", "/tmp/ipykernel_12/35.py", find=made["find"], registry=registry)
    assert between._render_traceback_()[-1].startswith("Line 2 of the cell:")
    theirs = raised(code, "/home/somebody/model.py", registry=registry)
    assert "Traceback" in "".join(theirs._render_traceback_())
