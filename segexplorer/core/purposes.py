"""What losses and networks are for: the only list of purposes, and the words by which people look for them.

A kind names its purposes, e.g. `purposes = ("small_structures", "false_negatives")`. Pickers find by them,
`segexplorer list` and `describe` and the pages of docs/ print them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Purpose:
    """One purpose.

    Attributes
    ----------
    name
        As kinds name it.
    title
        As lists show it, in lower case: "small lesions and structures".
    words
        Further words by which it is searched.
    """

    name: str
    title: str
    words: str = ""

    def is_meant(self, query: str) -> bool:
        """Whether every word of a query begins a word of its title or of its further words."""
        known = f"{self.title} {self.words}".lower().replace("-", " ").split()
        asked = query.lower().replace("_", " ").replace("-", " ").split()
        return bool(asked) and all(any(_alike(word, other) for other in known) for word in asked)


def _alike(asked: str, known: str) -> bool:
    """Whether a word begins like one that is known; singular and plural are the same."""
    return known.startswith(asked) or (len(known) > 3 and known.rstrip("s") == asked.rstrip("s"))


PURPOSES: Mapping[str, Purpose] = {
    purpose.name: purpose
    for purpose in (
        Purpose("general", "a first try", "general default baseline start standard"),
        Purpose(
            "class_imbalance", "class imbalance", "imbalanced unbalanced rare small classes sizes foreground"
        ),
        Purpose(
            "small_structures",
            "small lesions and structures",
            "small lesion tumour tumor nodule metastasis plaque tiny object organ sclerosis",
        ),
        Purpose(
            "false_negatives",
            "fewer false negatives (missed)",
            "miss under segmentation undersegmentation sensitivity recall",
        ),
        Purpose(
            "false_positives",
            "fewer false positives (extra)",
            "surplus spurious over segmentation oversegmentation precision specificity",
        ),
        Purpose("boundary", "boundary and shape", "boundaries contour edge surface border distance margin"),
        Purpose(
            "thin_structures",
            "thin and tubular structures",
            "vessel airway artery vein bronchi centreline centerline skeleton connectivity topology",
        ),
        Purpose(
            "local_errors", "errors that differ from place to place", "local region regional adaptive box"
        ),
        Purpose("hard_voxels", "hard and uncertain voxels", "difficult examples mining focus focal"),
        Purpose(
            "calibration", "calibrated probabilities", "calibration confidence overconfidence uncertainty"
        ),
        Purpose("noisy_labels", "noisy labels", "noise robust outlier annotation wrong mistakes"),
        Purpose("overlap", "overlap as it is scored", "dice jaccard iou score"),
        Purpose("related_classes", "classes that are related", "hierarchy multi class organs confusion"),
        Purpose("context", "long-range context", "global attention transformer receptive field large"),
        Purpose("follow_up", "follow-up and new lesions", "longitudinal two time points change sclerosis"),
    )
}
"""By name, in the order in which lists show them."""


def titles(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the titles of purposes; one that a plug-in made up is printed as it is."""
    return tuple(PURPOSES[n].title if n in PURPOSES else n.replace("_", " ") for n in names)


def meant(query: str) -> tuple[Purpose, ...]:
    """Return the purposes that a query means, in their order."""
    return tuple(purpose for purpose in PURPOSES.values() if purpose.is_meant(query))
