"""Extensions: modules of our own packages, and of other packages by entry point.

`discover` imports every module of a package of ours, so that a new kind is a new file and no list. Other packages
name a module under the entry point `segexplorer.plugins`; its import registers their kinds. A plug-in that fails to
import becomes a report that the window and `segexplorer plugins` show; it never stops the program.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
import traceback
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

GROUP = "segexplorer.plugins"


@dataclass(frozen=True)
class PluginReport:
    """What became of one plug-in: `error` is empty when it loaded; `cause` is the traceback when not."""

    name: str
    module: str
    package: str
    version: str
    error: str = ""
    cause: str = ""


def discover(package: str, path: Iterable[str], *, leave_out: Collection[str] = ()) -> None:
    """Import every module of a package in order of name, so that each registers its kinds.

    Parameters
    ----------
    package, path
        `__name__` and `__path__` of the package, which calls this in its `__init__.py`.
    leave_out
        Names of modules that hold no kinds and are slow to import.
    """
    for module in sorted(pkgutil.iter_modules(path), key=lambda m: m.name):
        if module.name not in leave_out:
            importlib.import_module(f"{package}.{module.name}")


_reports: list[PluginReport] | None = None
_loading = threading.local()
_lock = threading.RLock()


def load(*, again: bool = False) -> tuple[PluginReport, ...]:
    """Import every installed plug-in once and return what became of each; `again` looks anew."""
    global _reports
    if getattr(_loading, "active", False):
        return ()  # a plug-in that asks a registry while it is being imported
    with _lock:
        if _reports is None or again:
            _loading.active = True
            try:
                _reports = [
                    _import(point) for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)
                ]
            finally:
                _loading.active = False
        return tuple(_reports)


def _import(point: EntryPoint) -> PluginReport:
    package = point.dist.name if point.dist is not None else ""
    version = point.dist.version if point.dist is not None else ""
    error = cause = ""
    try:
        importlib.import_module(point.module)
    except Exception as failure:  # noqa: BLE001  whatever a third party raises must become a report
        error = f"{type(failure).__name__}: {failure}"
        cause = traceback.format_exc()
    return PluginReport(point.name, point.module, package, version, error, cause)


def package_of(module: str) -> str:
    """Return the installed package whose plug-in a module belongs to; "" for our own modules and for scripts."""
    top = module.partition(".")[0]
    return next((r.package for r in load() if r.module.partition(".")[0] == top and top != "segexplorer"), "")
