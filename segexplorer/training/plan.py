"""The plan of a run: an experiment resolved against its data and this machine before anything is trained.

`resolve` opens the headers of all cases, assigns roles, fits the preprocessing and chooses the device. On the
way it collects what a user should know first: errors that keep the run from starting, and warnings about
settings, patches and memory.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from segexplorer.core.errors import DataError, SegExplorerError, SpecError, shorten
from segexplorer.core.events import Progress, Role
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.core.regions import BoxRegions, Partition
from segexplorer.core.registry import plugin_kinds
from segexplorer.data import geometry
from segexplorer.data.cache_folder import base_folder
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.checks import Problem, check_dataset
from segexplorer.data.class_voxels import class_problems
from segexplorer.data.geometry import shape_text
from segexplorer.data.remembered import Looked, nobody_looks
from segexplorer.data.sampler import Sampling
from segexplorer.data.splits import assign_roles
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import FittedPreprocessing, fit
from segexplorer.data.transforms.distance_maps import MAPS
from segexplorer.losses.base import LossSpec, losses_in, partitions_in
from segexplorer.networks.base import NetworkSpec, padded
from segexplorer.networks.cost import memory_estimate, parameter_count
from segexplorer.training.compute import (
    Runtime,
    memory_limit,
    require_devices,
    require_divisible,
    resolve_compute,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.sinks.record import COMPUTING, package_versions
from segexplorer.training.slices import Layout
from segexplorer.training.weights import check_weights

# ---- the plan

NOT_HELD_OUT = "training case, not held out"
_TOLD_SECONDS = 0.2
"""How often `planning` says how far reading has come."""


@dataclass(frozen=True)
class Plan:
    """A frozen answer to "what will this run do here".

    Attributes
    ----------
    refs, roles
        The cases by id, and what each is for.
    classes, class_names
        Mapping of label values, and the foreground names for indices 1, 2, ...
    fitted
        Preprocessing with the statistics of the training cases.
    sampling, patch
        As in the experiment, with the patch made a multiple of the network's divisor; None: whole volumes.
    steps_per_epoch, steps
        Optimiser steps, over the schedule's planned epochs.
    channels
        Images per case.
    runtime
        Device, precision, threads.
    network_parameters, memory_bytes
        Trainable numbers, and the estimate of a training step's memory.
    problems, badges, watched
        What the user should know, what every figure carries, and role -> watched case id.
    hashed
        Case -> hash of its files, where they were read for it; None: see `fingerprints`.
    """

    experiment: Experiment
    refs: Mapping[str, CaseRef]
    roles: Mapping[str, Role]
    classes: ClassMap
    fitted: FittedPreprocessing
    sampling: Sampling
    patch: tuple[int, ...] | None
    divisor: tuple[int, ...]
    steps_per_epoch: int
    channels: int
    runtime: Runtime
    network_parameters: int
    memory_bytes: int
    problems: tuple[Problem, ...]
    badges: tuple[str, ...]
    watched: Mapping[Role, str]
    hashed: Mapping[str, str] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        return tuple(self.classes.names)

    @property
    def steps(self) -> int:
        """Optimiser steps over the planned epochs."""
        return self.steps_per_epoch * self.experiment.schedule.epochs

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that do not keep the run from starting."""
        return tuple(p for p in self.problems if p.severity != "error")

    @property
    def device(self) -> str:
        """What people call the device, "2 × NVIDIA H200 (139 GiB)" where several share the steps."""
        runtime = self.runtime
        return runtime.device_name if runtime.devices == 1 else f"{runtime.devices} × {runtime.device_name}"

    @property
    def precision(self) -> str:
        """Precision of convolutions."""
        return self.runtime.precision

    @property
    def threads(self) -> int:
        """CPU threads."""
        return self.runtime.threads

    def ids(self, role: Role) -> tuple[str, ...]:
        """Return the cases of a role in order; validation may be the training case, where it was confirmed."""
        chosen = tuple(i for i, r in self.roles.items() if r == role)
        if role == "validation" and not chosen and self.experiment.split.self_validation:
            return self.ids("train")
        return chosen

    def badge_of(self, case: str, role: Role) -> str:
        """Return the badge of a figure about a case in a role, "" for a held-out one."""
        return NOT_HELD_OUT if role == "train" or self.roles.get(case) == "train" else ""

    def patch_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the sliding window for a prepared volume: the patch, or the whole volume padded."""
        return self.patch if self.patch is not None else padded(shape, self.divisor)

    @cached_property
    def _case_bytes(self) -> int:
        """Bytes of all prepared cases in memory, without distance maps."""
        voxel_bytes = 4 * self.channels + 2
        voxel_bytes += 4 * sum(partition.follows_truth for partition in partitions_in(self.experiment.loss))
        return self._voxels * voxel_bytes

    @cached_property
    def _voxels(self) -> int:
        return sum(math.prod(self.fitted.prepared_shape(ref)) for ref in self.refs.values())

    @cached_property
    def prepared_bytes(self) -> int:
        """Bytes of all prepared cases, with the maps that the loss needs."""
        maps = 2 * (len(self.class_names) + 1) * len(self.experiment.loss.needs())
        return self._case_bytes + self._voxels * maps

    def open_store(self, *, processes: int = 1) -> PreprocessedCache:
        """Return the store of prepared cases, which are kept in memory where they fit, and in the shared cache.

        `processes` of this machine share the memory.
        """
        budget = int(self.experiment.compute.cache_gb * 2**30) // processes
        return PreprocessedCache(
            self.refs,
            self.fitted,
            self.classes,
            memory_budget=budget,
            disk_folder=base_folder(self.experiment.compute.cache_folder),
            map_names=self.experiment.loss.needs(),
            resident=self._case_bytes < budget,
            resident_maps=self.prepared_bytes < budget,
        )

    def warning_sentences(self) -> tuple[str, ...]:
        """Return the warnings as sentences."""
        return tuple(f"{p.case}: {p.message} {p.remedy}".removeprefix(": ").strip() for p in self.warnings)

    def summary(self, epochs: int | None = None) -> dict[str, str]:
        """Return label -> text, as the window and the command line show the plan; `epochs` of an extended run."""
        epochs = self.experiment.schedule.epochs if epochs is None else epochs
        steps = epochs * self.steps_per_epoch
        counts = {role: len(self.ids(role)) for role in ("train", "validation", "test")}
        spacing = " × ".join(f"{s:.3g}" for s in self.fitted.spacing) if self.fitted.spacing else "as stored"
        size = " × ".join(map(str, self.patch)) + " voxels" if self.patch else "whole volumes"
        return {
            "Cases": f"{counts['train']} train, {counts['validation']} validate, {counts['test']} test",
            "Classes": ", ".join(self.class_names)
            + (", each by itself (they overlap)" if self.classes.overlapping else ""),
            "Spacing": f"{spacing} mm" if self.fitted.spacing else spacing,
            "Patch": f"{size}, {self.sampling.batch_size} per batch",
            "Steps": f"{steps} ({counted(epochs, 'epoch')} of {self.steps_per_epoch})",
            "Network": _parameters(self.network_parameters),
            "Memory": _memory(self.memory_bytes),
            "Device": f"{self.device}, {self.precision}, {counted(self.threads, 'thread')}",
        }

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Case -> hash of its files, read once; of files that did not change, as it is remembered."""
        if self.hashed is not None:
            return self.hashed
        return _fingerprints(self.refs, nobody_looks, again=False)

    @property
    def plugins(self) -> dict[str, list[str]]:
        """Package -> kinds of the experiment that it registered."""
        return plugin_kinds(self.experiment)

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version, of those whose version may change a number."""
        return package_versions((*COMPUTING, *self.plugins))

    def provenance(self) -> dict[str, Any]:
        """Return what an attempt runs on, for `provenance.json`."""
        return {
            "device": self.runtime.device_name,
            "devices": self.runtime.devices,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "seed": self.experiment.seed,
            "plugins": self.plugins,
            "roles": dict(self.roles),
            "data": self.fingerprints,
        }

    def for_prediction(self) -> dict[str, Any]:
        """Return what a checkpoint must hold beside the weights to predict new cases."""
        return {
            "classes": self.classes.plain(),
            "preprocessing": self.fitted.plain(),
            "patch": list(self.patch) if self.patch is not None else None,
            "channels": self.channels,
            "badges": list(self.badges),
        }


def resolve(
    experiment: Experiment,
    *,
    window: bool = False,
    all_cases: bool = False,
    devices: int | None = None,
    hash_again: bool = False,
    looked: Looked = nobody_looks,
) -> Plan:
    """Resolve an experiment.

    Parameters
    ----------
    window
        Whether a viewer is open in this process.
    all_cases
        Whether the classes of every case are counted, not only of some dozens of a large data set.
    devices
        How many share each step; memory is that of one of them. None: as `compute.devices` says.
    hash_again
        Whether all files are read and hashed now, whatever is remembered of them.
    looked
        Called as cases are read, every few megabytes while hashing; what it raises ends the reading.

    Raises
    ------
    DataError
        When the data cannot be used: nothing to train on, an image and label that do not fit ...
    SpecError
        When settings do not go together.
    """
    if devices is None:
        devices = experiment.compute.devices
        require_devices(experiment.compute.device, devices)
    require_divisible(experiment.sampling.batch_size, devices)
    refs = {ref.id: ref for ref in experiment.data.cases()}
    if not refs:
        raise DataError("The data set has no case.", "Check its folder.")
    classes = experiment.data.class_map()
    roles = assign_roles(list(refs.values()), experiment.split, experiment.seed)
    refs = {i: ref for i, ref in refs.items() if i not in experiment.split.excluded}
    training = [refs[i] for i, role in roles.items() if role == "train"]
    if not training:
        raise DataError("No case is left for training.", "Lower split.validation_fraction.")
    problems = [
        *check_dataset(list(refs.values()), roles, classes, looked),
        *setting_problems(experiment, roles),
    ]
    _refuse_errors(problems)
    fitted = fit(experiment.preprocessing, training, looked)
    asked = experiment.sampling.patch_size
    layout = Layout.of(asked)
    divisor = layout.divisor(experiment.network)
    patch = None if asked is None else padded(asked, divisor)
    outputs = classes.scheme.outputs(len(classes.names))
    require_memory(experiment, list(refs.values()), fitted, patch)
    problems += loss_problems(experiment.loss, len(classes.names) + 1, layout.dimensions, classes.scheme)
    problems += class_problems(refs, roles, fitted, classes, all_cases=all_cases, looked=looked)
    _refuse_errors(problems)
    largest = _largest(training, fitted)
    problems += patch_problems(experiment, patch, divisor, largest)
    problems += region_problems(experiment.loss, patch, layout, [fitted.prepared_shape(r) for r in training])
    sampling = experiment.sampling.model_copy(update={"patch_size": patch, "divisor": divisor})
    runtime = replace(resolve_compute(experiment.compute, window=window), devices=devices)
    memory = step_memory(
        experiment.network,
        layout,
        patch if patch is not None else padded(largest, divisor),
        -(-sampling.batch_size // devices),
        in_channels=fitted.channels,
        out_channels=outputs,
        activation_bytes=4 if runtime.precision == "float32" else 2,
    )
    _refuse_beyond(
        memory,
        memory_limit(runtime.device),
        "A training step",
        "sampling.patch_size or sampling.batch_size, or choose a smaller network",
    )
    fingerprints = _fingerprints(refs, looked, again=True) if hash_again else None
    return Plan(
        experiment=experiment,
        refs=refs,
        roles=roles,
        classes=classes,
        fitted=fitted,
        sampling=sampling,
        patch=patch,
        divisor=divisor,
        steps_per_epoch=sampling.steps_for(len(training)),
        channels=fitted.channels,
        runtime=runtime,
        network_parameters=parameter_count(
            experiment.network,
            dimensions=layout.dimensions,
            in_channels=fitted.channels,
            out_channels=outputs,
        ),
        memory_bytes=memory,
        problems=tuple(problems),
        badges=_badges(experiment, roles),
        watched=_watched(experiment, roles),
        hashed=fingerprints,
    )


def planning(
    experiment: Experiment,
    *,
    window: bool = False,
    devices: int | None = None,
    hash_again: bool = False,
) -> Generator[Progress, None, Plan]:
    """Resolve an experiment and yield how far reading has come; closing the generator stops it.

    The cases are read by a thread, for a point where reading can be stopped is no point where a generator can
    yield: it is within a file.

    Raises
    ------
    DataError, SpecError
        As `resolve`.
    """
    at: list[tuple[str, int, int]] = []
    stopped = threading.Event()

    def looked(what: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise _ReadingStopped
        at[:] = [(what, done, total)]

    with ThreadPoolExecutor(1, thread_name_prefix="segexplorer-plan") as pool:
        future = pool.submit(
            resolve, experiment, window=window, devices=devices, hash_again=hash_again, looked=looked
        )
        try:
            while not wait([future], timeout=_TOLD_SECONDS).done:
                for what, done, total in tuple(at):
                    yield Progress(activity=what, done=done, total=total, unit="case")
        finally:
            stopped.set()
        return future.result()


class _ReadingStopped(BaseException):
    """Raised in the thread that reads, where nobody waits for it any more."""


def _fingerprints(refs: Mapping[str, CaseRef], looked: Looked, *, again: bool) -> dict[str, str]:
    found = {}
    for done, (name, ref) in enumerate(refs.items()):

        def look(done: int = done) -> None:
            looked("checking that the data are the same", done, len(refs))

        look()
        found[name] = ref.fingerprint(again=again, looked=look)
    return found


def _refuse_errors(problems: Sequence[Problem]) -> None:
    errors = [p for p in problems if p.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more problems: segexplorer check)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0].case}: {errors[0].message}{more}".removeprefix(": "), errors[0].remedy)


def _badges(experiment: Experiment, roles: Mapping[str, Role]) -> tuple[str, ...]:
    held_out = "validation" in roles.values()
    return (NOT_HELD_OUT,) if experiment.split.self_validation and not held_out else ()


def _watched(experiment: Experiment, roles: Mapping[str, Role]) -> dict[Role, str]:
    """Return role -> the case watched in it: the one asked for, or the first; a lone case is watched once."""
    asked: dict[Role, str | None] = {
        "train": experiment.validation.watch_train,
        "validation": experiment.validation.watch_validation,
    }
    chosen: dict[Role, str] = {}
    for role, name in asked.items():
        own = [i for i, r in roles.items() if r == role]
        if name is not None and name not in own:
            raise SpecError(
                f"There is no {role} case {name!r} to watch.", f"Choose one of: {', '.join(own[:8])}."
            )
        if name is not None or own:
            chosen[role] = name or own[0]
    return chosen


def _largest(refs: Sequence[CaseRef], fitted: FittedPreprocessing) -> tuple[int, ...]:
    shapes = [fitted.prepared_shape(ref) for ref in refs]
    return tuple(max(s[axis] for s in shapes) for axis in range(3))


def _parameters(count: int) -> str:
    return f"{count / 1e6:.2f} million parameters" if count >= 100_000 else f"{count:,} parameters"


def counted(number: int, noun: str) -> str:
    """Return "1 case" or "3 cases"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _memory(count: int) -> str:
    return f"about {count / 2**30:.1f} GiB" if count >= 2**29 else f"about {max(1, round(count / 2**20))} MiB"


