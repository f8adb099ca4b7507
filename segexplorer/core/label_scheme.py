"""What a label index means, and how the outputs of a network become probabilities and label indices.

Classes exclude each other, or they overlap. Where they exclude each other, a voxel holds the index of its class,
the network has an output for the background and one per class, and softmax makes probabilities of them. Where they
overlap (whole tumour, tumour core and enhancing tumour, "regions" in nnU-Net and BraTS), a voxel is of several
classes at once: its label index stands for a *combination* of classes, the network has one output per class, and
each has a sigmoid of its own.

Everything that depends on this difference asks a `LabelScheme`; nothing else in the program decides between softmax
and sigmoid. The scheme of a run follows from its classes (`data.case.ClassMap.scheme`), and goes with its
predictions.

So that both have the same shape, logits of overlapping classes have a channel for the background too, which is 0
everywhere: the probability of class c is the sigmoid of z_c - z_0. The probability of the background is that of no
class, 1 - max_c p_c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""Label index of voxels that count nowhere."""
MOST_OVERLAPPING = 16
"""Classes that may overlap: every set of them has an entry in a table of 2^16 bytes."""


@dataclass(frozen=True)
class LabelScheme:
    """Which classes each label index stands for.

    Attributes
    ----------
    classes
        Number of classes that overlap; 0 where classes exclude each other, and a label index is a class index.
    members
        For each label index 1, 2, ...: the classes (1, 2, ...) that it stands for, in ascending order. Empty where
        classes exclude each other.
    """

    classes: int = 0
    members: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, classes: int, members: Sequence[Sequence[int]]) -> LabelScheme:
        """Return a scheme from plain data; no members make that of classes that exclude each other.

        Raises
        ------
        ValueError
            When a label index stands for no class or for one that does not exist, or two stand for the same
            classes.
        """
        found = tuple(tuple(sorted(set(own))) for own in members)
        if not found:
            return EXCLUSIVE
        if len(set(found)) < len(found) or len(found) >= IGNORED or not 0 < classes <= MOST_OVERLAPPING:
            raise ValueError("label indices stand for different combinations of classes, fewer than 255")
        if any(not own or own[0] < 1 or own[-1] > classes for own in found):
            raise ValueError(f"a label index stands for some of the classes 1 to {classes}")
        return cls(classes, found)

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may be of several classes."""
        return bool(self.members)

    def outputs(self, classes: int) -> int:
        """Return how many channels the network needs for so many classes, without the background."""
        return classes if self.overlapping else classes + 1

    def indices(self, classes: int) -> int:
        """Return how many label indices there are for so many classes, 0 included."""
        return len(self.members) + 1 if self.overlapping else classes + 1

    # ---- from label indices to classes

    @cached_property
    def table(self) -> NDArray[np.bool_]:
        """(256, classes + 1) whether a label index is of a class, where classes overlap; column 0: of none."""
        found = np.zeros((256, self.classes + 1), bool)
        found[0, 0] = True
        for index, own in enumerate(self.members, start=1):
            found[index, list(own)] = True
        return found

    def mask(self, labels: NDArray[Any], class_index: int) -> NDArray[np.bool_]:
        """Return where label indices are of a class; 0 is the background, and ignored voxels are of none."""
        if not self.overlapping:
            return np.asarray(labels == class_index)
        return np.asarray(self.table[:, class_index][labels])

    def alone(self, labels: NDArray[np.uint8], class_index: int) -> NDArray[np.uint8]:
        """Return a class against the rest: 1, 0, and 255 where a voxel is ignored."""
        return np.asarray(self._alone(class_index)[labels])

    def _alone(self, class_index: int) -> NDArray[np.uint8]:
        own = np.zeros(256, np.uint8)
        every = np.arange(256, dtype=np.uint8)
        own[self.mask(every, class_index)] = 1
        own[IGNORED] = IGNORED
        return own

    def class_indices(self, label_index: int) -> tuple[int, ...]:
        """Return the classes of a label index; none of the background and of ignored voxels."""
        if label_index in (0, IGNORED):
            return ()
        return self.members[label_index - 1] if self.overlapping else (label_index,)

    def name(self, label_index: int, class_names: Sequence[str]) -> str:
        """Return what a voxel is: "liver", "whole tumour + core", "background"."""
        own = self.class_indices(label_index)
        return " + ".join(class_names[c - 1] for c in own) or "background"

    def comparison(self, class_index: int | None = None) -> tuple[NDArray[np.bool_], ...]:
        """Return three tables (256, 256) by the label indices of truth and prediction, for one class or for all.

        Whether the prediction has a class that the truth has not, the other way round, and whether both have one.
        Ignored voxels have none.
        """
        every = np.arange(256, dtype=np.uint8)
        if class_index is None and not self.overlapping:
            known, same = (every > 0) & (every < IGNORED), np.eye(256, dtype=bool)
            return known & ~same, known[:, np.newaxis] & ~same, known & same
        of = self.table[:, 1:] if class_index is None else self.mask(every, class_index)[:, np.newaxis]
        # products count classes, which is far quicker than comparing (256, 256, 254) of them
        has, lacks = of.astype(np.float32), (~of).astype(np.float32)
        return lacks @ has.T > 0, has @ lacks.T > 0, has @ has.T > 0

    def most_wrong(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> int:
        """Return the class with the most wrong voxels, missed and extra; the first where none is wrong."""
        wrong = (prediction != truth) & (truth != IGNORED)
        pairs = np.bincount(truth[wrong] * np.uint16(256) + prediction[wrong], minlength=2**16).reshape(
            256, 256
        )
        every = np.arange(256, dtype=np.uint8)
        sums = []
        for c in range(1, classes + 1):
            own = self.mask(every, c)
            sums.append(int(pairs[own][:, ~own].sum() + pairs[~own][:, own].sum()))
        return int(np.argmax(sums)) + 1

    def class_counts(self, counts: NDArray[Any], classes: int) -> NDArray[Any]:
        """Return (classes + 1,) numbers of each class from (256,) or fewer numbers of each label index."""
        if not self.overlapping:
            return np.asarray(counts[: classes + 1])
        return np.asarray(counts @ self.table[: len(counts)].astype(counts.dtype))

    @cached_property
    def _top(self) -> NDArray[np.uint8]:
        top = np.zeros(256, np.uint8)
        for index, own in enumerate(self.members, start=1):
            top[index] = own[-1]
        top[IGNORED] = IGNORED
        return top

    def topmost(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the class that is drawn in each voxel: of several, the last one in the order of the classes."""
        return np.asarray(self._top[labels]) if self.overlapping else labels

    # ---- from logits to probabilities

    def probabilities(self, logits: Any) -> Any:
        """Return (C, *spatial) probabilities of logits, both numpy arrays or both torch tensors.

        Softmax; of overlapping classes a sigmoid each, and for the background what the likeliest class leaves.
        """
        if isinstance(logits, np.ndarray):
            return self._numpy_probabilities(logits)
        if not self.overlapping:
            return logits.softmax(0)
        found = (logits - logits[:1]).sigmoid()
        found[0] = 1 - found[1:].amax(0)
        return found

    def _numpy_probabilities(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        if not self.overlapping:
            shifted = np.exp(logits - logits.max(axis=0))
            return np.asarray(shifted / shifted.sum(axis=0), np.float32)
        with np.errstate(over="ignore"):  # exp of a large negative logit is infinite, and the sigmoid 0
            found = np.asarray(1 / (1 + np.exp(logits[:1] - logits)), np.float32)
        found[0] = 1 - found[1:].max(axis=0)
        return found

    def logits(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (C, *spatial) logits of probabilities above 0 and, where classes overlap, below 1."""
        if not self.overlapping:
            return np.log(probabilities)
        found = np.log(probabilities) - np.log1p(-probabilities)
        found[0] = 0
        return found

    # ---- from logits or probabilities to label indices

    @cached_property
    def decisions(self) -> NDArray[np.uint8]:
        """(2^classes,) label index of each set of classes, bit c - 1 of a set being class c.

        It is the index that stands for exactly these classes. Where there is none (a core outside of any whole), it
        is as in nnU-Net, whose later regions overwrite earlier ones: the last class of the set decides, by the
        index of the fewest classes that holds it.
        """
        found = np.zeros(2**self.classes, np.uint8)
        for c in range(1, self.classes + 1):
            own = [i for i, members in enumerate(self.members, start=1) if c in members]
            least = min(own, key=lambda i: (len(self.members[i - 1]), i), default=0)
            found[2 ** (c - 1) : 2**c] = least
        for index, members in enumerate(self.members, start=1):
            found[sum(2 ** (c - 1) for c in members)] = index
        return found

    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the label indices of (C, *spatial) probabilities: the likeliest class, or all above 1/2."""
        if not self.overlapping:
            return np.asarray(probabilities.argmax(0), np.uint8)
        return self._decided(probabilities > 0.5)

    def decide_logits(self, logits: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the label indices of (C, *spatial) logits, as `decide` those of their probabilities."""
        if not self.overlapping:
            return np.asarray(logits.argmax(0), np.uint8)
        return self._decided(logits > logits[:1])

    def _decided(self, there: NDArray[np.bool_]) -> NDArray[np.uint8]:
        sets = np.zeros(there.shape[1:], np.uint16)
        for c in range(1, self.classes + 1):
            sets |= there[c].astype(np.uint16) << np.uint16(c - 1)
        return np.asarray(self.decisions[sets])


EXCLUSIVE = LabelScheme()
"""The scheme of classes that exclude each other: softmax."""
