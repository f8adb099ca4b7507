"""Which patient a case is of, from its name."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _is_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_is_expression)]


def patient_by(pattern: str, case: str) -> str:
    """Return what a pattern's first group (or the whole pattern) finds in a case's name; else the name."""
    found = re.search(pattern, case) if pattern else None
    if found is None:
        return case
    return found.group(1) if found.groups() else found.group()
