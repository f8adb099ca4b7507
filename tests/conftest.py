"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

# A wait ends as soon as what is waited for has happened; only a busy computer needs the rest of the time.
QtBot.waitUntil.__kwdefaults__["timeout"] = 60_000
QtBot.waitSignal.__kwdefaults__["timeout"] = 60_000

if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    # plain widgets do without a screen; what draws layers is marked gui and needs one (make test gives it)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

SHARED = Path(os.environ.get("SEGEXPLORER_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real test volumes beside the project; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data here (set SEGEXPLORER_SHARED to its parent)")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Folder of small files with known right answers; the test is skipped where it is absent."""
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip("no ../shared/cases here (set SEGEXPLORER_SHARED to its parent)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever tests prepare or measure is kept in a folder of theirs, also by commands that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGEXPLORER_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        yield


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of piped commands are as wide as by default, whatever the terminal of the tests is."""
    monkeypatch.delenv("COLUMNS", raising=False)
