"""Where the command line writes: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from rich.console import Console

PIPE_WIDTH = 120


def results() -> Console:
    """Return a console on stdout; in a pipe it is wide enough for tables and has no colours."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def remarks() -> Console:
    """Return a console on stderr."""
    return Console(width=None if sys.stderr.isatty() else PIPE_WIDTH, stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print strict JSON; non-finite numbers become null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
