"""Explanations: what a loss asks for at every voxel of a case, what training then did, and why at one voxel.

*Asked* is the pull of a loss on the logits of a prediction (`losses.pull`), of the run's own loss or of any other
with any parameters. *Got* is the change of the log-odds from one recorded frame to the next: what the optimiser and
the weights that all voxels share made of it.

An explanation is made from a run folder, live or finished, from the patch that a live run last trained on
(`trained_patch`), or from arrays. Logits are exact where the run recorded
them (`validation.logits_mb`) or where a checkpoint of that step is left. From probabilities of 8 bits they are
approximate: what was rounded to 0 or 1 lost its pull.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import RegionReport, Role
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.core.regions import Partition, PatchRegions
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.geometry import spacing as spacing_of
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.data.transforms.distance_maps import as_numbers, stored_map
from segexplorer.losses.base import LossSpec, partitions_in, region_reports
from segexplorer.losses.base import registry as losses
from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.history import HistoryFrame, RunRecord, open_run
from segexplorer.training.progress import effective_at
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.trained_patch import SHOWN, TrainedPatch

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossContext
    from segexplorer.losses.module import Loss
    from segexplorer.losses.pull import Pull, PullInParts, Shares, Space
    from segexplorer.losses.streamed import StreamedLoss, StreamedOverlappingLoss

LossLike = LossSpec | str | Mapping[str, Any] | None
AGAINST = "cross_entropy"
"""The loss that another one is compared with unless told otherwise; its pull is the soft error p - y."""
LIMIT_PERCENTILE = 99.0
_ALL_TERMS = "*"
"""In the key of a pull that is kept: it has its terms, too."""
MOST_KEPT = 4
"""Pulls that an explanation keeps: of its own loss, of the one to compare with, with terms, and of one more."""
SLICES_FIRST = 1 << 21
"""From so many logits on, a map takes over a tenth of a second: the slices that are seen come first."""
_MAPPED = 0.75
"""Share of the work on a map that is done once its values are there; then it is measured."""
SAMPLED = 12
"""Slices from which the scale of a map is estimated, before all of it is there."""
MOST_RANKED = 200_000
"""Voxels that a rank correlation is computed from; more would not move it visibly."""
SMALLEST_PROBABILITY = 0.5 / 255
"""What a probability of 8 bits that was rounded to 0 is taken for."""


@dataclass(frozen=True)
class VoxelField:
    """A number per voxel about one class: what a loss asks for, or what training did.

    Attributes
    ----------
    title
        What it is, e.g. "Dice asks: more or less lesion".
    values
        (x, y, z) float32; positive: more of the class. Divided by the mean of the absolute values, so that fields
        of different losses can be compared.
    mean
        Mean of the absolute values before that.
    limit
        The end of a colour scale for all slices: the 99th percentile of the absolute values, of all that are not
        zero or of those within the true structure, whichever is larger. A small structure may hold less than one
        per cent of the voxels.
    shares
        Where it is: inside the true structure, at its boundary, elsewhere.
    approximate
        Whether it was computed from probabilities of 8 bits.
    """

    title: str
    values: NDArray[np.float32]
    mean: float
    limit: float
    shares: Shares
    approximate: bool = False


@dataclass(frozen=True)
class Followed:
    """What training did, beside what a loss had asked for.

    Attributes
    ----------
    field
        Positive where training moved the log-odds in the direction asked for, negative where against it.
    share
        Share of the pull's strength that training followed in direction; a half is what chance gives.
    rank_correlation
        Spearman's correlation of asked and got over the voxels where the loss asked for anything; NaN where there
        are fewer than two.
    """

    field: VoxelField
    share: float
    rank_correlation: float


@dataclass
class _OnSlices:
    """A map of which some slices are there: (x, y, z) values, 0 elsewhere; its estimated scale; which slices."""

    values: NDArray[np.float32]
    mean: float
    limit: float
    there: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Explanation:
    """A predicted case with its truth, about which a loss can be asked.

    Attributes
    ----------
    case, role, step
        What is explained; "" and 0 for arrays.
    class_names
        Foreground classes for indices 1, 2, ...
    affine
        (4, 4) voxel -> RAS mm of the grid of logits and labels: the training grid, or the case's own where
        probabilities had to serve.
    logits
        (C, x, y, z) float32.
    labels
        (x, y, z) uint8, 255 for ignored voxels.
    loss
        The loss of the run, or the one given.
    loss_state
        What had adapted or was learned in it, as in `WatchedSnapshot.loss_state`.
    approximate
        Whether the logits come from probabilities of 8 bits.
    later
        The logits of the next frame, for `got`; None where there is none.
    later_step
        Its step.
    epoch
        Epoch for losses that depend on it; None: unknown.
    badge
        What must be known of the case, as in `WatchedSnapshot.badge`.
    scheme
        What the labels mean; where classes overlap, each is explained by itself.
    patch
        The training step that `logits` and `labels` are a patch of: a loss is asked about its whole batch, as it
        was in the step. None: about a whole case.
    """

    case: str
    role: Role
    step: int
    class_names: tuple[str, ...]
    affine: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    loss: LossSpec
    loss_state: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    approximate: bool = False
    later: NDArray[np.float32] | None = None
    later_step: int = 0
    epoch: int | None = None
    badge: str = ""
    scheme: LabelScheme = EXCLUSIVE
    patch: TrainedPatch | None = None
    _pulls: dict[Any, Pull] = field(default_factory=dict, repr=False, compare=False)
    _regions: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _streamed: dict[Any, StreamedLoss | StreamedOverlappingLoss] = field(
        default_factory=dict, repr=False, compare=False
    )
    _sums: dict[int | None, dict[Hashable, Tensor]] = field(default_factory=dict, repr=False, compare=False)
    _measured: dict[Any, tuple[float, float, Shares]] = field(default_factory=dict, repr=False, compare=False)
    _parts: dict[Any, PullInParts] = field(default_factory=dict, repr=False, compare=False)
    _on_slices: dict[Any, _OnSlices] = field(default_factory=dict, repr=False, compare=False)

    # ---- what a loss asks for

    def asked(
        self, class_index: int, loss: LossLike = None, *, term: str = "", space: Space = "logits"
    ) -> VoxelField:
        """Return what a loss asks for at every voxel: more of a class (positive) or less (negative).

        Parameters
        ----------
        class_index
            0 is the background.
        loss
            Any loss; None: the run's own, with its present weights.
        term
            One term of a compound, with its weight; empty: their sum.
        space
            "logits", or "probabilities" (see `losses.pull`).

        Raises
        ------
        SpecError
            When the loss has no such term, or the prediction no such class.
        LossInputError, UnknownKindError
            When the loss cannot be computed here, or does not exist.
        """
        spec = self._spec(loss)
        if term and term not in _term_names(spec):
            raise SpecError(
                f"{spec.display_name} has no term {term!r}.",
                f"Its terms: {', '.join(_term_names(spec)) or 'it is no compound'}.",
            )
        title = self._title(spec, term, class_index)
        found = self._kept(spec, space, term) or self.pull_of(spec, space=space, terms=bool(term))
        values = found.terms.get(term, found.total)[class_index]
        scaled = _normalised(values)
        key = (spec.model_dump_json(), space, term, class_index)
        if key not in self._measured:
            self._measured[key] = self._measure(values, scaled, class_index)
        mean, limit, found_shares = self._measured[key]
        return VoxelField(title, scaled, mean, limit, found_shares, self.approximate)

    def _measure(
        self, values: NDArray[np.float32], scaled: NDArray[np.float32], class_index: int
    ) -> tuple[float, float, Shares]:
        """Return mean, limit and shares of a map; each looks at all voxels, and several questions need them."""
        from segexplorer.losses.pull import shares

        true = self.scheme.mask(self.labels, class_index)
        mean = float(np.abs(values).mean(dtype=np.float64))
        return mean, _limit(np.abs(scaled), true), shares(values, true)

    def _measures(
        self, class_index: int, loss: LossLike, term: str, space: Space
    ) -> tuple[float, float, Shares]:
        """Return what `asked` measures, without its map where it was measured before."""
        spec = self._spec(loss)
        key = (spec.model_dump_json(), space, term, class_index)
        if key not in self._measured:
            self.asked(class_index, spec, term=term, space=space)
        return self._measured[key]

    def strength(self, class_index: int, loss: LossLike = None, *, space: Space = "logits") -> float:
        """Return the mean of the absolute values of what a loss asks for."""
        return self._measures(class_index, loss, "", space)[0]

    def limit(
        self,
        class_index: int,
        loss: LossLike = None,
        *,
        term: str = "",
        against: LossLike = AGAINST,
        space: Space = "logits",
    ) -> float:
        """Return the end of one colour scale for a loss, the one it is compared with, and a term that is looked at.

        It is the largest `VoxelField.limit` of them, so that their maps can be compared by eye.
        """
        maps = ((loss, ""), (against, ""), (loss, term))
        return max(self._measures(class_index, of, one, space)[1] for of, one in maps)

    def pull_of(self, loss: LossLike = None, *, space: Space = "logits", terms: bool = False) -> Pull:
        """Return the pull of a loss on all classes, not normalised; the last few are kept."""
        from segexplorer.losses.pull import pull

        spec = self._spec(loss)
        kept = self._kept(spec, space, _ALL_TERMS if terms else "")
        if kept is not None:
            return kept
        made = pull(
            self._module(spec),
            *self._inputs(spec),
            space=space,
            terms=terms,
            sample=None if self.patch is None else SHOWN,
        )
        return self._keep(spec, space, _ALL_TERMS if terms else "", self._lifted(made))

    def _kept(self, spec: LossSpec, space: Space, term: str) -> Pull | None:
        """Return a pull that was made before: of a loss ("" or with `_ALL_TERMS`), or of one of its terms."""
        json = spec.model_dump_json()
        for key in ((json, space, term), (json, space, _ALL_TERMS)):
            if key in self._pulls:
                found = self._pulls.pop(key)
                self._pulls[key] = found  # the one that was used last goes last
                return found
        return None

    def _keep(self, spec: LossSpec, space: Space, term: str, made: Pull) -> Pull:
        # a slider over a parameter asks for many losses, and each answer is as large as the logits
        _leave_room(self._pulls)
        self._pulls[spec.model_dump_json(), space, term] = made
        return made

    # ---- slices, before the whole

    def is_slow(self, loss: LossLike = None, *, term: str = "", space: Space = "logits") -> bool:
        """Whether `asked` keeps a user waiting, so that `asked_on_slices` should come first."""
        if self.patch is not None or self.logits.size < SLICES_FIRST:
            return False
        return self._kept(self._spec(loss), space, term) is None

    def needs_all_voxels(self, loss: LossLike = None, *, term: str = "") -> str:
        """Return the name of a loss, or of the one inside it, that looks at all voxels at once; "" for others.

        It sorts voxels, or follows lines and distances through the prediction; a slice has no pull of its own then.
        """
        culprit = self._stream(self._spec(loss), term).whole_needed_by
        return "" if culprit is None else culprit.display_name

    def asked_on_slices(
        self,
        class_index: int,
        slices: Sequence[tuple[int, int]],
        loss: LossLike = None,
        *,
        term: str = "",
        space: Space = "logits",
    ) -> VoxelField | None:
        """Return `asked` with some slices alone, and 0 elsewhere; None where the loss needs all voxels at once.

        A voxel has its part in most losses through a few sums over the case. These are added up once, and serve
        other losses and parameters, too; the pull on a slice follows from them exactly. Its scale, `mean` and
        `limit`, is estimated: from `SAMPLED` other slices, and as many of those that the structure is in.

        Parameters
        ----------
        slices
            (axis, index) of each, axes being those of (x, y, z). Those that were asked for before are there, too.
        """
        from segexplorer.losses.pull import Shares

        spec = self._spec(loss)
        parts = self._in_parts(spec, space, term)
        if parts is None:
            return None
        key = (spec.model_dump_json(), space, term, class_index)
        shown = self._on_slices.get(key)
        if shown is None:
            self._on_slices.clear()
            shown = self._on_slices[key] = self._scaled(parts, class_index)
        for axis, index in slices:
            if (axis, index) not in shown.there:
                place: list[Any] = [slice(None)] * 3
                place[axis] = index
                shown.values[tuple(place)] = parts.on_slice(axis, index)[class_index] / shown.mean
                shown.there.add((axis, index))
        nowhere = float("nan")
        return VoxelField(
            self._title(spec, term, class_index),
            shown.values.copy(),  # more slices come into it while this one is looked at
            shown.mean,
            shown.limit,
            Shares(nowhere, nowhere, nowhere),
            self.approximate,
        )

    def advance(
        self,
        class_index: int,
        wanted: Sequence[tuple[LossLike, str]],
        seconds: float,
        space: Space = "logits",
    ) -> float:
        """Go on with maps of a class that are made in parts, for about so long; return which share is there.

        Parameters
        ----------
        wanted
            Loss and term of each. Losses that need all voxels at once are left to `asked`.
        """
        end, shares, moved = time.perf_counter() + seconds, [], False
        for loss, term in wanted:
            spec = self._spec(loss)
            json = spec.model_dump_json()
            slow = self.is_slow(spec, term=term, space=space)
            parts = self._in_parts(spec, space, term) if slow else None
            left = end - time.perf_counter()
            if parts is not None and (left > 0 or not moved):
                parts.advance(left)
                moved = True
                if parts.done == 1:
                    self._keep(spec, space, term, parts.whole())
                    del self._parts[json, space, term]
            ready = 1.0 if parts is None else parts.done
            measured = (json, space, term, class_index) in self._measured or (slow and parts is None)
            if ready == 1 and not measured and (not moved or time.perf_counter() < end):
                self.asked(class_index, spec, term=term, space=space)
                measured = moved = True
            shares.append(_MAPPED * ready + (1 - _MAPPED) * measured)
        return 1.0 if min(shares, default=1.0) == 1 else sum(shares) / len(shares)

    def _scaled(self, parts: PullInParts, class_index: int) -> _OnSlices:
        """Return an empty map with the scale that slices of it will be drawn with."""
        true = self.scheme.mask(self.labels, class_index)
        evenly = _spread(0, self.labels.shape[0], SAMPLED)
        within = np.flatnonzero(true.any(axis=(1, 2)))
        chosen = within[_spread(0, len(within), SAMPLED)] if len(within) else within
        sample, inside = (
            np.abs(np.stack([parts.on_slice(0, int(x))[class_index] for x in places]))
            if len(places)
            else np.zeros((0, *true.shape[1:]), np.float32)
            for places in (evenly, chosen)
        )
        mean = float(sample.mean(dtype=np.float64)) or 1.0
        limit = max(
            _limit(np.asarray(part / mean, np.float32), true[places])
            for part, places in ((sample, evenly), (inside, chosen))
        )
        return _OnSlices(np.zeros(self.labels.shape, np.float32), mean, limit)

    def _in_parts(self, spec: LossSpec, space: Space, term: str) -> PullInParts | None:
        from segexplorer.losses.pull import PullInParts

        key = (spec.model_dump_json(), space, term)
        if key not in self._parts:
            streamed = self._stream(spec, term)
            if streamed.whole_needed_by is not None:
                return None
            weights = dict(zip(_term_names(spec), self._module(spec).term_weights(), strict=True))
            _leave_room(self._parts)
            self._parts[key] = PullInParts(
                streamed, self.logits, space=space, weight=float(weights.get(term, 1.0))
            )
        return self._parts[key]

    def _stream(self, spec: LossSpec, term: str) -> StreamedLoss | StreamedOverlappingLoss:
        """Return a loss, or one of its terms without its weight, that knows its sums over the case."""
        import torch

        from segexplorer.losses.multilabel import build_loss
        from segexplorer.losses.streamed import stream_loss

        key = (spec.model_dump_json(), term)
        if key not in self._streamed:
            loss = self._module(spec)
            if term:
                part = loss.losses()[_term_names(spec).index(term)]
                loss = build_loss(part.spec, self.scheme)
                loss.load_state_dict(part.state_dict())
            classes = len(self.class_names) + 1
            made = stream_loss(loss, torch.from_numpy(self.labels), classes, self.context(spec))
            if made.whole_needed_by is None:
                sums = self._sums.setdefault(loss.spec.ignore_index, {})
                if not made.know(sums):
                    made.add((0, 0, 0), torch.from_numpy(self.logits[np.newaxis]))
                    sums.update(made.known)
            _leave_room(self._streamed)
            self._streamed[key] = made
        return self._streamed[key]

    def _title(self, spec: LossSpec, term: str, class_index: int) -> str:
        name = self.class_name(class_index)
        return f"{term.replace('_', ' ') if term else loss_name(spec)} asks: more or less {name}"

    def _spec(self, loss: LossLike) -> LossSpec:
        return self.loss if loss is None else losses.parse(loss)

    def _module(self, spec: LossSpec) -> Loss:
        """Return the loss as a module; the run's own with what had adapted or was learned in it."""
        import torch

        from segexplorer.losses.multilabel import build_loss

        module = build_loss(spec, self.scheme)
        if spec == self.loss and self.loss_state:
            given = {
                key: torch.tensor(values, dtype=torch.float64) for key, values in self.loss_state.items()
            }
            own = module.state_dict()
            if given.keys() != own.keys():
                raise DataError(
                    "The recorded state of the loss is not that of this loss.",
                    "Name the loss to explain it from its start.",
                )
            # scalars and lists of one number are recorded alike
            module.load_state_dict(
                {k: v.reshape(own[k].shape) if v.numel() == own[k].numel() else v for k, v in given.items()}
            )
        return module

    def _inputs(self, spec: LossSpec) -> tuple[Tensor, Tensor, LossContext]:
        """Return logits, labels and context as a loss takes them: of the case, or of the batch of the patch."""
        import torch

        if self.patch is None:
            return (
                torch.from_numpy(self.logits[np.newaxis]),
                torch.from_numpy(self.labels[np.newaxis, np.newaxis].astype(np.int64)),
                self.context(spec),
            )
        drop = self.patch.layout.drop
        logits, labels = torch.from_numpy(self.patch.logits), torch.from_numpy(self.patch.labels)
        return drop(logits), drop(labels).long(), self.patch.layout.drop_context(self.context(spec))

    def _lifted(self, pull: Pull) -> Pull:
        """Return a pull with the axis of a slice put back."""
        thin = None if self.patch is None else self.patch.layout.thin
        if thin is None:
            return pull
        return replace(
            pull,
            total=np.expand_dims(pull.total, 1 + thin),
            terms={name: np.expand_dims(values, 1 + thin) for name, values in pull.terms.items()},
        )

    def context(self, spec: LossSpec) -> LossContext:
        """Return what a loss may know about this case, or knew in the step: spacing, distance maps, regions."""
        from segexplorer.functional.inputs import LossContext

        if self.patch is None:
            spacing = self.spacing
            known = LossContext(
                spacing=np.asarray([spacing]),
                origin=np.zeros((1, 3), dtype=np.int64),
                volume_shape=np.asarray([self.labels.shape]),
                epoch=self.epoch,
            )
            return self._completed(known, spec, self.labels[np.newaxis], [spacing])
        known = self.patch.context
        return self._completed(known, spec, self.patch.labels[:, 0], np.asarray(known.spacing).tolist())

    def _completed(
        self,
        known: LossContext,
        spec: LossSpec,
        labels: NDArray[np.uint8],
        spacings: Sequence[Sequence[float]],
    ) -> LossContext:
        """Return a context with the distance maps and regions that it lacks, made from labels (B, x, y, z)."""
        import torch

        from segexplorer.functional.regions import BatchRegions

        classes = len(self.class_names) + 1
        needed, partitions = self._lacks(known, spec)
        maps = {
            name: torch.from_numpy(
                np.stack(
                    [
                        as_numbers(name, stored_map(name, own, classes, _triple(mm), self.scheme))
                        for own, mm in zip(labels, spacings, strict=True)
                    ]
                )
            )
            for name in needed
        }
        regions = {
            partition: BatchRegions(
                [
                    PatchRegions(whole, whole)
                    for own, mm in zip(labels, spacings, strict=True)
                    for whole in (partition.divide(own.shape, own, _triple(mm)),)
                ]
            )
            for partition in partitions
        }
        return replace(
            known,
            distance_maps={**(known.distance_maps or {}), **maps} or None,
            regions={**(known.regions or {}), **regions} or None,
        )

    @staticmethod
    def _lacks(known: LossContext, spec: LossSpec) -> tuple[list[str], list[Partition]]:
        """Return the distance maps and the divisions of a loss that a context does not bring."""
        maps = [name for name in spec.needs() if name not in (known.distance_maps or {})]
        divided = [p for p in partitions_in(spec) if p not in (known.regions or {})]
        return maps, [p for p in divided if p.follows_truth or known.origin is None]

    def remark(self, loss: LossLike = None) -> str:
        """Return how an answer differs from what training would have asked; "" where it does not."""
        if self.patch is None or not any(self._lacks(self.patch.context, self._spec(loss))):
            return ""
        return (
            f"The step knew no distances or regions for {loss_name(self._spec(loss))}: "
            "they are those of the patch alone."
        )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm."""
        return spacing_of(self.affine)

    def class_name(self, class_index: int) -> str:
        """Return the name of a class.

        Raises
        ------
        SpecError
            When there is no such class.
        """
        names = ("background", *self.class_names)
        if not 0 <= class_index < len(names):
            raise SpecError(f"There is no class {class_index}.", f"Classes go from 0 to {len(names) - 1}.")
        return names[class_index]

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(C, x, y, z) probabilities."""
        found: NDArray[np.float32] = self.scheme.probabilities(self.logits)
        return found

    # ---- what training did

    def got(self, class_index: int) -> VoxelField:
        """Return the change of a class's log-odds until the next frame, normalised as `asked` is.

        Raises
        ------
        DataError
            When there is no later frame with logits.
        """
        from segexplorer.losses.pull import log_odds, shares

        if self.patch is not None:
            raise DataError(
                "A patch is trained on once, so nothing is known about what training made of it.",
                "Look at the whole case, which is predicted again and again.",
            )
        if self.later is None:
            raise DataError(
                "There is no later prediction of this case, so nothing is known about what training did.",
                "Choose an earlier step, or wait for the next validation.",
            )
        name = self.class_name(class_index)
        values = log_odds(self.later, class_index, self.scheme) - log_odds(
            self.logits, class_index, self.scheme
        )
        title = f"Training did: more or less {name} (steps {self.step} to {self.later_step})"
        true = self.scheme.mask(self.labels, class_index)
        return _voxel_field(title, values, true, shares(values, true), self.approximate)

    def followed(
        self, class_index: int, loss: LossLike = None, *, term: str = "", space: Space = "logits"
    ) -> Followed:
        """Return how far training went where the loss asked it to go.

        Raises
        ------
        DataError
            When there is no later frame with logits.
        """
        from segexplorer.losses.pull import shares

        asked = self.asked(class_index, loss, term=term, space=space).values
        got = self.got(class_index).values
        strength = np.abs(asked)
        total = float(strength.sum(dtype=np.float64))
        name = self.class_name(class_index)
        # the geometric mean keeps the unit of the two, so that one colour scale serves all three
        both = np.sign(asked) * np.sign(got) * np.sqrt(strength * np.abs(got))
        true = self.scheme.mask(self.labels, class_index)
        title = f"Asked and got, {name}: training went as asked, or against it"
        along = float(strength[asked * got > 0].sum(dtype=np.float64)) / total if total else float("nan")
        return Followed(
            _voxel_field(title, both, true, shares(both, true), self.approximate),
            along,
            _rank_correlation(asked, got),
        )

    # ---- one voxel

    def regions(self, loss: LossLike = None) -> RegionReport | None:
        """Return the numbers of a loss per region of this case; None where it has no regions."""
        import torch

        spec = self._spec(loss)
        key = spec.model_dump_json()
        if self._regions.get("of") != key:
            with torch.inference_mode():
                output = self._module(spec).eval().evaluate(*self._inputs(spec))
            reports = region_reports(output)
            report = reports[SHOWN] if reports else None
            if report is not None and self.patch is not None:
                report = replace(self.patch.layout.lift(report), scope=self.patch.scope)
            self._regions.update(of=key, report=report)
        found: RegionReport | None = self._regions["report"]
        return found

    def why(
        self,
        voxel: Sequence[int],
        class_index: int | None = None,
        loss: LossLike = None,
        against: LossLike = AGAINST,
    ) -> str:
        """Return what a loss wants at a voxel, in one to three sentences with numbers.

        Parameters
        ----------
        voxel
            Indices in the grid of `labels`.
        class_index
            None: the true class there; in the background the likeliest other class.
        loss, against
            As for `asked`; the second is what the first is compared with.

        Raises
        ------
        DataError
            When the voxel is outside the volume.
        """
        at = tuple(int(i) for i in voxel)
        if len(at) != 3 or any(not 0 <= i < n for i, n in zip(at, self.labels.shape, strict=True)):
            raise DataError(f"The voxel {at} is outside the volume of {self.labels.shape} voxels.")
        true = int(self.labels[at])
        if true == IGNORED:
            return "This voxel is ignored: no loss asks for anything here."
        if class_index is None:
            there = self.scheme.class_indices(true)
            class_index = there[-1] if there else int(self.logits[(slice(1, None), *at)].argmax()) + 1
        name, spec = self.class_name(class_index), self._spec(loss)
        probability = float(self.probabilities[(class_index, *at)])
        sentences = [
            f"Truth: {self.scheme.name(true, self.class_names)}; probability of {name}: {_number(probability)}."
        ]
        sentences.append(self._pull_sentence(spec, self._spec(against), class_index, at))
        sentences += self._region_sentence(spec, class_index, at)
        if self.approximate:
            sentences.append("Approximate, since probabilities were recorded with 8 bits.")
        return " ".join(sentences)

    def _pull_sentence(self, spec: LossSpec, other: LossSpec, class_index: int, at: tuple[int, ...]) -> str:
        name = self.class_name(class_index)
        own = self.asked(class_index, spec)
        here = float(own.values[at])
        if here == 0:
            sentence = f"{loss_name(spec)} asks for nothing here"
        else:
            sentence = f"{loss_name(spec)} asks for {'more' if here > 0 else 'less'} {name}"
            if other != spec:
                sentence += f", {_compared(here, float(self.asked(class_index, other).values[at]), other)}"
        terms = self.pull_of(spec, terms=True).terms if spec.compound_terms() else {}
        parts = {term: float(values[(class_index, *at)]) for term, values in terms.items()}
        strength = sum(map(abs, parts.values()))
        if strength:
            listed = (
                f"{term.replace('_', ' ')} {'more' if part > 0 else 'less'} ({100 * abs(part) / strength:.0f} %)"
                for term, part in parts.items()
                if part
            )
            sentence += f"; of its terms, {', '.join(listed)}"
        return f"{sentence}."

    def _region_sentence(self, spec: LossSpec, class_index: int, at: tuple[int, ...]) -> list[str]:
        report = self.regions(spec)
        if report is None:
            return []
        region = report.regions.region_at(at)
        if region is None:
            return []
        row = {key: float(values[class_index, region]) for key, values in report.values.items()}
        if not np.isfinite([row["fp"], row["fn"]]).all():
            return [f"The loss skips {self.class_name(class_index)} in this region."]
        inside = report.regions.numbers() == region
        tp = float(
            self.probabilities[class_index][inside & self.scheme.mask(self.labels, class_index)].sum(
                dtype=np.float64
            )
        )
        text = f"Its region has {tp:.0f} voxels right, {row['fp']:.0f} extra and {row['fn']:.0f} missed"
        if np.isfinite([row.get("alpha", np.nan), row.get("beta", np.nan)]).all():
            text += f"; penalties: FP {_number(row['alpha'])}, FN {_number(row['beta'])}"
        if np.isfinite(row.get("share", np.nan)):
            text += f"; {100 * row['share']:.1f} % of the loss"
        return [f"{text}."]