# ---- problems of settings, patches and memory


def setting_problems(experiment: Experiment, roles: Mapping[str, Role]) -> list[Problem]:
    """Return what the settings themselves, and the roles of the cases, give reason to say.

    Raises
    ------
    SpecError
        When the loss requires maps that training cannot make.
    """
    problems: list[Problem] = []
    for name in experiment.loss.needs():
        if name not in MAPS:
            raise SpecError(
                f"The loss requires {name!r}, which training does not provide.",
                f"It provides {', '.join(MAPS)}. Choose another loss, or use this one in a loop of your own.",
            )
    validates = any(r == "validation" for r in roles.values())
    # no error, for a resumed run needs the file no more
    problems += [replace(p, severity="warning") for p in check_weights(experiment.network_weights)]
    problems += _loss_warnings(experiment.loss, validates or experiment.split.self_validation)
    if len(roles) == 1 and not experiment.split.self_validation:
        text = "There is only one case, so nothing is held out to validate on."
        remedy = (
            "To train and validate on that case, with every figure badged, set split.self_validation: true."
        )
        problems.append(Problem("error", "one_case", text, remedy, next(iter(roles))))
    elif not validates and not experiment.split.self_validation:
        text = "No case validates, so no Dice is measured and there is no best checkpoint."
        problems.append(Problem("warning", "split", text, "Add cases, or set split.self_validation."))
    changes = any(s.state_buffers() or s.learned() for s in losses_in(experiment.loss))
    if experiment.validation.select_best == "loss" and changes:
        text = (
            "The best checkpoint is that of the lowest validation loss, but this loss changes during training, so "
            "that its values of different epochs cannot be compared."
        )
        problems.append(Problem("warning", "loss", text, "Set validation.select_best: dice."))
    if experiment.schedule.reads_validation:
        text = "The schedule reads the validation Dice, so figures on these cases are slightly flattered."
        problems.append(Problem("note", "schedule", text, "Score test cases once at the end."))
    return problems


