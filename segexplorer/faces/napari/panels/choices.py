"""What the Inspect tab is asked to show: which watched case, which class, which layers."""

from __future__ import annotations

from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QWidget

from segexplorer.core.types import Role
from segexplorer.faces.napari.watching import SWITCHES, Switch, Wanted

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
