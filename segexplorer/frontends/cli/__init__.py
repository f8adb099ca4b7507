"""The command line: `segexplorer train`, `predict`, `evaluate`, `list`, `describe`, `check` and more."""

from __future__ import annotations


def main() -> None:
    """Run the command line; see `core.errors.ExitCode` for its exit codes."""
    from segexplorer.frontends.cli.app import run

    raise SystemExit(run())
