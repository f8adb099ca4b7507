"""The table of a study's runs: state, progress, best score, tries, and what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segexplorer.frontends.cli.terminal import results
from segexplorer.study.schedule import STATES, RunStatus, State

_COLOURS: dict[State, str] = {
    "running": "green", "failed": "red", "mistake": "red", "given up": "red", "machine": "yellow", "died": "yellow",
}  # fmt: skip


def print_statuses(statuses: Sequence[RunStatus], out: Console | None = None) -> None:
    """Print how many runs are in which state, then a row for each, and what the problems are."""
    out = out or results()
    counts = Counter(s.state for s in statuses)
    out.print(", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) + ".")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    for title in ("state", "steps", "best Dice", "tries"):
        table.add_column(title, justify="left" if title == "state" else "right")
    table.add_column("where", overflow="fold")
    for status in statuses:
        table.add_row(*_row(status))
    out.print(table)
    for status in statuses:
        if status.last is not None and status.last.error and status.state != "done":
            text = f"{status.name}: {status.last.error} {status.last.remedy}".rstrip()
            out.print(text, markup=False, soft_wrap=True)


def _row(status: RunStatus) -> list[str]:
    last = status.last
    colour = _COLOURS.get(status.state, "default")
    known = [status.name, f"[{colour}]{status.state}[/]"]
    if last is None:
        return [escape(known[0]), known[1], "", "", "", escape(status.where)]
    steps = f"{last.step} of {last.steps}" if last.steps else ""
    best = next((t.best for t in reversed(status.tries) if t.best is not None), None)
    where = " ".join(word for word in (last.host, last.job) if word)
    if status.state == "running":
        where = f"{where}, {time.time() - last.updated:.0f} s ago"
    return [
        escape(known[0]), known[1], steps, "" if best is None else f"{best:.3f}", str(len(status.tries)),
        escape(where),
    ]  # fmt: skip
