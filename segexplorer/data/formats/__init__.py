"""Readers and writers of volumes, one file per format; each file declares its format in `registry`."""

from __future__ import annotations

from segexplorer.core.plugins import discover

# Every file of this folder may register a format, so a new format is a new file (docs/how-to/add-a-reader.md).
discover(__name__, __path__)
