"""Whole cases during a run: predicted, brought back to their own grid, scored, and shown where they are watched.

`Evaluator` predicts and scores one case. `Validator` scores all validation cases, and keeps frames of the two
watched cases in the history.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
from segexplorer.data.case import IGNORED
from segexplorer.data.geometry import spacing
from segexplorer.data.transforms.distance_maps import as_numbers
from segexplorer.metrics import Confusion, score_case, summarise
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.training.compute import translate_memory_errors
from segexplorer.training.progress import Position
from segexplorer.training.sliding_window import predict_logits
from segexplorer.training.snapshots import LatestValues, WatchedSnapshot

if TYPE_CHECKING:
    import torch

    from segexplorer.data.store import PreprocessedCache
    from segexplorer.data.transforms import Prepared
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.learner import Learner
    from segexplorer.training.plan import Plan


LOSS_VOXELS = 256 * 2**20
"""Above this many logits the loss over a whole case is not computed (it would need some 10 GB)."""


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
        prepared = self.store.get(case)
        logits = yield from self._logits(prepared, activity)
        value, regions = self._loss(logits, prepared, epoch)
        if regions is not None:
            regions = dataclasses.replace(regions, scope=f"{WHOLE_CASE}, step {step}")
        truth = self.store.truth(case)
        settings = self.learner.experiment.validation
        calibrate = index is not None and truth is not None and settings.calibration
        keep = index is not None and settings.keep_probabilities
        own, probabilities, labels = self._own_grid(logits, prepared, probabilities=calibrate or keep)
        scores: tuple[CaseScore, ...] = ()
        calibration: tuple[Reliability, ...] = ()
        if truth is not None:
            scores = self._scores(own, truth, prepared, role)
            if confusion is not None:
                confusion.add(own, truth)
            if calibrate and probabilities is not None:
                counts = CalibrationCounts(self.plan.class_names)
                counts.add(probabilities, own, truth, spacing(prepared.grid.affine))
                calibration = counts.reliability()
        snapshot = None
        if index is not None:
            self._prepared_labels[role] = labels
            snapshot = WatchedSnapshot(
                case=case,
                role=role,
                step=step,
                index=index,
                class_names=self.plan.class_names,
                affine=prepared.grid.affine,
                prediction=own,
                truth=truth,
                probabilities=in_bytes(probabilities) if keep and probabilities is not None else None,
                regions=regions,
                regions_affine=prepared.affine,
                loss=value,
                badge=self.plan.badge_of(case, role),
            )
            self._last[role] = snapshot
        return CaseResult(case, value, scores, snapshot, calibration)

    def _logits(
        self, prepared: Prepared, activity: str, only: tuple[slice, ...] | None = None
    ) -> Generator[Event, None, torch.Tensor]:
        import torch

        validation = self.learner.experiment.validation
        windows = predict_logits(
            self.learner.predictor,
            torch.from_numpy(prepared.image[None]),
            classes=len(self.plan.class_names) + 1,
            patch=self.plan.patch_for(prepared.image.shape[1:]),
            overlap=validation.overlap,
            runtime=self.learner.runtime,
            mirror=validation.mirror,
            only=only,
        )
        while True:
            try:
                done, total = next(windows)
            except StopIteration as end:
                logits: torch.Tensor = end.value
                return logits
            yield Progress(activity=activity, done=done, total=total)

    def _loss(
        self, logits: torch.Tensor, prepared: Prepared, epoch: int
    ) -> tuple[float, RegionReport | None]:
        """Evaluate the loss over the whole case; its region maps, or the plain FP/FN volumes per box."""
        import torch

        from segexplorer.core.regions import PatchRegions
        from segexplorer.functional.inputs import LossContext
        from segexplorer.functional.regions import BatchRegions
        from segexplorer.losses import region_reports
        from segexplorer.losses.base import partitions_in

        if prepared.label is None or logits.numel() > LOSS_VOXELS:
            return float("nan"), None
        labels = torch.from_numpy(prepared.label[None, None].astype(np.int64))
        device = self.learner.runtime.device
        maps = {
            name: torch.from_numpy(as_numbers(name, stored)[np.newaxis]).to(device)
            for name, stored in self.store.maps(prepared.case).items()
        }
        # boxes follow from the shape; what follows the truth is the map that also goes with the patches
        regions = {}
        for partition in partitions_in(self.learner.loss.spec):
            if partition.follows_truth:
                whole = self.store.regions(prepared.case, partition)
                regions[partition] = BatchRegions([PatchRegions(whole, whole)], device)
        context = LossContext(
            distance_maps=maps or None,
            regions=regions or None,
            spacing=np.asarray([prepared.spacing]),
            origin=np.zeros((1, 3), dtype=np.int64),
            volume_shape=np.asarray([prepared.label.shape]),
            epoch=epoch,
        )
        with torch.inference_mode():
            self.learner.loss.eval()
            output = self.learner.loss.evaluate(logits.to(device), labels.to(device), context)
            reports = region_reports(output)
            report = reports[0] if reports else error_boxes(logits, labels)
        return float(output.value), report

    def _own_grid(
        self, logits: torch.Tensor, prepared: Prepared, *, probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, NDArray[np.uint8]]:
        """Return labels in the case's own grid, its probabilities there if asked for, labels as trained."""
        import torch

        labels: NDArray[np.uint8] = logits[0].argmax(0).to(torch.uint8).numpy()
        fitted = self.plan.fitted
        resampled = prepared.resampled
        if not resampled and not probabilities:
            return fitted.restore(labels, prepared.grid, order=0), None, labels
        restored = fitted.restore(torch.softmax(logits[0], 0).numpy(), prepared.grid, order=1)
        own = (
            restored.argmax(0).astype(np.uint8)
            if resampled
            else fitted.restore(labels, prepared.grid, order=0)
        )
        return own, restored if probabilities else None, labels

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
        logits = yield from self._logits(prepared, "predicting the visible slice", only=slab)
        labels = self._prepared_labels[role].copy()
        labels[slab] = logits[0].argmax(0).numpy().astype(np.uint8)[slab]
        self._prepared_labels[role] = labels
        own = self.plan.fitted.restore(labels, prepared.grid, order=0)
        snapshot = dataclasses.replace(last, prediction=own, probabilities=None, step=step, partial=True)
        self._last[role] = snapshot
        return snapshot


