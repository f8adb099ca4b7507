"""What the user looks at: one frozen `Displayed`, replaced whole.

Commands (`viewmodels/commands.py`) are pure functions that return another one. From it and from what exists
(`viewmodels/reality.py`), `resolve` makes everything that is drawn (`viewmodels/resolve.py`,
`viewmodels/screen.py`); the window draws the difference between two screens, and nothing on the screen has any
other source. So nothing of an earlier run, case or class can stay behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from segexplorer.core.events import Role
from segexplorer.viewmodels.error_navigator import Chosen, Listing
from segexplorer.viewmodels.watched_case import Switch
from segexplorer.viewmodels.why import Question

Source = Literal["live", "recorded", "layers", "results", "race"]
"""Where the picture comes from: a run that this window trains, a run folder, layers that the user opened,
predictions that other programs made, or the lanes of a race."""
ScoreSource = Literal["validation", "watched", "test"]
Convention = Literal["radiological", "neurological"]
Extent = Literal["case", "patch"]
EXTENTS: dict[Extent, str] = {"case": "Whole case", "patch": "Last patch"}
"""What of a run is looked at: a watched case as a whole, or the patch that it last trained on."""

ROLES: dict[Role, str] = {"validation": "Validation case", "train": "Training case", "test": "Test case"}
"""Roles of watched cases in the order in which they are preferred."""
_ON_AT_FIRST: frozenset[Switch] = frozenset({"errors", "balance"})


@dataclass(frozen=True)
class Displayed:
    """What the user looks at.

    Attributes
    ----------
    source
        Where the picture comes from.
    run
        Folder of the run, or of the results; None for layers.
    case, role
        Case id, and as what the run watches it.
    step
        Optimiser steps of the prediction; None follows the newest.
    cls
        Index of one class, 1, 2, ...; None for all.
    overlays
        What is drawn over the image; at most one of `MAPS`.
    threshold_ml
        Regions with less error volume are not drawn.
    convention
        On which side of the screen the patient's right is.
    scored_on
        Which scores the table shows.
    listing, error
        How the list of errors is arranged, and which one is looked at.
    question
        What is asked about the loss.
    extent
        Whether the watched case is looked at, or the patch that the run last trained on, once there is one.
    after
        Of the patch: one of a later step than this is wanted; the one that is there is looked at meanwhile.
    bias
        Added to the logit of the chosen class before the decision; 0 is the prediction itself, None: nobody asks
        about the decision.
    bias_moves
        Whether the bias is being dragged, so that only what is counted at once is wanted.
    race_steps
        How far the lanes of a race from the displayed step would train; None: nobody asks about one.
    """

    source: Source = "layers"
    run: str | None = None
    case: str | None = None
    role: Role | None = None
    step: int | None = None
    cls: int | None = None
    overlays: frozenset[Switch] = _ON_AT_FIRST
    threshold_ml: float = 0.0
    convention: Convention = "radiological"
    scored_on: ScoreSource = "validation"
    question: Question = field(default_factory=Question)
    bias: float | None = None
    bias_moves: bool = False
    race_steps: int | None = None
    extent: Extent = "case"
    after: int | None = None
    listing: Listing = field(default_factory=Listing)
    error: Chosen | None = None

    @property
    def subject(self) -> tuple[Any, ...]:
        """What an error belongs to that is looked at."""
        return self.run, self.role, self.case, self.cls

    def undecided(self) -> Displayed:
        """Return the same with the decision that is the network's own."""
        return replace(self, bias=None if self.bias is None else 0.0, bias_moves=False)
