"""CARD kinds and their bands; product names and what they say."""

BANDS: dict[str, tuple[str, ...]] = {
    "s2": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "bs": ("VV", "VH"),
    "c6": ("VV", "VH"),
    "c12": ("VV", "VH"),
}
"""Bands with signatures, by CARD kind, in the order of the tables' columns (0002_signatures.sql)."""

SCL = "SCL"
"""Sentinel-2's scene class band: counted as a histogram of its 12 classes, never averaged."""
