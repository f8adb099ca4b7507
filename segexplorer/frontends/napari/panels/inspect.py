"""The tab "Inspect": a watched case at the newest or any recorded step, and where its prediction is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Planned, Role, ValidationDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.layers import CaseImage, CaseLayers
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.result_tables import ErrorList, Scores
from segexplorer.frontends.napari.theme import Legend
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.history import HistoryFrame
from segexplorer.training.run import SliceView
from segexplorer.training.scores import SplitScores, recorded_scores
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import displayed
from segexplorer.viewmodels.displayed import SWITCHES, RunHistoryLoader, Seen, Switch, Wanted, frames_of

ROLES: dict[Role, str] = {"validation": "Validation case", "train": "Training case"}
_ON_AT_FIRST: frozenset[Switch] = frozenset({"errors", "balance"})


class Choices(QWidget):  # type: ignore[misc, unused-ignore]
    """Pickers of case and class above the switches of the layers.

    Attributes
    ----------
    role_chosen, class_chosen
        psygnal signals: the user looks at another case, at another class.
    switched
        psygnal signal (switch, on).
    """

    role_chosen = Signal()
    class_chosen = Signal()
    switched = Signal(str, bool)

    def __init__(self) -> None:
        super().__init__()
        self.role_picker, self.class_picker = QComboBox(), QComboBox()
        for role, title in ROLES.items():
            self.role_picker.addItem(title, role)
        self.role_picker.currentIndexChanged.connect(lambda _: self.role_chosen.emit())
        self.class_picker.addItem("All classes", None)
        self.class_picker.currentIndexChanged.connect(lambda _: self.class_chosen.emit())
        self.switches: dict[Switch, QCheckBox] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.role_picker, 0, 0)
        layout.addWidget(self.class_picker, 0, 1)
        layout.setColumnStretch(0, 1)
        layout.setColumnStretch(1, 1)
        for number, (switch, title) in enumerate(SWITCHES.items(), start=1):
            box = self.switches[switch] = QCheckBox(title)
            box.setChecked(switch in _ON_AT_FIRST)
            box.toggled.connect(lambda on, s=switch: self.switched.emit(s, on))
            layout.addWidget(box, number, 0, 1, 2)

    @property
    def role(self) -> Role:
        """Which watched case is shown."""
        chosen: Role = self.role_picker.currentData()
        return chosen

    def choose_role(self, role: Role) -> None:
        """Show the watched case of a role."""
        self.role_picker.setCurrentIndex(list(ROLES).index(role))

    @property
    def class_index(self) -> int | None:
        """The class that is looked at; None for all."""
        chosen: int | None = self.class_picker.currentData()
        return chosen

    @property
    def on(self) -> frozenset[Switch]:
        """The switches that are on."""
        return frozenset(s for s, box in self.switches.items() if box.isChecked())

    def wanted(self, dims: Any) -> Wanted:
        """Return what is to be computed for a viewer with these dims."""
        flat = dims.ndisplay == 2 and dims.ndim == 3
        axes = tuple(int(a) for a in dims.order[1:]) if flat else None
        return Wanted(switches=self.on, class_index=self.class_index, axes=axes)

    def offer_classes(self, names: tuple[str, ...]) -> None:
        """Offer these classes, and all of them together, where they are others than before."""
        known = tuple(self.class_picker.itemText(i) for i in range(1, self.class_picker.count()))
        if known == names:
            return
        self.class_picker.blockSignals(True)
        self.class_picker.clear()
        self.class_picker.addItem("All classes", None)
        for index, name in enumerate(names, start=1):
            self.class_picker.addItem(name, index)
        self.class_picker.blockSignals(False)


class HistoryRow(QWidget):  # type: ignore[misc, unused-ignore]
    """Chooses a frame; at its right end it follows the run.

    Attributes
    ----------
    moved
        psygnal signal: another frame is to be shown, or the newest again.
    """

    moved = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._frames: tuple[HistoryFrame, ...] = ()
        self._follows = True
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setPageStep(1)
        self.slider.setToolTip("Earlier predictions of this case; drag the line in the plots to the same end")
        self.slider.valueChanged.connect(self._on_value)
        self.newest = QPushButton("Newest")
        self.newest.setToolTip("Follow the run again")
        self.newest.clicked.connect(lambda _=False: self.follow())
        self.text = QLabel()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.text, 0, 0, 1, 2)
        layout.addWidget(self.slider, 1, 0)
        layout.addWidget(self.newest, 1, 1)
        layout.setColumnStretch(0, 1)
        self.setVisible(False)

    @property
    def follows(self) -> bool:
        """Whether the newest prediction is shown, and the next one when it comes."""
        return self._follows

    @property
    def frame(self) -> HistoryFrame | None:
        """The frame under the slider; None while there is none."""
        return self._frames[self.slider.value()] if self._frames else None

    @property
    def steps(self) -> tuple[int, ...]:
        """Optimiser steps of the frames."""
        return tuple(frame.step for frame in self._frames)

    def set_frames(self, frames: Sequence[HistoryFrame]) -> None:
        """Offer these frames; the one shown stays, unless the newest is followed."""
        shown = self.frame
        self._frames = tuple(frames)
        steps = self.steps
        last = max(0, len(frames) - 1)
        if shown is not None and not self._follows and shown.step in steps:
            place = steps.index(shown.step)
        else:
            self._follows, place = True, last
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, last)
            self.slider.setValue(place)
        self.setVisible(len(frames) > 1)
        self._tell()

    def go_to(self, step: float) -> None:
        """Show the frame nearest to a step."""
        if self._frames:
            self.slider.setValue(min(range(len(self.steps)), key=lambda i: abs(self.steps[i] - step)))

    def follow(self) -> None:
        """Show the newest prediction, and the next one when it comes."""
        self._follows = True
        with QSignalBlocker(self.slider):
            self.slider.setValue(self.slider.maximum())
        self._tell()
        self.moved.emit()

    def _on_value(self, value: int) -> None:
        self._follows = value == self.slider.maximum()
        self._tell()
        self.moved.emit()

    def _tell(self) -> None:
        frame = self.frame
        if frame is None:
            return
        place = f"Prediction {self.slider.value() + 1} of {len(self._frames)}, step {frame.step}"
        self.text.setText(f"{place} (newest)" if self._follows else place)
        self.newest.setEnabled(not self._follows)


_EMPTY = "The watched cases appear here after the first prediction."


class InspectPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Shows a watched case in the viewer, and its figures here.

    Parameters
    ----------
    session, viewer
        As in every panel.
    bridge
        Where the run's events and snapshots come from.
    layers
        The layers that show cases in this viewer.

    Attributes
    ----------
    shown
        psygnal signal (`Seen`): what is in the viewer now.
    seen
        What was last shown, or None.
    badge
        Which case that is, and whether it was trained on.
    """

    shown = Signal(object)

    def __init__(self, session: Any, viewer: Any, bridge: RunBridge, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.viewer, self.bridge, self.layers = session, viewer, bridge, layers
        self._snapshots: dict[str, WatchedSnapshot] = {}
        self._patch: PatchSnapshot | None = None
        self.seen: Seen | None = None
        self._run: Any = None
        self._past: RunHistoryLoader | None = None
        self._frames: dict[Role, tuple[HistoryFrame, ...]] = {}
        self._asked: set[str] = set()
        self._class_seen: int | None = None
        self._work = LatestWork(self._on_seen, self._on_refused)
        self._reading = LatestWork(self._on_frames, self._on_refused)
        self._recorded = LatestWork(self._on_recorded, self._on_refused)
        self._image = CaseImage(viewer, layers, self._on_refused)
        self._build()
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.watched_arrived.connect(self._on_watched)
        bridge.patch_arrived.connect(self._on_patch)
        viewer.mouse_move_callbacks.append(self._on_cursor)
        viewer.dims.events.order.connect(self._on_order)

    # -- widgets ------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._message = widgets.guidance(_EMPTY)
        self.badge = widgets.guidance("", widgets.AMBER)
        self.choices = Choices()
        self.choices.role_chosen.connect(self._on_role)
        self.choices.class_chosen.connect(self._look)
        self.choices.switched.connect(self._on_switch)
        self.history = HistoryRow()
        self.history.moved.connect(self._look)
        self._cursor = widgets.guidance("Move the mouse over the picture to read errors and penalties here.")
        self._cursor.setMinimumHeight(44)
        self._cursor.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.scores = Scores()
        self.errors = ErrorList(self.viewer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self._message,
                self.badge,
                self.history,
                self.choices,
                Legend(),
                widgets.heading("Under the cursor"),
                self._cursor,
                widgets.heading("Scores"),
                self.scores,
                widgets.heading("Errors"),
                self.errors,
            )
        )

    # -- what is chosen -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a case is being prepared for the viewer."""
        return self._work.busy

    @property
    def snapshot(self) -> WatchedSnapshot | None:
        """The newest snapshot of the chosen role."""
        return self._snapshots.get(self.choices.role)

    def slice_view(self) -> SliceView | None:
        """Return the plane of the watched case that the viewer shows; None in 3D."""
        dims = self.viewer.dims
        if dims.ndisplay != 2 or dims.ndim != 3:
            return None
        axis = int(dims.order[0])
        return SliceView(role=self.choices.role, axis=2 - axis, world=float(dims.point[axis]))

    # -- what comes from the run --------------------------------------------------------------------------

    def _on_begun(self, run: Any) -> None:
        self._patch = None
        if run is not self._run:
            self._run, self._past = run, RunHistoryLoader(run.experiment)
            self._snapshots, self._frames = {}, {}
            self._asked |= self.choices.on
            self.scores.forget()
            self.history.set_frames(())
            self._read_recorded()

    def _on_events(self, events: list[Event]) -> None:
        if self.snapshot is None and any(isinstance(event, Planned) for event in events):
            self._show_planned()
        found = [event for event in events if isinstance(event, ValidationDone)]
        if found:
            self.scores.add(found)
            self._read_history()

    def _read_history(self) -> None:
        """Find the frames on the disk; the newest may come with the next validation."""
        folder: Path | None = getattr(self._run, "folder", None)
        if folder is not None and folder.is_dir():
            self._reading.send(lambda: frames_of(folder))

    def _read_recorded(self) -> None:
        """Find what is recorded of the test cases."""
        folder: Path | None = getattr(self._run, "folder", None)
        if folder is not None and folder.is_dir():
            self._recorded.send(lambda: recorded_scores(folder, "test"))

    def _on_recorded(self, records: tuple[SplitScores, ...]) -> None:
        self.scores.show_recorded(records)

    def _on_frames(self, frames: dict[Role, tuple[HistoryFrame, ...]]) -> None:
        self._frames = frames
        followed = self.history.follows
        self.history.set_frames(frames.get(self.choices.role, ()))
        if self.snapshot is not None or not followed:
            return  # the run itself brings what is newest
        if not self._frames.get(self.choices.role):
            other = next((role for role, found in frames.items() if found and role in ROLES), None)
            if other is not None:
                self.choices.choose_role(other)
            return
        self._look()

    def _on_watched(self, snapshots: dict[str, WatchedSnapshot]) -> None:
        self._snapshots.update(snapshots)
        for snapshot in snapshots.values():
            if self._past is not None:
                self._past.know(snapshot)
        if self.choices.role in snapshots:
            self.choices.offer_classes(snapshots[self.choices.role].class_names)
            if self.history.follows:
                self._look()
        elif self.snapshot is None and snapshots:
            self.choices.choose_role(next(iter(snapshots.values())).role)

    def _on_patch(self, patch: PatchSnapshot) -> None:
        self._patch = patch
        if "patch" in self.choices.on:
            self._look()

    # -- looking ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Have computed what is to be seen: of the newest prediction, or of the frame under the slider."""
        snapshot, patch, wanted, past = (
            self.snapshot,
            self._patch,
            self.choices.wanted(self.viewer.dims),
            self._past,
        )
        frame = self.history.frame
        if snapshot is not None and (self.history.follows or frame is None or past is None):
            self._work.send(lambda: displayed.see(snapshot, patch, wanted))
        elif frame is not None and past is not None:
            self._work.send(lambda: displayed.see(past.snapshot(frame), None, wanted))

    def _show_planned(self) -> None:
        """Show the image of the case that will be watched; a lone case is watched in one role only."""
        plan = getattr(self._run, "plan", None)
        watched = {} if plan is None else plan.watched
        case = watched.get(self.choices.role) or next(iter(watched.values()), None)
        if case is not None:
            self._send_for_image(case)
            widgets.say(
                self._message, f"{case} is watched; its first prediction comes with the first validation."
            )

    def _send_for_image(self, case: str) -> None:
        plan, past = getattr(self._run, "plan", None), self._past
        if plan is not None:
            self._image.show(self._run, case, plan.refs.get)
        elif past is not None:
            self._image.show(self._run, case, past.ref)

    def _on_seen(self, seen: Seen) -> None:
        self.seen = seen
        self.choices.offer_classes(seen.snapshot.class_names)
        self._send_for_image(seen.snapshot.case)
        first = not any(key in self.layers.keys for key in get_args(Switch))
        for picture in seen.pictures:
            if picture.key not in self.choices.on:
                continue
            asked = picture.key in self._asked
            self._asked.discard(picture.key)
            layer = self.layers.show(picture) if asked else self.layers.offer(picture)
            if layer is not None and asked:
                layer.visible = True
        if seen.pictures and (first or seen.wanted.class_index != self._class_seen):
            self._open_at(seen)
        self._class_seen = seen.wanted.class_index
        widgets.say(self.badge, _badge(seen.snapshot), widgets.AMBER)
        widgets.say(self._message, seen.note)
        self.scores.show_seen(seen, newest=self.history.follows)
        self.errors.show_pieces(seen.pieces, labelled=seen.snapshot.truth is not None)
        self.shown.emit(seen)

    def _open_at(self, seen: Seen) -> None:
        """Go to the slice with most of what is looked at; the errors know the chosen class."""
        for picture in sorted(seen.pictures, key=lambda p: p.key != "errors"):
            if picture.open_at is not None:
                self.layers.open_at(picture)
                return

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self._message, str(error), widgets.RED)

    def _on_switch(self, switch: Switch, on: bool) -> None:
        if on:
            self._asked.add(switch)
            self._look()
        else:
            self.layers.set_visible(switch, False)

    def _on_role(self) -> None:
        self.history.set_frames(self._frames.get(self.choices.role, ()))
        if self.snapshot is None and self.history.frame is not None:
            self._look()
            return
        if self.snapshot is None:
            widgets.say(self._message, "This case has not been predicted yet.")
            return
        self.choices.offer_classes(self.snapshot.class_names)
        self._look()

    def _on_order(self, _: Any = None) -> None:
        # with fewer axes the layers are being taken away: nothing is to be drawn anew
        if self.viewer.dims.ndim == 3 and "errors" in self.choices.on:
            self._look()

    # -- figures ------------------------------------------------------------------------------------------

    def read(self, world: tuple[float, ...]) -> str:
        """Return the sentence for a point in the viewer's world, (z, y, x) in mm."""
        if self.seen is None or len(world) != 3:
            return ""
        return displayed.under_cursor(self.seen.snapshot, self.choices.class_index, world)

    def _on_cursor(self, viewer: Any, event: Any) -> None:
        text = self.read(tuple(float(v) for v in viewer.cursor.position))
        if text:
            self._cursor.setText(text)

    def closing(self) -> None:
        """Let go of the viewer and of work under way."""
        self._work.close()
        self._reading.close()
        self._recorded.close()
        self._image.closing()
        self.errors.closing()
        if self._on_cursor in self.viewer.mouse_move_callbacks:
            self.viewer.mouse_move_callbacks.remove(self._on_cursor)
        self.viewer.dims.events.order.disconnect(self._on_order)


def _badge(snapshot: WatchedSnapshot) -> str:
    held = snapshot.badge or ("training case, not held out" if snapshot.role == "train" else "not trained on")
    return f"{snapshot.case}: {held}"


@registry.register
class InspectTab(PanelSpec):
    """The tab Inspect."""

    display_name: ClassVar[str] = "Inspect"
    position: ClassVar[float] = 40
    kind: Literal["inspect"] = "inspect"

    def build(self, context: PanelContext) -> InspectPanel:
        """Return the tab's widget."""
        return InspectPanel(context.session, context.viewer, context.bridge, context.layers)
