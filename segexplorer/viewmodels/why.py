"""Why: what a loss asks for in the case that is displayed, what training then did, who paid, and why at one voxel.

A `Question` is what the user wants to know and part of what is displayed; a `WhyRequest` is answered by a worker
with an `Answer`: the map that is drawn over the case, where the pull is, and a sentence about the voxel that was
clicked.
The prediction itself is never changed by a question about the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import Role
from segexplorer.data.geometry import Grid
from segexplorer.data.volume import Volume
from segexplorer.losses.base import LossSpec, penalty_range
from segexplorer.losses.base import registry as losses
from segexplorer.training.explanation import AGAINST, LIMIT_PERCENTILE, Explanation, VoxelField, loss_name
from segexplorer.training.paid import Payment, RegionChange, compare_snapshots
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.layer_images import Picture, picture_of
from segexplorer.viewmodels.watched_case import words_of

Look = Literal["asked", "got", "both", "penalties", "paid"]
LOOKS: dict[Look, str] = {
    "asked": "Asked",
    "got": "Got",
    "both": "Both",
    "penalties": "Penalties",
    "paid": "Paid",
}
"""What may be drawn, and how it is called."""
MEANINGS: dict[Look, str] = {
    "asked": "What the loss asks for at each voxel: minus its gradient. Teal: more of the class, brown: less.",
    "got": "What training did until the next prediction: the change of the log-odds of the class.",
    "both": "Where training went as the loss had asked (teal), and where it went against it (brown).",
    "penalties": "In which regions the loss punishes missed voxels more (teal), and where extra ones (brown). It "
    "follows the parameters of the loss; extra and missed volumes do not depend on them.",
    "paid": "What the last steps paid: regions with fewer errors than before (teal), and with more (brown).",
}
ENDS: dict[Look, tuple[str, str]] = {
    "asked": ("less", "more"),
    "got": ("less", "more"),
    "both": ("against it", "as asked"),
    "penalties": ("extra costs more", "missed costs more"),
    "paid": ("more errors", "fewer errors"),
}
"""What the two ends of the colours mean."""
PULL = "pull"
"""Key of the layer."""
PIECE_S = 0.25
"""So long a large map is worked on before it is looked which slices are seen by now."""
THERE = "this slice is exact; the rest follows"
"""About a slice of a map whose other slices are not there yet."""
MOST_CHANGES = 4
"""So many regions that improved, and that paid, are listed."""
Space = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Question:
    """What is asked about the loss.

    Attributes
    ----------
    look
        What is drawn; None: nothing.
    loss
        Another loss, or the run's own with other parameters; None: the run's own as it was at that step.
    term
        One term of a compound; "": their sum.
    space
        With respect to the logits, or to the probabilities ("before softmax").
    against
        What it is compared with; None: cross entropy.
    place
        (z, y, x) in mm of the voxel that was clicked.
    since
        Step of the earlier prediction that "paid" compares with; None: the one before.
    """

    look: Look | None = None
    loss: LossSpec | None = None
    term: str = ""
    space: Space = "logits"
    against: LossSpec | None = None
    place: tuple[float, float, float] | None = None
    since: int | None = None

    @property
    def asks(self) -> bool:
        """Whether there is anything to answer."""
        return self.look is not None or self.place is not None

    @property
    def other(self) -> LossSpec:
        """The loss to compare with."""
        return losses.parse(AGAINST) if self.against is None else self.against


def pull_ticks(limit: float) -> tuple[str, ...]:
    """Return the numbers at both ends of the colours, at 0, and half way between in strength: a quarter."""
    quarter = f"{limit / 4:.2g}"
    return f"−{limit:.3g}", f"−{quarter}", "0", f"+{quarter}", f"+{limit:.3g}"


@dataclass(frozen=True)
class PullScale:
    """The scale of a map of the loss, as a colour bar draws it: by the square root; see `regions.Scale`.

    Attributes
    ----------
    title, scope
        What is mapped, and of which prediction.
    limit
        Value at the upper end; the lower one is its opposite.
    ends
        What the lower and the upper end mean.
    """

    title: str
    scope: str
    limit: float
    ends: tuple[str, str]
    note: str = "in means of the field; square-root scale"
    quantity: Literal["pull"] = "pull"

    @property
    def colours(self) -> NDArray[np.float32]:
        """(n, 4) colours from the lower end to the upper, as transparent as in the map."""
        return colours.pull(31)

    @property
    def ticks(self) -> tuple[str, ...]:
        """Numbers below the bar, evenly spaced from its lower end to its upper."""
        return pull_ticks(self.limit)


@dataclass(frozen=True)
class WhyRequest:
    """What a worker is to answer. Equal requests have equal answers.

    Attributes
    ----------
    run, role, case, step
        Which prediction.
    later
        Step of the prediction that "got" leads to; None where there is none yet.
    class_index
        None: the class with the most wrong voxels.
    question
        What is asked.
    load
        Makes the explanation, perhaps from one of another step of the same case.
    earlier
        Step of the prediction that "paid" compares with; None where there is none before, or it is not asked.
    steps
        Steps of all predictions before, for "paid".
    pair
        Reads the earlier prediction and the one that is displayed.
    patch
        Whether it is of the patch that was trained on in that step, and not of the whole case.
    visible
        Axis (0 = z, 1 = y, 2 = x) and place, mm, of the slices that are seen, the main view's first. They come
        first where the whole case takes long; without any it comes at once.
    """

    run: str
    role: Role
    case: str
    step: int
    later: int | None
    class_index: int | None
    question: Question
    load: Callable[[Explanation | None], Explanation] = field(compare=False, repr=False)
    earlier: int | None = None
    steps: tuple[int, ...] = field(default=(), compare=False)
    pair: Callable[[], tuple[WatchedSnapshot, WatchedSnapshot]] | None = field(
        default=None, compare=False, repr=False
    )
    patch: bool = False
    visible: tuple[tuple[int, float], ...] = field(default=(), compare=False)

    @property
    def subject(self) -> tuple[Any, ...]:
        """What an answer must have in common with the request to be shown for it, until its own is ready."""
        question = self.question
        of = self.run, self.role, self.case, self.patch and self.step
        return *of, self.class_index, question.look, question.space

    def is_same_prediction(self, other: WhyRequest) -> bool:
        """Whether both are about the same voxels, and what became of them."""
        names = ("run", "role", "case", "step", "later", "patch")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def answer(self, before: tuple[WhyRequest, Answer] | None = None) -> Answer:
        """Answer it; slow, for a worker.

        Parameters
        ----------
        before
            The last request and its answer: the same prediction is not read again, and a map whose question has not
            changed is kept.
        """
        if self.question.look == "paid" and self.question.place is None:
            return _paid(self, before)
        known = None
        if before is not None and before[1].explanation is not None:
            known = before[1].explanation
            if self.is_same_prediction(before[0]):
                return answer(known, self, before)
            if (before[0].run, before[0].case) != (self.run, self.case):
                known = None
        try:
            explanation = self.load(known)
        except SegExplorerError as error:
            return Answer(self.class_index or 1, problem=str(error))
        return answer(explanation, self, before)


@dataclass(frozen=True)
class ShareRow:
    """Where the pull of a loss on the class is, in shares; a row of the small table."""

    title: str
    inside: float
    boundary: float
    elsewhere: float

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """What is written in the row."""
        return self.title, _percent(self.inside), _percent(self.boundary), _percent(self.elsewhere)


def _percent(share: float) -> str:
    if share != share:
        return "none"
    # of a small lesion, which loss pulls there more is told by parts of a per cent
    if 0 < share < 0.01:
        return f"{100 * share:.2g} %"
    return f"{100 * share:.1f} %" if 0.99 < share < 0.9995 else f"{100 * share:.0f} %"


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes
    ----------
    class_index
        Which class it is about.
    class_name
        Its name.
    explanation
        What was asked; None where it could not be made.
    title
        What the map shows.
    picture
        The map; None without one.
    limit
        Value at the end of its colours, in means of the field.
    shares
        Where the pull is: of the loss asked about, and of the one it is compared with.
    finding
        A sentence about the map: the value of the loss, or how far training followed.
    sentence
        About the voxel that was clicked.
    terms
        Terms of the loss that may be chosen.
    loss
        The loss that was asked about.
    problem
        Why there is no map or sentence.
    changes
        Of "paid": the regions that improved most, and those that paid most, the most improved first.
    since, steps
        Of "paid": the step that is compared with, and those that may be.
    partial
        Whether the whole map is not there yet: the same request, asked again, brings more of it.
    slices
        Of a partial answer: (axis, index) of the slices that are there, of the (x, y, z) of the explanation.
    done
        Of a partial answer: which share of all that is computed for it is there.
    all_at_once
        Of a partial answer: the loss that looks at all voxels at once, so that no slice can come first; else "".
    kept
        Of a partial answer: the limit of the colours that was kept from before; None where it is estimated.
    """

    class_index: int
    class_name: str = ""
    explanation: Explanation | None = None
    title: str = ""
    picture: Picture | None = None
    limit: float = 1.0
    shares: tuple[ShareRow, ...] = ()
    finding: str = ""
    sentence: str = ""
    terms: tuple[str, ...] = ()
    loss: LossSpec | None = None
    problem: str = ""
    changes: tuple[RegionChange, ...] = ()
    since: int | None = None
    steps: tuple[int, ...] = ()
    partial: bool = False
    slices: frozenset[tuple[int, int]] = frozenset()
    done: float = 0.0
    all_at_once: str = ""
    kept: float | None = None

    @property
    def progress(self) -> str:
        """How far a partial answer is, in a sentence; "" for a whole one."""
        if not self.partial:
            return ""
        if self.all_at_once:
            return (
                f"{self.all_at_once} looks at all voxels at once, so no slice can come first: the map of the "
                "whole case is being computed."
            )
        return (
            f"The slices that are seen are there first, exact; {100 * self.done:.0f} % of the whole map is "
            "computed. Shares and value follow."
        )

    def slice_notes(self, visible: Sequence[tuple[int, float]]) -> dict[int, str]:
        """Return axis (0 = z, 1 = y, 2 = x) -> what must be known of the map on the slice that is seen across it.

        Parameters
        ----------
        visible
            As of `WhyRequest`.
        """
        if not self.partial or self.explanation is None:
            return {}
        found = {}
        for axis, mm in visible:
            place = slice_at(self.explanation, axis, mm)
            if place is not None and self.all_at_once:
                found[axis] = "all voxels at once: being computed"
            elif place is not None:
                found[axis] = THERE if place in self.slices else "this slice follows"
        return found


