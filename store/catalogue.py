"""The scene catalogue, and the queue of work on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class BandSource:
    """Where one band of a scene lies and what its values need.

    Attributes:
        href: absolute local path, or s3://bucket/key.
        index: 1-based band number in that file.
        offset: added once to every valid value, in the file's own unit (BOA_ADD_OFFSET for
            Sentinel-2; 0 where the provider applied it already).
        nodata: value that means "no data" besides NaN; None if there is none.
    """

    href: str
    index: int = 1
    offset: float = 0.0
    nodata: float | None = None


@dataclass(frozen=True)
class Scene:
    """One analysis-ready scene, as the catalogue keeps it.

    Attributes:
        reference: the provider's product name without .SAFE, unique.
        kind: CARD kind: s2, bs, c6 or c12.
        platform: S2A, S1C ...
        obstime: start of sensing, timezone-aware UTC.
        acquisition: equal for all scenes made of one overpass.
        unit: of the values once offset is added: dn, reflectance, gamma0_linear, sigma0_linear,
            gamma0_db, sigma0_db or coherence.
        epsg: CRS of the rasters, metres.
        footprint_wkt: MULTIPOLYGON in EPSG:4326.
        bands: by band name (B02 .. B12, SCL; VV, VH).
        scale: dn * scale = reflectance; None where values are physical.
        orbit_direction: ascending or descending, if known.
        relative_orbit: relative orbit number, if known.
        tile: MGRS tile such as 32TMT, if any.
        baseline: processing baseline such as 05.09, '' if unknown; compares as text.
        produced_at: when the product was made, if known.
        cloud_cover_pct: as the provider says it, if it does.
    """

    reference: str
    kind: str
    platform: str
    obstime: datetime
    acquisition: str
    unit: str
    epsg: int
    footprint_wkt: str
    bands: Mapping[str, BandSource] = field(default_factory=dict)
    scale: float | None = None
    orbit_direction: str | None = None
    relative_orbit: int | None = None
    tile: str | None = None
    baseline: str = ""
    produced_at: datetime | None = None
    cloud_cover_pct: float | None = None
