"""What covers the ground of the synthetic Member State, and how it looks through the year.

Every cover is a mixture of green leaves, dry leaves and a bare ground, whose shares follow the
day of the year. The spectra are typical surface reflectances and the backscatter typical C-band
levels, chosen to look right in a plot; they are nobody's measurement.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keyframes = tuple[tuple[int, float], ...]

S2_BANDS = ("B02", "B03", "B04", "B05", "B08", "B11")
"""Bands of the synthetic Sentinel-2 products, in the order of the spectra below."""

S1_BANDS = ("VV", "VH")

_SPECTRA = {
    "green": (0.024, 0.058, 0.024, 0.098, 0.470, 0.175),
    "dry": (0.075, 0.115, 0.155, 0.195, 0.280, 0.330),
    "soil": (0.062, 0.090, 0.122, 0.148, 0.188, 0.265),
    "shade": (0.010, 0.016, 0.013, 0.020, 0.060, 0.035),
    "roofs": (0.110, 0.125, 0.140, 0.150, 0.185, 0.210),
    "water": (0.036, 0.032, 0.020, 0.016, 0.010, 0.006),
}
"""Reflectance by surface, one value for each of S2_BANDS."""


@dataclass(frozen=True)
class Cover:
    """A crop, or what lies between the parcels.

    Attributes:
        code: the paying agency's crop code, text with leading zeros; '' for no crop.
        name: in plain words.
        share: of the parcels of ordinary size that declare it.
        share_small: of the parcels below 0.3 ha that declare it.
        ground: surface under and between the plants.
        green: (day of year, share of green leaves), linear in between.
        dry: the same for dry leaves and stubble.
        bare_db: gamma0 (VV, VH) of the bare ground, dB.
        green_db: gamma0 (VV, VH) under closed green leaves, dB.
    """

    code: str
    name: str
    share: float
    share_small: float
    ground: str
    green: Keyframes
    dry: Keyframes
    bare_db: tuple[float, float] = (-10.5, -18.5)
    green_db: tuple[float, float] = (-11.0, -17.0)


# One line of keyframes reads better than one number a line.
# fmt: off
CROPS = (
    Cover("010110", "winter wheat", 0.22, 0.08, "soil",
          ((1, .28), (70, .36), (100, .70), (125, .95), (155, .92), (175, .45), (190, .04),
           (235, .05), (270, .22), (366, .30)),
          ((155, 0), (178, .50), (192, .92), (208, .85), (225, .25), (250, 0)),
          green_db=(-15.0, -20.5)),
    Cover("010120", "winter barley", 0.08, 0.03, "soil",
          ((1, .32), (65, .42), (92, .78), (115, .95), (138, .85), (158, .35), (172, .03),
           (215, .06), (245, .45), (300, .55), (366, .35)),
          ((138, 0), (160, .60), (174, .92), (190, .80), (205, .15), (225, 0)),
          green_db=(-14.5, -20.0)),
    Cover("010130", "spring barley", 0.04, 0.02, "soil",
          ((1, .04), (85, .04), (110, .30), (140, .92), (165, .85), (185, .30), (200, .03),
           (366, .05)),
          ((160, 0), (185, .60), (200, .92), (225, .70), (250, .05)),
          green_db=(-14.0, -20.0)),
    Cover("010200", "maize", 0.17, 0.07, "soil",
          ((1, .05), (125, .04), (145, .06), (165, .38), (185, .86), (205, .96), (240, .90),
           (258, .60), (272, .22), (280, .04), (366, .06)),
          ((240, 0), (260, .28), (272, .55), (282, .35), (310, .15)),
          green_db=(-9.0, -14.5)),
    Cover("020100", "winter rapeseed", 0.07, 0.02, "soil",
          ((1, .42), (60, .48), (88, .82), (108, .88), (120, .68), (135, .84), (155, .75),
           (175, .30), (192, .04), (235, .10), (270, .55), (366, .45)),
          ((150, 0), (178, .50), (192, .88), (210, .55), (230, .05)),
          green_db=(-9.5, -13.5)),
    Cover("030100", "sugar beet", 0.06, 0.02, "soil",
          ((1, .03), (110, .03), (135, .18), (155, .60), (175, .94), (230, .95), (275, .82),
           (290, .70), (300, .05), (366, .04)),
          ((285, 0), (300, .10)),
          green_db=(-8.5, -13.5)),
    Cover("030205", "potato", 0.05, 0.04, "soil",
          ((1, .03), (130, .03), (150, .30), (170, .85), (195, .94), (220, .75), (240, .30),
           (252, .05), (366, .05)),
          ((215, 0), (240, .45), (252, .30), (265, .05)),
          green_db=(-8.8, -13.8)),
    Cover("090100", "permanent grassland", 0.27, 0.60, "soil",
          ((1, .52), (70, .58), (110, .88), (138, .93), (141, .48), (165, .84), (188, .90),
           (191, .48), (220, .80), (242, .84), (245, .50), (275, .80), (320, .65), (366, .52)),
          ((1, .15), (60, .12), (100, .02), (200, .05), (300, .06), (366, .15)),
          bare_db=(-11.5, -19.0), green_db=(-11.2, -17.8)),
    Cover("099999", "fallow", 0.04, 0.12, "soil",
          ((1, .20), (80, .26), (130, .58), (170, .62), (210, .40), (260, .46), (366, .24)),
          ((1, .20), (120, .10), (190, .30), (240, .25), (366, .20)),
          green_db=(-10.8, -17.5)),
)
"""What parcels declare. Codes and shares are invented."""

SURROUNDINGS = (
    Cover("", "forest", 0, 0, "shade",
          ((1, .30), (100, .34), (130, .74), (250, .70), (290, .48), (320, .32), (366, .30)),
          ((1, .12), (100, .10), (130, 0), (270, .05), (320, .14), (366, .12)),
          bare_db=(-8.6, -14.2), green_db=(-8.2, -13.2)),
    Cover("", "gardens", 0, 0, "soil",
          ((1, .40), (80, .48), (130, .74), (260, .66), (366, .40)), ((1, .15), (366, .15))),
    Cover("", "settlement", 0, 0, "roofs",
          ((1, .10), (130, .24), (260, .22), (366, .10)), ((1, 0.), (366, 0.)),
          bare_db=(-4.0, -11.0), green_db=(-6.0, -12.0)),
    Cover("", "water", 0, 0, "water", ((1, 0.), (366, 0.)), ((1, 0.), (366, 0.)),
          bare_db=(-19.5, -26.5), green_db=(-19.5, -26.5)),
)
"""What lies between the parcels."""
# fmt: on

COVERS = CROPS + SURROUNDINGS
"""All covers; the index into this tuple is how arrays name a cover."""


def shares(cover: Cover, day: Floats, vigour: Floats) -> tuple[Floats, Floats]:
    """Shares of green and dry leaves of one cover on given days.

    Args:
        cover: the cover.
        day: (n,) day of the year by each parcel's own calendar.
        vigour: (n,) factor on the green share.

    Returns:
        Two (n,) arrays in 0..1 whose sum is at most 1.
    """
    green = np.clip(np.interp(day, *np.transpose(cover.green)) * vigour, 0, 1)
    dry = np.minimum(np.interp(day, *np.transpose(cover.dry)), 1 - green)
    return green, dry


def reflectance(cover: Cover, day: Floats, vigour: Floats) -> Floats:
    """Surface reflectance of one cover, (n, len(S2_BANDS)); arguments as for `shares`."""
    green, dry = shares(cover, day, vigour)
    weights = np.stack([green, dry, 1 - green - dry], axis=1)
    surfaces: Floats = np.array([_SPECTRA[name] for name in ("green", "dry", cover.ground)])
    return weights @ surfaces


def backscatter(cover: Cover, day: Floats, vigour: Floats) -> Floats:
    """Mean gamma0 of one cover in dB, (n, len(S1_BANDS)); arguments as for `shares`."""
    green, dry = shares(cover, day, vigour)
    leaves = (green + 0.4 * dry)[:, None]  # dry leaves hold little water
    bare, closed = np.array(cover.bare_db), np.array(cover.green_db)
    return np.asarray(bare + leaves * (closed - bare), dtype=np.float64)