def _loss_warnings(loss: LossSpec, validates: bool) -> list[Problem]:
    """Return what the losses' parameters may do that nobody wants."""
    problems = [
        Problem("warning", "loss", s.warning_message(), "") for s in losses_in(loss) if s.warning_message()
    ]
    for spec in losses_in(loss):
        if spec.follows_validation and not validates:
            text = (
                f"{spec.display_name} follows the validation, and no case validates: it stays as it starts."
            )
            problems.append(Problem("warning", "loss", text, "Add cases, or choose another loss."))
    return problems


_TRIED = 4
"""Voxels along each axis of the made-up patch on which a loss is tried."""


def loss_problems(
    loss: LossSpec, channels: int, dimensions: int, scheme: LabelScheme = EXCLUSIVE
) -> list[Problem]:
    """Try the loss on a patch of made-up voxels, so that what does not fit the classes is said before training.

    Parameters
    ----------
    channels
        Of the logits, background included.
    scheme
        Where classes overlap, the loss is tried in its sigmoid form.
    """
    import torch

    from segexplorer.functional.inputs import LossContext
    from segexplorer.losses.multilabel import build_loss

    # every label in turn, and logits that prefer none; no more voxels than a hundred classes need
    indices = scheme.indices(channels - 1)
    edge = math.ceil(indices ** (1 / dimensions))
    space = (max(_TRIED, edge),) * dimensions
    labels = (torch.arange(math.prod(space)) % indices).reshape(1, 1, *space)
    logits = torch.zeros(1, channels, *space)
    maps = {name: torch.zeros(1, channels, *space) for name in loss.needs()}
    context = LossContext(distance_maps=maps or None, spacing=[[1.0] * dimensions], epoch=0)
    try:
        build_loss(loss, scheme).evaluate(logits, labels, context)
    except SegExplorerError as error:
        return [Problem("error", "loss", f"The loss does not fit the data: {error.message}", error.remedy)]
    return []


