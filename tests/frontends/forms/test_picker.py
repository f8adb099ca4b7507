"""The picker of losses by real keys and clicks, and formulas drawn."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from segexplorer.frontends.forms.appearance import colour, style_sheet
from segexplorer.frontends.forms.formula_view import FormulaView
from segexplorer.frontends.forms.picker import LongPicker, PickerDialog, ShortPicker, picker_for
from segexplorer.losses import registry
from segexplorer.training.schedules import registry as schedules


@pytest.fixture
def dialog(qtbot: Any) -> PickerDialog:
    made = PickerDialog(registry, "kind:tversky")
    qtbot.addWidget(made)
    made.show()
    return made


def test_it_opens_at_the_present_choice_and_tells_what_it_is(dialog: PickerDialog) -> None:
    assert dialog.chosen == "kind:tversky"
    assert dialog.details.title.text() == "Tversky (Salehi 2017)"
    assert "small lesions and structures" in dialog.details.purposes.text()
    assert "false negatives" in dialog.details.sentence.text()
    assert dialog.details.formula.latex.startswith("L=1-")
    assert "best is 0" in dialog.details.extent.text() and "Salehi" in dialog.details.reference.text()


def test_typing_filters_arrows_move_enter_chooses(dialog: PickerDialog, qtbot: Any) -> None:
    qtbot.keyClicks(dialog.search, "hausdorff")
    assert {name for _, names in dialog.titles() for name in names} == {"Hausdorff distance (Karimi 2019)"}
    dialog.search.clear()
    qtbot.keyClicks(dialog.search, "focal tversky")
    first = dialog.chosen
    qtbot.keyClick(dialog.search, Qt.Key.Key_Down)
    assert dialog.chosen != first
    with qtbot.waitSignal(dialog.accepted):
        qtbot.keyClick(dialog.search, Qt.Key.Key_Return)


def test_nothing_found_can_not_be_chosen(dialog: PickerDialog, qtbot: Any) -> None:
    qtbot.keyClicks(dialog.search, "qqq")
    assert dialog.titles() == [] and dialog.chosen == ""
    assert "Clear the search" in dialog.details.title.text() and "lesion" in dialog.details.title.text()
    dialog.accept()
    assert dialog.isVisible()


def test_a_purpose_is_chosen_or_typed(dialog: PickerDialog, qtbot: Any) -> None:
    qtbot.keyClicks(dialog.search, "small lesion")
    assert dialog.titles()[0][0] == "For small lesions and structures"
    assert dialog.chosen == "kind:tversky"  # the present choice, where it fits
    place = dialog.purpose.findText("calibrated probabilities")
    dialog.purpose.setCurrentIndex(place)
    dialog.purpose.activated.emit(place)
    heading, names = dialog.titles()[0]
    assert heading == "For calibrated probabilities" and "Dice++ (Yeung 2022)" in names
    qtbot.keyClicks(dialog.search, "x")
    assert dialog.purpose.currentIndex() == 0
    dialog.purpose.activated.emit(0)
    assert dialog.titles()[0][0] == "Start here"


def test_the_button_takes_what_was_chosen_and_says_so_once(qtbot: Any) -> None:
    picker = LongPicker(registry)
    picker.show("kind:dice")
    place = QWidget()
    qtbot.addWidget(place)
    picker.widget.native.setParent(place)
    place.show()
    heard: list[str] = []
    picker.changed.connect(heard.append)
    qtbot.mouseClick(picker.widget.native, Qt.MouseButton.LeftButton)
    assert picker.dialog is not None
    picker.dialog.search.setText("clDice")
    picker.dialog.accept()
    assert heard == [picker.value] and "clDice" in picker.widget.native.accessibleName()
    picker.value = picker.value
    assert len(heard) == 1


def test_few_choices_stay_a_combo_box() -> None:
    assert isinstance(picker_for(schedules), ShortPicker)
    assert isinstance(picker_for(registry), LongPicker)


def test_a_formula_draws_ink_and_grows_when_narrow(qtbot: Any) -> None:
    view = FormulaView()
    qtbot.addWidget(view)
    view.resize(400, 40)
    view.show_formula(registry.spec("unified_focal").formula)  # type: ignore[attr-defined]
    image = view.grab().toImage()
    assert len({image.pixel(x, y) for x in range(0, 200, 2) for y in range(image.height())}) > 3
    long = registry.spec("hytver").formula  # type: ignore[attr-defined]
    view.show_formula(long)
    assert view.heightForWidth(200) > view.heightForWidth(800)
    view.show_formula("")
    assert not view.isVisible()


@pytest.mark.parametrize("latex", [registry.spec("tversky").formula, r"\frac{a_b_c} of a plug-in"])  # type: ignore[attr-defined]
@pytest.mark.parametrize("colour_name", ["#ff0000", "#00ff00"])
def test_a_formula_has_the_colour_of_the_text_and_its_size(latex: str, colour_name: str, qtbot: Any) -> None:
    view = FormulaView()
    qtbot.addWidget(view)
    view.setStyleSheet(f"background: black; color: {colour_name}; font-size: 12px")
    view.resize(300, 40)
    view.show_formula(latex)
    view.show()
    image = view.grab().toImage()
    pixels = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
    red, green = (max(values) for values in zip(*((p.red(), p.green()) for p in pixels), strict=True))
    assert (red > 200, green > 200) == (colour_name == "#ff0000", colour_name == "#00ff00")
    height = view.height()
    view.setStyleSheet("font-size: 24px")
    qtbot.waitUntil(lambda: view.height() > 1.4 * height)


def test_a_formula_that_cannot_be_read_is_shown_as_it_is_written(qtbot: Any) -> None:
    view = FormulaView()
    qtbot.addWidget(view)
    view.resize(300, 40)
    view.show_formula(r"L=\frac{a_b_c} \left( x")
    assert view.accessibleName() == r"L=\frac{a_b_c} \left( x"
    assert view.heightForWidth(60) > view.heightForWidth(600) > 0
    view.show()
    image = view.grab().toImage()
    assert len({image.pixel(x, y) for x in range(image.width()) for y in range(image.height())}) > 1


@pytest.mark.parametrize(("dark", "background"), [(True, "#262930"), (False, "#efebe9")])
def test_tones_are_readable_on_both_themes(dark: bool, background: str) -> None:
    def luminance(text: str) -> float:
        parts = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for tone in ("grey", "amber", "red", "green"):
        light, low = sorted((luminance(colour(tone, dark=dark)), luminance(background)), reverse=True)
        assert (light + 0.05) / (low + 0.05) >= 4.5, tone
        assert colour(tone, dark=dark) in style_sheet(dark=dark)
