"""Mirrored patches. The inverse is the same mirroring."""

from __future__ import annotations

import numpy as np

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec


class Flips(Spec):
    """Chances of mirroring along the patient's axes."""

    display_name = "Mirroring"
    left_right: float = parameter(
        0.0,
        title="Left to right",
        description="Chance. Anatomy has sides: switch it on only where left and right need not be distinguished.",
        ge=0,
        le=1,
    )
    front_back: float = parameter(0.0, title="Front to back", description="Chance.", ge=0, le=1)
    head_foot: float = parameter(0.0, title="Head to foot", description="Chance.", ge=0, le=1)

    def draw(self, rng: np.random.Generator) -> tuple[bool, bool, bool]:
        """Return which of the axes x, y, z are mirrored."""
        drawn = rng.random(3) < (self.left_right, self.front_back, self.head_foot)
        return bool(drawn[0]), bool(drawn[1]), bool(drawn[2])