def patch_problems(
    experiment: Experiment, patch: tuple[int, ...] | None, divisor: Sequence[int], largest: Sequence[int]
) -> list[Problem]:
    """Return what a user should know of the patches.

    Parameters
    ----------
    patch
        Voxels that the network will see, multiples of `divisor`; None for whole volumes.
    largest
        Voxels of the largest training image along each axis.
    """
    problems = []
    warning_message = experiment.network.warning_message(
        Layout.of(experiment.sampling.patch_size).flat(patch or largest)
    )
    if warning_message:
        problems.append(Problem("warning", "network", warning_message, ""))
    asked = experiment.sampling.patch_size
    if patch is not None and asked is not None and patch != tuple(asked):
        text = f"The patch {shape_text(asked)} was enlarged to {shape_text(patch)}."
        problems.append(
            Problem("note", "patch", text, f"The network needs multiples of {shape_text(divisor)}.")
        )
    if 1 in largest and Layout.of(asked).thin is None:
        of_slices = [1 if n == 1 else p for n, p in zip(largest, patch or largest, strict=True)]
        text = (
            "The images are single slices, and a network of three dimensions would see padding around them."
        )
        problems.append(Problem("warning", "slices", text, f"Set sampling.patch_size: {of_slices}."))
    elif patch is not None and _voxel_count(patch) > 2 * _voxel_count(
        tuple(max(n, d) for n, d in zip(largest, divisor, strict=True))
    ):
        most = shape_text(largest)
        text = f"The patch {shape_text(patch)} is mostly padding: no training image exceeds {most} voxels."
        problems.append(Problem("warning", "patch", text, "Set a smaller sampling.patch_size."))
    return problems


