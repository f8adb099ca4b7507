"""Every registered sink keeps its promises; those of plug-ins that are installed here, too."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

from segexplorer.core.events import Event
from segexplorer.testing.sinks import check_sink
from segexplorer.training.sinks import Attempt, Sink, SinkSpec, registry
from segexplorer.training.snapshots import WatchedSnapshot


@pytest.mark.parametrize("kind", registry.names())
def test_it_keeps_its_promises(kind: str, tmp_path: Path) -> None:
    assert check_sink(registry.spec(kind)(), tmp_path) == tmp_path / "run"


class Unruly(SinkSpec):
    """Breaks one promise."""

    display_name: ClassVar[str] = "Unruly"
    kind: Literal["unruly"] = "unruly"
    way: str = ""

    def open(self, attempt: Attempt) -> Sink:
        return _Unruly(self.way, attempt)


class _Unruly(Sink):
    def __init__(self, way: str, attempt: Attempt) -> None:
        self._way, self._attempt = way, attempt

    def event(self, event: Event) -> None:
        if self._way == "draws":
            np.random.rand()  # noqa: NPY002
        if self._way == "beside":
            (self._attempt.folder.parent / "notes").touch()
        if self._way == "spoils":
            (self._attempt.folder / "experiment.yaml").write_text("gone")

    def watched(self, snapshot: WatchedSnapshot) -> None:
        if self._way == "paints":
            snapshot.prediction[:] = 0


@pytest.mark.parametrize(
    ("way", "complaint"),
    [
        ("draws", "draws from a global random generator"),
        ("beside", "writes beside the run folder"),
        ("spoils", "changes the run's own files"),
        ("paints", "changes the snapshot"),
    ],
)
def test_a_broken_promise_is_named(way: str, complaint: str, tmp_path: Path) -> None:
    registry.register(Unruly)
    try:
        with pytest.raises(AssertionError, match=f"Unruly {complaint}"):
            check_sink(Unruly(way=way), tmp_path)
    finally:
        registry.unregister("unruly")
