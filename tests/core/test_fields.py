"""Declarations as faces read them: shapes, ranges, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from segexplorer.core.fields import Shape, parameter, parameters, shape_of
from segexplorer.core.registry import Registry, _families
from segexplorer.core.spec import Spec


class Thing(Spec):
    """Base of a family."""


things: Registry[Thing] = Registry("things", Thing, "thing")
_families.pop("things")


class Settings(Spec):
    """Every metadata once."""

    kind: Literal["settings"] = "settings"
    alpha: float = parameter(
        0.3, title="Alpha", description="Weighs.", unit="mm", live=True, step=0.1, called="beta", ge=0, le=1
    )
    folder: str = parameter(title="Folder", description="Where.", path="folder", advanced=True)
    sizes: tuple[int, ...] = parameter(title="Sizes", description="Some.", default_factory=lambda: (1, 2))


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        (bool, Shape("flag")),
        (int, Shape("integer")),
        (float, Shape("number")),
        (str, Shape("text")),
        (Path, Shape("text")),
        (float | None, Shape("number", optional=True)),
        (Literal["a", "b"], Shape("choice", choices=("a", "b"))),
        (Literal["a"] | None, Shape("choice", choices=("a",), optional=True)),
        (tuple[int, float], Shape("tuple", items=(Shape("integer"), Shape("number")))),
        (tuple[str, ...], Shape("list", items=(Shape("text"),))),
        (list[int], Shape("list", items=(Shape("integer"),))),
        (dict[str, int], Shape("mapping", items=(Shape("text"), Shape("integer")))),
        (Mapping[str, float], Shape("mapping", items=(Shape("text"), Shape("number")))),
        (Settings, Shape("group", spec=Settings)),
        (
            int | tuple[int, int],
            Shape("one_of", items=(Shape("integer"), Shape("tuple", items=(Shape("integer"),) * 2))),
        ),
        (Annotated[int, "a note"], Shape("integer")),
        (Annotated[Thing, things.late_bound], Shape("kind", spec=Thing, registry=things)),
        (
            Annotated[Thing, things.late_bound] | None,
            Shape("kind", spec=Thing, registry=things, optional=True),
        ),
    ],
)
def test_every_form_of_value_has_its_shape(annotation: Any, shape: Shape) -> None:
    assert shape_of(annotation) == shape


@pytest.mark.parametrize("annotation", [complex, set[int], object])
def test_what_no_form_can_show_is_a_programming_error(annotation: Any) -> None:
    with pytest.raises(TypeError, match="no form"):
        shape_of(annotation)


def test_a_declaration_is_read_back_whole() -> None:
    alpha, folder, sizes = parameters(Settings)  # the kind is left out
    assert (alpha.name, alpha.title, alpha.description, alpha.unit) == ("alpha", "Alpha", "Weighs.", "mm")
    assert (alpha.live, alpha.step, alpha.called, alpha.default) == (True, 0.1, "beta", 0.3)
    assert (alpha.minimum, alpha.maximum, alpha.required) == (0, 1, False)
    assert (folder.required, folder.path, folder.advanced, folder.live) == (True, "folder", True, False)
    assert sizes.default == (1, 2)


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({}, ""),
        ({"ge": 0}, "at least 0"),
        ({"gt": 0}, "more than 0"),
        ({"le": 9}, "at most 9"),
        ({"lt": 9}, "less than 9"),
        ({"ge": 0, "le": 1}, "0 to 1"),
        ({"gt": 0, "le": 1}, "0 to 1, 0 excluded"),
        ({"ge": 0, "lt": 1}, "0 to 1, 1 excluded"),
        ({"gt": 0, "lt": 1}, "0 to 1, both excluded"),
    ],
)
def test_ranges_read_as_people_write_them(bounds: dict[str, float], text: str) -> None:
    class Ranged(Spec):
        """One number."""

        x: float = parameter(0.5, title="X", description="A number.", **bounds)  # type: ignore[arg-type]

    assert parameters(Ranged)[0].range_text == text


def test_bounds_of_an_optional_number_are_kept() -> None:
    class Optional(Spec):
        """One optional number."""

        x: float | None = parameter(None, title="X", description="A number or none.", gt=0)

    (x,) = parameters(Optional)
    assert (x.shape.optional, x.minimum, x.exclusive_minimum) == (True, 0, True)
    assert Optional.of({"x": None}).x is None
