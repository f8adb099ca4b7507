"""The registry and its late-bound union field, on a toy family that nests itself."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from segexplorer.core import plugins
from segexplorer.core import registry as registry_module
from segexplorer.core.errors import SpecError, UnknownKindError
from segexplorer.core.fields import parameter
from segexplorer.core.registry import (
    Declarations,
    Registry,
    declared_families,
    families,
    plugin_kinds,
    require_plugins,
)
from segexplorer.core.schema import json_schema
from segexplorer.core.spec import Spec


class ToySpec(Spec):
    """Base of the toy family."""

    def build(self) -> str:
        return repr(self.plain())


toys: Registry[ToySpec] = Registry("toys", ToySpec, "toy")
registry_module._families.pop("toys")  # known to the tests that ask for it alone
AnyToy = Annotated[ToySpec, toys.late_bound]


@toys.register
class Ball(ToySpec):
    """A ball."""

    display_name: ClassVar[str] = "Ball"
    kind: Literal["ball"] = "ball"
    radius: float = parameter(1.0, title="Radius", description="Half its width.", gt=0, live=True)


@toys.register
class Brick(ToySpec):
    """A brick."""

    kind: Literal["brick"] = "brick"
    studs: int = parameter(8, title="Studs", description="On its top.", ge=1, le=64)
    colour: Literal["red", "blue"] = parameter("red", title="Colour", description="Of the brick.")


class Weighted(Spec):
    """A toy with a weight."""

    toy: AnyToy = parameter("ball", title="Toy", description="Which.")
    weight: float = parameter(1.0, title="Weight", description="How much it counts.", ge=0, live=True)


@toys.register
class Box(ToySpec):
    """Toys inside a toy."""

    kind: Literal["box"] = "box"
    content: tuple[Weighted, ...] = parameter((), title="Content", description="What is in it.")
    lid: AnyToy | None = parameter(None, title="Lid", description="On top, or none.")


class Child(Spec):
    """Holds one toy; made before some kinds are registered."""

    name: str = parameter("Ann", title="Name", description="Of the child.")
    toy: AnyToy = parameter("ball", title="Toy", description="Its own.")
    others: dict[str, AnyToy] = parameter(title="Others", description="By name.", default_factory=dict)


@pytest.fixture
def family() -> Iterator[None]:
    """Make the toy family known to `families()` for one test."""
    registry_module._families["toys"] = toys
    yield
    registry_module._families.pop("toys")


NESTED: dict[str, Any] = {
    "name": "Bo",
    "toy": {
        "kind": "box",
        "content": [
            {"toy": {"kind": "ball", "radius": 0.25}, "weight": 0.5},
            {"toy": {"kind": "box", "content": [{"toy": "brick"}], "lid": "ball"}},
        ],
    },
    "others": {"first": "brick"},
}


def test_a_value_may_be_a_name_a_mapping_or_a_spec() -> None:
    assert Child(toy="brick").toy == Brick()
    assert Child(toy={"kind": "brick", "studs": 2}).toy == Brick(studs=2)
    assert Child(toy=Brick(studs=2)).toy == Brick(studs=2)
    assert Child().toy == Ball()


def test_the_real_class_is_dumped() -> None:
    child = Child(toy=Brick(studs=2))
    assert child.plain()["toy"] == {"kind": "brick", "studs": 2, "colour": "red"}
    assert '"studs":2' in child.model_dump_json()


def test_nested_specs_come_back_from_yaml_unchanged() -> None:
    child = Child.of(NESTED)
    inner = child.toy.content[1].toy  # type: ignore[attr-defined]
    assert isinstance(inner, Box)
    assert isinstance(inner.lid, Ball)
    text = yaml.safe_dump(child.plain())
    again = Child.of(yaml.safe_load(text))
    assert again == child
    assert yaml.safe_dump(again.plain()) == text


leaves = st.builds(Ball, radius=st.floats(1e-6, 1e6)) | st.builds(
    Brick, studs=st.integers(1, 64), colour=st.sampled_from(["red", "blue"])
)
any_toy = st.recursive(
    leaves,
    lambda inner: st.builds(
        Box,
        content=st.lists(st.builds(Weighted, toy=inner, weight=st.floats(0, 10)), max_size=3).map(tuple),
        lid=st.none() | inner,
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(any_toy)
def test_any_tree_round_trips_through_plain_data_yaml_and_pickle(toy: ToySpec) -> None:
    child = Child(toy=toy, others={"a": toy})
    assert Child.of(child.plain()) == child
    assert Child.of(yaml.safe_load(yaml.safe_dump(child.plain()))) == child
    assert Child.model_validate_json(child.model_dump_json()) == child
    assert pickle.loads(pickle.dumps(child)) == child


def test_excluding_defaults_reaches_through_the_union() -> None:
    child = Child(toy=Brick(studs=2), others={"a": Ball()})
    short = child.model_dump(exclude_defaults=True)
    assert short == {"toy": {"kind": "brick", "studs": 2}, "others": {"a": {"kind": "ball"}}}
    assert Child.of(short) == child


def test_a_kind_registered_after_the_model_is_accepted_everywhere(family: None) -> None:
    @toys.register
    class Kite(ToySpec):
        """A late one."""

        kind: Literal["kite"] = "kite"
        tail: float = parameter(2.0, title="Tail", description="Its length.")

    try:
        child = Child.of({"toy": {"kind": "kite", "tail": 3}})
        assert child.toy == Kite(tail=3.0)
        assert Child.of(child.plain()) == child
        assert "toys.kite" in json_schema(Child)["$defs"]
        assert toys.names()[-1] == "kite"
    finally:
        toys.unregister("kite")
    with pytest.raises(SpecError, match="kite"):
        Child.of({"toy": "kite"})
    assert "toys.kite" not in json_schema(Child)["$defs"]


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="brick"):
        toys.spec("brik")
    with pytest.raises(SpecError, match=r"toy.*'brik'.*brick"):
        Child.of({"toy": {"kind": "brik"}})
    with pytest.raises(SpecError, match=r"toy\.lid is unknown.*ball"):
        Child.of({"toy": {"kind": "box", "lid": "bal"}})
    with pytest.raises(SpecError, match=r"content\.0\.toy.*ball"):
        Child.of({"toy": {"kind": "box", "content": [{"toy": "bal"}]}})


def test_an_unknown_key_names_the_nearest_and_where_it_is() -> None:
    with pytest.raises(SpecError, match=r"radius"):
        Child.of({"toy": {"kind": "ball", "radios": 2}})
    with pytest.raises(SpecError, match="weight"):
        Child.of({"toy": {"kind": "box", "content": [{"wieght": 2}]}})
    with pytest.raises(SpecError, match="name"):
        Child.of({"nam": "x"})


@pytest.mark.parametrize("value", [3, None, ["ball"]])
def test_what_is_no_kind_is_refused_with_the_kinds(value: object) -> None:
    with pytest.raises(SpecError, match="ball, brick, box"):
        Child.of({"toy": value})
    with pytest.raises(SpecError, match="ball, brick, box"):
        toys.parse(value)


def test_a_mapping_without_a_kind_is_one_of_the_fields_default() -> None:
    assert Child.of({"toy": {"radius": 2}}).toy == toys.parse({"kind": "ball", "radius": 2})
    with pytest.raises(SpecError, match="ball, brick, box"):
        toys.parse({"radius": 2})


def test_a_wrong_value_is_named_by_its_path() -> None:
    with pytest.raises(SpecError, match=r"toy\.radius must be more than 0"):
        Child.of({"toy": {"kind": "ball", "radius": -1}})


def test_a_spec_of_another_family_is_no_toy() -> None:
    with pytest.raises(SpecError):
        Child.of({"toy": Weighted()})


def test_create_builds_with_parameters_and_refuses_wrong_ones() -> None:
    assert toys.create("ball", radius=2.0) == "{'kind': 'ball', 'radius': 2.0}"
    assert toys.create(Ball(radius=3.0)) == "{'kind': 'ball', 'radius': 3.0}"
    with pytest.raises(SpecError, match=r"toy ball.*radius"):
        toys.create("ball", radius=0)
    with pytest.raises(UnknownKindError):
        toys.create("bull")


def test_a_preset_stands_for_its_spec() -> None:
    toys.register_preset("marble", "A marble", Ball(radius=0.5), group="toys", note="small")
    try:
        assert toys.presets()["marble"].group == "toys"
        assert Child(toy="marble").toy == Ball(radius=0.5)
        assert toys.parse("marble") == Ball(radius=0.5)
        assert toys.create("marble") == "{'kind': 'ball', 'radius': 0.5}"
        assert toys.create("marble", radius=0.25) == "{'kind': 'ball', 'radius': 0.25}"
        with pytest.raises(SpecError, match=r"toy marble.*radius"):
            toys.create("marble", radius=0)
        with pytest.raises(TypeError, match="already"):
            toys.register_preset("marble", "Again", Ball())
        with pytest.raises(TypeError, match="already"):
            toys.register_preset("brick", "A kind's name", Ball())
    finally:
        toys.unregister("marble")


def test_wrong_registrations_are_programming_errors() -> None:
    class Kindless(ToySpec):
        """No kind."""

    class Stranger(Spec):
        """Another base."""

        kind: Literal["stranger"] = "stranger"

    class Ball2(ToySpec):
        """Takes another's kind."""

        kind: Literal["ball"] = "ball"

    for wrong in (Kindless, Stranger, Ball2):
        with pytest.raises(TypeError, match=r"needs a field kind|no ToySpec|registered already"):
            toys.register(wrong)
    assert toys.register(Ball) is Ball  # a module imported twice


