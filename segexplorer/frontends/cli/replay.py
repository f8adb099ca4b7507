"""`segexplorer replay`: a recorded run played back, on the terminal or in the window."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from segexplorer.core.errors import ExitCode, SpecError
from segexplorer.core.events import Event, RunFinished, to_json
from segexplorer.core.printable import printable_json
from segexplorer.frontends.cli.terminal import RunDisplay, remarks
from segexplorer.frontends.cli.train import best_of, tell_best
from segexplorer.frontends.viewing import require_window
from segexplorer.study.race import is_race

if TYPE_CHECKING:
    from segexplorer.training.replay import Replay


def run_replay(folder: Path, speed: float, *, window: bool, as_json: bool) -> int:
    """Replay a run, or open a race; `speed` 0 is without waiting, `as_json` prints the events as lines of JSON.

    Returns
    -------
    0, or 130 when Ctrl-C ended it.
    """
    from segexplorer.training.sharing import unpacked_run

    if is_race(folder):
        return _open_race(folder, window=window)

    with unpacked_run(folder) as unpacked:
        return _replay(unpacked, speed or math.inf, window=window, as_json=as_json)


def _replay(folder: Path, pace: float, *, window: bool, as_json: bool) -> int:
    from segexplorer.training.replay import Replay

    if window:
        require_window()
        importlib.import_module("segexplorer.frontends.napari.dock").show_replay(folder, pace)
        return 0
    replay = Replay(folder, pace)
    try:
        if as_json:
            for event in replay:
                print(printable_json(to_json(event)), flush=True)
        else:
            _show(replay)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return 0


def _open_race(folder: Path, *, window: bool) -> int:
    if not window:
        raise SpecError(
            f"{folder} is a race, whose lanes are seen side by side in the window.",
            "Add --window; `segexplorer race` says on the terminal how they differ.",
        )
    require_window()
    importlib.import_module("segexplorer.frontends.napari.dock").show_race(folder)
    return 0


def _show(replay: Replay) -> None:
    out = remarks()
    shown: list[Event] = []
    with RunDisplay(out, replay.speed) as display:
        for event in replay:
            shown.append(event)
            display.show(event)
    end = shown[-1]
    assert isinstance(end, RunFinished), "a replay ends with RunFinished"
    tell_best(out, best_of(shown))
    why = (end.error or end.reason).rstrip(".")
    out.print(f"The run {_ENDED[end.state]} at step {end.step}: {why}.", markup=False, soft_wrap=True)


_ENDED = {"finished": "finished", "stopped": "was stopped", "failed": "failed"}
