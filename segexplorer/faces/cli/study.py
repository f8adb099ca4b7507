"""`segexplorer study`: train what a file's matrix holds, one run after the other, then compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segexplorer.core.errors import SegExplorerError
from segexplorer.faces.cli.compare import print_comparison
from segexplorer.faces.cli.output import print_json, remarks
from segexplorer.faces.cli.train import INTERRUPTED, follow
from segexplorer.session import Session
from segexplorer.study import compare
from segexplorer.study.study import plan_study

WORDS = {"new": "to train", "resume": "to go on with", "done": "done"}


def run_study(
    config: Path, output: Path | None, settings: Mapping[str, Any], *, dry_run: bool, as_json: bool
) -> int:
    """Train every experiment of a file that is not done yet; a failed one is told and the others go on.

    Returns
    -------
    Exit code: 0, 2 when a run failed, or that of an interruption.
    """
    folder = output if output is not None else Path.cwd() / "segexplorer-runs" / config.stem
    out = remarks()
    todo = plan_study(config, folder, settings)
    if dry_run:
        for point, _, state in todo:
            out.print(f"{point.name}: {WORDS[state]}", markup=False, soft_wrap=True)
        out.print(f"{len(todo)} runs in {folder}", markup=False, soft_wrap=True)
        return 0
    failed: list[str] = []
    for number, (point, path, state) in enumerate(todo, start=1):
        if state == "done":
            continue
        out.rule(f"{number} of {len(todo)}: {point.name}")
        session = Session()
        try:
            run = session.resume(path) if state == "resume" else session.prepare(point.experiment, path)
        except SegExplorerError as error:
            out.print(f"{point.name}: {error}", markup=False, soft_wrap=True)
            failed.append(point.name)
            continue
        code = follow(run)
        if code == INTERRUPTED:
            out.print(f"The same command goes on: segexplorer study {config}", markup=False, soft_wrap=True)
            return code
        if code:
            failed.append(point.name)
    for name in failed:
        out.print(f"Failed: {name}; the same command tries it again.", markup=False, soft_wrap=True)
    finished = [path for point, path, _ in todo if point.name not in failed]
    if len(finished) > 1:
        networks = {str(point.experiment.network.plain()) for point, _, _ in todo}
        comparison = compare(finished, allow=["network"] if len(networks) > 1 else [])
        if as_json:
            print_json(comparison.plain())
        else:
            print_comparison(comparison)
    return 2 if failed else 0
