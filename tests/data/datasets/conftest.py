"""Layouts as a fixture: `made("brats20")` writes the folder and describes it as found by looking."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import segexplorer
from segexplorer.data.datasets.base import DatasetSpec


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dataset_layouts", Path(__file__).with_name("layouts.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAYOUTS = _load()


@pytest.fixture
def layouts() -> ModuleType:
    """What writes the folders."""
    return LAYOUTS


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., DatasetSpec]:
    """Write a layout and open it without saying what it is."""

    def make(name: str, **settings: object) -> DatasetSpec:
        root = tmp_path / name
        root.mkdir()
        LAYOUTS.LAYOUTS[name][0](root)
        return segexplorer.open_dataset(root, **settings)

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `layout` for every layout."""
    if "layout" in metafunc.fixturenames:
        metafunc.parametrize("layout", list(LAYOUTS.LAYOUTS))
