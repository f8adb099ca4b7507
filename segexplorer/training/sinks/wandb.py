"""Weights & Biases: curves of a run in its format, on this machine; uploaded only where that is asked for.

Written to `wandb/` in the run folder. `wandb sync` uploads it later, if you like.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import require
from segexplorer.core.events import Event, StepDone
from segexplorer.core.fields import parameter
from segexplorer.training.sinks.base import Attempt, Sink, SinkSpec, registry
from segexplorer.training.sinks.scalars import scalars

FOLDER = "wandb"
PRIVATE = ("data", "split", "changes", "sinks")
"""Settings that are not handed over: they hold paths and names of cases."""


@registry.register
class WeightsAndBiases(SinkSpec):
    """Writes the curves of a run for Weights & Biases; offline unless you ask for more.

    Loss, terms and weights of each step, means of each epoch, and metrics of each validation. No image, no name of
    a case and no path of the data is handed over. Needs the extra `wandb`.
    """

    display_name: ClassVar[str] = "Weights & Biases"
    reference: ClassVar[str] = "https://docs.wandb.ai"
    kind: Literal["wandb"] = "wandb"
    mode: Literal["offline", "online"] = parameter(
        "offline",
        title="Mode",
        description="Offline writes to the run folder alone. Online also sends it to the server that wandb knows.",
    )
    project: str = parameter("segexplorer", title="Project", description="The project there.", min_length=1)
    every_steps: int = parameter(
        1,
        title="Every",
        description="Curves of training get a point after this many steps.",
        unit="steps",
        ge=1,
    )

    def open(self, attempt: Attempt) -> Sink:
        """Return a writer of one attempt.

        Raises
        ------
        MissingExtraError
            When the package wandb is not installed.
        """
        folder = attempt.folder / FOLDER
        identity = folder / "id"
        if not identity.exists():  # a resumed run goes on under the same one
            atomic_write(identity, secrets.token_hex(4).encode())
        settings = {k: v for k, v in attempt.experiment.plain().items() if k not in PRIVATE}
        with _no_reports():
            run = require("wandb", "wandb", "The sink wandb").init(
                project=self.project,
                id=identity.read_text(),
                resume="allow" if self.mode == "online" else None,
                dir=str(attempt.folder),
                config=settings,
                mode=self.mode,
                settings={
                    "console": "off",
                    "silent": True,
                    "disable_git": True,
                    "disable_code": True,
                    "x_disable_meta": True,
                    "x_disable_stats": True,
                    "x_disable_machine_info": True,
                },
            )
        return _Writer(run, self.every_steps)


class _Writer(Sink):
    def __init__(self, run: Any, every_steps: int) -> None:
        self._run, self._every_steps = run, every_steps

    def event(self, event: Event) -> None:
        if isinstance(event, StepDone) and event.step % self._every_steps:
            return
        if found := scalars(event):
            self._run.log(found, step=event.step)

    def close(self) -> None:
        self._run.finish()


@contextmanager
def _no_reports() -> Iterator[None]:
    """Keep wandb from reporting its own errors to its makers, which it would do offline too."""
    before = os.environ.get("WANDB_ERROR_REPORTING")
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_ERROR_REPORTING"]
        else:
            os.environ["WANDB_ERROR_REPORTING"] = before
