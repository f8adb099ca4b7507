"""A compiled network trains like the network itself and shares its weights; what cannot be compiled is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from segexplorer.core.events import Notice, RunFinished
from segexplorer.core.spec import replace_values
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

MakeRun = Callable[..., Run]


def _weights(run: Run) -> bytes:
    return (open_checkpoint(run.folder / "checkpoints", "last")[0].folder / WEIGHTS).read_bytes()


def test_a_compiled_run_goes_on_without_and_has_the_same_weights(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[Any]()
    compiler = torch.compile

    def traced(network: torch.nn.Module) -> Any:
        """Trace and differentiate as a compiler does, with torch's own operations in the end: the same numbers."""
        made.append(network)
        return compiler(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", traced)
    plain, compiled = make_run("plain"), make_run("compiled", compute__compile=True)
    for run in (plain, compiled):
        assert list(run)[-1].state == "finished"
    assert len(made) == 1
    assert _weights(compiled) == _weights(plain)
    file = compiled.folder / "experiment.yaml"
    changed = {"schedule.epochs": 3, "compute.compile": False}
    replace_values(Experiment.from_yaml(file), changed).save(file)
    events = list(Run(RunFolder.open(compiled.folder)))
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished"
    assert any(isinstance(e, Notice) and "compile" in e.message.lower() for e in events)


def test_where_nothing_can_be_compiled_the_network_trains_as_it_is(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: torch.nn.Module) -> Any:
        def fail(*images: Any) -> Any:
            raise RuntimeError("backend='inductor' raised:\nNo working C++ compiler found")

        return fail

    plain, hopeless = make_run("plain"), make_run("hopeless", compute__compile=True)
    list(plain)
    monkeypatch.setattr(torch, "compile", broken)
    events = list(hopeless)
    notices = [e.message for e in events if isinstance(e, Notice) and "could not be compiled" in e.message]
    assert len(notices) == 1 and "inductor" in notices[0]
    assert _weights(hopeless) == _weights(plain)
