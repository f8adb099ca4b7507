"""What the window remembers from one session to the next: sizes that the user chose, and nothing of any case."""

from __future__ import annotations

from qtpy.QtCore import QSettings


def _settings() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "segexplorer", "window")


def recall(key: str) -> list[int] | None:
    """Return the sizes kept under a key; None where there are none, or none that can be read."""
    stored = str(_settings().value(key, ""))
    try:
        return [int(part) for part in stored.split()] or None
    except ValueError:
        return None


def keep(key: str, sizes: list[int]) -> None:
    """Keep sizes in pixels under a key."""
    _settings().setValue(key, " ".join(str(size) for size in sizes))
