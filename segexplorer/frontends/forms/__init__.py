"""Forms printed from specs, on public magicgui widgets.

`SpecForm` edits a whole spec; `LiveForm` shows what may change while a run goes on. Both are generic over
`core.fields.Shape`: no form knows any particular loss, network or data set.
"""

from segexplorer.frontends.forms.spec_forms import LiveForm, SpecForm

__all__ = ["LiveForm", "SpecForm"]
