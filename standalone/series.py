"""One parcel's series, read through the REST API as any client would, for the demo's plot."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from standalone.api import ApiClient
from standalone.programs import DemoError
from store.kinds import CLEAR_SHARE, clear_share
from store.units import UNITS


@dataclass(frozen=True)
class ParcelRecord:
    """A parcel with its crop, from the API.

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
        clear: whether the ground was seen; always true of radar, None without scene classes.
        reference: the scene of a radar date.
    """

    when: datetime
    value: float | None
    clear: bool | None = True
    reference: str | None = None


def parcel(client: ApiClient, aoi: str, year: int, code: str) -> ParcelRecord:
    """Get a parcel by its code.

    Raises:
        DemoError: the API has no such parcel.
    """
    record = client.get("/query/parcelByID", aoi=aoi, year=year, pid=code)
    crop_name, crop_code = (
        str(column[0] or "") if (column := record.get(key)) else ""
        for key in ("cropname", "cropcode")
    )
    return ParcelRecord(aoi, year, code, crop_name, crop_code)


def ndvi(client: ApiClient, of: ParcelRecord) -> list[Point]:
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
        Point(
            datetime.fromtimestamp(seconds, UTC),
            _index(date, near_infrared),
            _is_clear(date["hist"]),
        )
        for (seconds, _), date in sorted(dates.items())
    ]


def backscatter(client: ApiClient, of: ParcelRecord, unit: str) -> dict[str, list[Point]]:
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
        if value is not None and UNITS[unit].in_decibels:
            value = 10 * math.log10(value) if value > 0 else None
        when = datetime.fromtimestamp(row["date_part"], UTC)
        points[row["band"][:2]].append(Point(when, value, reference=row["reference"]))
    return {name: series for name, series in points.items() if series}


def coherence(client: ApiClient, of: ParcelRecord) -> list[Point]:
    """The parcel's coherence over 12 days in VV; none where no pair shows its ground."""
    columns = client.get(
        "/query/parcelTimeSeries",
        aoi=of.aoi, year=of.year, pid=of.code, tstype="c12", band="VV",
    )  # fmt: skip
    return [
        Point(datetime.fromtimestamp(seconds, UTC), mean)
        for seconds, mean in zip(columns["date_part"], columns["mean"], strict=True)
        if mean is not None
    ]


def _rows(client: ApiClient, of: ParcelRecord, tstype: str) -> Iterator[Mapping[str, Any]]:
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


def _is_clear(histogram: Mapping[str, int] | None) -> bool | None:
    share = clear_share(histogram)
    return None if share is None else share >= CLEAR_SHARE
