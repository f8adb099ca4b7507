"""Which patient a case is of: from its name, or from the DICOM header without telling who."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from segexplorer.core.errors import DataError
from segexplorer.data import readers
from segexplorer.data.case import CaseRef


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


def kept_together(refs: Sequence[CaseRef]) -> list[CaseRef]:
    """Return the cases with those of one DICOM patient together, where nothing else says whose they are.

    A patient is called by the name of the first of his cases; his number is only compared as a keyed hash.
    """
    unknown = {
        ref.id: ref.images[0]
        for ref in refs
        if ref.patient in ("", ref.id) and isinstance(ref.images[0], Path) and _is_dicom(ref.images[0])
    }
    if not unknown:
        return list(refs)
    from segexplorer.data.readers.dicom_patient import patient_key

    first: dict[str, str] = {}
    own: dict[str, str] = {}
    for case in sorted(unknown):
        try:
            key = patient_key(unknown[case])
        except DataError:  # a file that cannot be read is told when the case is opened
            key = ""
        own[case] = first.setdefault(key or f"case {case}", case)
    return [replace(ref, patient=own.get(ref.id, ref.patient)) for ref in refs]


def _is_dicom(path: Path) -> bool:
    found = None if path.is_dir() else readers.format_of(path)
    return path.is_dir() or (found is not None and found.name == "DICOM")
