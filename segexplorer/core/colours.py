"""The colours of errors and classes: each means one thing, wherever and on whichever background it is drawn.

Errors have four of the colours of Okabe and Ito (2008, "Color Universal Design", https://jfly.uni-koeln.de/color/),
which nothing else has. The colours of classes were found by `scripts/class_colours.py`, which says what they keep
and measures it; names carry the difference where a reader cannot see it, which is so beyond 12 classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERMILLION = "#D55E00"
BLUE = "#0072B2"
REDDISH_PURPLE = "#CC79A7"
BLUISH_GREEN = "#009E73"
NEUTRAL = "#F2F2F2"

FALSE_POSITIVE, FALSE_NEGATIVE = VERMILLION, BLUE
WRONG_CLASS, TRUE_POSITIVE = REDDISH_PURPLE, BLUISH_GREEN
ERRORS: Mapping[str, str] = {
    "true positive": TRUE_POSITIVE,
    "false positive": FALSE_POSITIVE,
    "false negative": FALSE_NEGATIVE,
    "wrong class": WRONG_CLASS,
}
"""Colours of the values of an error map (`segexplorer.error_map`), by their names."""
TRUTH_OUTLINE, PREDICTION_OUTLINE = "#FFFFFF", "#1A1A1A"
"""Outlines in the error view: neutral, so that they are neither an error nor a class."""
TRUTH_SURFACE = "#E6E6E6"
"""The truth in 3D, translucent around its errors."""
RIM = "#1A1A1A"
"""Around errors that are drawn over a map."""
HERE = "#F0C83C"
"""The crosshair, and the outline of the error that is looked at."""
MISSED_PREVAILS, EXTRA_PREVAILS = "#5B2FB0", "#F0C000"
"""Ends of the balance of regions: dark and light, cold and warm, and neither has the colour of an error."""
UNKNOWN = "#808080"
"""A label value that is no class."""

DISTINCT = 12
"""So many classes can be told apart by colour alone, also by readers with deuteranopia or protanopia."""
CLASSES: tuple[str, ...] = tuple(
    """
    #D2C378 #7800FF #2DD2FF #785A00 #B41E4B #9696FF #FF4B5A #D29600 #87873C #A55AFF #A5D200 #00D2D2

    #006C78 #FCC0C0 #305430 #907890 #3C4878 #84B484 #6C9CA8 #90489C #90000C #785454 #4860D8 #B45448
    #E4CCF0 #603C60 #C09090 #C090D8 #3CCC54 #0030C0 #90846C #008478 #487830 #6C0C9C #B4E49C #7878B4
    #C0C0A8 #484818 #9C9CC0 #B4D8D8 #FC9090 #C000D8 #609000 #A8606C #FCA8FC #B49C6C #F00060 #84F054
    #C060CC #00909C #6048B4 #78B430 #C0A8C0 #C0C0D8 #786084 #60B4A8 #F06CFC #903C3C #D8C09C #A8B478
    #843048 #CC1818 #6C8454 #849C54 #846C48 #E40CFC #D80C3C #6C84D8 #CC6C6C #FCCC84 #546024 #00546C
    #547884 #849C84 #A8903C #C0B4E4 #78D8E4 #603C3C #F0D800 #6C3C90 #606C54 #548484 #E4A854 #18A83C
    #00B4E4 #3000F0 #6C6C18 #9C84C0 #CCD8A8 #900030 #6048F0 #54609C #60546C #6C6C90 #605484 #FC4878
    #3CA8B4 #78B4CC #C0D86C #CCB424 #30849C #D8B4B4 #9054C0 #E49CA8 #848460 #9000CC #A884E4 #FC849C
    #005454 #78D8CC #90C06C #6CF084 #0CF0F0 #486C6C #9C5454 #90B4B4 #483C84 #A80024 #F0303C #0C48CC
    #CCCC54 #9CC0CC #A890B4 #9C7848 #6C6030 #187878 #A8A854 #84609C #606048 #B4A8FC #00CCE4 #9C9060
    #005400 #6CCC30 #4878FC #C04860 #009C9C #60540C #FCCC48 #183C9C #606078 #6C783C #6C30B4 #6C60E4
    #CC0060 #8490CC #9C0C48 #A88484 #9C6CA8 #D85454 #B49000 #90E4FC #FCA8A8 #A8C060 #60C0C0 #9CB49C
    #6C9090 #D8CCB4 #9078CC #B46CE4 #9CE4E4 #A8A890 #78A860 #00C0B4 #6C4878 #5418B4 #48603C #B4A86C
    #5430E4 #906C90 #906060 #6C6C3C #B43C30 #9CA80C #6C8400 #783C3C #90CCCC #CC8484 #54486C #A83CB4
    #B4E4B4 #CCC090 #E4B4F0 #F06C78 #48489C #D8B478 #B49CE4 #60C0D8 #CCCC90 #A87830 #9C0CFC #84A8B4
    #C0A848 #781884 #D8306C #C09048 #B4C0FC #9C6CC0 #E49084 #F0B4C0 #906CE4 #FCB43C #849CF0 #CC5460
    #606CCC #6C843C #30E460 #CC2454 #E44878 #B4B490 #B4CC84 #8484B4 #787830 #546C24 #9CE478 #249CC0
    #48E4D8 #900C24 #906C6C #D884F0 #547848 #545490 #90F00C #A89CCC #E46054 #846C84 #606090 #544824
    #8448CC #9018A8 #C09C48 #A8C09C #A83CF0 #6C7854 #906090 #549030 #604884 #C048F0 #CCCCA8 #CC9CF0
    #185424 #E4B448 #C0D8C0 #9C90D8 #600CD8 #E4D890 #18606C #608460 #7824D8 #9C3C48 #906C3C #C03CCC
    #C09C9C #54A8C0 #306030
    """.split()  # noqa: SIM905  a list literal would be a line per colour
)
"""Colour of class i + 1.

