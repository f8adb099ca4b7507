"""Every kind of event, by iteration: JSON there and back, pickling, torn lines."""

from __future__ import annotations

import json
import math
import pickle
import typing
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core import events
from segexplorer.core.events import (
    CaseScore,
    Count,
    Event,
    Notice,
    Number,
    Reliability,
    Seconds,
    SettingValue,
    StepDone,
    event_kinds,
    from_json,
    to_json,
)
from segexplorer.core.printable import is_printable

KINDS = event_kinds()
text = st.text(max_size=8).filter(is_printable)
plain_text = text.filter(lambda t: t not in ("NaN", "Infinity", "-Infinity"))
floats = st.floats(allow_nan=True, allow_infinity=True)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Return values of an annotation that occurs in events."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return st.none() | st.booleans() | st.integers(-9, 9) | floats | plain_text
    if annotation is CaseScore:
        return instances(CaseScore)
    if annotation is Reliability:
        return curves()
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(a) for a in args))
    if origin is Mapping:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if annotation == Seconds:
        return st.floats(-1e12, 1e12)
    plain = {
        int: st.integers(0, 10**9),
        Count: st.integers(0, 2**53),
        float: floats,
        Number: floats,
        str: text,
    }
    plain |= {bool: st.booleans(), SettingValue: values(Any) if annotation == SettingValue else st.none()}
    return plain[annotation]


@st.composite
def curves(draw: st.DrawFn) -> Reliability:
    """Return a curve, whose sums all have one value per bin."""
    n = draw(st.integers(1, 3))
    bins = {name: st.lists(values(of), min_size=n, max_size=n) for name, of in (("n", Count), ("p", Number))}
    return Reliability(
        class_name=draw(text),
        region=draw(st.sampled_from(["box", "all"])),
        counts=tuple(draw(bins["n"])),
        confidences=tuple(draw(bins["p"])),
        corrects=tuple(draw(bins["n"])),
        **{name: draw(floats) for name in ("brier", "nll", "ece_mass")},
    )


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{f.name: values(hints[f.name]) for f in fields(cls)})


def same(a: Any, b: Any) -> bool:
    """Equal, NaN being equal to NaN, with equal types of containers."""
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_event_comes_back_from_one_line_of_json(name: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(instances(KINDS[name]))
    def check(event: Event) -> None:
        line = to_json(event)
        assert "\n" not in line
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        assert same(event, from_json(line))
        assert same(event, pickle.loads(pickle.dumps(event)))

    check()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_event_is_frozen_and_documented(name: str) -> None:
    kind = KINDS[name]
    assert kind.__doc__ and not kind.__doc__.startswith(f"{name}(")
    assert issubclass(kind, Event)
    assert {"attempt", "seq", "step", "time"} <= {f.name for f in fields(kind)}
    with pytest.raises(FrozenInstanceError):
        Notice(message="x").message = "y"  # type: ignore[misc]


def test_every_event_class_of_the_module_is_in_the_list() -> None:
    there = {v.__name__ for v in vars(events).values() if isinstance(v, type) and issubclass(v, Event)}
    assert there - {"Event"} == set(KINDS)


def a_step() -> StepDone:
    return StepDone(
        epoch=1,
        loss=0.5,
        terms={"dice": (0.5, 1.0)},
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=0.1,
        samples=2,
    )


def test_numpy_scalars_become_plain_numbers() -> None:
    event = replace(a_step(), loss=np.float32(0.25), samples=np.int64(3), gradient_norm=np.float64("nan"))
    back = from_json(to_json(event))
    assert isinstance(back, StepDone)
    assert (back.loss, back.samples) == (0.25, 3)
    assert math.isnan(back.gradient_norm)


def test_terms_come_back_as_pairs() -> None:
    back = from_json(to_json(a_step()))
    assert isinstance(back, StepDone)
    assert back.terms == {"dice": (0.5, 1.0)}


def test_keys_of_a_later_version_are_dropped() -> None:
    data = json.loads(to_json(Notice(message="x"))) | {"colour": "red"}
    assert from_json(json.dumps(data)) == Notice(message="x")


@pytest.mark.parametrize(
    "line", ["", "{", '{"event": "Noti', "[]", "3", '{"event": "Unheard"}', '{"event": {}}', '{"a": 1}']
)
def test_torn_and_foreign_lines_are_value_errors(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


def test_a_line_that_lacks_what_its_event_needs_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Notice"):
        from_json('{"event": "Notice", "step": 3}')


def test_an_event_prints_as_one_short_line() -> None:
    terms = {"dice": (0.51, 1.0), "cross_entropy": (0.42, 0.5)}
    step = {"epoch": 2, "learning_rate": 0.1, "gradient_norm": 1.0, "seconds": 0.1, "samples": 2}
    scored = CaseScore(
        case="a",
        class_name="liver",
        role="validation",
        state="scored",
        metrics=dict.fromkeys(map(str, range(50)), 0.5),
        false_positive_ml=0.0,
        false_negative_ml=0.0,
        truth_ml=1.0,
    )
    validated = {
        "epoch": 2,
        "scores": (scored,) * 40,
        "mean_dice": 0.5,
        "n_used": 80,
        "n_absent": 0,
        "seconds": 1.0,
    }
    lines: list[tuple[events.Event, str]] = [
        (
            events.StepDone(step=7, loss=0.72, terms=terms, **step),
            "step 7: epoch 2, loss 0.72: dice 0.51, cross_entropy 0.42 (weight 0.5)",
        ),
        (
            events.StepDone(step=7, loss=0.51, terms={"dice": (0.51, 1.0)}, **step),
            "step 7: epoch 2, loss 0.51",
        ),
        (
            events.ValidationDone(
                step=8,
                loss=math.nan,
                class_dice={"liver": 0.61234, "spleen": 0.4},
                n_missed=1,
                best=True,
                **validated,
            ),
            "step 8: validated after epoch 2, mean Dice 0.500: liver 0.612, spleen 0.400; the best so far",
        ),
        (
            events.ParameterApplied(step=3, field="loss.alpha", value=0.6, previous=0.5),
            "step 3: loss.alpha is now 0.6 (was 0.5)",
        ),
        (events.Notice(message="A\nline.", remedy="Do this."), "step 0: A line. Do this."),
        (
            events.CheckpointSaved(step=9, folder="checkpoints/step_9", pointers=("last", "best")),
            "step 9: saved checkpoints/step_9 (last, best)",
        ),
        (
            events.RunFinished(step=9, state="failed", reason="r", error="It broke.", remedy="Mend it."),
            "step 9: failed: It broke. Mend it.",
        ),
        (
            events.WatchedDone(step=4, case="p01", role="train", index=2),
            "step 4: predicted the watched training case p01 (frame 2)",
        ),
    ]
    for event, line in lines:
        assert str(event) == line
    many = events.ValidationDone(
        loss=0.2, class_dice={f"class {n}": 0.5 for n in range(60)}, n_missed=0, best=False, **validated
    )
    assert str(many).endswith("class 7 0.500, and 52 more; loss 0.2")


def test_every_kind_of_event_says_more_than_its_name() -> None:
    for kind in events.event_kinds().values():
        assert kind._told is not events.Event._told, kind
