"""Run folders as training leaves them, written by hand: no training, exact numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segexplorer.core.events import CaseScore, RunFinished, StepDone, ValidationDone, to_json
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import write_format

RunMaker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """Return a function that writes a run folder from its scores."""

    def make(
        name: str,
        scores: list[CaseScore],
        *,
        loss: Any = "dice",
        steps: int = 10,
        roles: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        best: list[CaseScore] | None = None,
        finished: bool = True,
        gradient_norm: float = 1.0,
        started: float = 0.0,
        data_set: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_format(folder)
        plain = {"data": data_set or {"kind": "phantom"}, "loss": loss, **settings}
        Experiment.of(plain).save(folder / "experiment.yaml")
        validating = sorted({s.case for s in scores})
        roles = roles or {"t1": "train", **dict.fromkeys(validating, "validation")}
        data = data or {case: f"hash of {case}" for case in roles}
        (folder / "provenance.json").write_text(json.dumps([{"attempt": 1, "roles": roles, "data": data}]))

        def validation(step: int, these: list[CaseScore], is_best: bool) -> ValidationDone:
            return ValidationDone(
                step=step,
                epoch=step,
                loss=0.1,
                scores=tuple(these),
                mean_dice=0.5,
                class_dice={},
                n_used=1,
                n_absent=0,
                n_missed=0,
                best=is_best,
                seconds=1.0,
            )

        def step(number: int) -> StepDone:
            return StepDone(
                step=number,
                epoch=1,
                loss=1.0,
                terms={},
                learning_rate=0.1,
                gradient_norm=gradient_norm,
                seconds=2.0,
                samples=1,
            )

        events = [
            step(1),
            validation(1, best or scores, True),
            step(steps),
            validation(steps, scores, best is None),
        ]
        lines = [to_json(replace(e, time=started)) for e in events]
        if finished:
            lines.append(to_json(RunFinished(state="finished", reason="", step=steps)))
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return make