Any two of the first `DISTINCT` differ by CIEDE2000 >= 14, and by >= 7 as colour-blind readers see them; any two of
the first 50 by >= 10, of all by >= 4. From the colours of errors every one differs by >= 12, the first `DISTINCT`
by >= 20, and by 18 degrees of hue.
"""


@dataclass(frozen=True)
class ClassColours:
    """The palette of an experiment, from which every table, layer, curve, surface and page takes its colours.

    A class has the colour of its index, which no other setting changes: 1 for the first class.

    Attributes
    ----------
    names
        Classes in the order of their indices 1, 2, ...; without names, colours are found by index alone.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def of_values(cls, values: Mapping[int, str]) -> ClassColours:
        """Return the palette of a label whose values are named; values of one name are one class."""
        return cls(tuple(dict.fromkeys(name for value, name in values.items() if value != 0)))

    def colour(self, of: int | str) -> str:
        """Return "#RRGGBB" of a class by its index, counted from 1, or by its name; grey where it is unknown.

        The values of an error map have the colours of errors.
        """
        if isinstance(of, str):
            if of in ERRORS or of not in self.names:
                return ERRORS.get(of, UNKNOWN)
            of = self.names.index(of) + 1
        # a label map may have more values than there are colours
        return CLASSES[(of - 1) % len(CLASSES)] if of > 0 else UNKNOWN

    def values(self, values: Mapping[int, str]) -> dict[int, str]:
        """Return label value -> colour, for values with the name of their class; 0 has none."""
        return {value: self.colour(name) for value, name in values.items() if value != 0}

    def indices(self, indices: Iterable[int]) -> dict[int, str]:
        """Return class index -> colour; 0, the background, has none."""
        return {index: self.colour(index) for index in indices if index > 0}


def rgba(colour: str, opacity: float = 1.0) -> tuple[float, float, float, float]:
    """Return "#RRGGBB" as red, green, blue and opacity from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, opacity


def contrast(colour: str, background: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    one, other = sorted((_luminance(colour), _luminance(background)), reverse=True)
    return (one + 0.05) / (other + 0.05)


def _luminance(colour: str) -> float:
    """Return the relative luminance of sRGB, 0 to 1."""
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba(colour)[:3]]
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def diverging(n: int = 255, *, flipped: bool = False) -> NDArray[np.float32]:
    """Return (n, 4) colours from missed (violet) over neutral, in the middle, to extra (gold)."""
    anchors = np.array([rgba(MISSED_PREVAILS), rgba(NEUTRAL), rgba(EXTRA_PREVAILS)])
    positions = np.linspace(0, 2, n)
    colours = np.stack([np.interp(positions, (0, 1, 2), channel) for channel in anchors.T], axis=1)
    return (colours[::-1] if flipped else colours).astype(np.float32)


ONLY_A, ONLY_B = "#F0E442", "#8CC8FF"
"""Where of two lanes of a race one alone is right: light yellow and light blue, neither of them an error."""
CONTROL = "#A0A0A0"
"""The control of a race, which differs by chance alone."""

PULL_LESS, PULL_MORE = "#8C510A", "#01665E"
"""Ends of the colours of a pull: brown for less of a class, teal for more; never those of errors."""


def pull_strength(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return from -1 to 1 how strong the colours of a pull are, from its values divided by the end of the scale.

    The square root: the pull in a small structure can be a hundred times that around it, and both must be seen.
    """
    within = np.clip(values, -1, 1, dtype=np.float32)
    return np.asarray(np.sign(within) * np.sqrt(np.abs(within)), np.float32)


def pull(n: int = 255) -> NDArray[np.float32]:
    """Return (n, 4) colours from less (brown) to more (teal) of a class; the weaker, the more transparent.

    They are evenly spaced in strength (`pull_strength`), not in values.
    """
    positions = np.linspace(-1, 1, n)
    strength = np.abs(positions)
    table = np.empty((n, 4), np.float32)
    for end, side in ((PULL_LESS, positions < 0), (PULL_MORE, positions >= 0)):
        # bright where it is strong, so that a strong pull stands out from dark tissue
        bright = 0.45 * strength[side, np.newaxis]
        table[side, :3] = np.asarray(rgba(end)[:3]) * (1 - bright) + bright
    table[:, 3] = np.clip(1.6 * strength, 0, 1)
    return table
