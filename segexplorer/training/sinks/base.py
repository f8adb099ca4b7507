"""What every sink promises, the family "sinks", and the guard that keeps a failing sink from ending a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Notice
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.training.snapshots import WatchedSnapshot

if TYPE_CHECKING:
    from segexplorer.data.case import Case
    from segexplorer.training.experiment import Experiment


@dataclass(frozen=True)
class Attempt:
    """What a sink may know of the run when it is opened: once at the start, and again at every resume.

    Attributes
    ----------
    folder
        The run folder. A sink that writes files uses a folder of its own in it.
    experiment
        The experiment, live changes of earlier attempts included.
    number
        Counts from 1 and grows with every resume; the `attempt` of the events that follow.
    step
        Optimiser steps done when the attempt begins. What an earlier attempt wrote of later steps is superseded.
    earlier
        The events of earlier attempts that still hold, in order. The end of an epoch that was emitted but not saved
        is emitted again, with equal numbers.
    case
        Opens a case by its id, voxels read on request. Call it after `Planned` only.
    """

    folder: Path
    experiment: Experiment
    number: int
    step: int
    earlier: Sequence[Event]
    case: Callable[[str], Case]


class Sink(Protocol):
    """Receives the events of one attempt. Derive from it and implement what you need: its methods do nothing.

    All methods are called on the thread that iterates the run, one after the other, between two steps: training
    waits for them, so they should take milliseconds. They must not touch a window, change what they are given, or
    draw from global random generators.

    Any `Exception` may be raised. The sink is then switched off for the rest of the attempt (`close` is not called
    any more), one `Notice` names it and the cause, and the run goes on.
    """

    def event(self, event: Event) -> None:
        """Take an event, right after it was written to `events.jsonl`; the last one is `RunFinished`.

        The first is the `StateChanged` that says that the cases are being read: what happens before, and a run that
        fails before, does not reach the sinks.
        """
        return

    def watched(self, snapshot: WatchedSnapshot) -> None:
        """Take a watched case, predicted whole, right after its `WatchedDone` went to `event`."""
        return

    def close(self) -> None:
        """Write down what is left and close files; called once, after the last event, however the run ended."""
        return


class SinkSpec(Spec):
    """Base of all sinks as an experiment lists them; a kind implements `open`."""

    reference: ClassVar[str] = ""
    """Where what it writes is described."""

    def open(self, attempt: Attempt) -> Sink:
        """Return a sink for one attempt; heavy modules are imported here (`core.errors.require`), not before.

        Whatever it raises switches the sink off, as in `Sink`.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own


registry: Registry[SinkSpec] = Registry("sinks", SinkSpec, "sink")
AnySink = Annotated[SinkSpec, registry.late_bound]


class OpenSinks:
    """The sinks of one attempt, each behind a guard: one that fails is switched off, and the run hears why."""

    def __init__(self) -> None:
        self._sinks: list[tuple[str, Sink]] = []
        self._notices: list[Notice] = []

    def open(self, specs: Iterable[SinkSpec], attempt: Attempt) -> None:
        """Open the sinks of an attempt."""
        for spec in specs:
            kind = str(type(spec).model_fields["kind"].default)
            try:
                self._sinks.append((kind, spec.open(attempt)))
            except Exception as error:  # noqa: BLE001  a sink never ends a run, whatever it raises
                self._notices.append(_switched_off(kind, error))

    def take_notices(self) -> list[Notice]:
        """Return a notice for each sink that was switched off since the last time."""
        taken, self._notices = self._notices, []
        return taken

    def event(self, event: Event) -> None:
        """Hand on an event."""
        self._each(lambda sink: sink.event(event))

    def watched(self, snapshot: WatchedSnapshot) -> None:
        """Hand on a watched case."""
        self._each(lambda sink: sink.watched(snapshot))

    def close(self) -> None:
        """Close all that are still open; a second call does nothing."""
        self._each(lambda sink: sink.close())
        self._sinks = []

    def _each(self, call: Callable[[Sink], None]) -> None:
        working = []
        for kind, sink in self._sinks:
            try:
                call(sink)
                working.append((kind, sink))
            except Exception as error:  # noqa: BLE001  a sink never ends a run, whatever it raises
                self._notices.append(_switched_off(kind, error))
        self._sinks = working


def _switched_off(kind: str, error: Exception) -> Notice:
    if isinstance(error, SegExplorerError):
        return Notice(message=f"The sink {kind} is switched off: {error.message}", remedy=error.remedy)
    cause = f"{type(error).__name__}: {error}".rstrip(": ").rstrip(".")
    return Notice(message=f"The sink {kind} is switched off: {cause}.", remedy="The run goes on without it.")
