"""`segexplorer init`: an experiment proposed for a folder or a list of cases, each setting with its reason."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli.terminal import print_json, remarks, results

_PHASES = {"headers": "reading headers", "voxels": "reading voxels", "steps": "timing steps"}
_NAMED = 12
"""Cases and warnings that are printed; the file lists all cases that are left out."""


def run_init(
    place: Path,
    output: Path,
    *,
    task: str | None,
    classes: Mapping[str, Sequence[int]] | None,
    minutes: float | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Look at the data, write the experiment file, and print what was found and what was left out.

    Parameters
    ----------
    quick
        Whether no step is timed.
    """
    from segexplorer.training.proposal import propose, time_sentence
    from segexplorer.training.proposal.proposal import require_new

    if minutes is not None and quick:
        raise SpecError("--minutes needs timed steps, which --quick leaves out.", "Give one of them.")
    require_new(output)
    out = remarks()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        tasks: dict[str, object] = {}

        def looked(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(_PHASES[what], total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        proposal = propose(place, task=task, classes=classes, minutes=minutes, timed=not quick, looked=looked)
    proposal.save(output)
    if as_json:
        print_json({"file": str(output), **proposal.plain()})
        return
    console = results()
    for title, text in proposal.fingerprint.facts().items():
        console.print(f"{title:9}{text}", markup=False, soft_wrap=True)
    settings = proposal.experiment
    patch = " x ".join(map(str, settings.sampling.patch_size or ()))
    spacing = " x ".join(f"{s:.3g}" for s in proposal.settings["preprocessing"]["spacing"])
    network = proposal.settings["network"]
    console.print(
        f"Proposed {patch} voxels of {spacing} mm, {settings.sampling.batch_size} per batch; U-Net of "
        f"{network['levels']} levels from {network['base_features']} channels; "
        f"{settings.loss.display_name}; {proposal.task}",
        markup=False,
        soft_wrap=True,
    )
    if proposal.timing is not None:
        console.print(f"Time     {time_sentence(proposal.timing)}", markup=False, soft_wrap=True)
    for problem in proposal.problems[:_NAMED]:
        text = f"{problem.case}: {problem.message} {problem.remedy}".removeprefix(": ").strip()
        out.print(f"{problem.severity}  {text}", markup=False, soft_wrap=True)
    if len(proposal.problems) > _NAMED:
        out.print(f"and {len(proposal.problems) - _NAMED} more: segexplorer check {shlex.quote(str(place))}")
    console.print(f"Written  {output}, with the reason for each setting", markup=False, soft_wrap=True)
    console.print(f"Next     segexplorer train {shlex.quote(str(output))}", markup=False, soft_wrap=True)
