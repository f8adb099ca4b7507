"""The notebook: `segexplorer.explore` shows a run, a case or results in a cell, with the view models of the window.

What is imported here is light; widgets and torch come with the first thing that is shown.
"""

from __future__ import annotations

from segexplorer.frontends.notebook.entry import explore

__all__ = ["explore"]