SMALL_SHARE = 0.25
"""Mean share of a region that a patch must see, or the plan warns of it."""
FEW_VOXELS = 27
"""Fewer voxels of a region than a cube of three: each one moves the overlap of its region by several per cent."""


def region_problems(
    loss: LossSpec, patch: Sequence[int] | None, layout: Layout, shapes: Sequence[Sequence[int]]
) -> list[Problem]:
    """Return where patches see too little of the boxes that a regional loss divides the volume into.

    A patch of P voxels that meets a box of L, anywhere, sees P L / (P + L - 1) voxels of it on average.

    Parameters
    ----------
    patch
        Voxels that the network will see; None for whole volumes.
    layout
        Whether patches are slices, which see one layer of their boxes by intention.
    shapes
        Of the prepared training volumes.

    Raises
    ------
    SpecError
        When a partition does not fit such volumes.
    """
    problems = []
    for spec in losses_in(loss):
        for partition in spec.partitions():
            if not partition.follows_truth:
                problems += _box_problems(spec.display_name, partition, patch, layout, shapes)
    return problems


def _box_problems(
    name: str,
    partition: Partition,
    patch: Sequence[int] | None,
    layout: Layout,
    shapes: Sequence[Sequence[int]],
) -> list[Problem]:
    middle = tuple(int(np.median([shape[axis] for shape in shapes])) for axis in range(3))
    regions = partition.divide(middle)
    if not isinstance(regions, BoxRegions):
        return []
    axes = [axis for axis in range(3) if axis != layout.thin]
    boxes = [np.diff(edges).max() if len(edges) > 1 else middle[a] for a, edges in enumerate(regions.edges)]
    boxes = [int(n) for n in boxes]
    window = [middle[a] if patch is None else min(patch[a], middle[a]) for a in range(3)]
    seen = [
        window[a] * boxes[a] / (window[a] + boxes[a] - 1) if window[a] < middle[a] else boxes[a] for a in axes
    ]
    share = math.prod(seen) / math.prod(boxes[a] for a in axes)
    text, remedy = "", "Choose smaller boxes, or a larger sampling.patch_size."
    if any(boxes[a] > window[a] for a in axes):
        text = (
            f"{name} divides the volumes into boxes of up to {shape_text(boxes)} voxels, and a patch of "
            f"{shape_text(window)} never sees a whole one: each step trains on the part that it sees."
        )
    elif share < SMALL_SHARE:
        text = (
            f"A patch of {shape_text(window)} voxels sees {100 * share:.0f} % of a box of {name} "
            f"({shape_text(boxes)}) on average: each step trains on the part that it sees."
        )
    elif math.prod(seen) < FEW_VOXELS:
        text = (
            f"A step sees about {math.prod(seen):.0f} voxels of a box of {name} ({shape_text(boxes)}), "
            "so that single voxels decide its overlap."
        )
        remedy = "Choose larger boxes."
    return [Problem("warning", "regions", text, remedy)] if text else []


