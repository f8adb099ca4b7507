"""Forms: what goes in comes out, and what is wrong is told where it is wrong."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import model_validator
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSlider

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import LiveForm, SpecForm
from segexplorer.frontends.forms.appearance import Card, Section


class Shade(Spec):
    """Base of a small family that only this test knows."""


shades: Registry[Shade] = Registry("test-form-shades", Shade, "shade")
AnyShade = Annotated[Shade, shades.late_bound]


@shades.register
class Plain(Shade):
    """One shade."""

    display_name: ClassVar[str] = "Plain shade"
    formula: ClassVar[str] = "s = depth"
    penalises: ClassVar[str] = "Punishes light."
    kind: Literal["plain"] = "plain"
    depth: float = parameter(1e-3, title="Depth", description="How dark.", gt=0, le=1, live=True)


@shades.register
class Mixed(Shade):
    """Several shades."""

    display_name: ClassVar[str] = "Mixed shades"
    kind: Literal["mixed"] = "mixed"
    parts: tuple[AnyShade, ...] = parameter((), title="Parts", description="Shades to mix.")


shades.register_preset("dusk", "Dusk", Plain(depth=0.7), note="As in the evening.")


class Inner(Spec):
    low: float = parameter(0.3, title="Low", description="Lower end.", live=True)
    high: float = parameter(0.7, title="High", description="Upper end.", live=True)

    @model_validator(mode="after")
    def _ordered(self) -> Inner:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Everything(Spec):
    rate: float = parameter(1e-3, title="Rate", description="Size.", gt=0, live=True)
    small: float = parameter(1e-7, title="Small", description="Tiny.", called="eps there", unit="mm")
    count: int = parameter(4, title="Count", description="How many.", ge=1, le=10)
    on: bool = parameter(True, title="On", description="Whether.")
    name: str = parameter("a", title="Name", description="Called so.", min_length=1)
    folder: str = parameter("${HOME}/x/", title="Folder", description="Where.", path="folder")
    mode: Literal["fast_mode", "slow"] = parameter("slow", title="Mode", description="How.")
    size: tuple[int, int, int] = parameter((1, 2, 3), title="Size", description="Edge lengths.")
    patch: int | tuple[int, int, int] | None = parameter(None, title="Patch", description="One or three.")
    clip: float | None = parameter(12.0, title="Clip", description="Limit.", advanced=True)
    values: tuple[float, ...] = parameter((1e-3, 2.0), title="Values", description="Some.")
    words: tuple[str, ...] = parameter(("x", "y"), title="Words", description="Some words.")
    classes: dict[str, tuple[int, ...]] = parameter(
        default_factory=lambda: {"kidneys": (2, 3)}, title="Classes", description="Labels."
    )
    inner: Inner = parameter(default_factory=Inner, title="Inner", description="Nested.")
    shade: AnyShade = parameter("plain", title="Shade", description="Which.")


def texts_shown(widget: Any) -> list[str]:
    """Every text of a label that is not hidden itself, anywhere below a magicgui widget."""
    return [label.text() for label in widget.native.findChildren(QLabel) if not label.isHidden()]


pytestmark = pytest.mark.usefixtures("qapp")


def test_defaults_of_a_class_and_small_floats() -> None:
    form = SpecForm(Everything)
    assert form.value == Everything()
    assert form.problems == ()
    assert form.widget_for("small").value == "1e-7"
    assert form.widget_for("rate").value == "0.001"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(1e-12, 1e12),
    small=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(1, 10),
    patch=st.none() | st.integers(-5, 500) | st.tuples(*[st.integers(0, 99)] * 3),
    clip=st.none() | st.floats(-1e30, 1e30),
    values=st.lists(st.floats(-1e9, 1e9), max_size=3).map(tuple),
    words=st.lists(st.text("abc _-:,é", max_size=5), max_size=3).map(tuple),
    classes=st.dictionaries(
        st.text("abcd", min_size=1, max_size=4), st.tuples(st.integers(0, 255)), max_size=3
    ),
    shade=st.recursive(
        st.floats(1e-9, 1).map(lambda d: Plain(depth=d)),
        lambda inner: st.lists(inner, max_size=2).map(lambda parts: Mixed(parts=tuple(parts))),
        max_leaves=3,
    ),
)
def test_what_goes_in_comes_out(**values: object) -> None:
    spec = Everything.of(values)
    form = SpecForm(Everything())
    form.set(spec)
    assert form.value == spec
    assert Everything.of(form.value.plain()) == spec


def test_typing_a_small_number() -> None:
    form = SpecForm(Everything())
    heard: list[str] = []
    form.changed.connect(heard.append)
    form.widget_for("rate").value = "3e-4"
    assert form.value.rate == 3e-4
    assert heard == ["rate"]


def test_a_problem_stands_under_its_field_and_goes_again() -> None:
    form = SpecForm(Everything())
    form.widget_for("rate").value = "fast"
    assert [path for path, _ in form.problems] == ["rate"]
    assert "Must be a number (got 'fast')" in texts_shown(form.row_for("rate"))
    with pytest.raises(SpecError, match="rate must be a number"):
        _ = form.value
    form.widget_for("rate").value = "-1"
    assert any("more than 0" in text for text in texts_shown(form.row_for("rate")))
    form.widget_for("rate").value = "0.5"
    assert form.problems == ()
    assert not any("Must be" in text for text in texts_shown(form.widget))


def test_problems_inside_groups_kinds_and_lists_are_reported_where_they_are() -> None:
    form = SpecForm(Everything(shade=Mixed(parts=(Plain(),))))
    form.widget_for("inner.low").value = "0.9"
    assert "Low must be below high" in texts_shown(form.row_for("inner"))
    form.widget_for("inner.low").value = "0.1"
    form.widget_for("shade.parts.0.depth").value = "2"
    assert [path for path, _ in form.problems] == ["shade.parts.0.depth"]
    assert any("at most 1" in text for text in texts_shown(form.row_for("shade")))


def test_a_problem_nobody_shows_is_told_at_the_nearest_field() -> None:
    form = SpecForm(Everything())
    form.widget_for("classes.kidneys").value = "2, two"
    assert any("whole number" in text for text in texts_shown(form.row_for("classes")))


def test_switching_kinds_keeps_what_was_typed() -> None:
    form = SpecForm(Everything())
    editor = form.editor_at("shade")
    form.widget_for("shade.depth").value = "0.25"
    editor.picker.value = "kind:mixed"
    assert form.value.shade == Mixed()
    editor.picker.value = "kind:plain"
    assert form.value.shade == Plain(depth=0.25)


def test_presets_fill_in_and_say_when_they_were_changed() -> None:
    form = SpecForm(Everything())
    editor = form.editor_at("shade")
    editor.picker.value = "preset:dusk"
    assert form.value.shade == Plain(depth=0.7)
    shown = "\n".join(texts_shown(form.row_for("shade")))
    assert "As in the evening." in shown and "Punishes light." in shown
    assert editor.formula.latex == "s = depth"
    form.widget_for("shade.depth").value = "0.6"
    assert "Changed from the preset." in "\n".join(texts_shown(form.row_for("shade")))
    form.set(Everything(shade=Plain(depth=0.7)))
    assert editor.picker.value == "preset:dusk"


def test_lists_and_mappings_grow_and_shrink() -> None:
    form = SpecForm(Everything(words=()))
    words = form.editor_at("words")
    words.add_button.native.click()
    form.widget_for("words.0").value = "hello"
    words.add_button.native.click()
    assert form.value.words == ("hello", "")
    words.remove(1)
    assert form.value.words == ("hello",)
    classes = form.editor_at("classes")
    classes.add_button.native.click()
    form.widget_for("classes.class 2").value = "5"
    assert form.value.classes == {"kidneys": (2, 3), "class 2": (5,)}


def test_optional_keeps_what_was_typed() -> None:
    form = SpecForm(Everything())
    clip = form.editor_at("clip")
    clip.tick.value = False
    assert form.value.clip is None
    clip.tick.value = True
    assert form.value.clip == 12.0


def test_excluded_settings_are_kept_and_no_problem_of_the_form() -> None:
    class Needy(Spec):
        root: str = parameter(title="Root", description="Needed.")
        count: int = parameter(1, title="Count", description="How many.")

    form = SpecForm(Needy, exclude=["root"])
    assert form.problems == ()
    assert form.plain() == {"count": 1}
    form.set(Needy(root="here", count=2))
    assert form.value == Needy(root="here", count=2)


def test_labels_carry_unit_meaning_and_the_papers_name() -> None:
    form = SpecForm(Everything())
    assert "mm" in texts_shown(form.row_for("small"))
    tip = form.widget_for("small").tooltip
    assert "Tiny." in tip and "eps there" in tip


def test_fits_into_a_narrow_dock() -> None:
    form = SpecForm(Everything(shade=Mixed(parts=(Plain(),)), patch=(1, 2, 3)))
    assert form.native.minimumSizeHint().width() <= 300


def test_live_form_shows_live_parameters_and_applies_changes() -> None:
    spec = Everything(shade=Plain(depth=0.5))
    form = LiveForm(spec)
    assert form.paths == ("rate", "inner.low", "inner.high", "shade.depth")
    heard: list[dict[str, object]] = []
    form.applied.connect(heard.append)
    assert not form.apply_button.enabled
    form.edit("rate", 3e-4)
    form.edit("shade.depth", 0.75)
    form.apply_button.native.click()
    assert heard == [{"rate": 3e-4, "shade.depth": 0.75}]  # as one change
    form.set(spec)
    assert form.changes == {}


def test_live_form_judges_settings_that_depend_on_each_other_together() -> None:
    form = LiveForm(Everything())
    form.edit("inner.low", 0.8)
    assert not form.apply_button.enabled
    assert any("low must be below high" in text for text in texts_shown(form.widget))
    form.edit("inner.high", 0.9)
    assert form.apply_button.enabled
    form.edit("rate", -1)
    assert not form.apply_button.enabled
    form.revert_button.native.click()
    assert form.changes == {}


def test_a_number_with_a_range_has_a_slider_and_keeps_what_is_typed(qtbot: Any) -> None:
    class Sizes(Spec):
        rate: float = parameter(
            1e-3, title="Rate", description="Size.", gt=0, le=10, scale="log", typical=(1e-6, 1)
        )
        share: float = parameter(0.5, title="Share", description="Part.", ge=0, lt=1)
        levels: int = parameter(4, title="Levels", description="How many.", ge=2, le=7)
        free: float = parameter(1.0, title="Free", description="Any.")

    form = SpecForm(Sizes)
    qtbot.addWidget(form.native)
    form.native.show()
    sliders = {slider.accessibleName(): slider for slider in form.native.findChildren(QSlider)}
    assert sorted(sliders) == ["Levels, slider", "Rate, slider", "Share, slider"]
    rate, share = sliders["Rate, slider"], sliders["Share, slider"]
    form.widget_for("rate").value = "3.14159e-4"
    assert form.value.rate == 3.14159e-4  # between two stops: typed exactly, the slider beside it
    before = rate.value()
    form.widget_for("rate").value = "7"
    assert form.value.rate == 7 and rate.value() == rate.maximum()  # allowed, beyond what is typical
    form.widget_for("rate").value = "0.0003"
    assert rate.value() == before
    rate.setFocus()
    qtbot.keyClick(rate, Qt.Key.Key_Right)
    assert form.value.rate == 4e-4
    share.setFocus()
    qtbot.keyClick(share, Qt.Key.Key_End)
    assert form.value.share == 0.99
    qtbot.keyClick(sliders["Levels, slider"], Qt.Key.Key_Home)
    assert form.value.levels == 2 and form.problems == ()


def test_entries_are_titled_moved_and_keep_what_is_in_them(qtbot: Any) -> None:
    form = SpecForm(Everything(shade=Mixed(parts=(Plain(depth=0.1), Mixed(), Plain(depth=0.3)))))
    qtbot.addWidget(form.native)
    form.native.show()
    heard: list[str] = []
    form.changed.connect(heard.append)
    parts = form.editor_at("shade.parts")
    assert [parts.title_of(str(i)) for i in range(3)] == [
        "1. Plain shade",
        "2. Mixed shades",
        "3. Plain shade",
    ]
    up, down, _ = parts.buttons_of(0)
    qtbot.waitUntil(lambda: down.native.height() > 10)
    assert not up.native.isEnabled() and down.native.accessibleName() == "Move down: 1. Plain shade"
    qtbot.mouseClick(down.native, Qt.MouseButton.LeftButton)
    assert form.value.shade == Mixed(parts=(Mixed(), Plain(depth=0.1), Plain(depth=0.3)))
    assert heard and form.label("shade.parts.1.depth") == "Shade › Parts › 2. Plain shade › Depth"
    shown = [card.section.button.text() for card in form.native.findChildren(Card)]
    assert any(text.endswith("1. Mixed shades") for text in shown)
    qtbot.mouseClick(parts.buttons_of(2)[0].native, Qt.MouseButton.LeftButton)
    form.widget_for("shade.parts.1.depth").value = "0.4"
    assert form.value.shade == Mixed(parts=(Mixed(), Plain(depth=0.4), Plain(depth=0.1)))
    parts.buttons_of(1)[2].native.click()
    assert form.value.shade == Mixed(parts=(Mixed(), Plain(depth=0.1)))


def test_a_setting_is_found_by_its_path_unfolded_and_focused(qtbot: Any) -> None:
    form = SpecForm(Everything(shade=Mixed(parts=(Plain(),))))
    qtbot.addWidget(form.native)
    form.native.show()
    qtbot.waitExposed(form.native)
    low = form.widget_for("inner.low").native
    assert not low.isVisible()
    assert form.focus("inner.low")
    assert low.isVisible() and form.native.window().focusWidget() is not None
    assert form.native.window().focusWidget().accessibleName() == "Low"
    assert form.label("inner.low") == "Inner › Low"
    assert form.focus("clip") and form.widget_for("clip").native.isVisible()  # was under "More"
    assert form.focus("shade.parts.0.depth.deeper")
    assert form.native.window().focusWidget().accessibleName() in {"Depth", "Depth, slider"}
    assert not form.focus("nothing")
    form.widget_for("inner.low").value = "-"
    assert form.problem_sentence().startswith("Inner › Low must be a number")


def test_what_was_folded_is_remembered(qtbot: Any) -> None:
    def shade_of(form: SpecForm[Everything]) -> Section:
        return next(s for s in form.native.findChildren(Section) if s.title == "Shade")

    first = SpecForm(Everything())
    qtbot.addWidget(first.native)
    first.native.show()
    section = shade_of(first)
    assert section.is_open
    section.button.setFocus()
    qtbot.keyClick(section.button, Qt.Key.Key_Space)
    assert not section.is_open and "Plain shade" in section.button.text()
    second = SpecForm(Everything())
    assert not shade_of(second).is_open
    assert second.focus("shade.depth") and shade_of(second).is_open
    assert not shade_of(SpecForm(Everything())).is_open  # only what a user does is remembered
