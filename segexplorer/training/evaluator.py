"""Whole cases during a run: predicted, brought back to their own grid, scored, and shown where they are watched.

`Evaluator` predicts and scores one case. `Validator` scores all validation cases, and keeps frames of the two
watched cases in the history.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import (
    CaseScore,
    Event,
    Notice,
    Progress,
    RegionReport,
    Reliability,
    Role,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.data.geometry import spacing
from segexplorer.data.transforms.augmentation import Voxels
from segexplorer.data.transforms.distance_maps import as_numbers
from segexplorer.metrics import Confusion, score_case, summarise
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.training.compute import translate_memory_errors
from segexplorer.training.own_grid import OwnGrid
from segexplorer.training.progress import Position
from segexplorer.training.sliding_window import Tile, likeliest, stream_logits
from segexplorer.training.snapshots import LatestValues, WatchedSnapshot
from segexplorer.training.stored_frames import MAX_ARRAY

if TYPE_CHECKING:
    import torch

    from segexplorer.data.store import PreprocessedCache
    from segexplorer.data.transforms import Prepared
    from segexplorer.functional.inputs import LossContext
    from segexplorer.functional.regions import Boxes
    from segexplorer.losses.base import LossOutput
    from segexplorer.losses.module import Loss
    from segexplorer.training.compute import Runtime
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.learner import Learner
    from segexplorer.training.plan import Plan


WHOLE_FACTOR = 10
"""Memory of a loss over all voxels at once, as a multiple of the logits: what is sorted, skeletonised or pooled."""
MOST_BOXES = 2**23
"""Numbers of a map of errors (classes times boxes), above which its boxes are made larger: 32 MB each."""
CHOSEN = 8
"""Classes whose probabilities a watched case keeps where those of all classes take too much."""


SURFACE_VOXELS = 64 * 2**20
"""Above this many voxels (512x512x256) distances between surfaces are left to `segexplorer evaluate`: an untrained
network's noise would take gigabytes and many seconds."""


WHOLE_CASE = "whole case, evaluation mode"
"""Scope of the region maps of a watched case: what the network predicts for it, without dropout or augmentation."""


@dataclass(frozen=True)
class CaseResult:
    """One whole case, predicted and (where it has a label) scored."""

    case: str
    loss: float
    scores: tuple[CaseScore, ...]
    snapshot: WatchedSnapshot | None
    calibration: tuple[Reliability, ...] = ()


