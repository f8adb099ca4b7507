"""Training behind a cell: a thread that goes behind the notebook's own, and ends with the kernel.

A kernel that is restarted leaves a run folder with its last checkpoint, as any other end of a process does.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Any

from segexplorer.core.errors import RunStateError
from segexplorer.training.host import lower_priority

_PATIENCE_S = 4.0
"""How long a kernel that shuts down waits for the last checkpoint; Jupyter kills it after five seconds."""
_GOING_ON: weakref.WeakKeyDictionary[threading.Thread, Any] = weakref.WeakKeyDictionary()


def train_in_background(run: Any) -> threading.Thread:
    """Iterate a run in a thread of its own; what happens is emitted by its `events`."""
    thread = threading.Thread(target=_iterate, args=(run,), name=f"run {run.folder.name}", daemon=True)
    if not _GOING_ON:
        atexit.register(stop_all)
    _GOING_ON[thread] = run
    thread.start()
    return thread


def is_training(run: Any) -> bool:
    """Whether a thread of ours iterates a run, also before its first event and after its last."""
    return any(other is run for other in list(_GOING_ON.values()))


def _iterate(run: Any) -> None:
    lower_priority()
    try:
        for _ in run:
            pass
    finally:
        _GOING_ON.pop(threading.current_thread(), None)
        if not _GOING_ON:
            atexit.unregister(stop_all)


def stop_all() -> None:
    """Ask every run that goes on to save and stop, and wait for it a moment."""
    for thread, run in list(_GOING_ON.items()):
        if run.accepts("stop"):
            try:
                run.stop()
            except RunStateError:
                continue  # it came to its end by itself in between
        thread.join(_PATIENCE_S)
