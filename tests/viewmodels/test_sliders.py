"""Sliders: every stop is allowed, and every declared range has one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import segexplorer.training.experiment as training
from segexplorer.core.fields import Parameter, parameter, parameters
from segexplorer.core.registry import families
from segexplorer.core.spec import Spec
from segexplorer.viewmodels.sliders import slider_of


def declared(**given: object) -> Parameter:
    class One(Spec):
        x: float = parameter(1.0, title="X", description="One.", **given)  # type: ignore[arg-type]

    return parameters(One)[0]


def every_number() -> Iterator[tuple[str, Parameter]]:
    """Every declared number of every kind and of the experiment's groups."""
    waiting: list[type] = [training.Experiment]
    for name, registry in families().items():
        if not name.startswith("test"):
            waiting += registry.specs().values()
    seen = set()
    while waiting:
        spec = waiting.pop()
        if spec in seen:
            continue
        seen.add(spec)
        for found in parameters(spec):
            if found.shape.form in {"integer", "number"}:
                yield f"{spec.__name__}.{found.name}", found
            waiting += [
                shape.spec
                for shape in (found.shape, *found.shape.items)
                if shape.form == "group" and shape.spec
            ]


def test_every_range_has_a_slider_of_allowed_values_and_few_stops() -> None:
    without = set()
    for name, found in every_number():
        slider = slider_of(found)
        if slider is None:
            if found.minimum is not None and found.maximum is not None:
                without.add(name)
            continue
        stops = slider.stops
        assert list(stops) == sorted(set(stops)) and 4 < len(stops) <= 2002, name
        assert found.minimum is None or stops[0] >= found.minimum, name
        assert found.maximum is None or stops[-1] <= found.maximum, name
        assert not (found.exclusive_minimum and stops[0] == found.minimum), name
        assert not (found.exclusive_maximum and stops[-1] == found.maximum), name
        if found.shape.form == "integer":
            assert all(float(stop).is_integer() for stop in stops), name
    assert without == {"Experiment.seed", "Phantoms.seed"}  # a seed is no quantity that one slides through


def test_even_stops_are_round_numbers() -> None:
    slider = slider_of(declared(ge=0, le=1, step=0.05))
    assert slider is not None
    assert slider.stops[:4] == (0, 0.05, 0.1, 0.15) and slider.stops[-1] == 1 and len(slider.stops) == 21
    assert slider.nearest(0.3) == 6 and slider.nearest(0.324) == 6 and slider.nearest(5) == 20
    assert slider.nearest(-3) == 0


def test_logarithmic_stops_have_the_same_places_in_every_decade() -> None:
    slider = slider_of(declared(ge=0, le=1, scale="log", typical=(1e-3, 1)))
    assert slider is not None
    assert slider.stops[0] == 0  # allowed, so the slider reaches it
    assert slider.stops[1:4] == (0.001, 0.0012, 0.0015) and slider.stops[-1] == 1
    assert len(slider.stops) == 1 + 3 * 12 + 1
    # 0.0035 is nearer to 0.003 and 0.004 alike in difference, but not in ratio
    assert slider.stops[slider.nearest(0.00345)] == 0.003 and slider.stops[slider.nearest(0.0035)] == 0.004


def test_no_end_no_slider_and_a_logarithm_needs_one_above_zero() -> None:
    assert slider_of(declared(ge=0)) is None
    with pytest.raises(ValueError, match="declare what is typical"):
        slider_of(declared(ge=0, le=1, scale="log"))
