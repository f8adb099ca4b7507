"""What every panel of the window promises, and the family "panels": the tabs of the dock.

A panel, ours or a plug-in's, is declared by a frozen spec, which says its title and its place among the tabs and
builds the widget. The declaration imports no toolkit, so that a plug-in's module can be imported where there is no
window; Qt and napari are imported in `build`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from segexplorer.core.errors import RunStateError
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from segexplorer.frontends.napari.bridge import RunBridge
    from segexplorer.frontends.napari.display import Display
    from segexplorer.frontends.napari.layers import CaseLayers
    from segexplorer.frontends.napari.workers import Machine
    from segexplorer.session import Session


class PanelSpec(Spec):
    """Base of all panels; a kind implements `build`.

    Attributes
    ----------
    position
        Tabs are in ascending order of it; those of the window itself have 10, 20, 30 and 40.
    """

    position: ClassVar[float] = 100

    def build(self, context: PanelContext) -> Any:
        """Return the widget of the tab, a `QWidget`; called once, on the main thread, when the dock is ready.

        All methods of the widget run on the main thread, which must never wait for work on arrays. When the dock
        closes, its method `closing()` is called if it has one: stop timers and disconnect from the viewer there.
        A plug-in's panel that cannot be built is named below the tabs, and the other tabs open all the same.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own


registry: Registry[PanelSpec] = Registry("panels", PanelSpec, "panel")


class PanelContext:
    """What a panel may use of the window.

    Attributes
    ----------
    session
        Plans and starts runs.
    viewer
        The napari viewer.
    bridge
        The current run (`bridge.run`), and signals that bring its events and pictures to the main thread.
    layers
        The layers of the watched case.
    machine
        The device, and what became of every plug-in.
    display
        What the window displays: `display.changed` brings every new `Screen` to draw, `display.issue` takes
        the commands of `viewmodels.commands`.
    """

    def __init__(
        self,
        session: Session,
        viewer: Any,
        bridge: RunBridge,
        layers: CaseLayers,
        machine: Machine,
        display: Display,
    ) -> None:
        self.session, self.viewer, self.bridge = session, viewer, bridge
        self.layers, self.machine, self.display = layers, machine, display
        self._built: dict[str, Any] = {}
        self._building: list[str] = []

    def panel(self, kind: str) -> Any:
        """Return the widget of a panel; it is built when it is first asked for.

        Raises
        ------
        UnknownKindError
            When no panel has that kind.
        RunStateError
            When two panels need each other to be built.
        """
        if kind not in self._built:
            if kind in self._building:
                raise RunStateError(
                    f"The panels {' and '.join(self._building)} need each other to be built.",
                    "Let one of them ask for the other later.",
                )
            declared = registry.spec(kind)
            self._building.append(kind)
            try:
                self._built[kind] = declared().build(self)
            finally:
                self._building.remove(kind)
        return self._built[kind]

    @property
    def built(self) -> tuple[Any, ...]:
        """The widgets built so far, the newest first, as they should be closed."""
        return tuple(reversed(self._built.values()))
