"""Fixtures of forms."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what was folded away out of the user's own settings, and anew for each test."""
    from qtpy.QtCore import QSettings

    folder = str(tmp_path_factory.mktemp("settings"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
