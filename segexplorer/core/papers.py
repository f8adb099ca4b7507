"""The papers whose losses, networks and experiments this package repeats: the only place that describes them.

Presets, the picker, `segexplorer describe` and the pages of docs/ print from here. What uses a paper names it by
its citation, e.g. `papers = ("Chen 2023",)`; a plug-in may cite others, which are printed as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One paper.

    Attributes
    ----------
    author
        Family name of the first author.
    year
        Year of publication.
    title
        Full title.
    doi
        Digital object identifier, without "doi:".
    label
        What it is known for, short enough for a heading.
    """

    author: str
    year: int
    title: str
    doi: str
    label: str

    @property
    def citation(self) -> str:
        """As texts cite it: "Chen 2023"."""
        return f"{self.author} {self.year}"

    @property
    def prefix(self) -> str:
        """How the names of its presets and sample configurations begin: "chen2023"."""
        return f"{self.author.lower()}{self.year}"

    @property
    def heading(self) -> str:
        """As lists show it: "Adaptive region loss (Chen 2023)"."""
        return f"{self.label} ({self.citation})"

    @property
    def reference(self) -> str:
        """Citation, title and DOI in one line."""
        return f"{self.citation}: {self.title}, doi:{self.doi}"


PAPERS: Mapping[str, Paper] = {
    paper.citation: paper
    for paper in (
        Paper(
            "Zhang",
            2025,
            "UNet-3D with Adaptive TverskyCE Loss for Pancreas Medical Image Segmentation",
            "10.48550/arXiv.2505.01951",
            "Adaptive TverskyCE",
        ),
        Paper(
            "Perera",
            2025,
            "HyTver: A Novel Loss Function for Longitudinal Multiple Sclerosis Lesion Segmentation",
            "10.48550/arXiv.2508.17639",
            "HyTver",
        ),
        Paper(
            "Yeung",
            2022,
            "Unified Focal loss: Generalising Dice and cross entropy-based losses to handle class imbalanced "
            "medical image segmentation",
            "10.1016/j.compmedimag.2021.102026",
            "Unified focal loss",
        ),
        Paper(
            "Oshah",
            2025,
            "Enhancing Medical Image Segmentation Based on Loss Functions Integration",
            "10.21608/sej.2025.357874.1073",
            "Dice + focal loss, review",
        ),
        Paper(
            "Chen",
            2023,
            "Adaptive Region-Specific Loss for Improved Medical Image Segmentation",
            "10.1109/TPAMI.2023.3289667",
            "Adaptive region loss",
        ),
    )
}
"""By citation, in the order in which lists show them."""


_CITATION = re.compile(
    r"(?P<author>[^\W\d_][\w’'-]+)(?: and [^\W\d_][\w’'-]+| et al\.)?,? (?P<year>(?:19|20)\d\d)\b"
)


def citation_of(reference: str) -> str:
    """Return the first author and year with which a reference begins, "Salehi 2017"; "" where it names none."""
    found = _CITATION.match(reference)
    return f"{found['author']} {found['year']}" if found else ""


def full_reference(citation: str) -> str:
    """Return title and DOI with a citation; a citation that is not known here as it is."""
    paper = PAPERS.get(citation)
    return paper.reference if paper is not None else citation
