"""Differences of volume, signed and absolute, in ml and in percent of the truth."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from segexplorer.metrics.base import StructureMetric, registry

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure


def volume_difference(structure: Structure) -> float:
    """Volume of the prediction minus that of the truth, ml."""
    return (structure.counts.fp - structure.counts.fn) * structure.voxel_mm3 / 1000.0


def relative_volume_difference(structure: Structure) -> float:
    """Volume of the prediction minus that of the truth, in percent of the truth; NaN without a truth."""
    truth = structure.counts.tp + structure.counts.fn
    return 100.0 * (structure.counts.fp - structure.counts.fn) / truth if truth else math.nan


_BLIND = "Blind to the place: a structure of the right size somewhere else has no difference."
_HEIMANN = "Heimann et al. 2009, doi:10.1109/TMI.2009.2013851"
_BIAS = "Whether volumes are over- or underestimated on average, where the volume itself is reported."

for _metric in (
    StructureMetric(
        name="vd",
        display_name="Volume difference",
        short_name="Vol. diff.",
        definition="V(P) - V(T)",
        formula=r"V_P - V_T",
        better="zero",
        best=0.0,
        lowest=-math.inf,
        highest=math.inf,
        unit="ml",
        absent=math.nan,
        function=volume_difference,
        note=f"Above 0 the prediction is too large. Its mean is the bias. {_BLIND}",
        reference=_HEIMANN,
        tasks={"organs": _BIAS},
        pitfalls=("boundary", "imbalance"),
    ),
    StructureMetric(
        name="avd",
        display_name="Absolute volume difference",
        short_name="AVD",
        definition="|V(P) - V(T)|",
        formula=r"\left|V_P - V_T\right|",
        better="lower",
        best=0.0,
        highest=math.inf,
        unit="ml",
        absent=math.nan,
        function=lambda structure: abs(volume_difference(structure)),
        note=_BLIND,
        reference=_HEIMANN,
        tasks={"lesions": "The load of lesions, where that is what is reported."},
        pitfalls=("boundary", "imbalance"),
    ),
    StructureMetric(
        name="rvd",
        display_name="Relative volume difference",
        short_name="RVD",
        definition="100 (V(P) - V(T)) / V(T)",
        formula=r"100\,\frac{V_P - V_T}{V_T}",
        better="zero",
        best=0.0,
        lowest=-100.0,
        highest=math.inf,
        unit="%",
        missed=-100.0,
        spurious=math.nan,
        absent=math.nan,
        function=relative_volume_difference,
        note=f"Above 0 the prediction is too large; -100 % is a missed structure. {_BLIND}",
        reference=_HEIMANN,
        pitfalls=("small structures", "boundary", "empty references"),
    ),
    StructureMetric(
        name="arvd",
        display_name="Absolute relative volume difference",
        short_name="ARVD",
        definition="100 |V(P) - V(T)| / V(T)",
        formula=r"100\,\frac{\left|V_P - V_T\right|}{V_T}",
        better="lower",
        best=0.0,
        highest=math.inf,
        unit="%",
        missed=100.0,
        spurious=math.nan,
        absent=math.nan,
        function=lambda structure: abs(relative_volume_difference(structure)),
        note=f"An added voxel weighs more where the structure is small. {_BLIND}",
        reference=_HEIMANN,
        pitfalls=("small structures", "boundary", "empty references"),
    ),
):
    registry.register(replace(_metric, default=False))
