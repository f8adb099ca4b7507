"""The command line: `segexplorer train`, `predict`, `evaluate`, `list`, `describe`, `check` and more."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exit code 2 and one sentence for what a user can mend, never a traceback."""
    from segexplorer.frontends.cli.app import run

    raise SystemExit(run())
