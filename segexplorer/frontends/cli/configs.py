"""`segexplorer configs`: the experiments that come with segexplorer, and copying one."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from segexplorer.frontends.cli.terminal import print_json, results


def print_configs(*, as_json: bool) -> None:
    """Print name and first line of every shipped experiment."""
    from segexplorer.training.experiment import shipped_experiments

    found = shipped_experiments()
    if as_json:
        print_json([{"name": one.name, "title": one.title, "file": str(one.path)} for one in found])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("experiment", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for one in found:
        table.add_row(one.name, escape(one.title))
    out = results()
    out.print(table)
    out.print("Copy one: segexplorer configs NAME -o experiment.yaml", soft_wrap=True)


def copy_config(name: str, output: Path | None, *, as_json: bool) -> None:
    """Write a shipped experiment into a new file, or print it."""
    from segexplorer.core.atomic_files import atomic_write
    from segexplorer.training.experiment import shipped_experiment
    from segexplorer.training.proposal.proposal import require_new

    chosen = shipped_experiment(name)
    content = chosen.path.read_bytes()
    if output is not None:
        require_new(output)
        atomic_write(output, content)
    if as_json:
        shown = str(output) if output is not None else None
        text = content.decode()
        print_json({"name": chosen.name, "title": chosen.title, "file": shown, "text": text})
        return
    out = results()
    if output is None:
        out.print(content.decode().rstrip(), markup=False, highlight=False, soft_wrap=True)
        return
    out.print(f"{chosen.name} was written to {output}.", markup=False, soft_wrap=True)
    out.print(f"Next: segexplorer check {shlex.quote(str(output))}", markup=False, soft_wrap=True)
