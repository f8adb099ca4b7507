"""`SpecForm`: a form for any spec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from psygnal import Signal
from pydantic import ValidationError

from segexplorer.core.errors import validation_problems
from segexplorer.core.spec import Spec
from segexplorer.faces.forms import look
from segexplorer.faces.forms.build import editor_for
from segexplorer.faces.forms.nested import GroupEditor

S = TypeVar("S", bound=Spec)


class SpecForm(Generic[S]):
    """Edit a spec; never changes the one it was given.

    Parameters
    ----------
    spec
        What to show, or a spec class to show with its defaults.
    exclude
        Settings of the top level that somebody else edits. Those of `spec` are kept; `value` has them too.

    Attributes
    ----------
    changed
        psygnal signal with the dotted path of what changed, "" for the whole; emitted on the main thread,
        after problems were told under their fields.
    problems
        (dotted path, sentence fragment) of everything that keeps `value` from being read; excluded settings
        are none of this form's problems.
    """

    changed = Signal(str)

    def __init__(self, spec: S | type[S], *, exclude: Iterable[str] = ()) -> None:
        self._model: type[S] = spec if isinstance(spec, type) else type(spec)
        self._excluded = frozenset(exclude)
        self._kept: dict[str, Any] = {}
        self._group = GroupEditor(self._model, editor_for, self._excluded)
        self._rest = look.problem_label()
        self.widget = look.column(self._group.widget, self._rest)
        self.problems: tuple[tuple[str, str], ...] = ()
        self._setting = False
        self._group.changed.connect(self._on_change)
        if isinstance(spec, Spec):
            self.set(spec)
        else:
            self._check()

    @property
    def native(self) -> Any:
        """The toolkit's own widget, for a panel to place."""
        return self.widget.native

    @property
    def value(self) -> S:
        """The spec as the form stands.

        Raises
        ------
        SpecError
            One sentence naming every field at fault.
        """
        return self._model.of({**self._kept, **self.plain()})

    def plain(self) -> dict[str, Any]:
        """Return what the form shows as plain data, valid or not, without excluded settings."""
        return self._group.get()

    def set(self, spec: S) -> None:
        """Show another spec; what cannot be seen of the old one is gone."""
        self._setting = True
        try:
            self._kept = {name: getattr(spec, name) for name in self._excluded}
            self._group.set(spec)
        finally:
            self._setting = False
        self._on_change("")

    def _on_change(self, path: str) -> None:
        if self._setting:
            return
        self._check()
        self.changed.emit(path)

    def _check(self) -> None:
        """Validate what is typed and tell each problem under its field."""
        found: list[tuple[str, str]] = []
        try:
            self._model.model_validate({**self._kept, **self.plain()})
        except ValidationError as error:
            found = [p for p in validation_problems(error) if p[0].partition(".")[0] not in self._excluded]
        self.problems = tuple(found)
        problems = dict(found)
        told = self._group.show_problems(problems)
        look.tell(self._rest, "; ".join(f"{p}: {t}" if p else t for p, t in found if p not in told))
