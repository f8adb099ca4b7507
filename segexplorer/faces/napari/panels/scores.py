"""The scores of the Inspect tab: of all validation cases, or of the watched case."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from segexplorer.core.events import CaseScore, ValidationDone
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.score_table import ScoreTable, counts_sentence
from segexplorer.faces.napari.watching import Seen

_NONE = "Scores come with the first validation."


class Scores(QWidget):  # type: ignore[misc, unused-ignore]
    """A table, what it was measured on, and how many cases count."""

    def __init__(self) -> None:
        super().__init__()
        self._validations: dict[int, ValidationDone] = {}
        self._seen: Seen | None = None
        self._newest = True
        self.source = QComboBox()
        self.source.addItem("All validation cases, whole volumes", "validation")
        self.source.addItem("The watched case, whole volume", "watched")
        self.source.currentIndexChanged.connect(lambda _: self._draw())
        self.table = ScoreTable()
        self.counts = parts.guidance(_NONE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.source, self.table, self.counts):
            layout.addWidget(widget)

    def forget(self) -> None:
        """Forget the validations of a run."""
        self._validations, self._seen = {}, None
        self._draw()

    def add(self, validations: Iterable[ValidationDone]) -> None:
        """Take over validations of the run."""
        self._validations |= {event.step: event for event in validations}
        self._draw()

    def show_seen(self, seen: Seen, *, newest: bool) -> None:
        """Follow what the viewer shows: the newest prediction, or an earlier one and its validation."""
        self._seen, self._newest = seen, newest
        self._draw()

    def _draw(self) -> None:
        scores, where = self._of_watched() if self.source.currentData() == "watched" else self._of_all()
        self.table.show_scores(scores)
        badges = {score.badge for score in scores if score.badge}
        told = (counts_sentence(scores), where, *badges)
        parts.say(self.counts, "; ".join(t for t in told if t) or _NONE)

    def _of_watched(self) -> tuple[tuple[CaseScore, ...], str]:
        if self._seen is None:
            return (), ""
        return self._seen.scores, f"{self._seen.snapshot.case}, step {self._seen.snapshot.step}"

    def _of_all(self) -> tuple[tuple[CaseScore, ...], str]:
        limit = None if self._newest or self._seen is None else self._seen.snapshot.step
        steps = [step for step in self._validations if limit is None or step <= limit]
        if not steps:
            return (), ""
        return self._validations[max(steps)].scores, f"step {max(steps)}"