def answer(
    explanation: Explanation, request: WhyRequest, before: tuple[WhyRequest, Answer] | None = None
) -> Answer:
    """Answer a request about an explanation; what cannot be answered becomes its `problem`.

    Parameters
    ----------
    before
        The last request and its answer; limits of colours are kept while the same sort of map is looked at, so that
        neither the slider of the history nor that of a parameter changes what a colour means.
    """
    question = request.question
    index = request.class_index or most_wrong(explanation)
    spec = explanation.loss if question.loss is None else question.loss
    found = Answer(
        index,
        explanation.class_name(index),
        explanation,
        loss=spec,
        terms=tuple(term.name for term in spec.compound_terms()),
    )
    if question.term and question.term not in found.terms:
        question = replace(question, term="")
    try:
        if question.look == "paid":
            paid = _paid(request, before)
            found = replace(
                paid, class_index=index, class_name=found.class_name, explanation=explanation, loss=spec
            )
        elif question.look == "penalties":
            found = _with_penalties(found, question, _kept_limit(request, index, before))
        elif question.look is not None:
            limit = _kept_limit(request, index, before)
            first = _with_slices(found, question, limit, request, before)
            if first is not None:
                return first
            found = _with_map(found, question, limit)
        if question.place is not None:
            found = replace(found, sentence=_sentence(explanation, question, index))
    except SegExplorerError as error:
        found = replace(found, problem=str(error))
    return found


