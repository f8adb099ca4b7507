"""The tab "Inspect": what a watched case looks like now, what the loss makes of it, and where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Planned, ValidationDone
from segexplorer.core.types import Role
from segexplorer.faces.napari import watching
from segexplorer.faces.napari.bridge import RunBridge
from segexplorer.faces.napari.case_image import CaseImage
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.layers import CaseLayers
from segexplorer.faces.napari.legend import Legend
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.choices import ROLES, Choices
from segexplorer.faces.napari.panels.error_list import ErrorList
from segexplorer.faces.napari.panels.history import HistoryRow
from segexplorer.faces.napari.panels.scores import Scores
from segexplorer.faces.napari.past import Past, frames_of
from segexplorer.faces.napari.watching import Seen, Switch
from segexplorer.training.history import Frame
from segexplorer.training.run import SliceView
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot

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
    """

    shown = Signal(object)

    def __init__(self, session: Any, viewer: Any, bridge: RunBridge, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.viewer, self.bridge, self.layers = session, viewer, bridge, layers
        self._snapshots: dict[str, WatchedSnapshot] = {}
        self._patch: PatchSnapshot | None = None
        self._seen: Seen | None = None
        self._run: Any = None
        self._past: Past | None = None
        self._frames: dict[Role, tuple[Frame, ...]] = {}
        self._asked: set[str] = set()
        self._class_seen: int | None = None
        self._work = LatestWork(self._on_seen, self._on_refused)
        self._reading = LatestWork(self._on_frames, self._on_refused)
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
        self._message = parts.guidance(_EMPTY)
        self._badge = parts.guidance("", parts.AMBER)
        self.choices = Choices()
        self.choices.role_chosen.connect(self._on_role)
        self.choices.class_chosen.connect(self._look)
        self.choices.switched.connect(self._on_switch)
        self.history = HistoryRow()
        self.history.moved.connect(self._look)
        self._cursor = parts.guidance("Move the mouse over the picture to read errors and penalties here.")
        self._cursor.setMinimumHeight(44)
        self._cursor.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.scores = Scores()
        self.errors = ErrorList(self.viewer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            parts.scrolled(
                self._message,
                self._badge,
                self.history,
                self.choices,
                Legend(),
                parts.heading("Under the cursor"),
                self._cursor,
                parts.heading("Scores"),
                self.scores,
                parts.heading("Errors"),
                self.errors,
            )
        )

    # -- what is chosen -----------------------------------------------------------------------------------

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
            self._run, self._past = run, Past(run.experiment)
            self._snapshots, self._frames = {}, {}
            self._asked |= self.choices.on
            self.scores.forget()
            self.history.set_frames(())

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

    def _on_frames(self, frames: dict[Role, tuple[Frame, ...]]) -> None:
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
            self._work.send(lambda: watching.see(snapshot, patch, wanted))
        elif frame is not None and past is not None:
            self._work.send(lambda: watching.see(past.snapshot(frame), None, wanted))

    def _show_planned(self) -> None:
        """Show the image of the case that will be watched; a lone case is watched in one role only."""
        plan = getattr(self._run, "plan", None)
        watched = {} if plan is None else plan.watched
        case = watched.get(self.choices.role) or next(iter(watched.values()), None)
        if case is not None:
            self._send_for_image(case)
            parts.say(
                self._message, f"{case} is watched; its first prediction comes with the first validation."
            )

    def _send_for_image(self, case: str) -> None:
        plan, past = getattr(self._run, "plan", None), self._past
        if plan is not None:
            self._image.show(self._run, case, plan.refs.get)
        elif past is not None:
            self._image.show(self._run, case, past.ref)

    def _on_seen(self, seen: Seen) -> None:
        self._seen = seen
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
        parts.say(self._badge, _badge(seen.snapshot), parts.AMBER)
        parts.say(self._message, seen.note)
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
        parts.say(self._message, str(error), parts.RED)

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
            parts.say(self._message, "This case has not been predicted yet.")
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
        if self._seen is None or len(world) != 3:
            return ""
        return watching.under_cursor(self._seen.snapshot, self.choices.class_index, world)

    def _on_cursor(self, viewer: Any, event: Any) -> None:
        text = self.read(tuple(float(v) for v in viewer.cursor.position))
        if text:
            self._cursor.setText(text)

    def closing(self) -> None:
        """Let go of the viewer and of work under way."""
        self._work.close()
        self._reading.close()
        self._image.closing()
        self.errors.closing()
        if self._on_cursor in self.viewer.mouse_move_callbacks:
            self.viewer.mouse_move_callbacks.remove(self._on_cursor)
        self.viewer.dims.events.order.disconnect(self._on_order)


def _badge(snapshot: WatchedSnapshot) -> str:
    held = snapshot.badge or ("training case, not held out" if snapshot.role == "train" else "not trained on")
    return f"{snapshot.case}: {held}"