def test_families_are_found_by_name(family: None) -> None:
    assert families()["toys"] is toys


def references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for value in tree.values():
            yield from references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from references(value)


def test_the_json_schema_has_one_entry_per_kind_and_closes_over_recursion(family: None) -> None:
    schema = json_schema(Child)
    kinds = [name for name in schema["$defs"] if name.startswith("toys.")]
    assert kinds == ["toys.ball", "toys.box", "toys.brick"]
    assert "kind" in schema["$defs"]["toys.ball"]["required"]
    assert schema["$defs"]["toys"]["discriminator"]["mapping"]["box"] == "#/$defs/toys.box"
    for reference in references(schema):
        assert reference.startswith("#/$defs/")
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference
    assert "#/$defs/toys" in set(references(schema["$defs"]["toys.box"])) | set(
        references(schema["$defs"]["Weighted"])
    )
    assert "x-registry" not in str(schema)


def test_the_json_schema_judges_as_the_model_does(family: None) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema(Child)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(Child.of(NESTED).plain())
    assert validator.is_valid({"toy": {"kind": "ball", "radius": 2}})
    assert not validator.is_valid({"toy": {"kind": "ball", "radius": -2}})
    assert validator.is_valid({"toy": "brick"})
    assert not validator.is_valid({"toy": "bull"})
    assert not validator.is_valid({"toy": {"kind": "bull"}})
    assert not validator.is_valid({"toys": "ball"})