def in_bytes(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities as the history keeps them, 255 for 1."""
    return np.round(probabilities * 255).astype(np.uint8)


def error_boxes(logits: torch.Tensor, labels: torch.Tensor) -> RegionReport:
    """Return soft FP and FN volumes per box of 8 voxels, for a loss that has no regions of its own."""
    from segexplorer.functional.inputs import regional_errors
    from segexplorer.functional.regions import partition

    boxes = partition(tuple(labels.shape[2:]), box_size=8)
    fp, fn = regional_errors(logits, labels, boxes, ignore_index=IGNORED)
    return RegionReport({"fp": fp[0].float().cpu().numpy(), "fn": fn[0].float().cpu().numpy()}, boxes.edges)


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
        confusion = Confusion(len(self.plan.class_names) + 1)
        for number, case in enumerate(cases, start=1):
            watched = case == self.plan.watched.get("validation")
            activity = f"validating case {number} of {len(cases)}"
            result = yield from self._evaluate(
                case, "validation", at, watched=watched, activity=activity, confusion=confusion
            )
            results.append(result)
        shown = self.plan.watched.get("train")
        if shown is not None:
            yield from self._evaluate(
                shown, "train", at, watched=True, activity="predicting the watched case"
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

    def watch(self, at: Position) -> Generator[Event, None, None]:
        """Predict the watched cases now."""
        for role, case in self.plan.watched.items():
            yield from self._evaluate(case, role, at, watched=True, activity="predicting the watched cases")
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
        watched: bool,
        activity: str,
        confusion: Confusion | None = None,
    ) -> Generator[Event, None, CaseResult]:
        index = self.folder.next_frame(role) if watched else None
        with translate_memory_errors():
            result = yield from self.evaluator.evaluate(
                case, role, step=at.step, epoch=at.epoch, index=index, activity=activity, confusion=confusion
            )
        if result.snapshot is not None and index is not None:
            self.folder.write_frame(result.snapshot, self.attempt)
            self.slots.put(role, result.snapshot)
            yield WatchedDone(case=case, role=role, index=index, calibration=result.calibration)
        return result