def require_memory(
    experiment: Experiment,
    refs: Sequence[CaseRef],
    fitted: FittedPreprocessing,
    patch: tuple[int, ...] | None,
) -> None:
    """Refuse settings that ask for more memory than the machine has, before anything of it is taken.

    Parameters
    ----------
    patch
        Voxels; None for whole volumes.

    Raises
    ------
    SpecError
        Naming the setting, and both sizes.
    """
    limit = memory_limit()
    for ref in refs:
        image = ref.open().images[0]
        shape = fitted.prepared_shape(ref)
        voxels = math.prod(shape)
        what = f"The case {shorten(ref.id, 60)} of {shape_text(shape)} voxels"
        setting = "a larger preprocessing.spacing, or preprocessing.resize"
        # the image in float32, its label and a prediction; logits are never all in memory
        _refuse_beyond(voxels * (4 * fitted.channels + 2), limit, what, setting, verb="Set")
        size = patch if patch is not None else shape
        many = experiment.sampling.batch_size * math.prod(size) * (4 * fitted.channels + 8)
        _refuse_beyond(many, limit, "A batch", "sampling.batch_size or sampling.patch_size")
        spacing = fitted.spacing or geometry.spacing(
            geometry.canonical_grid(image.shape, image.affine).affine
        )
        if experiment.augmentation.enabled:
            elastic = experiment.augmentation.elastic.memory(size, spacing)
            what = f"The elastic deformation of a patch of {shape_text(size)} voxels"
            _refuse_beyond(elastic, limit, what, "augmentation.elastic.distance", verb="Raise")


