"""The flight recorder: what it keeps of a failure and of an explosion, how much, and that it is never shared."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pytest

import segexplorer
from segexplorer import losses
from segexplorer.core.errors import DataError
from segexplorer.core.events import Notice, RunFinished, StepDone
from segexplorer.functional.inputs import LossInputs
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, registry
from segexplorer.losses.module import Loss
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.sharing import share_run
from segexplorer.training.verification import is_sound, verify_run

MakeRun = Callable[..., Run]


class Breaking(LossSpec):
    """A cross entropy that is multiplied by a number at one step: infinite, or very large."""

    display_name: ClassVar[str] = "Breaking"
    kind: Literal["breaking"] = "breaking"
    at: int = 3
    factor: float = 1e300

    def state_buffers(self) -> Numbers:
        return {"count": (0.0,)}

    def after_step(self, state: Loss, terms: Mapping[str, float]) -> Numbers:
        return {"count": (state.numbers("count")[0] + 1,)}

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        inner = losses.parse("cross_entropy")
        value = inner.compute(inputs, inner.build()).value
        if state.numbers("count")[0] == self.at:
            value = value * self.factor
        return LossOutput(value, {"breaking": (value.detach(), 1.0)})


@pytest.fixture(autouse=True)
def _breaking() -> Iterator[None]:
    registry.register(Breaking)
    yield
    registry.unregister("breaking")


CHEAP = {"data__classes": {"liver": 1}, "validation__every_epochs": 100}


def test_a_failure_leaves_the_last_steps_and_the_batch(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(loss={"kind": "breaking", "at": 3}, monitoring__gradients_every=2, **CHEAP)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == "failed"
    record = open_run(run.folder)
    (flight,) = record.flights()
    assert (flight.name, flight.reason, flight.step) == ("failed", "loss", 4)
    assert [s.step for s in flight.steps] == [1, 2, 3, 4]
    assert [bool(s.term_gradients) for s in flight.steps] == [True, False, True, False]
    assert math.isinf(flight.steps[-1].terms["breaking"][0]) and flight.message in end.error
    done = [e for e in record.events() if isinstance(e, StepDone)]
    assert [s.loss for s in flight.steps[:-1]] == [e.loss for e in done]
    batch = flight.batch()
    assert batch is not None and batch["images"].shape == (1, 1, 16, 16, 16)
    assert batch["labels"].shape == batch["images"].shape and len(flight.cases) == 1
    (finding,) = segexplorer.diagnose(run, only=["exploding_gradient"]).findings
    assert finding.step == 4 and "from the term breaking" in finding.sentence
    checked = {f.name: f for f in verify_run(run.folder)}
    assert checked["flight/failed.json"].state == "sound", checked

    # it is never part of a copy, whatever is asked for
    packed = share_run(run.folder, tmp_path / "copy.zip", predictions=True, notes=True, weights=False)
    assert not [name for name in packed.files if "flight" in name or "safetensors" in name]
    kept = batch["images"].tobytes()[:256]
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        assert all(kept not in archive.read(name) for name in archive.namelist())

    # and damage is found
    voxels = run.folder / "flight" / "failed.safetensors"
    voxels.write_bytes(voxels.read_bytes()[:-1] + b"!")
    assert not is_sound(verify_run(run.folder))
    with pytest.raises(DataError, match="checksum"):
        flight.batch()
    numbers = run.folder / "flight" / "failed.json"
    numbers.write_text(numbers.read_text().replace('"loss"', '"gradient"', 1))
    with pytest.raises(DataError, match="damaged"):
        record.flights()


@pytest.mark.parametrize("megabytes", [0, 1])
def test_it_takes_no_more_space_than_allowed(make_run: MakeRun, megabytes: int) -> None:
    run = make_run(
        loss={"kind": "breaking", "at": 1},
        monitoring__flight_recorder_mb=megabytes,
        sampling__batch_size=60,
        **CHEAP,
    )
    list(run)
    flights = open_run(run.folder).flights()
    assert len(flights) == megabytes
    if megabytes:
        assert flights[0].batch() is None and "more than monitoring.flight_recorder_mb" in flights[0].left_out
        assert sum(f.stat().st_size for f in (run.folder / "flight").iterdir()) < 1e6
    else:
        assert not (run.folder / "flight").exists()


def test_an_explosion_is_kept_once_and_told(make_run: MakeRun) -> None:
    run = make_run(
        loss={"kind": "breaking", "at": 30, "factor": 1e5},
        sampling__steps_per_epoch=35,
        schedule__epochs=1,
        **CHEAP,
    )
    events = list(run)
    told = [e.message for e in events if isinstance(e, Notice) and "exploded" in e.message]
    assert len(told) == 1 and "at step 31" in told[0]
    (flight,) = open_run(run.folder).flights()
    assert (flight.name, flight.reason, flight.step) == ("exploded", "exploded", 31)
    facts = json.loads((run.folder / "flight" / "exploded.json").read_text())
    assert facts["steps"][-1]["gradient_norm"] > 100 * facts["steps"][-2]["gradient_norm"]
    assert flight.batch() is not None