def _paid(request: WhyRequest, before: tuple[WhyRequest, Answer] | None) -> Answer:
    """Answer which regions of the case improved between two of its predictions, and which paid."""
    kept = None if before is None or not request.is_same_prediction(before[0]) else before[1].explanation
    found = Answer(request.class_index or 1, explanation=kept, since=request.earlier, steps=request.steps)
    if request.patch:
        said = "A patch is trained on once, so nothing says what it paid. Look at the whole case."
        return replace(found, problem=said)
    if request.pair is None:
        said = "There is no earlier prediction of this case to compare with. Choose a later step."
        return replace(found, problem=said)
    try:
        earlier, shown = request.pair()
        payment = compare_snapshots(earlier, shown)
    except SegExplorerError as error:
        return replace(found, problem=str(error))
    index = request.class_index or _most_changed(payment, len(shown.class_names))
    name = shown.class_names[index - 1]
    values = -np.nan_to_num(payment.report.values["change"][index])
    some = np.abs(values[values != 0])
    end = _kept_limit(request, index, before)
    if end is None:
        end = float(np.percentile(some, LIMIT_PERCENTILE)) if some.size else 1.0
    painted = np.nan_to_num(-payment.report.paint("change")[index]).astype(np.float32)
    title = f"Steps {payment.before} to {payment.after}: {name}"
    picture = picture_of(
        PULL,
        "image",
        f"paid, {name} ({words_of(payment.case, payment.role, shown.badge)}, step {payment.after})",
        Volume.from_array(painted, affine=payment.affine),
        within=Grid(shown.prediction.shape, shown.affine),
        contrast_limits=(-end, end),
        contrast_range=(-end, end),
        colours="pull",
        colour_scale=PullScale(
            title, payment.report.scope, end, ENDS["paid"], note="ml of errors per region"
        ),
    )
    worst = tuple(reversed(payment.paid(name)[:MOST_CHANGES]))
    return replace(
        found,
        class_index=index,
        class_name=name,
        title=title,
        picture=picture,
        limit=end,
        finding=payment.sentence(name),
        changes=(*payment.improved(name)[:MOST_CHANGES], *worst),
    )