def _refuse_beyond(needed: int, limit: int | None, what: str, setting: str, verb: str = "Lower") -> None:
    if limit is not None and needed > limit:
        raise SpecError(
            f"{what} would take about {needed / 2**30:,.0f} GiB of memory; there are {limit / 2**30:.0f} GiB.",
            f"{verb} {setting}.",
        )


def step_memory(
    network: NetworkSpec,
    layout: Layout,
    shape: Sequence[int],
    batch_size: int,
    *,
    in_channels: int,
    out_channels: int,
    activation_bytes: int,
) -> int:
    """Return the estimated bytes of a training step on patches of a shape.

    Raises
    ------
    SpecError
        When the network cannot be trained on so few voxels.
    """
    flat = layout.flat(shape)
    try:
        return memory_estimate(
            network,
            flat,
            batch_size,
            in_channels=in_channels,
            out_channels=out_channels,
            activation_bytes=activation_bytes,
        )
    except (RuntimeError, ValueError) as error:  # the forward pass that counts is the first to find out
        enough = network.smallest_patch(layout.dimensions)
        if all(n >= least for n, least in zip(flat, enough, strict=True)):
            raise
        raise SpecError(
            f"{network.display_name} cannot be trained on patches of {shape_text(flat)} voxels.",
            f"Set sampling.patch_size to {shape_text(enough)} or more.",
        ) from error


def _voxel_count(shape: Sequence[int]) -> int:
    voxels = 1
    for n in shape:
        voxels *= n
    return voxels
