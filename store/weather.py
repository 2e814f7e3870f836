"""Daily weather on a grid of points, such as ERA5's: read from files, kept in the database."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from store import db
from store.delimited import DelimitedRow, open_rows
from store.errors import CallerError

VARIABLES = ("tmin", "tmax", "tmean", "prec")
"""Temperatures at 2 m in degrees Celsius, precipitation in mm, all of one day."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    "tmin": ("tmin", "mn2t"),
    "tmax": ("tmax", "mx2t"),
    "tmean": ("tmean", "t2m"),
    "prec": ("prec", "tp"),
}
"""How files call them; the second is ERA5's short name."""

_POSSIBLE = {"tmin": (-90, 60), "tmax": (-90, 60), "tmean": (-90, 60), "prec": (-1e-3, 2000)}
"""In their units; what lies outside has another one."""

_KELVIN, _CELSIUS = (1.0, -273.15), (1.0, 0.0)
_TEMPERATURES = {
    "k": _KELVIN, "kelvin": _KELVIN, "degc": _CELSIUS, "c": _CELSIUS, "\u00b0c": _CELSIUS,
    "celsius": _CELSIUS, "degrees celsius": _CELSIUS, "degree_celsius": _CELSIUS,
    "degrees_celsius": _CELSIUS,
}  # fmt: skip
_METRES, _MILLIMETRES = (1000.0, 0.0), (1.0, 0.0)
_DEPTHS = {
    "m": _METRES, "metre": _METRES, "metres": _METRES, "meter": _METRES, "meters": _METRES,
    "m of water equivalent": _METRES, "mm": _MILLIMETRES, "millimetre": _MILLIMETRES,
    "millimetres": _MILLIMETRES, "mm day-1": _MILLIMETRES, "mm/day": _MILLIMETRES,
    "kg m-2": _MILLIMETRES, "kg m**-2": _MILLIMETRES,
}  # fmt: skip
"""Units of files, in small letters: factor and shift to degrees Celsius and to mm."""

_DECIMALS = 4
"""Of the degrees that tell points apart."""

_STAGE = """
    CREATE TEMPORARY TABLE weather_read (
        lon double precision, lat double precision, day date,
        tmin_c real, tmax_c real, tmean_c real, prec_mm real
    ) ON COMMIT DROP"""

_SUMMARY = """
    SELECT count(DISTINCT (lon, lat)) AS points, min(day) AS first, max(day) AS last
    FROM weather_read"""

_NEW_CELLS = """
    INSERT INTO public.weather_cell (centre)
    SELECT DISTINCT ST_SetSRID(ST_MakePoint(lon, lat), 4326) FROM weather_read
    ON CONFLICT DO NOTHING"""

_KEEP = """
    INSERT INTO public.weather_day AS kept (cell_id, day, tmin_c, tmax_c, tmean_c, prec_mm)
    SELECT cell.id, day, max(tmin_c), max(tmax_c), max(tmean_c), max(prec_mm)
    FROM weather_read AS r
    JOIN public.weather_cell AS cell ON ST_X(centre) = lon AND ST_Y(centre) = lat
    GROUP BY cell.id, day
    ON CONFLICT (cell_id, day) DO UPDATE SET
        tmin_c = coalesce(EXCLUDED.tmin_c, kept.tmin_c),
        tmax_c = coalesce(EXCLUDED.tmax_c, kept.tmax_c),
        tmean_c = coalesce(EXCLUDED.tmean_c, kept.tmean_c),
        prec_mm = coalesce(EXCLUDED.prec_mm, kept.prec_mm)"""

Row = tuple[float, float, date, float | None, float | None, float | None, float | None]
"""lon, lat, day, and the variables."""


@dataclass(frozen=True)
class WeatherReport:
    """The contents of an imported file.

    Attributes:
        points: of the grid.
        first: day.
        last: day.
        values: point and day.
    """

    points: int
    first: date
    last: date
    values: int

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.values} days of {self.points} points, from {self.first} to {self.last}"


def import_weather(conn: db.Connection, file: Path) -> WeatherReport:
    """Keep a file's weather; earlier values of the same point and day are replaced.

    Args:
        conn: an open connection of a role that may write.
        file: CSV with the columns lon, lat, date and some of tmin, tmax, tmean, prec; or NetCDF
            with some of these variables by day, also by ERA5's names and in K and m.

    Raises:
        CallerError: the file cannot be read, or says something impossible; nothing was kept.
    """
    read = _read_csv if file.suffix.lower() == ".csv" else _read_netcdf
    rows = (_possible(file, row) for row in read(file))
    with db.transaction(conn):
        db.execute(conn, _STAGE)
        db.insert_many(conn, "INSERT INTO weather_read VALUES %s", rows)
        summary = db.fetch_one(conn, _SUMMARY)
        if not summary.points:
            raise CallerError(f"{file} holds no weather")
        db.execute(conn, _NEW_CELLS)
        kept = db.execute(conn, _KEEP)
    return WeatherReport(summary.points, summary.first, summary.last, kept)


def _read_csv(file: Path) -> Iterator[Row]:
    with open_rows(file) as (columns, rows):
        if not {"lon", "lat", "date"} <= columns or not columns & set(VARIABLES):
            raise CallerError(
                f"{file} needs the columns lon, lat, date and some of {', '.join(VARIABLES)}; "
                f"it has {', '.join(sorted(columns)) or 'none'}"
            )
        for row in rows:
            yield _csv_row(row)