def _most_changed(payment: Payment, classes: int) -> int:
    """Return the class whose errors changed most, in both directions together."""
    sums = [
        math.fsum(abs(c.change_ml) for c in payment.changes if c.class_index == index)
        for index in range(1, classes + 1)
    ]
    return sums.index(max(sums)) + 1


def most_wrong(explanation: Explanation) -> int:
    """Return the foreground class with the most wrong voxels; the first where none is wrong."""
    scheme = explanation.scheme
    predicted = scheme.decide_logits(explanation.logits)
    return scheme.most_wrong(predicted, explanation.labels, len(explanation.class_names))


def _kept_limit(request: WhyRequest, index: int, before: tuple[WhyRequest, Answer] | None) -> float | None:
    if before is None or before[1].class_index != index:
        return None
    if before[1].picture is None and not before[1].partial:
        return None
    limit = before[1].kept if before[1].partial else before[1].limit
    old, new = before[0], request
    same = (old.run, old.patch, old.question.look, old.question.space) == (
        new.run,
        new.patch,
        new.question.look,
        new.question.space,
    )
    return limit if same else None


def _with_slices(
    found: Answer,
    question: Question,
    limit: float | None,
    request: WhyRequest,
    before: tuple[WhyRequest, Answer] | None,
) -> Answer | None:
    """Return the answer with the slices that are seen, where the whole map takes long; None once that is there.

    Each call brings the slices that came into sight since the one before, or else goes on with the rest.
    """
    explanation, index = found.explanation, found.class_index
    assert explanation is not None
    asked: dict[str, Any] = {"term": question.term, "space": question.space}
    earlier = before[1] if before is not None and before[0] == request and before[1].partial else None
    if question.look != "asked" or (earlier is None and not explanation.is_slow(question.loss, **asked)):
        return None
    places = (slice_at(explanation, axis, mm) for axis, mm in request.visible)
    visible = [place for place in places if place is not None]
    if earlier is None and not visible:
        return None
    name = explanation.needs_all_voxels(question.loss, term=question.term)
    if name:
        waiting = replace(found, partial=True, all_at_once=name, kept=limit)
        return waiting if earlier is None else None
    there = frozenset() if earlier is None else earlier.slices
    done = 0.0 if earlier is None else earlier.done
    if earlier is not None and there.issuperset(visible):
        done = explanation.advance(index, _pulls_of(question), PIECE_S, question.space)
        return replace(earlier, done=done) if done < 1 else None
    there = there.union(visible)
    shown = explanation.asked_on_slices(index, tuple(there), question.loss, **asked)
    assert shown is not None
    # before the softmax the mean hangs on few voxels, and a sample of slices misses them
    end = shown.limit if limit is None or question.space == "probabilities" else limit
    note = "the slices that are seen; the rest follows"
    picture = _picture(explanation, shown.title, shown.values, "asked", found.class_name, end, note)
    return replace(
        found,
        title=shown.title,
        picture=picture,
        limit=end,
        partial=True,
        slices=there,
        done=done,
        kept=limit,
    )


