"""Choosing among the kinds of a registry: a combo box for few, a window with groups and search for many."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, PushButton
from psygnal import Signal
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QScrollArea,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.registry import Registry
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.forms.formula_view import FormulaView
from segexplorer.viewmodels import catalogue
from segexplorer.viewmodels.catalogue import Choice

MANY = 12
"""From so many choices on, a list in a combo box is no help."""
ANY_PURPOSE = "For any purpose"
NOTHING = (
    "Nothing fits. Clear the search to see all, choose a purpose from the list, or search for a word such as "
    "“lesion”, “boundary”, “missed” or “imbalance”, or for an author."
)
_KEY = Qt.ItemDataRole.UserRole
_WAYS = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1, Qt.Key.Key_PageUp: -8, Qt.Key.Key_PageDown: 8}
_SIZE = (720, 500)


class ShortPicker:
    """A combo box of display names, presets first."""

    changed = Signal(str)

    def __init__(self, registry: Registry[Any], title: str = "") -> None:
        self.widget = ComboBox(choices=[(c.title, c.key) for c in catalogue.choices(registry).values()])
        self.widget.native.setAccessibleName(title or registry.noun.capitalize())
        appearance.elastic(self.widget)
        appearance.guard_wheel(self.widget)
        self.widget.changed.connect(self.changed.emit)

    @property
    def value(self) -> str:
        """Key of the choice: "kind:NAME" or "preset:NAME"."""
        return str(self.widget.value)

    @value.setter
    def value(self, key: str) -> None:
        self.widget.value = key

    def show(self, key: str) -> None:
        """Show a choice without telling anybody."""
        with self.widget.changed.blocked():
            self.widget.value = key


class LongPicker:
    """A button with the name of the choice; it opens `PickerDialog`."""

    changed = Signal(str)

    def __init__(self, registry: Registry[Any], title: str = "") -> None:
        self._registry, self._title = registry, title or registry.noun.capitalize()
        self._key = ""
        self.widget = PushButton(text="", tooltip=f"Choose a {registry.noun}")
        self.widget.native.setStyleSheet("QPushButton { text-align: left; padding: 4px 8px; }")
        appearance.elastic(self.widget)
        appearance.elide_button(self.widget)
        self.dialog: PickerDialog | None = None
        self.widget.changed.connect(lambda _: self.open())

    @property
    def value(self) -> str:
        """Key of the choice: "kind:NAME" or "preset:NAME"."""
        return self._key

    @value.setter
    def value(self, key: str) -> None:
        if key != self._key:
            self.show(key)
            self.changed.emit(key)

    def show(self, key: str) -> None:
        """Show a choice without telling anybody."""
        self._key = key
        title = catalogue.choice(self._registry, key).title
        appearance.set_button_text(self.widget, f"{title}   ▾")
        self.widget.native.setAccessibleName(f"{self._title}: {title}")

    def open(self) -> None:
        """Open the window; what is chosen there becomes the value."""
        self.dialog = PickerDialog(self._registry, self._key, self.widget.native.window())
        self.dialog.accepted.connect(self._on_accepted)
        self.dialog.place_beside(self.widget.native)
        self.dialog.open()

    def _on_accepted(self) -> None:
        if self.dialog is not None and self.dialog.chosen:
            self.value = self.dialog.chosen


def picker_for(registry: Registry[Any], title: str = "") -> ShortPicker | LongPicker:
    """Return the picker that suits the number of choices; `title` is what screen readers call it."""
    many = len(registry.specs()) + len(registry.presets()) >= MANY
    return LongPicker(registry, title) if many else ShortPicker(registry, title)


class PickerDialog(QDialog):  # type: ignore[misc, unused-ignore]
    """Groups and a search box on the left; on the right what the choice under the cursor is.

    Parameters
    ----------
    registry
        Whose kinds and presets are offered.
    current
        Key of the present choice.
    parent
        The window it belongs to.
    """

    def __init__(self, registry: Registry[Any], current: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Choose a {registry.noun}")
        self._groups = catalogue.groups(registry)
        self._current = current
        self.search = QLineEdit()
        self.search.setPlaceholderText("Name, author, year, or what it is for")
        self.search.setAccessibleName("Search")
        self.search.setClearButtonEnabled(True)
        self.search.installEventFilter(self)
        self.purpose = QComboBox()
        self.purpose.setAccessibleName("Purpose")
        self.purpose.addItems([ANY_PURPOSE, *catalogue.purposes_in(self._groups)])
        self.purpose.setVisible(self.purpose.count() > 1)
        self.tree = QTreeWidget()
        self.tree.setAccessibleName(registry.noun.capitalize())
        self.tree.setHeaderHidden(True)
        self.tree.setIndentation(12)
        self.tree.setUniformRowHeights(True)
        self.details = Details()
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.search)
        column.addWidget(self.purpose)
        column.addWidget(self.tree, 1)
        halves = QSplitter(Qt.Orientation.Horizontal)
        halves.addWidget(left)
        halves.addWidget(self.details)
        halves.setSizes([330, 370])
        halves.setChildrenCollapsible(False)
        self.buttons = QDialogButtonBox()
        self._choose = self.buttons.addButton("Choose", QDialogButtonBox.ButtonRole.AcceptRole)
        self._choose.setDefault(True)
        self.buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(halves, 1)
        layout.addWidget(self.buttons)
        self.resize(*_SIZE)
        self.search.textChanged.connect(self._on_search)
        self.purpose.activated.connect(self._on_purpose)
        self.tree.currentItemChanged.connect(lambda *_: self._describe())
        self.tree.itemActivated.connect(lambda *_: self.accept())
        self._fill("")
        self.search.setFocus()

    @property
    def chosen(self) -> str:
        """Key of the choice under the cursor; "" on a heading."""
        item = self.tree.currentItem()
        found = item.data(0, _KEY) if item is not None else None
        return found.key if isinstance(found, Choice) else ""

    def titles(self) -> list[tuple[str, list[str]]]:
        """Return what is offered now: (heading, names below it)."""
        tops = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        return [(t.text(0), [t.child(i).text(0) for i in range(t.childCount())]) for t in tops]

    def accept(self) -> None:
        """Take the choice under the cursor; on a heading there is none to take."""
        if self.chosen:
            super().accept()

    def place_beside(self, widget: QWidget) -> None:
        """Stand left of a field in a dock, within the screen."""
        corner = widget.mapToGlobal(QPoint(0, 0))
        screen = widget.screen().availableGeometry()
        x = corner.x() - self.width() - 12
        if x < screen.left():
            x = max(screen.left(), min(corner.x(), screen.right() - self.width()))
        y = max(screen.top(), min(corner.y() - 60, screen.bottom() - self.height() - 40))
        self.move(x, y)

    def _on_purpose(self, place: int) -> None:
        """Show what is for a purpose, as if it had been searched for."""
        self.search.setText(self.purpose.itemText(place) if place else "")
        self.search.setFocus()

    def _on_search(self, query: str) -> None:
        self.purpose.setCurrentIndex(max(0, self.purpose.findText(query)))
        self._fill(query)

    def _fill(self, query: str) -> None:
        self.tree.clear()
        first: QTreeWidgetItem | None = None
        for group in catalogue.filtered(self._groups, query):
            top = QTreeWidgetItem([group.title])
            font = top.font(0)
            font.setBold(True)
            top.setFont(0, font)
            top.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.tree.addTopLevelItem(top)
            for choice in group.choices:
                item = QTreeWidgetItem([choice.title])
                item.setData(0, _KEY, choice)
                item.setToolTip(0, catalogue.where_used(choice))
                top.addChild(item)
                if first is None or (choice.key == self._current and first.data(0, _KEY).key != choice.key):
                    first = item
        self.tree.expandAll()
        if first is not None:
            self.tree.setCurrentItem(first)
        self._describe()

    def _describe(self) -> None:
        item = self.tree.currentItem()
        choice = item.data(0, _KEY) if item is not None else None
        self._choose.setEnabled(isinstance(choice, Choice))
        self.details.show_choice(choice if isinstance(choice, Choice) else None)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Let the arrows move in the list while one types, over the headings."""
        way = _WAYS.get(event.key()) if event.type() == QEvent.Type.KeyPress else None
        if way is None:
            return bool(super().eventFilter(watched, event))
        self._move(way)
        return True

    def _move(self, way: int) -> None:
        tops = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        items = [top.child(i) for top in tops for i in range(top.childCount())]
        if items:
            here = items.index(self.tree.currentItem()) if self.tree.currentItem() in items else 0
            self.tree.setCurrentItem(items[min(max(here + way, 0), len(items) - 1)])


