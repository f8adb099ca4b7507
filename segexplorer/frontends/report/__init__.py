"""Reports: a run or a study as one page that needs nothing else, and figures of it for papers.

>>> segexplorer.report("runs/liver", "liver.html")  # doctest: +SKIP
"""

from __future__ import annotations

from segexplorer.frontends.report.figures import figure as figure
from segexplorer.frontends.report.writing import report as report

__all__ = ["figure", "report"]
