"""The settings of a proposal, section by section, each with the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segexplorer.data.case import IGNORE
from segexplorer.data.fingerprint import ClassFacts, Fingerprint
from segexplorer.data.geometry import shape_text
from segexplorer.data.volume import Modality
from segexplorer.metrics.tasks import TASKS
from segexplorer.training.experiment import Experiment
from segexplorer.training.proposal.lengths import STEPS_WANTED, VALIDATING, Length
from segexplorer.training.proposal.sizes import Hardware, Sizing, anisotropic, prepared_shapes

MOST_VALIDATED = 20
"""Patients that validate at most: more only take longer."""
_MOSTLY_EMPTY = 0.75
"""Share of an image that the box around what is not 0 takes, below which the rest is left out (Isensee 2021)."""
RARE = 1e-3
"""Share of all voxels below which a class is rare."""
_LONG = 5000
"""Steps from which on the learning rate is lower."""
_FEW_CLASSES = 20
"""With more classes, metrics beside the default ones take longer than the predictions."""
_NARROWEST_HU = 100.0
_CACHE = 4 * 2**30
"""Bytes of prepared cases that are kept in memory by default (`compute.cache_gb`)."""

# ---- what is segmented

_LESION_WORDS = (
    "lesion", "tumour", "tumor", "cancer", "metastas", "nodule", "stroke", "infarct", "plaque", "polyp", "cyst",
    "hemorrhage", "haemorrhage", "edema", "oedema", "necro", "wmh", "carcinoma", "glioma", "infection",
)  # fmt: skip
_VESSEL_WORDS = ("vessel", "artery", "arteries", "vein", "airway", "bronch", "coronary", "vascul")
_SEVERAL, _SMALL, _USUAL = 3, 0.02, 0.8
"""A lone class is taken for lesions if it has so many parts in a case and is below this share of all voxels, or if
no more than this share of the cases hold it."""


def guess_task(seen: Fingerprint) -> str:
    """Return the task of a data set: by the names of most classes, else by the number of parts they come in."""
    for task, words in (("lesions", _LESION_WORDS), ("vessels", _VESSEL_WORDS)):
        named = [name for name in seen.names if any(word in name.lower() for word in words)]
        if 2 * len(named) > len(seen.names):
            return task
    if len(seen.names) == 1:
        facts = seen.class_facts[0]
        scattered = (facts.components or 0) >= _SEVERAL and facts.share < _SMALL
        if scattered or facts.cases < _USUAL * seen.read:
            return "lesions"
    return "organs"


# ---- settings and reasons


@dataclass
class Draft:
    """Settings with their reasons; `experiment` decides all of them for a size and a length.

    Attributes
    ----------
    seen, machine, task
        What the settings follow from.
    asked
        Whether the user named the task.
    split
        Settings of the split.
    why_left_out
        Case -> sentence, for the cases that the split leaves out.
    timed
        Whether the sizes were fitted to a time.
    why_overlapping
        Why classes overlap, where that was found out.
    settings
        Nested plain data.
    reasons
        Dotted path -> sentences.
    """

    seen: Fingerprint
    machine: Hardware
    task: str
    asked: bool
    split: Mapping[str, Any]
    why_left_out: Mapping[str, str]
    timed: bool = True
    why_overlapping: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def experiment(self, sizing: Sizing, length: Length) -> Experiment:
        """Decide everything and return the experiment."""
        self.settings, self.reasons = {}, {}
        self._data()
        self._preprocessing(sizing)
        self._sampling(sizing, length)
        self._augmentation(sizing)
        self._network(sizing)
        self._loss()
        self._schedule(length)
        self._validation(length)
        self._compute(sizing)
        self._put("seed", 0)
        return Experiment.of(self.settings)

    def _put(self, path: str, value: Any, reason: str = "") -> None:
        *sections, name = path.split(".")
        place = self.settings
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
        if reason:
            self.reasons[path] = reason

    # -- data -------------------------------------------------------------------------------------------------

    def _data(self) -> None:
        seen = self.seen
        declared = type(seen.dataset).model_fields
        for name, value in seen.dataset.plain().items():
            default = declared[name].get_default(call_default_factory=True)
            default = list(default) if isinstance(default, tuple) else default
            if name == "kind" or (name not in ("classes", "incomplete") and value != default):
                self._put(f"data.{name}", value)
        count = len(seen.names)
        self._put(
            "data.classes",
            {
                name: list(values) if len(values) > 1 else values[0]
                for name, values in seen.dataset.as_setting(seen.classes).items()
            },
            f"{count} {'class' if count == 1 else 'classes'}. Take out what should not be learned, or merge "
            'values, as in {kidneys: [2, 3]}; values under the name "ignore" count nowhere.'
            if IGNORE not in seen.classes
            else f"{count} {'class' if count == 1 else 'classes'}, and values that count nowhere (ignore).",
        )
        if self.why_overlapping:
            reason = (
                f"{self.why_overlapping} Each class has a sigmoid and is scored by itself; false: classes exclude "
                "each other, and later ones win."
            )
            self._put("data.overlapping", True, reason)
        if seen.incomplete:
            reason = f"Cases that lack a file are left out: {_some(seen.incomplete)}."
            self._put("data.incomplete", "leave out", reason)
        for name, value in self.split.items():
            self._put(f"split.{name}", value, self._why_split(name, value))

    def _why_split(self, name: str, value: Any) -> str:
        patients = len(self.seen.patients)
        if name == "self_validation":
            return "One patient alone, who trains and validates: every figure says that nothing was held out."
        if name == "validation_count":
            verb = "validates" if value == 1 else "validate"
            return f"Of {patients} patients {value} {verb}: about a fifth, at most {MOST_VALIDATED}."
        if name == "excluded":
            named = "; ".join(f"{case}: {self.why_left_out.get(case, '')}" for case in value[:3])
            more = f"; and {len(value) - 3} more" if len(value) > 3 else ""
            return f"Cases that cannot be used. {named}{more}"
        return "The data set lets all its cases train, so those that validate were drawn and are named here."

    # -- preparation ------------------------------------------------------------------------------------------

    def _preprocessing(self, sizing: Sizing) -> None:
        self._put("preprocessing.spacing", list(sizing.spacing), self._why_spacing(sizing))
        modalities = {channel.modality for channel in self.seen.channels}
        if modalities == {"CT"}:
            self._ct()
        else:
            self._own_scale(modalities)

    def _why_spacing(self, sizing: Sizing) -> str:
        seen, own = self.seen, self.seen.median_spacing
        if seen.one_spacing:
            reason = f"Voxel size of training, mm: all cases have {_mm(own)}."
        else:
            low, high = seen.spacings.min(axis=0), seen.spacings.max(axis=0)
            reason = (
                f"Voxel size of training, mm: the median of the cases, which have {_mm(low)} to {_mm(high)}."
            )
        coarse = max(range(3), key=lambda axis: own[axis])
        if sizing.coarsened:
            return (
                f"{reason} Coarser here than the {_mm(own)} of the cases: a patch would see too little of "
                f"{shape_text(seen.median_shape)} voxels, or the largest case would not fit into memory as a whole."
            )
        if not math.isclose(sizing.spacing[coarse], own[coarse], rel_tol=0.02):
            reason += (
                f" Along {'xyz'[coarse]}, where the median is {own[coarse]:.3g} mm, the finest tenth of the cases "
                "decides, so that they lose little."
            )
        if anisotropic(own):
            reason += " Slices are thick, and voxels between them are not invented."
        return reason

    def _ct(self) -> None:
        low = min(channel.foreground[0] for channel in self.seen.channels)
        high = max(channel.foreground[2] for channel in self.seen.channels)
        first, last = 10.0 * math.floor(low / 10), 10.0 * math.ceil(high / 10)
        if last - first < _NARROWEST_HU:
            middle = (first + last) / 2
            first, last = middle - _NARROWEST_HU / 2, middle + _NARROWEST_HU / 2
        self._put(
            "preprocessing.intensity",
            {"kind": "ct_window", "window": "custom", "low": first, "high": last, "scale": "symmetric"},
            f"CT: 99 % of the labelled voxels have {low:.0f} to {high:.0f} HU. Values beyond are clipped, the rest "
            "is scaled to -1 .. 1.",
        )

    def _own_scale(self, modalities: set[Modality]) -> None:
        seen = self.seen
        empty = seen.nonzero < _MOSTLY_EMPTY
        named = " and ".join(sorted(modalities - {"unknown"})) or "Images"
        first = seen.channels[0]
        self._put(
            "preprocessing.intensity",
            {"kind": "z_score", "robust": "percentiles", **({"nonzero": True} if empty else {})},
            f"{named} without a common scale (from {first.lowest:.4g} to {first.highest:.4g} here): each image is "
            "clipped at its percentiles 0.5 and 99.5, then brought to mean 0 and deviation 1"
            + (", counted where it is not 0." if empty else "."),
        )
        if empty and min(seen.median_shape) > 1:
            share = f"{100 * seen.nonzero:.0f} %"
            self._put(
                "preprocessing.crop",
                "nonzero",
                f"The box around what is not 0 is {share} of the median image.",
            )

    # -- patches ----------------------------------------------------------------------------------------------

    def _sampling(self, sizing: Sizing, length: Length) -> None:
        self._put("sampling.patch_size", list(sizing.patch), self._why_patch(sizing))
        if sizing.batch == 2:
            reason = "Two: memory and time go into larger patches and more steps first."
        else:
            reason = f"Such patches leave memory for {sizing.batch}, below a twentieth of all voxels."
        self._put("sampling.batch_size", sizing.batch, reason)
        if not sizing.covered:
            rare = self._rarest()
            ratio = 0.8 if rare.share < RARE or self.task == "lesions" else 0.67
            self._put(
                "sampling.foreground_ratio",
                ratio,
                f"Share of the patches that are placed on a labelled voxel, each class alike: {rare.name}, the "
                f"rarest, is {100 * rare.share:.2g} % of all voxels.",
            )
        self._put("sampling.steps_per_epoch", length.steps)

    def _why_patch(self, sizing: Sizing) -> str:
        reason = f"The median case has {shape_text(sizing.shape)} voxels"
        if sizing.limit == "image":
            reason += " and fits in whole."
        elif sizing.limit == "memory":
            reason += f"; a step on such patches takes about {gib(sizing.memory)} of memory."
        elif self.timed:
            reason += f"; a larger patch would leave fewer than {STEPS_WANTED} steps in the time."
        else:
            reason += "; this patch is small enough for a CPU, but nothing was timed."
        if sizing.thin is not None:
            axis, count = "xyz"[sizing.thin], sizing.shape[sizing.thin]
            many = (
                "there is one alone"
                if count == 1
                else f"there are {count} of {sizing.spacing[sizing.thin]:.3g} mm"
            )
            return f"{reason} Slices across {axis}, by a network of two dimensions: {many}."
        if sizing.limit != "image":
            reason += " The patch is as near to a cube in mm as the volume allows."
        return reason

    def _augmentation(self, sizing: Sizing) -> None:
        axes = ("left_right", "front_back", "head_foot")
        exchanged = [pair for pair in self.seen.turned if pair]
        if self.task == "organs":
            if exchanged:
                one, other = exchanged[0]
                reason = f"Off: {one} and {other} are classes of their own, which mirroring would exchange."
            else:
                reason = "Off: organs have their side, and the network may learn it."
            self._put("augmentation.flips", dict.fromkeys(axes, 0.0), reason)
        else:
            reason = f"{self.task.capitalize()} may be on either side, so that mirrored patches are new ones"
            if exchanged:
                one, other = exchanged[0]
                reason += f"; but mirroring would exchange {one} and {other}, which are classes of their own"
            chances = [0.0 if pair else 0.5 for pair in self.seen.turned]
            self._put("augmentation.flips", dict(zip(axes, chances, strict=True)), f"{reason}.")
        if sizing.thin is None and anisotropic(sizing.spacing):
            self._put(
                "augmentation.placement",
                {"rotation": 5.0},
                f"Small angles: slices of {max(sizing.spacing):.3g} mm would be blended with their neighbours.",
            )

    # -- network, loss, time ----------------------------------------------------------------------------------

    def _network(self, sizing: Sizing) -> None:
        self._put("network.kind", "unet")
        reason = "Channels of the first level, doubled at each further one."
        if sizing.features < 32:
            reason += " Fewer than 32, so that there are enough steps in the time."
        self._put("network.base_features", sizing.features, reason)
        coarsest = shape_text([n // 2 ** (sizing.levels - 1) for n in sizing.flat])
        self._put(
            "network.levels",
            sizing.levels,
            f"The patch is halved until {coarsest} voxels are left on the last.",
        )

    def _rarest(self) -> ClassFacts:
        return min((facts for facts in self.seen.class_facts if facts.cases), key=lambda facts: facts.share)

    def _loss(self) -> None:
        rare = self._rarest()
        if self.task == "vessels":
            reason = "Overlap, and that of the centreline: whether vessels are connected (Shit et al. 2021)."
            self._put("loss", {"kind": "dice_cl_dice"}, reason)
        elif rare.share < RARE:
            reason = (
                f"Unified focal loss (Yeung 2022): {rare.name} is {100 * rare.share:.2g} % of all voxels. Classes "
                f"below {100 * RARE:g} % are learned late by Dice and cross entropy; here what is missed counts "
                "more than what is spurious, and easy background less."
            )
            self._put("loss", {"kind": "unified_focal"}, reason)
        elif self.task == "lesions":
            reason = (
                "Overlap and cross entropy (Isensee 2021); the overlap is that of the batch, since many a "
                "patch has no lesion."
            )
            self._put("loss", {"kind": "dice_cross_entropy", "batch": True}, reason)
        else:
            reason = (
                "Overlap of each class, whatever its size, and cross entropy, which is smooth (Isensee 2021)."
            )
            self._put("loss", {"kind": "dice_cross_entropy"}, reason)

    def _schedule(self, length: Length) -> None:
        few = length.total < _LONG
        rate = 2e-3 if few else 1e-3
        self._put(
            "optimiser",
            {"kind": "adamw", "learning_rate": rate},
            f"AdamW needs fewer steps than SGD; {rate:g} for {'fewer' if few else 'more'} than {_LONG} of them.",
        )
        self._put("schedule.kind", "polynomial")
        if length.minutes is None:
            reason = "Not fitted to a time. Watch the validation, and extend the run while it rises:"
        else:
            reason = (
                f"{length.total} steps take {length.minutes:.3g} min here. While the validation rises, go on:"
            )
        self._put(
            "schedule.epochs", length.epochs, f"{reason} segexplorer train --resume RUN --extend EPOCHS."
        )
        self._put("schedule.warmup_steps", max(1, min(100, length.total // 20)))

    def _validation(self, length: Length) -> None:
        between = length.every * length.steps
        reason = f"Whole volumes are predicted and scored every {between} steps"
        reason += f", for about {100 * VALIDATING:.0f} % of the time at most." if length.minutes else "."
        self._put("validation.every_epochs", length.every, reason)
        if length.overlap != 0.5:
            reason = "A quarter in place of a half: there are many windows, and each costs time."
            self._put("validation.overlap", length.overlap, reason)
        memory = averaging(length.total)
        self._put(
            "validation.average_weights",
            memory,
            f"Predictions take the mean of the weights over about {round(1 / (1 - memory))} steps: it is steadier.",
        )
        if len(self.seen.names) <= _FEW_CLASSES:
            how = "was asked for" if self.asked else "by the classes' names and parts; --task says otherwise"
            title = TASKS[self.task].title
            self._put("validation.metrics", [self.task], f"{title} ({how}).")

    def _compute(self, sizing: Sizing) -> None:
        shapes = prepared_shapes(self.seen, sizing.spacing)
        needed = int(shapes.prod(axis=1).sum()) * (4 * len(self.seen.channels) + 2)
        budget = min(1.2 * needed, self.machine.room / 3)
        if needed > _CACHE and budget > _CACHE:
            reason = f"Prepared cases take {gib(needed)}; those that do not fit are kept on the disk."
            self._put("compute.cache_gb", round(budget / 2**30, 1), reason)


def averaging(steps: int) -> float:
    """Return the memory of averaged weights: about a fiftieth of all steps, at least 10 and at most 1000."""
    return round(1 - 1 / min(1000.0, max(10.0, steps / 50)), 4)


def gib(size: float) -> str:
    """Return bytes as "1.5 GiB" or "300 MiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{max(1, round(size / 2**20))} MiB"


def _mm(sizes: Sequence[float]) -> str:
    return " x ".join(f"{float(s):.3g}" for s in sizes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