def test_specs_without_declared_metadata_still_work() -> None:
    class Plain(Spec):
        """Uses pydantic's own Field."""

        toy: AnyToy = Field(default_factory=Brick)

    assert Plain().toy == Brick()
    assert Plain.of({"toy": "ball"}).toy == Ball()


# ---- discovery and order


def load_from(path: Path, module: str) -> ModuleType:
    """Import a file under a name of one's choice."""
    found = importlib.util.spec_from_file_location(module, path)
    assert found is not None and found.loader is not None
    made = sys.modules[module] = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


@pytest.fixture
def imported() -> Iterator[None]:
    """Forget what a test imported and registered."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for kind in ("top", "yoyo"):
        toys.unregister(kind)


TOP = """
from typing import Literal
from segexplorer.core.registry import families
toys = families()["toys"]

@toys.register
class Top(toys.base):
    kind: Literal["top"] = "top"
"""


def test_a_class_that_is_imported_by_two_paths_is_one_kind(
    family: None, imported: None, tmp_path: Path
) -> None:
    file = tmp_path / "top.py"
    file.write_text(TOP)
    load_from(file, "top")
    again = load_from(file, "my_toys.top")
    assert toys.spec("top") is again.Top
    copy = tmp_path / "copy.py"
    copy.write_text(TOP)
    with pytest.raises(TypeError, match=r"toy 'top' is registered already, by my_toys\.top"):
        load_from(copy, "copied")


def test_every_file_of_a_package_is_imported_and_the_order_is_that_of_the_files(
    family: None, imported: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "toy_shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "b.py").write_text(TOP)
    (package / "a.py").write_text(
        "from toy_shop import b\n" + TOP.replace("Top", "Yoyo").replace('"top"', '"yoyo"')
    )
    (package / "slow.py").write_text("raise RuntimeError('not to be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    shop = importlib.import_module("toy_shop")
    plugins.discover("toy_shop", shop.__path__, leave_out=("slow",))
    # b was imported first, by a
    assert toys.names()[-2:] == ["yoyo", "top"]


# ---- declared objects


@dataclass(frozen=True)
class Shade:
    """A declared object."""

    name: str
    title: str = ""
    summary: str = ""

    def facts(self) -> dict[str, str]:
        return {"name": self.name}


class Dark(Shade):
    """Another class of the family."""


@pytest.fixture
def shades() -> Iterator[Declarations[Shade]]:
    yield Declarations("shades", "shade")
    registry_module._declarations.pop("shades")


def test_declared_objects_are_a_mapping_by_name(shades: Declarations[Shade]) -> None:
    red, black = shades.register(Shade("red")), shades.register(Dark("Black"))
    assert declared_families()["shades"] is shades
    assert dict(shades) == {"red": red, "Black": black} and len(shades) == 2
    assert shades.names() == ["red", "Black"] and shades.package_of("red") == ""
    assert shades.spec("black") is black
    dark = shades.of(Dark)
    assert dict(dark) == {"Black": black} and len(dark) == 1 and "red" not in dark
    shades.register(Dark("grey"))
    assert list(dark) == ["Black", "grey"]
    with pytest.raises(UnknownKindError, match=r"no shade 'blak'.*Did you mean Black"):
        shades.spec("blak")
    with pytest.raises(KeyError):
        shades["blue"]


def test_a_declared_name_is_taken_once(shades: Declarations[Shade], tmp_path: Path, imported: None) -> None:
    code = (
        "from segexplorer.core.registry import declared_families\n"
        "class Shade:\n    name = 'red'\n"
        "declared_families()['shades'].register(Shade())\n"
    )
    for name in ("one.py", "other.py"):
        (tmp_path / name).write_text(code)
    load_from(tmp_path / "one.py", "one")
    load_from(tmp_path / "one.py", "elsewhere.one")
    with pytest.raises(TypeError, match=r"shade 'red' is registered already, by elsewhere\.one"):
        load_from(tmp_path / "other.py", "other")


# ---- kinds of plug-ins


@pytest.fixture
def brick_pack(family: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if bricks came from a package of their own."""
    entries = {**toys._entries, "brick": (Brick, "brick_pack.bricks")}
    monkeypatch.setattr(toys, "_entries", entries)
    report = plugins.PluginReport("bricks", "brick_pack.bricks", "brick-pack", "1.0")
    monkeypatch.setattr(plugins, "_reports", [report])


def test_the_packages_of_kinds_are_recorded(brick_pack: None) -> None:
    assert plugin_kinds(Child()) == {}
    child = Child(toy=Box(content=(Weighted(toy=Brick()), Weighted(toy="brick"))), others={"a": Brick()})
    assert plugin_kinds(child) == {"brick-pack": ["toys brick"]}
    require_plugins(plugin_kinds(child))


def test_a_kind_whose_package_is_missing_names_it(brick_pack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"brick-pack": ["toys ball", "toys brick"], "other-pack": ["unheard_of thing"]}
    monkeypatch.delitem(toys._entries, "brick")
    with pytest.raises(UnknownKindError, match="toy brick comes from the package brick-pack, which does not"):
        require_plugins(needed)
    monkeypatch.setattr(plugins, "_reports", [])
    with pytest.raises(UnknownKindError, match=r"the package brick-pack, which is not installed\."):
        require_plugins(needed)