def _pulls_of(question: Question) -> list[tuple[LossSpec | None, str]]:
    """Return loss and term of every pull that `_with_map` looks at, so that none of them stops the work at once."""
    own = [(None, "")] if question.loss is not None and not question.term else []
    return list(
        dict.fromkeys([(question.loss, question.term), (question.loss, ""), (question.other, ""), *own])
    )


def slice_at(explanation: Explanation, axis: int, mm: float) -> tuple[int, int] | None:
    """Return axis and index, of (x, y, z), of a slice at z, y or x mm; None outside of the case."""
    affine, world = explanation.affine, 2 - axis
    middle = np.append((np.asarray(explanation.labels.shape) - 1) / 2, 1.0)
    point = affine @ middle
    point[world] = mm
    along = int(np.abs(affine[world, :3]).argmax())
    place = int(np.rint(np.linalg.solve(affine, point)[along]))
    return (along, place) if 0 <= place < explanation.labels.shape[along] else None


def _with_map(found: Answer, question: Question, limit: float | None) -> Answer:
    explanation, index = found.explanation, found.class_index
    assert explanation is not None and question.look is not None
    given: dict[str, Any] = {"term": question.term, "space": question.space}
    asked = explanation.asked(index, question.loss, **given)
    rows = [_row(_loss_title(explanation, question), asked)]
    if found.loss != question.other or question.term:
        compared = explanation.asked(index, question.other, space=question.space)
        rows.append(_row(loss_name(question.other), compared))
    shown, finding = asked, ""
    if question.look == "asked":
        value = explanation.pull_of(question.loss, space=question.space).value
        finding = (
            f"{_loss_title(explanation, replace(question, term=''))} on {_asked_of(explanation)}: {value:.4g}"
        )
        finding += _ratio_of_pulls(explanation, question, index)
        finding += f". {explanation.remark(question.loss)}".rstrip(". ")
    elif question.look == "got":
        shown = explanation.got(index)
        rows.insert(0, _row("Training", shown))
    else:
        followed = explanation.followed(index, question.loss, **given)
        shown = followed.field
        finding = f"Training went as asked for {100 * followed.share:.0f} % of the pull (chance: 50 %)."
        if np.isfinite(followed.rank_correlation):
            finding += f" Rank correlation of asked and got: {followed.rank_correlation:.2f}."
    if limit is not None:
        end = limit
    elif question.look == "asked":
        end = explanation.limit(index, question.loss, against=question.other, **given)
    else:
        end = shown.limit
    return replace(
        found,
        title=shown.title,
        picture=_picture(explanation, shown.title, shown.values, question.look, found.class_name, end),
        limit=end,
        shares=tuple(rows),
        finding=finding,
    )


