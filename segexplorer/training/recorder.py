"""The recorder: a run folder written from anybody's training loop.

A few lines in a loop of one's own, or of nnU-Net, MONAI or Lightning (packages under `plugins/`), write the same
folder that our own runs write. Window, notebook, comparisons and explanations open it, also while it grows.

>>> with segexplorer.Recorder("runs/mine", {"lesion": 1}, trainer="my loop") as recorder:  # doctest: +SKIP
...     for image, label in batches:
...         output = loss.evaluate(network(image), label)
...         output.value.backward()
...         recorder.step(output)
...     recorder.watch("case_07", image="case_07.nii.gz", label="case_07_seg.nii.gz", logits=whole_logits)

What is recorded elsewhere cannot be trained further or predicted with here: the folder has no checkpoints, and
`recorded.json` says who trained it.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import (
    CaseScore,
    EpochDone,
    Event,
    Notice,
    Planned,
    RegionReport,
    Role,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.printable import printable
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.datasets.lists import Pair, Pairs
from segexplorer.data.geometry import spacing
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.sources import MOST_TOGETHER, sums_with
from segexplorer.data.volume import Volume
from segexplorer.losses.base import LossOutput, LossSpec, region_reports
from segexplorer.losses.base import registry as losses
from segexplorer.metrics import score_case, summarise
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.recorded import RECORDED, RECORDED_CASES, RecordedRun
from segexplorer.training.schedules import registry as schedules
from segexplorer.training.snapshots import WatchedSnapshot

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.losses.module import Loss

Array = Any
"""(...) a numpy array, or a torch tensor on any device."""
PathLike = str | Path
LOGITS_MB = 500.0
HEARD = 8
"""Batches of a loss that are kept until `step` says which one was trained on."""


class Recorder:
    """Writes a run folder, step by step.

    Every call writes at once, so that a kill loses nothing but the last line. A recorder belongs to one thread.

    Parameters
    ----------
    folder
        The run folder to make; None: `./segexplorer-runs/<time>-<loss>`.
    classes
        Foreground classes: name -> value or values in the label files. A sequence of names stands for 1, 2, 3 ...,
        where they overlap for 1, 2, 4 ... and their sums. Voxels with the values of the name "ignore" do not count.
    overlapping
        Whether a voxel may be of several classes, each with a sigmoid of its own, as `data.overlapping` of an
        experiment. Logits and probabilities then have a channel per class and none for the background.
    loss
        The loss, if it is one of ours (a kind, a mapping, a spec, or the module itself); its regions, weights and
        formula are then shown as of our own runs.
    trainer, network, loss_name
        What trains, the network and the loss, in a few words; they are shown where our own runs show settings.
    epochs, steps_per_epoch
        Planned length, for the progress; 0: unknown.
    name
        Of the run.
    settings
        Further settings to show, label -> text.
    logits_mb
        Most that the logits of watched cases may take, MB (as `validation.logits_mb` of an experiment).

    Attributes
    ----------
    folder
        The run folder.

    Raises
    ------
    DataError
        When the folder exists and is not empty.
    SpecError
        When a class or the loss is not one.
    """

    def __init__(
        self,
        folder: PathLike | None,
        classes: Mapping[str, int | Sequence[int]] | Sequence[str],
        *,
        overlapping: bool = False,
        loss: LossSpec | Loss | str | Mapping[str, Any] | None = None,
        trainer: str = "another program",
        network: str = "",
        loss_name: str = "",
        epochs: int = 0,
        steps_per_epoch: int = 0,
        name: str = "",
        settings: Mapping[str, str] | None = None,
        logits_mb: float = LOGITS_MB,
    ) -> None:
        given = classes if isinstance(classes, Mapping) else _numbered(classes, overlapping)
        self._classes = {str(k): (v,) if isinstance(v, int) else tuple(map(int, v)) for k, v in given.items()}
        if not self._classes:
            raise SpecError(
                "There are no classes to record.", "Name the foreground classes and their values."
            )
        self._map = ClassMap.from_classes(self._classes, "background", overlapping=overlapping)
        self._scheme = self._map.scheme
        spec = getattr(loss, "spec", loss)
        self._loss: LossSpec | None = None if spec is None else losses.parse(spec)
        # the module itself, whose weights adapt while others train with it
        module: Any = loss
        self._module: Any = module if hasattr(module, "numbers_by_name") else None
        if hasattr(module, "heard"):
            module.heard = deque(maxlen=HEARD)
        self._logits_mb = logits_mb
        self._pairs: dict[str, Pair] = {}
        self._epoch, self._step, self._seq, self._steps_per_epoch = 1, 0, 0, steps_per_epoch
        self._epochs = epochs
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._summed, self._learning_rate, self._last_loss_sum = 0, float("nan"), 0.0
        self._best = -math.inf
        self._stepped_at = time.perf_counter()
        self._ended = False
        self._name = name
        self._roles: dict[str, Role] = {}
        self._fingerprints: dict[str, str] = {}
        self._record = RunFolder.create(self._experiment(), None if folder is None else Path(folder))
        self.folder = self._record.path
        self._record.hold()
        try:
            about = RecordedRun(
                trainer=printable(trainer),
                network=printable(network),
                loss=printable(loss_name or (self._loss.display_name if self._loss is not None else "")),
            )
            self._record.write_text(RECORDED, json.dumps(with_checksum(about.model_dump()), indent=1))
            self._attempt = 1
            self._about = about
            self._write_provenance()
            self._write(StateChanged(state="preparing", activity="recording"))
            summary = {
                "Trained by": about.trainer,
                "Network": about.network,
                "Loss": about.loss,
                **(settings or {}),
            }
            self._write(
                Planned(
                    steps=epochs * steps_per_epoch,
                    epochs=epochs,
                    steps_per_epoch=steps_per_epoch,
                    summary={printable(k): printable(v) for k, v in summary.items() if v},
                    classes=self._map.names,
                )
            )
            self._write(StateChanged(state="running"))
        except BaseException:
            self._record.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.finish("interrupted")
        elif error is not None:
            self.finish("failed", error=f"{kind.__name__ if kind else 'Error'}: {error}")
        else:
            self.finish()

    # ---- training

    def step(
        self,
        loss: LossOutput | Tensor | float,
        terms: Mapping[str, float | tuple[float, float]] | None = None,
        *,
        learning_rate: float = float("nan"),
        gradient_norm: float = float("nan"),
        samples: int = 1,
        cases: Sequence[str] = (),
    ) -> None:
        """Record one optimiser step.

        Parameters
        ----------
        loss
            The loss of the batch; the output of one of our losses (`evaluate`) has its terms and weights with it.
            Tensors are copied to the CPU, which waits for their device: give numbers where that costs too much.
        terms
            Name -> value, or (value, weight); weights are 1 where they are left out. Where the recorder was given
            the loss module itself, the terms of a `loss(logits, target)` with this value are known.
        samples
            Of the batch.
        cases
            Of the batch.
        """
        found: dict[str, tuple[float, float]] = {}
        value = loss
        if isinstance(loss, LossOutput):
            value = loss.value
            found = {key: (_number(v), _number(w)) for key, (v, w) in loss.terms.items()}
        for key, given in (terms or {}).items():
            found[printable(str(key))] = (
                (_number(given[0]), _number(given[1])) if isinstance(given, tuple) else (_number(given), 1.0)
            )
        number = _number(value)
        found = found or self._heard(number) or {"loss": (number, 1.0)}
        now = time.perf_counter()
        self._step += 1
        self._write(
            StepDone(
                epoch=self._epoch,
                loss=number,
                terms=found,
                learning_rate=_number(learning_rate),
                gradient_norm=_number(gradient_norm),
                seconds=now - self._stepped_at,
                samples=samples,
                cases=tuple(map(str, cases)),
            )
        )
        self._stepped_at = now
        self._learning_rate = _number(learning_rate)
        self._summed += 1
        self._last_loss_sum += number
        for key, (v, w) in found.items():
            self._sums[key] = self._sums.get(key, 0.0) + v
            self._weights[key] = self._weights.get(key, 0.0) + w

    def epoch_end(self, adaptive: Mapping[str, float] | None = None) -> None:
        """Record the end of an epoch: the means of its steps, and what has adapted.

        Parameters
        ----------
        adaptive
            Name -> number, for curves of weights that adapt; None: what the loss itself reports, if it is ours.
        """
        n = max(1, self._summed)
        if adaptive is None:
            adaptive = self._module.adaptive() if self._module is not None else {}
        self._write(
            EpochDone(
                epoch=self._epoch,
                epochs=max(self._epochs, self._epoch),
                loss=self._last_loss_sum / n if self._summed else float("nan"),
                terms={key: (self._sums[key] / n, self._weights[key] / n) for key in self._sums},
                adaptive={printable(str(k)): _number(v) for k, v in adaptive.items()},
                learning_rate=self._learning_rate,
            )
        )
        self._sums, self._weights, self._summed, self._last_loss_sum = {}, {}, 0, 0.0
        self._epoch += 1

    # ---- whole cases

    def watch(
        self,
        case: str,
        *,
        role: Role = "validation",
        image: PathLike | Volume | Array | None = None,
        label: PathLike | Volume | Array | None = None,
        affine: NDArray[np.float64] | None = None,
        logits: Array | None = None,
        probabilities: Array | None = None,
        prediction: Array | None = None,
        output: LossOutput | None = None,
    ) -> tuple[CaseScore, ...]:
        """Record the prediction of a whole case: one frame of the history.

        Image and label are needed with the first frame of a case; arrays are written into the run folder.

        Parameters
        ----------
        case
            Its name.
        role
            "train" for a case that was trained on, else "validation".
        image, label
            Files, volumes or (x, y, z) arrays in one grid. Labels have the values of `classes`, 255 for voxels that
            do not count; arrays of overlapping classes may be (C, x, y, z), 0 or 1. Without an image the errors are
            shown over an empty background.
        affine
            (4, 4) voxel -> RAS mm of arrays; None: that of the label.
        logits
            (C, x, y, z) or (1, C, x, y, z) on the label's grid, background first unless classes overlap. From them
            follow probabilities, prediction and what a loss asks for at each voxel.
        probabilities
            The same as probabilities (0 to 1), where there are no logits.
        prediction
            (x, y, z) class indices; needed only where there is neither. Of overlapping classes: (C, x, y, z), 0
            or 1, or (x, y, z) label values.
        output
            What one of our losses gave for this whole case: its region maps are shown.

        Returns
        -------
        tuple of CaseScore
            One per class; none without a label.

        Raises
        ------
        DataError
            When something is missing, or does not fit.
        """
        if role not in ("train", "validation"):
            raise SpecError(f"A watched case is for train or validation, not {role!r}.")
        pair = self._case(case, role, image, label, affine)
        truth, grid = self._truth(pair)
        shape = grid.shape
        raw = None if logits is None else self._channels(logits, shape, "logits")
        given = None if probabilities is None else self._channels(probabilities, shape, "probabilities")
        if raw is not None:
            given = self._scheme.probabilities(raw)
            predicted = self._scheme.decide_logits(raw)
        elif given is not None:
            predicted = self._scheme.decide(given)
        elif prediction is not None:
            predicted = self._predicted(case, prediction, shape)
        else:
            raise DataError(f"There is no prediction of {case}.", "Give logits, probabilities or prediction.")
        regions = self._regions(output, raw, truth)
        index = self._record.next_frame(role)
        fits = raw is not None and 2 * raw.size <= self._logits_mb * 1e6
        snapshot = WatchedSnapshot(
            case=case,
            role=role,
            step=self._step,
            index=index,
            class_names=self._map.names,
            affine=grid.affine,
            prediction=predicted,
            probabilities=None if given is None else np.round(given * 255).astype(np.uint8),
            regions=regions,
            regions_affine=None if regions is None else grid.affine,
            loss=float("nan") if output is None else _number(output.value),
            logits=np.clip(raw, -65504, 65504).astype(np.float16) if raw is not None and fits else None,
            logits_affine=grid.affine if fits else None,
            loss_state={} if self._module is None else self._module.numbers_by_name(),
            scheme=self._scheme,
        )
        self._record.write_frame(snapshot, self._attempt, self._logits_mb)
        self._write(WatchedDone(case=case, role=role, index=index))
        if truth is None:
            return ()
        return self._scores(case, role, predicted, truth, grid)

    def validate(
        self, scores: Sequence[CaseScore], *, loss: float = float("nan"), seconds: float = 0.0
    ) -> ValidationDone:
        """Record a validation from the scores of its cases (`watch` and `score` return them).

        Raises
        ------
        DataError
            When there are none.
        """
        if not scores:
            raise DataError("There are no scores to record.", "Give those of at least one case.")
        summary = summarise(tuple(scores))
        dice = summary.mean["dice"]
        best = bool(dice > self._best)
        self._best = max(self._best, dice) if math.isfinite(dice) else self._best
        event = ValidationDone(
            epoch=self._epoch if self._summed else max(1, self._epoch - 1),
            loss=_number(loss),
            scores=tuple(scores),
            mean_dice=dice,
            class_dice=summary.class_dice,
            n_used=summary.n_used,
            n_absent=summary.n_absent,
            n_missed=summary.n_missed,
            best=best,
            seconds=seconds,
        )
        self._write(event)
        return event

    def score(
        self,
        case: str,
        prediction: Array,
        label: Array,
        *,
        affine: NDArray[np.float64] | None = None,
        role: Role = "validation",
    ) -> tuple[CaseScore, ...]:
        """Return the scores of a case without keeping its voxels; prediction and label as of `watch`."""
        own = np.eye(4) if affine is None else np.asarray(affine, np.float64)
        grid = Volume.from_array(self._valued(case, _array(label)), affine=own)
        truth = self._map.encode(np.asarray(grid.array))
        self._know(case, role, _content(truth, grid))
        return self._scores(case, role, self._predicted(case, prediction, grid.shape), truth, grid)

    def note(self, message: str, remedy: str = "") -> None:
        """Record a sentence that is shown in the log of the run."""
        self._write(Notice(message=printable(message), remedy=printable(remedy)))

    def finish(self, reason: str = "finished", *, error: str = "") -> None:
        """Record the end and give the folder free; further calls do nothing."""
        if self._ended:
            return
        self._ended = True
        try:
            state = "failed" if error else "finished" if reason == "finished" else "stopped"
            self._write(RunFinished(state=state, reason=printable(reason), error=printable(error)))  # type: ignore[arg-type]
        finally:
            if self._module is not None:
                self._module.heard = None
            self._record.release()

    # ---- what is behind

    def _heard(self, value: float) -> dict[str, tuple[float, float]]:
        """Return the terms of the newest batch whose loss had this value; none where it is of several together."""
        heard = self._module.heard if self._module is not None else None
        while heard:
            number, terms = heard.pop()
            if math.isclose(_number(number), value, rel_tol=1e-3, abs_tol=1e-6):
                heard.clear()
                return {key: (_number(v), _number(w)) for key, (v, w) in terms.items()}
        return {}

    def _write(self, event: Event) -> None:
        self._seq += 1
        stamped = replace(event, attempt=1, seq=self._seq, step=self._step, time=time.time())
        self._record.write(stamped)

    def _write_provenance(self) -> None:
        facts = {"trainer": self._about.trainer, "roles": self._roles, "data": self._fingerprints}
        self._record.write_provenance(1, facts)

    def _know(self, case: str, role: Role, fingerprint: str) -> None:
        """Remember a case and what it holds, so that comparisons pair it with the same case of other runs."""
        if self._fingerprints.get(case) != fingerprint:
            self._roles[case], self._fingerprints[case] = role, fingerprint
            self._write_provenance()

    def _experiment(self) -> Experiment:
        """Return an experiment that names cases and classes of this run; its other settings are not the run's."""
        pairs = tuple(map(self._as_filed, self._pairs.values())) or (Pair(case="none yet", image="none yet"),)
        data = Pairs.of({"pairs": pairs, "classes": self._classes, "overlapping": self._scheme.overlapping})
        epochs = {"epochs": self._epochs} if self._epochs else {}
        return Experiment.of(
            {
                "name": self._name,
                "data": data,
                "loss": self._loss if self._loss is not None else "dice_cross_entropy",
                "schedule": schedules.parse({"kind": "polynomial", **epochs}),
            }
        )

    def _as_filed(self, pair: Pair) -> Pair:
        """Return a case with files of the run folder named from there, so that the folder may be moved."""
        here = self.folder.resolve()
        inside = {
            name: Path(path).relative_to(here).as_posix()
            for name, path in (("image", pair.image), ("label", pair.label))
            if path is not None and Path(path).is_relative_to(here)
        }
        return pair.model_copy(update=inside)

    def _case(
        self,
        case: str,
        role: Role,
        image: PathLike | Volume | Array | None,
        label: PathLike | Volume | Array | None,
        affine: NDArray[np.float64] | None,
    ) -> Pair:
        """Return the case as the experiment lists it; listed now where it is new."""
        known = self._pairs.get(case)
        if known is not None:
            return known
        if label is None and image is None:
            raise DataError(
                f"{case} is new, and has neither image nor label.", "Give its label, and its image."
            )
        label_path = None if label is None else self._file(case, "label", label, affine)
        image_path = self._file(case, "image", image, affine) if image is not None else None
        if image_path is None:  # nothing to look at but the errors
            assert label_path is not None
            grid = open_volume(label_path, label=True)
            image_path = self._file(case, "image", grid.with_array(np.zeros(grid.shape, np.uint8)), None)
        pair = Pair(
            case=case, image=str(image_path), label=None if label_path is None else str(label_path), role=role
        )
        self._pairs[case] = pair
        files = isinstance(image, (str, Path)) and isinstance(label, (str, Path))
        if files:  # as our own runs say it
            ref = CaseRef(case, (image_path,), label_path)
            self._know(case, role, ref.fingerprint())
        else:
            truth, grid = self._truth(pair)
            self._know(case, role, _content(np.asarray(grid.array) if truth is None else truth, grid))
        self._record.save_experiment(self._experiment())
        return pair

    def _file(
        self, case: str, what: str, given: PathLike | Volume | Array, affine: NDArray[np.float64] | None
    ) -> Path:
        if isinstance(given, (str, Path)):
            return Path(given).expanduser().resolve()
        volume = given if isinstance(given, Volume) else None
        if volume is None:
            array = np.asarray(_array(given))
            array = self._valued(case, array) if what == "label" else array
            volume = Volume.from_array(
                array, affine=np.eye(4) if affine is None else np.asarray(affine, np.float64)
            )
        self._record.require_ownership()
        folder = self.folder.resolve() / RECORDED_CASES
        folder.mkdir(exist_ok=True)
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in case)[:80]
        path = folder / f"{len(self._pairs) + 1:03d}-{safe}-{what}.nii.gz"
        save_volume(volume, path, integer=what == "label")
        return path

    def _truth(self, pair: Pair) -> tuple[NDArray[np.uint8] | None, Volume]:
        if pair.label is None:
            return None, open_volume(pair.image)
        label = open_volume(pair.label, label=True)
        return self._map.encode(np.asarray(label.array)), label

    def _regions(
        self, output: LossOutput | None, logits: NDArray[np.float32] | None, truth: NDArray[np.uint8] | None
    ) -> RegionReport | None:
        """Return the region maps of a loss output; else the volumes of errors per box of 8 voxels."""
        if output is not None and self._scheme.overlapping and output.maps:
            from segexplorer.losses.multilabel import with_background

            rows = next(iter(output.maps.values())).values.shape[1]
            output = with_background(output) if rows == self._scheme.classes else output
        if output is not None and (reports := region_reports(output)):
            return reports[0]
        if logits is None or truth is None:
            return None
        import torch

        from segexplorer.training.evaluator import error_boxes

        labels = torch.from_numpy(truth[np.newaxis, np.newaxis].astype(np.int64))
        return error_boxes(torch.from_numpy(logits[np.newaxis]), labels, self._scheme)

    def _scores(
        self, case: str, role: Role, predicted: NDArray[np.uint8], truth: NDArray[np.uint8], grid: Volume
    ) -> tuple[CaseScore, ...]:
        names, scheme = self._map.names, self._scheme
        return score_case(predicted, truth, names, spacing(grid.affine), case=case, role=role, scheme=scheme)

    # ---- arrays of the caller

    def _channels(self, given: Array, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
        """Return (1 + C, x, y, z) logits or probabilities; of overlapping classes, the background's are added."""
        classes = len(self._map.names)
        if not self._scheme.overlapping:
            return _whole(given, classes + 1, shape, what)
        own = _whole(given, classes, shape, what, background=False)
        first = np.zeros((1, *shape), np.float32) if what == "logits" else 1 - own.max(axis=0, keepdims=True)
        return np.concatenate([first, own])

    def _predicted(self, case: str, prediction: Array, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return label indices of a prediction.

        Raises
        ------
        DataError
            When it has another shape or other values.
        """
        predicted = np.asarray(_array(prediction))
        if self._scheme.overlapping:
            values = self._valued(case, predicted, exact=False)
            if values.shape == shape:
                return self._map.encode(values)
            expected = f"0 or 1 for each class, {(len(self._map.names), *shape)}, or label values, {shape}"
        elif predicted.shape == shape and predicted.min() >= 0 and predicted.max() <= len(self._map.names):
            return predicted.astype(np.uint8)
        else:
            expected = f"class indices from 0 to {len(self._map.names)} in the label's shape {shape}"
        raise DataError(
            f"The prediction of {case} has shape {predicted.shape} and values up to {predicted.max()}.",
            f"Give {expected}.",
        )

    def _valued(self, case: str, given: NDArray[Any], *, exact: bool = True) -> NDArray[Any]:
        """Return label values of masks of overlapping classes, (C, x, y, z) of 0 and 1; else what is given.

        Parameters
        ----------
        exact
            Whether it is an error where no label value stands for just the classes of a voxel.

        Raises
        ------
        DataError
            When masks have other values, or classes come together that have no value together.
        """
        if not self._scheme.overlapping or given.ndim != 4 or len(given) != self._scheme.classes:
            return given
        if not np.isin(given, (0, 1)).all():
            raise DataError(f"The masks of {case} hold values other than 0 and 1.", "Give 0 or 1 per class.")
        there = np.concatenate([np.zeros((1, *given.shape[1:]), bool), given > 0])
        indices = self._scheme.decide(there)
        if exact:
            lost = self._scheme.table[:, 1:][indices] != np.moveaxis(given > 0, 0, -1)
            if lost.any():
                own = given[(slice(None), *np.argwhere(lost.any(axis=-1))[0])]
                names = [n for n, inside in zip(self._map.names, own, strict=True) if inside]
                raise DataError(
                    f"A voxel of {case} is of {' and '.join(names)} alone, for which no label value stands.",
                    "Name the classes without values, ['whole', 'core'], so that every combination has one.",
                )
        values = np.array([0, *(group[0] for group in self._map.index_values)], np.int32)
        return np.asarray(values[indices])


def _content(voxels: NDArray[Any], grid: Volume) -> str:
    """Return a hash of a label, or image, that has no file of the user's: of voxels and geometry."""
    found = hashlib.sha256(np.ascontiguousarray(voxels).tobytes())
    found.update(np.asarray(grid.affine, np.float64).round(6).tobytes())
    return found.hexdigest()


def _array(given: Array) -> NDArray[Any]:
    detach = getattr(given, "detach", None)
    return np.asarray(given if detach is None else detach().float().cpu().numpy())


def _number(given: Any) -> float:
    """Return a number, also of a tensor of one element; NaN and infinity stay."""
    return float(given.detach()) if hasattr(given, "detach") else float(given)


def _numbered(names: Sequence[str], overlapping: bool) -> dict[str, int | tuple[int, ...]]:
    """Return name -> value for 1, 2, 3 ...; of overlapping classes the sums of 1, 2, 4 ... that hold each.

    Raises
    ------
    SpecError
        When so many classes have no value for every combination.
    """
    if not overlapping:
        return {name: place for place, name in enumerate(names, 1)}
    if len(names) > MOST_TOGETHER:
        raise SpecError(
            f"{len(names)} overlapping classes have more combinations than a label has values.",
            "Give the label values of each class: {'whole': [1, 2, 3], 'core': [1, 3]}.",
        )
    return {name: sums_with(2**place, len(names)) for place, name in enumerate(names)}


def _whole(
    given: Array, classes: int, shape: tuple[int, ...], what: str, *, background: bool = True
) -> NDArray[np.float32]:
    """Return (C, x, y, z) float32.

    Raises
    ------
    DataError
        When the shape is another.
    """
    array = np.asarray(_array(given), np.float32)
    if array.ndim == 5 and len(array) == 1:
        array = array[0]
    if array.shape == (1, *shape) and classes == 2 and background:  # one sigmoid foreground
        other = np.zeros_like(array) if what == "logits" else 1 - array
        array = np.concatenate([other, array])
    if array.shape != (classes, *shape):
        raise DataError(
            f"The {what} have shape {array.shape}; the label has {shape}, and there are {classes} "
            f"{'classes with the background' if background else 'overlapping classes'}.",
            f"Give {(classes, *shape)}, on the label's own grid.",
        )
    if not np.isfinite(array).all():
        raise DataError(f"The {what} have values that are not finite.", "Look at the loss of the last steps.")
    return array