def _rank_correlation(asked: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Return Spearman's correlation, over at most `MOST_RANKED` voxels, evenly spread."""
    from scipy.stats import spearmanr

    pulled = np.flatnonzero(asked.ravel())
    if len(pulled) < 2:
        return float("nan")
    pulled = pulled[:: max(1, len(pulled) // MOST_RANKED)]
    one, other = asked.ravel()[pulled], got.ravel()[pulled]
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def loss_name(spec: LossSpec) -> str:
    """Return how a loss is called in a sentence: of a compound, its terms."""
    terms = [term.name.replace("_", " ") for term in spec.compound_terms()]
    joined = " + ".join(terms)
    return joined[0].upper() + joined[1:] if terms else spec.display_name


def _number(value: float) -> str:
    """Return a number between 0 and 1 with two decimals, and without the zero before the point."""
    text = f"{value:.2f}"
    if text == "0.00" and value > 0:
        return "below .01"
    return text[1:] if text.startswith("0.") else text


def _compared(here: float, there: float, other: LossSpec) -> str:
    """Return how strong a pull is beside that of another loss, both relative to the means of their fields."""
    if there == 0:
        return f"where {loss_name(other)} asks for nothing"
    strength = _times(abs(here / there))
    if here * there < 0:
        asks = "more" if there > 0 else "less"
        return f"{strength} {loss_name(other)}, which asks for {asks}"
    return f"{strength} {loss_name(other)}"


def _times(ratio: float) -> str:
    if 0.8 <= ratio <= 1.25:
        return "about as strongly as"
    return f"{ratio:.2g} times as strongly as" if ratio < 100 else "over 100 times as strongly as"


def _voxel_field(
    title: str, values: NDArray[np.float32], true: NDArray[np.bool_], found: Shares, approximate: bool
) -> VoxelField:
    scaled = _normalised(values)
    mean = float(np.abs(values).mean(dtype=np.float64))
    return VoxelField(title, scaled, mean, _limit(np.abs(scaled), true), found, approximate)


def _normalised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    from segexplorer.losses.pull import normalised

    return normalised(values)


def _spread(first: int, end: int, most: int) -> NDArray[np.intp]:
    """Return at most so many whole numbers from `first` to before `end`, evenly spread."""
    count = min(most, end - first)
    return first + np.asarray((np.arange(count) + 0.5) * (end - first) / max(count, 1), np.intp)


def _leave_room(kept: dict[Any, Any]) -> None:
    """Forget the oldest where one more would be too many."""
    for old in list(kept)[: max(0, len(kept) + 1 - MOST_KEPT)]:
        del kept[old]


def _term_names(spec: LossSpec) -> list[str]:
    return [term.name for term in spec.compound_terms()]


def _limit(strength: NDArray[np.float32], true: NDArray[np.bool_]) -> float:
    """Return `VoxelField.limit` of absolute values; 1 where all are zero."""
    parts = (strength[strength > 0], strength[true])
    found = max((float(np.percentile(part, LIMIT_PERCENTILE)) for part in parts if part.size), default=0.0)
    return found or 1.0


def _triple(spacing: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(mm) for mm in spacing)
    return x, y, z


# ---- from where an explanation is made


def explain_patch(patch: TrainedPatch, *, loss: LossLike = None) -> Explanation:
    """Return the explanation of the patch that a loss last trained on (`Run.show_patch`).

    Parameters
    ----------
    loss
        Another loss to explain it by; None: the one that it was trained with, as it was in that step.
    """
    return Explanation(
        case=patch.case,
        role="train",
        step=patch.step,
        class_names=patch.class_names,
        affine=patch.affine,
        logits=patch.logits[SHOWN],
        labels=patch.labels[SHOWN, 0],
        loss=patch.loss if loss is None else losses.parse(loss),
        loss_state=patch.loss_state if loss is None else {},
        epoch=patch.context.epoch,
        scheme=patch.scheme,
        patch=patch,
    )


def explain_arrays(
    label: NDArray[Any],
    *,
    logits: NDArray[Any] | None = None,
    probabilities: NDArray[Any] | None = None,
    loss: LossLike = "cross_entropy",
    class_names: Sequence[str] = (),
    affine: NDArray[np.float64] | None = None,
    later: NDArray[Any] | None = None,
    scheme: LabelScheme = EXCLUSIVE,
) -> Explanation:
    """Return the explanation of a prediction that is given as arrays.

    Parameters
    ----------
    label
        (x, y, z) label indices, 255 for ignored voxels.
    logits
        (C, x, y, z), background first; 0 for the background of classes that overlap.
    probabilities
        The same as probabilities: floats from 0 to 1, or uint8 with 255 for 1; instead of logits.
    affine
        (4, 4) voxel -> RAS mm; None: voxels of 1 mm.
    later
        Logits or probabilities of a later prediction, as the other, for `Explanation.got`.
    scheme
        What the label indices mean, where classes overlap.

    Raises
    ------
    DataError
        When arrays are missing or do not fit one another.
    """
    if (logits is None) == (probabilities is None):
        raise DataError("An explanation needs logits or probabilities.", "Give one of the two.")
    given = np.asarray(logits if logits is not None else probabilities)
    truth = np.asarray(label)
    if given.ndim != 4 or truth.shape != given.shape[1:] or len(given) < 2:
        raise DataError(
            f"The prediction has shape {given.shape} and the label {truth.shape}.",
            "Give (classes, x, y, z) with the background first, and (x, y, z).",
        )
    if class_names and len(class_names) != len(given) - 1:
        raise DataError(f"There are {len(class_names)} class names for {len(given) - 1} classes.")
    if later is not None and np.shape(later) != given.shape:
        raise DataError(f"The later prediction has shape {np.shape(later)}, the first {given.shape}.")
    as_given = logits is not None
    return Explanation(
        case="",
        role="test",
        step=0,
        class_names=tuple(class_names) or tuple(f"class {i}" for i in range(1, len(given))),
        affine=np.eye(4) if affine is None else np.asarray(affine, np.float64),
        logits=np.asarray(given, np.float32) if as_given else logits_from_probabilities(given, scheme),
        labels=_labels(truth, scheme.indices(len(given) - 1)),
        scheme=scheme,
        loss=losses.parse(loss if loss is not None else "cross_entropy"),
        approximate=not as_given and given.dtype == np.uint8,
        later=None
        if later is None
        else (
            np.asarray(later, np.float32)
            if as_given
            else logits_from_probabilities(np.asarray(later), scheme)
        ),
    )


def _labels(given: NDArray[Any], classes: int) -> NDArray[np.uint8]:
    known = np.isin(given, [*range(classes), IGNORED])
    if not known.all():
        raise DataError(
            f"The label holds {given[~known][0]}, which is no class index.",
            f"Give indices from 0 to {classes - 1}, and {IGNORED} for voxels that do not count.",
        )
    return np.asarray(given, np.uint8)


def logits_from_probabilities(
    probabilities: NDArray[Any], scheme: LabelScheme = EXCLUSIVE
) -> NDArray[np.float32]:
    """Return logits that have these probabilities, (C, x, y, z); uint8 counts 255 as 1.

    A probability of 0 has no finite logarithm: of 8 bits it is taken for half a step, of floats for the smallest
    float32.
    """
    if probabilities.dtype == np.uint8:
        found, least = probabilities.astype(np.float32) / 255, np.float32(SMALLEST_PROBABILITY)
    else:
        found, least = np.asarray(probabilities, np.float32), np.finfo(np.float32).tiny
    most = 1 - max(least, np.finfo(np.float32).epsneg) if scheme.overlapping else 1.0
    return scheme.logits(np.clip(found, least, most))


def explain_run(
    folder: str | Path, *, role: Role = "validation", step: int | None = None, loss: LossLike = None
) -> Explanation:
    """Return the explanation of a watched case of a run, whether it still trains or not.

    Parameters
    ----------
    role
        "validation" or "train": which of the watched cases.
    step
        Step of a recorded frame; None: the newest.
    loss
        Another loss to explain it by; None: the run's own.

    Raises
    ------
    DataError
        When the run has no such frame, its data is not here, or its prediction was not recorded.
    """
    record = open_run(folder)
    frames = record.watched(role)
    if not frames:
        raise DataError(
            f"{record.folder.name} has no recorded prediction of a {role} case yet.",
            "Wait for the first validation.",
        )
    steps = [frame.step for frame in frames]
    if step is not None and step not in steps:
        raise DataError(
            f"There is no frame of step {step}.", f"Choose one of {', '.join(map(str, steps[:20]))}."
        )
    place = len(frames) - 1 if step is None else len(steps) - 1 - steps[::-1].index(step)
    after = frames[place + 1] if place + 1 < len(frames) else None
    return explain_frame(record, frames[place], after, loss=loss)


def explain_frame(
    record: RunRecord, frame: HistoryFrame, after: HistoryFrame | None = None, *, loss: LossLike = None
) -> Explanation:
    """Return the explanation of a recorded frame; `after` is the one that `got` leads to. See `explain_run`."""
    return explain_snapshot(record, frame.load(), None if after is None else after.load(), loss=loss)


def explain_snapshot(
    record: RunRecord,
    snapshot: WatchedSnapshot,
    after: WatchedSnapshot | None = None,
    *,
    loss: LossLike = None,
    known: Explanation | None = None,
) -> Explanation:
    """Return the explanation of a watched case as a live run or its history gives it; see `explain_run`.

    Parameters
    ----------
    known
        An explanation of the same run and case at another step, whose label need not be read again.
    """
    exact = snapshot.logits is not None and snapshot.logits_affine is not None
    if exact:
        logits = np.asarray(snapshot.logits, np.float32)
    elif snapshot.all_probabilities is not None:
        logits = logits_from_probabilities(snapshot.all_probabilities, snapshot.scheme)
    else:
        raise DataError(
            f"Step {snapshot.step} recorded neither logits nor probabilities.",
            "Set validation.logits_mb above 0 and train on.",
        )
    if known is not None and known.case == snapshot.case and known.approximate != exact:
        labels, affine = known.labels, known.affine
    else:
        labels, affine = _label_of(record, snapshot, exact=exact)
    if labels.shape != logits.shape[1:]:
        raise DataError(f"The label of {snapshot.case} is no longer the one that the run was trained with.")
    later = None
    if after is not None and after.case == snapshot.case:
        if exact and after.logits is not None:
            later = np.asarray(after.logits, np.float32)
        elif not exact and after.all_probabilities is not None:
            later = logits_from_probabilities(after.all_probabilities, snapshot.scheme)
    own = loss_at(record, snapshot.step)
    return Explanation(
        case=snapshot.case,
        role=snapshot.role,
        step=snapshot.step,
        class_names=snapshot.class_names,
        scheme=snapshot.scheme,
        affine=affine,
        logits=logits,
        labels=labels,
        loss=own if loss is None else losses.parse(loss),
        loss_state=snapshot.loss_state if loss is None else {},
        approximate=not exact,
        later=later,
        later_step=0 if after is None else after.step,
        badge=snapshot.badge,
    )


def _case_ref(record: RunRecord, case: str) -> CaseRef:
    found = next((ref for ref in record.experiment.data.cases() if ref.id == case), None)
    if found is None or found.label is None:
        raise DataError(
            f"The case {case} or its label is not on this computer.",
            "An explanation needs the truth; open the run where its data is.",
        )
    return found


def _label_of(
    record: RunRecord, snapshot: WatchedSnapshot, *, exact: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the label of a watched case on the grid of its logits, or on its own, and the grid's affine."""
    case = _case_ref(record, snapshot.case).open()
    assert case.label is not None
    if exact and record.recorded is None:
        return _training_label(record, case)
    data = record.experiment.data
    classes = data.class_map()
    return classes.encode(np.asarray(case.label.array)), snapshot.affine


def _training_label(record: RunRecord, case: Case) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the label of a case as it was trained with, and its affine."""
    checkpoint, _ = open_checkpoint(record.folder / "checkpoints", "last")
    fitted = FittedPreprocessing.of(checkpoint.meta["preprocessing"])
    prepared = fitted.apply(case, ClassMap.of(checkpoint.meta["classes"]))
    assert prepared.label is not None
    return prepared.label, prepared.affine


def loss_at(record: RunRecord, step: int) -> LossSpec:
    """Return the loss of a run as it was after `step` optimiser steps, live changes included."""
    return effective_at(record.experiment, step).loss