def _with_penalties(found: Answer, question: Question, limit: float | None) -> Answer:
    """Return the answer with the map of FN penalty less FP penalty over the regions of the loss that is asked."""
    explanation, index, spec = found.explanation, found.class_index, found.loss
    assert explanation is not None and spec is not None
    report = explanation.regions(spec)
    if report is None or not {"alpha", "beta"} <= report.values.keys():
        raise DataError(
            f"{loss_name(spec)} has no penalties per region.",
            "Choose a region-wise loss under “What if: the loss”.",
        )
    differences = report.values["beta"][index] - report.values["alpha"][index]
    known = differences[np.isfinite(differences)]
    span = penalty_range(spec)
    end = limit if limit is not None else (span[1] - span[0] if span is not None else 1.0)
    painted = np.nan_to_num(report.paint("beta")[index] - report.paint("alpha")[index]).astype(np.float32)
    title = f"{_loss_title(explanation, question)} penalises {found.class_name}: FN less FP"
    text = f"{title.partition(' penalises')[0]} skips {found.class_name} in every region."
    if known.size:
        text = (
            f"FN penalty less FP penalty over {known.size} regions: from {known.min():+.2f} to {known.max():+.2f}, "
            f"median {float(np.median(known)):+.2f}."
        )
    picture = _picture(
        explanation, title, painted, "penalties", found.class_name, end, note="FN penalty less FP penalty"
    )
    return replace(found, title=title, picture=picture, limit=end, finding=text)


def _asked_of(explanation: Explanation) -> str:
    """Return what the value of a loss is of."""
    if explanation.patch is None:
        return "this case"
    size = len(explanation.patch.logits)
    return "this patch" if size == 1 else f"this batch of {size} patches"


def _ratio_of_pulls(explanation: Explanation, question: Question, index: int) -> str:
    """Return how strong the whole pull is beside that of the run's own loss, where another one is asked about."""
    if question.loss is None or question.term:
        return ""
    own = explanation.strength(index, space=question.space)
    asked = explanation.strength(index, question.loss, space=question.space)
    return f"; its pull is {asked / own:.2g} times that of the run's own loss" if own and asked else ""


def _loss_title(explanation: Explanation, question: Question) -> str:
    spec = explanation.loss if question.loss is None else question.loss
    if question.term:
        return question.term.replace("_", " ").capitalize()
    if spec == explanation.loss and explanation.role != "test":
        return "The run's loss"
    changed = spec != explanation.loss and loss_name(spec) == loss_name(explanation.loss)
    return "Changed loss" if changed else loss_name(spec)


def _row(title: str, of: VoxelField) -> ShareRow:
    return ShareRow(title, of.shares.inside, of.shares.boundary, of.shares.elsewhere)


def _picture(
    explanation: Explanation,
    title: str,
    values: NDArray[np.float32],
    look: Look,
    name: str,
    limit: float,
    note: str = PullScale.note,
) -> Picture:
    low, high = ENDS[look]
    about = ", approximate: from probabilities of 8 bits" if explanation.approximate else ""
    of = words_of(explanation.case, explanation.role, explanation.badge)
    if explanation.role != "test":  # what other programs predicted has no step here
        of = f"{of}, step {explanation.step}"
    grid = Grid(explanation.labels.shape, explanation.affine)
    scope = f"{of}, whole case" if explanation.patch is None else f"{of}, this patch, training mode"
    return picture_of(
        PULL,
        "image",
        f"{LOOKS[look].lower()}, {name} ({of})",
        Volume.from_array(values, affine=explanation.affine),
        within=grid,
        contrast_limits=(-limit, limit),
        contrast_range=(-limit, limit),
        colours="pull",
        colour_scale=PullScale(title, f"{scope}{about}", limit, (low, high), note),
    )


def _sentence(explanation: Explanation, question: Question, index: int) -> str:
    assert question.place is not None
    at = voxel_at(explanation.affine, question.place, explanation.labels.shape)
    return explanation.why(at, index, question.loss, question.other)


def voxel_at(
    affine: NDArray[np.float64], world: Sequence[float], shape: Sequence[int]
) -> tuple[int, int, int]:
    """Return the voxel at (z, y, x) RAS mm.

    Raises
    ------
    DataError
        When the point is outside.
    """
    point = np.append(np.asarray(world, dtype=float)[::-1], 1.0)
    place = np.rint(np.linalg.solve(affine, point)[:3]).astype(int)
    if (place < 0).any() or (place >= np.asarray(shape)).any():
        raise DataError("The loss saw nothing at this point.", "Click inside the case.")
    x, y, z = (int(i) for i in place)
    return x, y, z