class Evaluator:
    """Predicts whole cases with a learner's network.

    Parameters
    ----------
    plan
        Roles, classes, patch, badges.
    store
        Prepared cases by id.
    learner
        Whose network predicts and whose loss is evaluated.
    """

    def __init__(self, plan: Plan, store: PreprocessedCache, learner: Learner) -> None:
        self.plan, self.store, self.learner = plan, store, learner
        self._prepared_labels: dict[Role, NDArray[np.uint8]] = {}
        self._last: dict[Role, WatchedSnapshot] = {}
        self._said: set[tuple[str, str]] = set()

    def evaluate(
        self,
        case: str,
        role: Role,
        *,
        step: int,
        epoch: int,
        index: int | None,
        activity: str,
        confusion: Confusion | None = None,
    ) -> Generator[Event, None, CaseResult]:
        """Predict and score a case, yielding `Progress` per window.

        `index` numbers its snapshot (None: none is made); its voxels are added to `confusion`.
        """
        prepared, truth = self.store.get(case), self.store.truth(case)
        settings, runtime = self.learner.experiment.validation, self.learner.runtime
        classes = len(self.plan.class_names) + 1
        watched = index is not None
        counts = CalibrationCounts(self.plan.class_names, self.plan.classes.scheme)
        calibrate = watched and truth is not None and settings.calibration
        chosen = self._chosen(prepared) if watched and settings.keep_probabilities else ()
        scheme = self.plan.classes.scheme
        grid = OwnGrid(
            self.plan.fitted,
            prepared.grid,
            classes,
            scheme,
            keep=chosen,
            calibration=counts if calibrate else None,
            truth=truth,
        )
        receivers: list[_Receiver] = [grid]
        trained = _TrainedLabels(prepared, scheme) if watched and prepared.resampled else None
        halves = _Halves(prepared, classes, settings.logits_mb) if watched else None
        loss = CaseLoss(self.learner.loss, prepared, classes, self._context(prepared, epoch), runtime)
        receivers += [r for r in (trained, halves, loss) if r is not None and r.nbytes]
        yield from self._predict(prepared, activity, receivers, halo=grid.halo)
        if loss.notice is not None and (case, loss.notice.message) not in self._said:
            self._said.add((case, loss.notice.message))
            yield loss.notice
        value, regions = loss.result()
        if regions is not None:
            regions = dataclasses.replace(regions, scope=f"{WHOLE_CASE}, step {step}")
        own = grid.labels()
        scores: tuple[CaseScore, ...] = ()
        if truth is not None:
            scores = self._scores(own, truth, prepared, role)
            if confusion is not None:
                confusion.add(own, truth)
        snapshot = None
        if index is not None:
            labels = grid.training_labels if trained is None else trained.labels
            self._prepared_labels[role] = labels
            snapshot = WatchedSnapshot(
                case=case,
                role=role,
                step=step,
                index=index,
                class_names=self.plan.class_names,
                scheme=scheme,
                affine=prepared.grid.affine,
                prediction=own,
                truth=truth,
                probabilities=grid.kept(),
                probability_classes=None if len(chosen) == classes else chosen,
                logits=None if halves is None else halves.logits,
                logits_affine=prepared.affine,
                loss_state=self.learner.loss.numbers_by_name(),
                regions=regions,
                regions_affine=prepared.affine,
                loss=value,
                badge=self.plan.badge_of(case, role),
            )
            self._last[role] = snapshot
        calibration = counts.reliability() if calibrate else ()
        return CaseResult(case, value, scores, snapshot, calibration)

    def shown_as(self, snapshot: WatchedSnapshot, role: Role, index: int) -> WatchedSnapshot:
        """Return the snapshot of a case that is watched in another role too, which is not predicted again."""
        self._prepared_labels[role] = self._prepared_labels[snapshot.role]
        badge = self.plan.badge_of(snapshot.case, role)
        self._last[role] = dataclasses.replace(snapshot, role=role, index=index, badge=badge)
        return self._last[role]

    def _chosen(self, prepared: Prepared) -> tuple[int, ...]:
        """Return the classes whose probabilities a watched case keeps: all, or a few where those are too many."""
        names = self.plan.class_names
        classes, voxels = len(names) + 1, math.prod(prepared.grid.shape)
        most = min(MAX_ARRAY, self.learner.runtime.case_bytes // 4)
        if classes * voxels <= most:
            return tuple(range(classes))
        asked = [
            names.index(n) + 1 for n in self.plan.experiment.validation.probability_classes if n in names
        ]
        return tuple(sorted(asked or range(1, classes))[: min(CHOSEN, most // max(1, voxels))])

    def _predict(
        self,
        prepared: Prepared,
        activity: str,
        receivers: Sequence[_Receiver],
        *,
        only: tuple[slice, ...] | None = None,
        halo: int = 0,
    ) -> Generator[Event, None, None]:
        """Predict a prepared case and hand each finished tile to all receivers."""
        import torch

        validation, runtime = self.learner.experiment.validation, self.learner.runtime
        tiles = stream_logits(
            self.learner.predictor,
            torch.from_numpy(prepared.image[None]),
            classes=len(self.plan.class_names) + 1,
            patch=self.plan.patch_for(prepared.image.shape[1:]),
            overlap=validation.overlap,
            runtime=runtime,
            mirror=validation.mirror,
            only=only,
            memory=runtime.device_bytes(sum(r.nbytes for r in receivers)),
            halo=halo,
        )
        for item in tiles:
            if isinstance(item, Tile):
                for receiver in receivers:
                    receiver.add(item)
            else:
                yield Progress(activity=activity, done=item[0], total=item[1])

    def _context(self, prepared: Prepared, epoch: int) -> LossContext:
        """Return what the loss may know of a whole case."""
        from segexplorer.core.regions import PatchRegions
        from segexplorer.functional.inputs import LossContext
        from segexplorer.functional.regions import BatchRegions
        from segexplorer.losses.base import partitions_in

        shape = prepared.image.shape[1:]
        maps: dict[str, Any] = {
            name: _StoredMap(name, stored) for name, stored in self.store.maps(prepared.case).items()
        }
        # boxes follow from the shape; what follows the truth is the map that also goes with the patches
        regions = {}
        for partition in partitions_in(self.learner.loss.spec):
            if partition.follows_truth and prepared.label is not None:
                whole = self.store.regions(prepared.case, partition)
                regions[partition] = BatchRegions([PatchRegions(whole, whole)], self.learner.runtime.device)
        return LossContext(
            distance_maps=maps or None,
            regions=regions or None,
            spacing=np.asarray([prepared.spacing]),
            origin=np.zeros((1, 3), dtype=np.int64),
            volume_shape=np.asarray([shape]),
            epoch=epoch,
        )

    def _scores(
        self, own: NDArray[np.uint8], truth: NDArray[np.uint8], prepared: Prepared, role: Role
    ) -> tuple[CaseScore, ...]:
        return score_case(
            own,
            truth,
            self.plan.class_names,
            spacing(prepared.grid.affine),
            case=prepared.case,
            role=role,
            badge=self.plan.badge_of(prepared.case, role),
            surfaces=truth.size <= SURFACE_VOXELS,
            metrics=self.plan.experiment.validation.metrics,
            options=self.plan.experiment.validation.metric_options,
            scheme=self.plan.classes.scheme,
        )

    def predict_slab(
        self, role: Role, axis: int, world: float, *, step: int
    ) -> Generator[Event, None, WatchedSnapshot | None]:
        """Predict the slab of a watched case around a plane; None before its first whole prediction."""
        last = self._last.get(role)
        if last is None:
            return None
        prepared = self.store.get(last.case)
        shape = prepared.image.shape[1:]
        plane = round((world - prepared.affine[axis, 3]) / prepared.affine[axis, axis])
        plane = min(max(plane, 0), shape[axis] - 1)
        thickness = max(1, self.plan.patch_for(shape)[axis] // 8)
        part = list(map(slice, (0, 0, 0), shape))
        part[axis] = slice(max(0, plane - thickness), min(shape[axis], plane + thickness + 1))
        slab = tuple(part)
        made = _TrainedLabels(prepared, self.plan.classes.scheme, self._prepared_labels[role].copy())
        yield from self._predict(prepared, "predicting the visible slice", [made], only=slab)
        labels = made.labels
        self._prepared_labels[role] = labels
        own = self.plan.fitted.restore(labels, prepared.grid, order=0)
        snapshot = dataclasses.replace(
            last, prediction=own, probabilities=None, logits=None, step=step, partial=True
        )
        self._last[role] = snapshot
        return snapshot


# ---- what is made of the tiles of a case


class _Receiver(Protocol):
    """Takes the tiles of a case, in the order of `stream_logits`."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    def add(self, tile: Tile) -> None:
        """Take the next tile."""


class _TrainedLabels:
    """(x, y, z) labels on the training grid."""

    def __init__(
        self, prepared: Prepared, scheme: LabelScheme, labels: NDArray[np.uint8] | None = None
    ) -> None:
        self._scheme = scheme
        self.labels = np.zeros(prepared.image.shape[1:], np.uint8) if labels is None else labels

    @property
    def nbytes(self) -> int:
        return self.labels.nbytes

    def add(self, tile: Tile) -> None:
        self.labels[tile.place] = likeliest(tile.core_logits[0], self._scheme).cpu().numpy()


class _Halves:
    """(C, x, y, z) logits in 16 bits; None where they take more than is allowed."""

    def __init__(self, prepared: Prepared, classes: int, megabytes: int) -> None:
        shape = classes, *prepared.image.shape[1:]
        fits = 2 * math.prod(shape) <= min(megabytes * 10**6, MAX_ARRAY)
        self.logits = np.zeros(shape, np.float16) if fits else None

    @property
    def nbytes(self) -> int:
        return 0 if self.logits is None else self.logits.nbytes

    def add(self, tile: Tile) -> None:
        import torch

        if self.logits is not None:
            largest = torch.finfo(torch.float16).max
            halves = tile.core_logits[0].clamp(-largest, largest).half().cpu().numpy()
            self.logits[(slice(None), *tile.place)] = halves


@dataclass(frozen=True)
class _StoredMap:
    """A distance map as it is kept, which becomes (1, C, ...) numbers where a part of it is asked for."""

    name: str
    stored: Voxels

    def __getitem__(self, place: tuple[slice, ...]) -> torch.Tensor:
        import torch

        sample, *box = place
        return torch.from_numpy(as_numbers(self.name, self.stored[tuple(box)])[np.newaxis][sample])


class CaseLoss:
    """The loss over a whole case, and its region maps: part by part, or of all logits where it must and may be.

    Attributes
    ----------
    notice
        Why there is no loss, if so.
    """

    def __init__(
        self, loss: Loss, prepared: Prepared, classes: int, context: LossContext, runtime: Runtime
    ) -> None:
        import torch

        from segexplorer.losses.streamed import StreamedLoss, StreamedOverlappingLoss, stream_loss

        self.notice: Notice | None = None
        self._loss, self._prepared, self._context, self._runtime = loss, prepared, context, runtime
        self._streamed: StreamedLoss | StreamedOverlappingLoss | None = None
        self._logits: torch.Tensor | None = None
        if prepared.label is None:
            return
        labels = torch.from_numpy(prepared.label)
        boxes = error_partition(prepared.label.shape, classes)
        self._streamed = stream_loss(loss, labels, classes, context, boxes=boxes, device=runtime.device)
        culprit = self._streamed.whole_needed_by
        if culprit is None:
            return
        needed = 4 * classes * labels.numel() * WHOLE_FACTOR
        if needed <= runtime.device_bytes(0):
            self._logits = torch.empty((1, classes, *labels.shape))
            return
        self.notice = Notice(
            message=f"The loss of {prepared.case} was not computed: {culprit.display_name} needs the "
            f"logits of all voxels at once, which takes about {needed / 1e9:,.0f} GB, and a case may take "
            f"{runtime.device_bytes(0) / 1e9:,.1f} GB here.",
            remedy="Raise compute.case_gb where there is more memory, or choose a loss that is a sum over voxels.",
        )

    @property
    def nbytes(self) -> int:
        own = 0 if self._streamed is None else self._streamed.nbytes
        return own + (0 if self._logits is None else 4 * self._logits.numel())

    def add(self, tile: Tile) -> None:
        if self._streamed is not None:
            self._streamed.add([s.start for s in tile.place], tile.core_logits)
        if self._logits is not None:
            self._logits[(slice(None), slice(None), *tile.place)] = tile.core_logits.cpu()

    def result(self) -> tuple[float, RegionReport | None]:
        """Return the loss over the whole case; its region maps, or the plain FP/FN volumes per box."""

        from segexplorer.losses import region_reports

        if self._streamed is None:
            return math.nan, None
        if self._logits is not None:
            output = self._whole()
        elif self.notice is None:
            output = self._streamed.output()
        else:
            output = None
        reports = [] if output is None else region_reports(output)
        errors, boxes = self._streamed.errors(), self._streamed.boxes
        value = math.nan if output is None else float(output.value)
        if reports or errors is None or boxes is None:
            return value, reports[0] if reports else None
        fp, fn = (values[0].float().cpu().numpy() for values in errors)
        return value, RegionReport({"fp": fp, "fn": fn}, boxes.edges)

    def _whole(self) -> LossOutput:
        """Evaluate the loss over all voxels at once."""
        import torch

        assert self._logits is not None
        assert self._prepared.label is not None
        device, every = self._runtime.device, (slice(None), slice(None))
        maps = self._context.distance_maps
        context = dataclasses.replace(
            self._context,
            distance_maps=None if maps is None else {n: m[every].to(device) for n, m in maps.items()},
        )
        labels = torch.from_numpy(self._prepared.label[None, None].astype(np.int64))
        with torch.no_grad():
            output: LossOutput = self._loss.eval().evaluate(
                self._logits.to(device), labels.to(device), context
            )
        self._logits = None
        return output


def in_bytes(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities as the history keeps them, 255 for 1."""
    return np.round(probabilities * 255).astype(np.uint8)


def error_partition(shape: Sequence[int], classes: int) -> Boxes:
    """Return boxes of 8 voxels, for a loss that has no regions of its own; larger ones where they are too many."""
    from segexplorer.functional.regions import partition

    size = 8
    while classes * math.prod(-(-n // size) for n in shape) > MOST_BOXES:
        size *= 2
    return partition(tuple(shape), box_size=size)


def error_boxes(logits: torch.Tensor, labels: torch.Tensor, scheme: LabelScheme = EXCLUSIVE) -> RegionReport:
    """Return soft FP and FN volumes per box (`error_partition`) of (1, C, *spatial) logits.

    Of classes that overlap, each is compared with everything else; nothing is said of the background.
    """
    from segexplorer.functional.inputs import regional_errors

    boxes = error_partition(labels.shape[2:], logits.shape[1])

    def of(logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float32]:
        """Return (2, C, R) what is extra and what is missed."""
        found = regional_errors(logits, labels, boxes, ignore_index=IGNORED)
        return np.stack([each[0].float().cpu().numpy() for each in found])

    if scheme.overlapping:
        every = np.arange(256, dtype=np.uint8)
        alone = (
            (logits[:, [0, c]], labels.new_tensor(scheme.alone(every, c))[labels.long()])
            for c in range(1, logits.shape[1])
        )
        errors = np.stack([of(*pair)[:, 1] for pair in alone], axis=1)
        errors = np.pad(errors, ((0, 0), (1, 0), (0, 0)), constant_values=np.nan)
    else:
        errors = of(logits, labels)
    return RegionReport({"fp": errors[0], "fn": errors[1]}, boxes.edges)


# ---- all validation cases


def merit(criterion: Literal["dice", "loss"], mean_dice: float, loss: float) -> float:
    """Return the figure of a validation by which the best checkpoint is chosen: the higher, the better."""
    return mean_dice if criterion == "dice" else -loss


class Validator:
    """Scores the validation cases, and predicts the watched ones whenever somebody wants to see them.

    Parameters
    ----------
    evaluator
        Predicts one case.
    folder
        Whose history keeps the frames of the watched cases.
    slots
        Where the newest frame of each role is shown from.
    attempt
        Number of this attempt, for the history.
    """

    def __init__(
        self, evaluator: Evaluator, folder: RunFolder, slots: LatestValues[WatchedSnapshot], attempt: int
    ) -> None:
        self.evaluator, self.plan = evaluator, evaluator.plan
        self.folder, self.slots, self.attempt = folder, slots, attempt
        self.watched_at = time.monotonic()
        self._losses_missed = False

    def validate(
        self, at: Position, *, best: float, badges: tuple[str, ...]
    ) -> Generator[Event, None, tuple[ValidationDone, dict[int, float]]]:
        """Score every validation case; `best` is the highest `merit` so far.

        Returns the event, and class -> Dice over all voxels of all cases, which adaptive losses follow.
        """
        begun = time.perf_counter()
        cases = self.plan.ids("validation")
        results: list[CaseResult] = []
        confusion = Confusion(len(self.plan.class_names) + 1, self.plan.classes.scheme)
        shown = self._watching()
        for number, case in enumerate(cases, start=1):
            activity = f"validating case {number} of {len(cases)}"
            roles = shown.pop(case, ())
            result = yield from self._evaluate(
                case, "validation", at, watched=roles, activity=activity, confusion=confusion
            )
            results.append(result)
        for case, roles in shown.items():
            yield from self._evaluate(
                case, roles[0], at, watched=roles, activity="predicting the watched case"
            )
        self.watched_at = time.monotonic()
        scores = tuple(s for e in results for s in e.scores)
        summary = summarise(scores)
        finite = [e.loss for e in results if np.isfinite(e.loss)]
        mean_dice = summary.mean["dice"]
        loss = float(np.mean(finite)) if finite else float("nan")
        criterion = self.evaluator.learner.experiment.validation.select_best
        if criterion == "loss" and len(finite) < len(results):
            yield from self._notice_missing_losses([e.case for e in results if not np.isfinite(e.loss)])
        event = ValidationDone(
            epoch=at.epoch,
            loss=loss,
            scores=scores,
            mean_dice=mean_dice,
            class_dice=summary.class_dice,
            n_used=summary.n_used,
            n_absent=summary.n_absent,
            n_missed=summary.n_missed,
            best=bool(merit(criterion, mean_dice, loss) > best),
            criterion=criterion,
            seconds=time.perf_counter() - begun,
            badge="; ".join(badges),
        )
        return event, confusion.class_dice() if cases else {}

    def _notice_missing_losses(self, cases: list[str]) -> Generator[Event, None, None]:
        """Say once which validation cases the loss could not be computed on."""
        if not self._losses_missed:
            self._losses_missed = True
            yield Notice(
                message=f"The loss could not be computed on {', '.join(cases)}, and the best checkpoint is chosen "
                "without them.",
                remedy="Set validation.select_best: dice to choose by all cases.",
            )

    def _watching(self) -> dict[str, tuple[Role, ...]]:
        """Return the roles in which each watched case is shown; it is predicted once for all of them."""
        found: dict[str, tuple[Role, ...]] = {}
        for role in ("validation", "train"):
            case = self.plan.watched.get(role)
            if case is not None:
                found[case] = (*found.get(case, ()), role)
        return found

    def watch(self, at: Position) -> Generator[Event, None, None]:
        """Predict the watched cases now."""
        for case, roles in self._watching().items():
            yield from self._evaluate(
                case, roles[0], at, watched=roles, activity="predicting the watched cases"
            )
        self.watched_at = time.monotonic()

    def watch_slab(self, role: Role, axis: int, world: float, at: Position) -> Generator[Event, None, None]:
        """Predict the slab of a watched case around the plane that a viewer shows."""
        snapshot = yield from self.evaluator.predict_slab(role, axis, world, step=at.step)
        if snapshot is None:
            yield from self.watch(at)
        else:
            self.slots.put(role, snapshot)
            yield WatchedDone(case=snapshot.case, role=role, index=snapshot.index)

    def _evaluate(
        self,
        case: str,
        role: Role,
        at: Position,
        *,
        watched: tuple[Role, ...],
        activity: str,
        confusion: Confusion | None = None,
    ) -> Generator[Event, None, CaseResult]:
        index = self.folder.next_frame(watched[0]) if watched else None
        with translate_memory_errors():
            result = yield from self.evaluator.evaluate(
                case,
                watched[0] if watched else role,
                step=at.step,
                epoch=at.epoch,
                index=index,
                activity=activity,
                confusion=confusion,
            )
        dice = {s.class_name: s.metrics.get("dice", math.nan) for s in result.scores}
        settings = self.evaluator.learner.experiment.validation
        snapshot = result.snapshot
        for number, shown in enumerate(watched):
            assert snapshot is not None
            if number:
                snapshot = self.evaluator.shown_as(snapshot, shown, self.folder.next_frame(shown))
            self.folder.write_frame(snapshot, self.attempt, settings.logits_mb)
            self.slots.put(shown, snapshot)
            yield WatchedDone(
                case=case, role=shown, index=snapshot.index, calibration=result.calibration, class_dice=dice
            )
        return result
