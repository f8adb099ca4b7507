"""Which cell shows what: a cell that is run again closes what it showed before, so that nothing stays behind."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol


class Closes(Protocol):
    """What a cell may show."""

    def close(self) -> None: ...


_SHOWN: dict[str, weakref.WeakSet[Any]] = {}


def shell() -> Any:
    """Return IPython's shell; None outside of it."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def present_cell() -> str:
    """Return the id of the cell that is being run; "" where front end or kernel does not tell."""
    kernel = getattr(shell(), "kernel", None)
    parent = {} if kernel is None else kernel.get_parent("shell") or {}
    return str(parent.get("metadata", {}).get("cellId") or "")


def show_in(cell: str, shown: Closes) -> None:
    """Remember what a cell shows, until the cell is run again."""
    here = shell()
    if not cell or here is None:
        return
    if not _SHOWN:
        here.events.register("pre_run_cell", _on_run)
    _SHOWN.setdefault(cell, weakref.WeakSet()).add(shown)


def forget(shown: Closes) -> None:
    """Nothing has to be closed any more."""
    for cell in list(_SHOWN):
        _SHOWN[cell].discard(shown)
        if not _SHOWN[cell]:
            del _SHOWN[cell]
    here = shell()
    if not _SHOWN and here is not None:
        try:
            here.events.unregister("pre_run_cell", _on_run)
        except ValueError:
            return  # it was not registered: nothing was shown


def _on_run(info: Any) -> None:
    for shown in list(_SHOWN.get(str(getattr(info, "cell_id", "") or ""), ())):
        shown.close()
