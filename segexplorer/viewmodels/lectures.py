"""Lectures: what to predict, what to click, what is seen, step by step, over a recorded run.

The window shows these steps beside the run, `scripts/write_pages.py` prints them into the pages of the tutorial,
and a test carries them out. Each step knows from the screen whether it has been followed, so that its words cannot
part from the window unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segexplorer.core.errors import SpecError
from segexplorer.losses.base import LossSpec
from segexplorer.training.lecture_runs import REWARDED, Recording
from segexplorer.viewmodels.displayed import Screen
from segexplorer.viewmodels.why import voxel_at


@dataclass(frozen=True)
class Step:
    """One step of a lecture; texts may have **bold** parts.

    Attributes
    ----------
    predict
        The question, asked before anything is clicked.
    do
        What to click.
    answer
        What is seen then, and why.
    reached
        Whether a screen shows what the step leads to.
    """

    predict: str
    do: str
    answer: str
    reached: Callable[[Screen], bool] = field(repr=False)


@dataclass(frozen=True)
class Lecture:
    """A sequence of steps over one recorded run.

    Attributes
    ----------
    name, title
        How it is called, by commands and on the screen.
    about
        One sentence.
    recording
        The run that it shows.
    steps
        In order.
    """

    name: str
    title: str
    about: str
    recording: Recording
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Place:
    """How far a reader is in a lecture.

    Attributes
    ----------
    lecture, number
        Which, and the index of its step.
    answered
        Whether the answer of the step has been asked for.
    """

    lecture: Lecture
    number: int = 0
    answered: bool = False

    @property
    def step(self) -> Step:
        """The step."""
        return self.lecture.steps[self.number]

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        return self.number == len(self.lecture.steps) - 1

    @property
    def heading(self) -> str:
        """Return "Step 2 of 6"."""
        return f"Step {self.number + 1} of {len(self.lecture.steps)}"

    def moved(self, way: int) -> Place:
        """Return the next (1) or previous (-1) step, its answer hidden; the same at either end."""
        number = min(max(self.number + way, 0), len(self.lecture.steps) - 1)
        return self if number == self.number else Place(self.lecture, number)

    def revealed(self) -> Place:
        """Return the same with its answer."""
        return Place(self.lecture, self.number, answered=True)


# ---- what a screen shows


def _asks(screen: Screen, *, term: str = "", space: str = "logits") -> bool:
    """Whether the map shows what a loss asks for, and is there."""
    question = screen.displayed.question
    here = question.look == "asked" and question.term == term and question.space == space
    return here and _is_answered(screen)


def _is_answered(screen: Screen) -> bool:
    """Whether the map that was asked for is there."""
    return screen.why_request is None and screen.answer is not None and screen.answer.picture is not None


def _loss(screen: Screen) -> LossSpec | None:
    return None if screen.answer is None else screen.answer.loss


def _asked_truth(screen: Screen) -> int | None:
    """Return the true class at the voxel that was clicked; None where none was, or it was not answered."""
    found, place = screen.answer, screen.displayed.question.place
    if found is None or place is None or found.explanation is None or not found.sentence:
        return None
    explanation = found.explanation
    return int(explanation.labels[voxel_at(explanation.affine, place, explanation.labels.shape)])


# ---- a loss that rewards errors


def _rewarding(screen: Screen, *, a: float, detach: bool) -> bool:
    loss = _loss(screen)
    return (
        _asks(screen)
        and getattr(loss, "a", None) == a
        and getattr(loss, "b", None) == 0.4
        and getattr(loss, "detach", None) == detach
    )


REWARDS = Lecture(
    "rewarded-errors",
    "A loss that rewards errors",
    "Two penalties that are never negative, and a gradient that asks for more errors.",
    REWARDED,
    (
        Step(
            "The adaptive region loss (Chen 2023) raises the penalty of whichever error dominates in a box: FP "
            "penalty = A + B · FP / (FP + FN), FN penalty = A + B · FN / (FP + FN), here with A = .3 and B = .4. "
            "The prediction was made up: half of the spleen is missed, and nothing else is wrong. What are the "
            "two penalties in a box of misses only?",
            "In the tab **Why**, choose **Asked**. Then click a voxel in the **missed half** of the spleen (blue "
            "in the tab *Inspect*).",
            "FP .3 and FN .7, as the formula promises: the sentence below *Why this voxel* ends with them. The "
            "loss asks for more spleen there, and for less outside (brown).",
            lambda screen: _rewarding(screen, a=0.3, detach=True) and _asked_truth(screen) == 1,
        ),
        Step(
            "So far the penalties were *held fixed*: they are computed from FP and FN, but no gradient runs "
            "through them. The public code lets it run. Neither penalty is ever negative. Can that do any harm?",
            "Open **What if: the loss**, open **Advanced** in it, and untick **Hold penalties fixed**.",
            "It can. In the boxes that hold the missed half, voxels *outside* of the spleen turn teal: there the "
            "loss asks for **more** errors. Each new surplus voxel lowers the FN penalty, which weighs all missed "
            "voxels. Where FP is under 7 % of FN, that gain is larger than the cost of the voxel itself: its "
            "weight is A + B (x² + 2x − 1) / (1 + x)² with x = FP / FN, near x = 0 that is A − B.",
            lambda screen: _rewarding(screen, a=0.3, detach=False),
        ),
        Step(
            "The penalties that are shown for these boxes are still FP .3 and FN .7. What has to change, A or B, "
            "and to what, so that no error is rewarded?",
            "In the same form set **Base penalty A** to **0.4**.",
            "A of at least B cures it: outside, nothing is teal any more. So does holding the penalties fixed, "
            "which is the default here. Read the gradient, not the formula.",
            lambda screen: _rewarding(screen, a=0.4, detach=False),
        ),
    ),
)
LECTURES: Mapping[str, Lecture] = {found.name: found for found in (REWARDS,)}


def lecture_named(name: str) -> Lecture:
    """Return a lecture by its name.

    Raises
    ------
    SpecError
        When there is none.
    """
    if name not in LECTURES:
        raise SpecError(f"There is no lecture {name!r}.", f"Choose one of {', '.join(LECTURES)}.")
    return LECTURES[name]
