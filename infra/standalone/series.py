"""One parcel's series, read through the REST API as any client would, for the demo's plot."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.standalone.api import Client
from infra.standalone.programs import DemoError

_CLOUDED = frozenset({"0", "1", "3", "8", "9", "10"})
"""SCL classes that hide the ground: nodata, saturated, shadow, cloud (medium, high), cirrus."""

CLEAR_SHARE = 0.9
"""A date is clear when at least this share of the parcel's SCL pixels shows the ground."""


@dataclass(frozen=True)
class Parcel:
    """A parcel as the API knows it.

    Attributes:
        aoi: code of its Member State or region.
        year: its campaign's year.
        code: the agency's parcel id.
        crop_name: the declared crop, '' if unknown.
        crop_code: its code, '' if unknown.
    """

    aoi: str
    year: int
    code: str
    crop_name: str
    crop_code: str


@dataclass(frozen=True)
class Point:
    """One date of a series.

    Attributes:
        when: start of sensing, UTC.
        value: NDVI, or dB; None where the parcel has no valid pixel.
        clear: whether the ground was seen; always true of radar.
    """

    when: datetime
    value: float | None
    clear: bool = True


def parcel(client: Client, aoi: str, year: int, code: str) -> Parcel:
    """Ask for a parcel by its code.

    Raises:
        DemoError: the API does not know it.
    """
    found = client.get("/query/parcelByID", aoi=aoi, year=year, pid=code)
    crop_name, crop_code = (
        str(column[0] or "") if (column := found.get(key)) else ""
        for key in ("cropname", "cropcode")
    )
    return Parcel(aoi, year, code, crop_name, crop_code)


def ndvi(client: Client, of: Parcel) -> list[Point]:
    """The parcel's NDVI from the mean of B04 and that of B08 (or B8A, whichever has more dates).

    Raises:
        DemoError: the API has no Sentinel-2 series of the parcel.
    """
    dates: dict[tuple[float, str], dict[str, Any]] = {}
    for row in _rows(client, of, "s2"):
        date = dates.setdefault((row["date_part"], row["reference"]), {"hist": row["hist"]})
        if row["count"]:
            date[row["band"]] = row["mean"]
    near_infrared = max(("B08", "B8A"), key=lambda band: sum(band in d for d in dates.values()))
    return [
        Point(datetime.fromtimestamp(seconds, UTC), _index(date, near_infrared), _is_clear(date))
        for (seconds, _), date in sorted(dates.items())
    ]


def backscatter(client: Client, of: Parcel, unit: str) -> dict[str, list[Point]]:
    """The parcel's Sentinel-1 backscatter in dB, by polarisation.

    Args:
        client: the API.
        of: the parcel.
        unit: of its signatures; linear ones are turned into dB.

    Raises:
        DemoError: the API has no Sentinel-1 series of the parcel.
    """
    points: dict[str, list[Point]] = {"VV": [], "VH": []}
    for row in _rows(client, of, "bs"):
        value = row["mean"] if row["count"] else None
        if value is not None and unit.endswith("_linear"):
            value = 10 * math.log10(value) if value > 0 else None
        points[row["band"][:2]].append(Point(datetime.fromtimestamp(row["date_part"], UTC), value))
    return {name: series for name, series in points.items() if series}


def _rows(client: Client, of: Parcel, tstype: str) -> Iterator[Mapping[str, Any]]:
    columns = client.get(
        "/query/parcelTimeSeries",
        aoi=of.aoi, year=of.year, pid=of.code, tstype=tstype, ref="True",
    )  # fmt: skip
    if not columns or not columns.get("date_part"):
        raise DemoError(f"the API has no {tstype} series of parcel {of.code}")
    names = list(columns)
    return (dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _index(date: Mapping[str, Any], near_infrared: str) -> float | None:
    red, nir = date.get("B04"), date.get(near_infrared)
    if red is None or nir is None or red + nir <= 0:
        return None
    return float((nir - red) / (nir + red))


def _is_clear(date: Mapping[str, Any]) -> bool:
    hist: Mapping[str, int] = date["hist"] or {}
    total = sum(hist.values())
    clear = sum(pixels for scl, pixels in hist.items() if scl not in _CLOUDED)
    return not total or clear >= CLEAR_SHARE * total
