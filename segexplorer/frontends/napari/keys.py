"""Keys of the window and the mouse over slices, each declared once; the dock and a page of docs print them.

Keys go through napari's action manager, so they are listed, and can be changed, in napari's Preferences, Shortcuts.
They hold in every view of the window, and wherever else nothing has a use of its own for them. Nothing here imports
a toolkit at the top, since the pages are printed where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segexplorer.viewmodels.watched_case import SWITCHES, Switch

NAMESPACE = "segexplorer"


@dataclass(frozen=True)
class Key:
    """A key and what it does.

    Attributes
    ----------
    name
        In napari's list of actions, after `segexplorer:`.
    key
        As napari writes it, e.g. "Shift+Left".
    title
        What it does.
    run
        Does it, given the dock; None where the list of errors listens to the key itself.
    repeatable
        Whether it is done again while the key is held.
    """

    name: str
    key: str
    title: str
    run: Callable[[Any], None] | None = None
    repeatable: bool = False


def _say(text: str) -> None:
    from napari.utils.notifications import show_info

    show_info(text)


def _toggle(switch: Switch) -> Callable[[Any], None]:
    def run(dock: Any) -> None:
        state = dock.display.screen.toggles.get(switch)
        if state is None or dock.display.screen.scene is None:
            _say("No case of a run is shown yet.")
        elif not state.enabled:
            _say(state.why)
        else:
            dock.display.issue("toggle", switch, not state.on)

    return run


def _frame(way: int) -> Callable[[Any], None]:
    def run(dock: Any) -> None:
        shown = dock.display.screen.history
        if shown is None:
            _say("There is no history to go through yet.")
            return
        place = shown.place + way
        if place >= len(shown.steps) - 1:
            dock.display.issue("follow_newest")
        elif place >= 0:
            dock.display.issue("scrub", shown.steps[place])

    return run


def _pause(dock: Any) -> None:
    controls = dock.display.screen.controls
    if controls["pause"].enabled or controls["unpause"].enabled:
        dock.run.obeyed(dock.run.pause_or_resume)
    else:
        _say(controls["pause"].why or "No run is going on.")


_LETTERS: dict[str, str] = {"errors": "E", "balance": "B", "asked": "A", "prediction": "R"}
"""Overlay -> letter. F, V, L, P, W and H open napari's menus with Alt; C, S and T are taken too."""

KEYS: tuple[Key, ...] = (
    Key("next_error", "N", "Next error, in the order of the list"),
    Key("previous_error", "P", "Previous error"),
    *(
        Key(f"toggle_{switch}", f"Alt+{_LETTERS[switch]}", f"{title}: show or hide", _toggle(switch))
        for switch, title in SWITCHES.items()
        if switch in _LETTERS
    ),
    Key("frame_back", "Shift+Left", "One prediction of the history back", _frame(-1), repeatable=True),
    Key("frame_on", "Shift+Right", "One prediction of the history on", _frame(1), repeatable=True),
    Key("pause", "Shift+Space", "Pause training, or go on", _pause),
    Key("four_views", "Alt+Q", "Four views, or one", lambda dock: dock.workbench.toggle_four()),
    Key(
        "fold_panels",
        "Alt+N",
        "Fold napari's layer list and controls, or bring them back",
        lambda dock: dock.workbench.fold(not dock.workbench.folded),
    ),
    Key("presenter", "Alt+M", "Presenter mode for a wall, or back", lambda dock: dock.presenter.toggle()),
    Key("list_keys", "F1", "This list", lambda dock: dock.view_menu.show_keys()),
)

GESTURES: tuple[tuple[str, str], ...] = (
    ("Wheel", "Next or previous slice of the view under the mouse"),
    ("Left click", "Show this point in every view"),
    ("Shift and drag, left button", "Grey values: to the right wider, up higher"),
    ("Drag, left button", "Move the picture (napari)"),
    ("Drag, right button", "Zoom (napari)"),
    ("Alt and drag, left button", "Zoom into a box (napari)"),
    ("Ctrl+R", "Fit the picture into the view (napari)"),
)
"""What the mouse does over the slices of a case."""


def chosen(key: Key) -> tuple[str, ...]:
    """Return the keys that the user has given an action in napari's Preferences; at first the declared one."""
    from napari.settings import get_settings

    own = get_settings().shortcuts.shortcuts.get(f"{NAMESPACE}:{key.name}")
    return (key.key,) if own is None else tuple(str(binding) for binding in own)


_docks: list[Any] = []


def _command(key: Key) -> Callable[[Any], None]:
    """Return what napari's action manager calls with the viewer whose canvas has the keyboard."""
    run = key.run
    assert run is not None

    def command(viewer: Any) -> None:
        for dock in _docks:
            if dock.workbench.owns(viewer):
                run(dock)

    command.__name__ = f"{NAMESPACE}_{key.name}"  # napari tells actions apart by it
    return command


def follow(dock: Any) -> None:
    """Listen to the keys on behalf of a dock that is ready."""
    from napari.components import ViewerModel
    from napari.utils.action_manager import action_manager

    _docks.append(dock)
    if len(_docks) > 1:
        return
    for key in KEYS:
        name = f"{NAMESPACE}:{key.name}"
        if key.run is None:
            continue
        if _is_function_key(key):
            ViewerModel.bind_key(key.key, _command(key), overwrite=True)
        else:
            action_manager.register_action(name, _command(key), key.title, ViewerModel, key.repeatable)
            for binding in chosen(key):
                action_manager.bind_shortcut(name, binding)


def leave(dock: Any) -> None:
    """Listen no longer; with the last dock the keys are free again."""
    from napari.components import ViewerModel
    from napari.utils.action_manager import action_manager

    if not any(other is dock for other in _docks):
        return
    _docks[:] = [other for other in _docks if other is not dock]
    for key in KEYS if not _docks else ():
        if key.run is not None and _is_function_key(key):
            ViewerModel.bind_key(key.key, None)
        elif key.run is not None:
            action_manager.unbind_shortcut(f"{NAMESPACE}:{key.name}")


def _is_function_key(key: Key) -> bool:
    """Whether napari's action manager would warn of a key it cannot print in its Preferences."""
    return key.key[0] == "F" and key.key[1:].isdigit()
