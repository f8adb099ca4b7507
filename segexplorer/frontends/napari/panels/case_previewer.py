"""Shows a case of the Cases tab in the viewer before any training; what it shows is part of what is displayed.

The case is `Displayed.case` with the source "layers": opening a run, or starting one, takes the preview away, and
looking at a case takes the run's layers away. Neither ever mixes with the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.case_preview import IMAGE, LABEL, CasePreview
from segexplorer.viewmodels.screen import Screen

LOOKING = "Opening {case}…"


class CasePreviewer(QWidget):  # type: ignore[misc, unused-ignore]
    """What is said of the case that is shown, the buttons that go from case to case, and the layers that show it.

    Parameters
    ----------
    viewer
        The napari viewer.
    display
        What the window displays; None where nothing can be shown.

    Attributes
    ----------
    shown
        psygnal signal with the `CasePreview` that the viewer shows now.
    left
        psygnal signal: no case of the table is shown any more.
    text
        Verdict and facts of the case, or what may be done.
    previous_button, next_button, close_button
        Go from case to case, and leave the preview.
    """

    shown = Signal(object)
    left = Signal()

    def __init__(self, viewer: Any, display: Display | None) -> None:
        super().__init__()
        self._viewer, self._display = viewer, display
        self._case: str | None = None
        self._away: list[Any] = []
        self._hint = ""
        self._work = LatestWork(self._on_ready, self._on_defect, newest_only=True)
        self.current: CasePreview | None = None
        self.text = widgets.guidance()
        self.previous_button, self.next_button = QPushButton("◀ Previous"), QPushButton("Next ▶")
        self.close_button = QPushButton("Close preview")
        self.previous_button.clicked.connect(lambda _=False: self.step(-1))
        self.next_button.clicked.connect(lambda _=False: self.step(1))
        self.close_button.clicked.connect(lambda _=False: self.forget())
        self._buttons = QWidget()
        row = QHBoxLayout(self._buttons)
        row.setContentsMargins(0, 0, 0, 0)
        for button, name in (
            (self.previous_button, "Previous case"),
            (self.next_button, "Next case"),
            (self.close_button, "Close the preview"),
        ):
            button.setAccessibleName(name)
            button.setToolTip(name)
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self._buttons)
        self._buttons.hide()
        self.opener: Callable[[str], Callable[[], CasePreview] | None] = lambda case: None
        if display is not None:
            display.changed.connect(self._on_screen)

    @property
    def busy(self) -> bool:
        """Whether a case is being prepared."""
        return self._work.busy

    def offer(self, hint: str) -> None:
        """Say what can be done while no case is shown."""
        self._hint = hint if self._display is not None else ""
        if self._case is None:
            widgets.say(self.text, self._hint)

    def know(self, cases: Sequence[str]) -> None:
        """Take over which cases there are, where one of them is being looked at."""
        if self._display is not None and self._display.reality.cases:
            self._display.learn(cases=tuple(cases))

    def look_at(self, case: str, cases: Sequence[str]) -> None:
        """Show a case; what was shown goes away at once, and it comes when it is ready."""
        display = self._display
        if display is None:
            return
        if display.displayed.source != "layers":
            display.issue("close")
        display.learn(cases=tuple(cases))
        display.issue("choose_case", case)

    def step(self, way: int) -> None:
        """Show the next case (1) or the previous one (-1)."""
        if self._display is not None:
            self._display.issue("next_case", way)

    def forget(self) -> None:
        """Show no case of the table any more; the user's own layers come back."""
        if self._display is not None:
            self._display.learn(cases=())

    # -- what is displayed --------------------------------------------------------------------------------

    def _on_screen(self, screen: Screen, _: Any = None) -> None:
        assert self._display is not None
        now = screen.displayed
        if now.source != "layers" and self._display.reality.cases:
            self._display.learn(cases=())  # when the run is closed, the cases of the table do not come back
            return
        case = now.case if now.source == "layers" else None
        if case != self._case:
            self._go_to(case, run_is_shown=screen.scene is not None)

    def _go_to(self, case: str | None, *, run_is_shown: bool = False) -> None:
        """Take everything of the case before away, and send for the new one."""
        assert self._display is not None
        before, self._case, self.current = self._case, case, None
        self._display.layers.clear((IMAGE, LABEL))
        self._buttons.setVisible(case is not None)
        opener = None if case is None else self.opener(case)
        if case is None or opener is None:
            self._bring_back(run_is_shown=run_is_shown)
            widgets.say(self.text, self._hint)
            if before is not None:
                self.left.emit()
            return
        widgets.say(self.text, LOOKING.format(case=case))
        self._work.send(lambda: _answered(case, opener))

    def _on_ready(self, answer: tuple[str, CasePreview | SegExplorerError]) -> None:
        case, found = answer
        if case != self._case or self._display is None:
            return
        if isinstance(found, SegExplorerError):
            self._put_away()
            widgets.say(self.text, f"{case}: {found}", widgets.RED)
            return
        self.current = found
        layers = self._display.layers
        first = not self._away
        self._put_away()
        for picture in found.pictures:
            layers.show(picture)
        for picture in found.pictures:
            layers.open_at(picture)
        layers.fit(anew=first or len(self._viewer.layers) == len(found.pictures))
        wrong = found.examination is not None and found.examination.severity == "error"
        text = f"{case}: {found.verdict.rstrip('.')}. {found.facts}."
        widgets.say(self.text, text, widgets.RED if wrong else widgets.GREY)
        self.shown.emit(found)

    def _on_defect(self, error: SegExplorerError) -> None:
        widgets.say(self.text, str(error), widgets.RED)

    # -- the user's own layers ----------------------------------------------------------------------------

    def _put_away(self) -> None:
        """Hide the user's layers, so that nothing of another case is seen with this one."""
        assert self._display is not None
        ours = [self._display.layers.layer(key) for key in self._display.layers.keys]
        for layer in self._viewer.layers:
            if layer.visible and not any(layer == mine for mine in ours):
                layer.visible = False
                self._away.append(layer)

    def _bring_back(self, *, run_is_shown: bool) -> None:
        """Show the user's layers again; while a run's case is shown, they come back after it."""
        assert self._display is not None
        if run_is_shown:
            self._display.keep_away(self._away)
        else:
            for layer in self._away:
                if any(layer == other for other in self._viewer.layers):
                    layer.visible = True
        self._away = []

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._work.close()
        if self._display is not None:
            self._display.changed.disconnect(self._on_screen)


def _answered(case: str, opener: Callable[[], CasePreview]) -> tuple[str, CasePreview | SegExplorerError]:
    """A user's mistake is an answer too, so that it is known which case it belongs to."""
    try:
        return case, opener()
    except SegExplorerError as error:
        return case, error
