"""Plug-ins: found by entry point, loaded once, and never able to stop the program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from segexplorer.core import plugins
from segexplorer.core.registry import Registry, _families
from segexplorer.core.spec import Spec


class Gadget(Spec):
    """Base of a family that plug-ins extend."""


gadgets: Registry[Gadget] = Registry("gadgets", Gadget, "gadget")
_families.pop("gadgets")

MODULES = {
    "good_plugin": (
        "from typing import Literal\n"
        "from segexplorer.core.spec import Spec\n"
        "from segexplorer.core.registry import families\n"
        "registry = families()['gadgets']\n"
        "before = registry.names()  # asking while being imported\n"
        "class Lever(registry.base):\n"
        "    '''A lever.'''\n"
        "    kind: Literal['lever'] = 'lever'\n"
        "registry.register(Lever)\n"
    ),
    "torn_plugin": "def broken(:\n",
    "needy_plugin": "import a_package_that_is_not_there\n",
    "angry_plugin": "raise RuntimeError('no licence')\n",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[EntryPoint]]:
    """Four plug-ins as if installed; `core.plugins` forgets what it had loaded, before and after."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint(name.split("_")[0], name, plugins.GROUP) for name in MODULES]
    monkeypatch.setattr(plugins, "entry_points", lambda *, group: points if group == plugins.GROUP else [])
    monkeypatch.setattr(plugins, "_reports", None)
    monkeypatch.setitem(_families, "gadgets", gadgets)
    yield points
    gadgets.unregister("lever")
    for name in MODULES:
        sys.modules.pop(name, None)


def test_a_broken_plugin_becomes_a_report_and_the_good_one_loads(installed: list[EntryPoint]) -> None:
    reports = {r.name: r for r in plugins.load()}
    assert list(reports) == ["angry", "good", "needy", "torn"]
    assert reports["good"].error == "" and reports["good"].cause == ""
    assert reports["angry"].error == "RuntimeError: no licence"
    assert reports["needy"].error.startswith("ModuleNotFoundError")
    assert reports["torn"].error.startswith("SyntaxError")
    assert "Traceback" in reports["angry"].cause
    assert gadgets.names() == ["lever"]


def test_a_registry_knows_the_package_of_a_kind(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EntryPoint, "dist", SimpleNamespace(name="segexplorer-good", version="1.2"))
    assert gadgets.names() == ["lever"]
    assert gadgets.package_of("lever") == "segexplorer-good"
    assert gadgets.package_of("spring") == ""
    assert plugins.package_of("segexplorer.losses.tversky") == ""


def test_asking_a_registry_loads_the_plugins(installed: list[EntryPoint]) -> None:
    assert gadgets.spec("lever").__name__ == "Lever"
    assert gadgets.parse("lever").plain() == {"kind": "lever"}


def test_plugins_load_once_unless_asked_again(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plugins.load()
    installed.clear()
    assert plugins.load() == first
    assert plugins.load(again=True) == ()


def test_the_package_and_version_are_reported_where_known(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = SimpleNamespace(
        name="good", module="good_plugin", dist=SimpleNamespace(name="gadget-pack", version="1.2")
    )
    monkeypatch.setattr(plugins, "entry_points", lambda *, group: [point])
    (report,) = plugins.load(again=True)
    assert (report.name, report.module, report.package, report.version) == (
        "good",
        "good_plugin",
        "gadget-pack",
        "1.2",
    )
