"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

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


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of piped commands are as wide as by default, whatever the terminal of the tests is."""
    monkeypatch.delenv("COLUMNS", raising=False)