class Details(QScrollArea):  # type: ignore[misc, unused-ignore]
    """What one choice is: where it is used, formula, what it punishes, range, reference."""

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        self.title, self.where, self.sentence = _text("font-weight: bold; font-size: 14px;"), _text(), _text()
        self.purposes = _text()
        self.formula = FormulaView()
        self.extent, self.note, self.reference = _text(), _text(), _text()
        for widget in (
            self.title,
            self.where,
            self.purposes,
            self.sentence,
            self.formula,
            self.extent,
            self.note,
            self.reference,
        ):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.setWidget(inside)

    def show_choice(self, choice: Choice | None) -> None:
        """Tell what a choice is; for None, that nothing is chosen."""
        if choice is None:
            texts = [NOTHING, "", "", "", "", "", ""]
            self.formula.show_formula("")
        else:
            reference = catalogue.reference(choice)
            texts = [
                choice.title,
                catalogue.where_used(choice),
                catalogue.for_what(choice),
                catalogue.punished(choice),
                catalogue.range_sentence(choice.spec),
                choice.preset_note,
                f"Reference: {reference}" if reference else "",
            ]
            self.formula.show_formula(catalogue.formula(choice))
        labels = (
            self.title,
            self.where,
            self.purposes,
            self.sentence,
            self.extent,
            self.note,
            self.reference,
        )
        for label, text in zip(labels, texts, strict=True):
            label.setText(text)
            label.setVisible(bool(text))


def _text(style: str = "") -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if style:
        label.setStyleSheet(style)
    return label
