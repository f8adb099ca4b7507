"""Forms printed from specs, on public magicgui widgets.

`SpecForm` edits a whole spec; `LiveForm` shows what may change while a run goes on. Both are generic over
`core.fields.Shape`: no form knows any particular loss, network or data set.
"""

from segexplorer.faces.forms.live_form import LiveForm
from segexplorer.faces.forms.spec_form import SpecForm

__all__ = ["LiveForm", "SpecForm"]