def _csv_row(row: DelimitedRow) -> Row:
    lon, lat = row.number("lon"), row.number("lat")
    if lon is None or lat is None:
        raise CallerError(f"{row.place}: lon or lat is empty")
    try:
        day = date.fromisoformat(row.cells["date"])
    except ValueError as error:
        raise CallerError(f"{row.place}: {error}") from None
    tmin, tmax, tmean, prec = (row.number(name) for name in VARIABLES)
    return (*_place(lon, lat), day, tmin, tmax, tmean, prec)


def _place(lon: float, lat: float) -> tuple[float, float]:
    """Longitudes from 0 to 360 occur."""
    return round((lon + 180) % 360 - 180, _DECIMALS), round(lat, _DECIMALS)


def _read_netcdf(file: Path) -> Iterator[Row]:
    read = False
    for at, variable in enumerate(VARIABLES):
        for name in _NAMES[variable]:
            with _opened(f'NETCDF:"{file}":{name}') as source:
                if source is not None:
                    read = True
                    yield from _netcdf_rows(file, source, name, at)
                    break
    if not read:
        names = ", ".join(name for names in _NAMES.values() for name in names)
        raise CallerError(f"{file} is no NetCDF file with any of the variables {names}")


@contextmanager
def _opened(address: str) -> Iterator[Any]:
    """The variable, or None if there is none."""
    try:
        source = rasterio.open(address, driver="netCDF")
    except RasterioError:
        yield None
        return
    with source:
        yield source


def _netcdf_rows(file: Path, source: Any, name: str, at: int) -> Iterator[Row]:
    tags = source.tags()
    accumulated = tags.get(f"{name}#GRIB_stepType") or source.tags(1).get("GRIB_stepType", "")
    days = [
        _day(file, tags, source.tags(band), ends=accumulated == "accum") for band in source.indexes
    ]
    if len(set(days)) < len(days):
        raise CallerError(f"{file}: {name} has several steps of one day; make them daily first")
    unit = tags.get(f"{name}#units") or source.tags(1).get("units", "")
    factor, shift = _conversion(file, name, unit)
    rows, cols = np.mgrid[: source.height, : source.width]
    lons, lats = rasterio.transform.xy(source.transform, rows.ravel(), cols.ravel())
    places = [_place(lon, lat) for lon, lat in zip(lons.tolist(), lats.tolist(), strict=True)]
    for band, day in zip(source.indexes, days, strict=True):
        stored = source.read(band, masked=True).astype(np.float64)
        physical = stored * source.scales[band - 1] + source.offsets[band - 1]
        values = (physical * factor + shift).filled(np.nan).ravel()
        for place, value in zip(places, values.tolist(), strict=True):
            if value == value:  # noqa: PLR0124 - not NaN
                row: list[float | None] = [None] * len(VARIABLES)
                row[at] = value
                yield (*place, day, row[0], row[1], row[2], row[3])


def _day(file: Path, tags: Mapping[str, str], band: Mapping[str, str], *, ends: bool) -> date:
    """The day of a band, by its coordinate in time.

    ERA5's accumulations are stamped with the end of the time they are of (ECMWF, ERA5: data
    documentation, table 3): midnight ends the day before.
    """
    for dimension in ("time", "valid_time"):
        since = re.fullmatch(
            r"(days|hours|minutes|seconds) since (\d{4})-(\d{1,2})-(\d{1,2}).*",
            tags.get(f"{dimension}#units", ""),
        )
        if since and f"NETCDF_DIM_{dimension}" in band:
            step = timedelta(**{since[1]: float(band[f"NETCDF_DIM_{dimension}"])})
            start = datetime(int(since[2]), int(since[3]), int(since[4]), tzinfo=UTC)
            end = start + step
            return (end - timedelta(microseconds=1)).date() if ends else end.date()
    raise CallerError(f"{file} has no dimension time that counts days, hours, minutes or seconds")


def _conversion(file: Path, name: str, unit: str) -> tuple[float, float]:
    """Factor and shift to degrees Celsius, or to mm.

    Raises:
        CallerError: the unit is not stated, or none of those that the variable may have.
    """
    known = _DEPTHS if name in _NAMES["prec"] else _TEMPERATURES
    conversion = known.get(" ".join(unit.split()).lower())
    if conversion is None:
        stated = f"states the unit {unit!r} of {name}" if unit else f"states no unit of {name}"
        raise CallerError(f"{file} {stated}: set its attribute units to one of {', '.join(known)}")
    return conversion


def _possible(file: Path, row: Row) -> Row:
    """The row, if its values can be."""
    if not (-90 <= row[1] <= 90):
        raise CallerError(f"{file}: {row[1]} is no latitude")
    for name, value in zip(VARIABLES, row[3:], strict=True):
        low, high = _POSSIBLE[name]
        if value is not None and not low <= value <= high:
            raise CallerError(
                f"{file}: {name} is {value:g} on {row[2]} at {row[0]}, {row[1]}: "
                "temperatures are in degrees Celsius, precipitation in mm"
            )
    return row
