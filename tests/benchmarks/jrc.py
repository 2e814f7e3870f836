"""The JRC's way, as its published extraction script goes about it (ec-jrc/cbm, postgisS2Extract).

Whole bands in memory; parcels fetched by 2,000 as GeoJSON, transformed to the image's CRS; per band
rasterstats over the chunk, a DataFrame, CSV text, COPY into long rows with three single-column
indexes, a commit. Left out is its cut of parcels below 0.3 ha, so that both reduce the same ones.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import psycopg2
import psycopg2.extras
import rasterio
import shapely
from numpy.typing import NDArray
from rasterstats import zonal_stats  # type: ignore[import-untyped]

CHUNK = 2000
STATS = ["count", "mean", "std", "min", "max", "percentile_25", "percentile_50", "percentile_75"]
INDEXED = ("pid", "obsid", "band")

_SHORT = {"percentile_25": "p25", "percentile_50": "p50", "percentile_75": "p75"}
_TABLE = """
    DROP TABLE IF EXISTS public.jrc_sigs;
    CREATE TABLE public.jrc_sigs (
        pid integer, obsid integer, band char(3), count real, mean real, std real, min real,
        max real, p25 real, p50 real, p75 real);
    CREATE INDEX ON public.jrc_sigs (pid);
    CREATE INDEX ON public.jrc_sigs (obsid);
    CREATE INDEX ON public.jrc_sigs (band);
"""
_PARCELS = "SELECT pid, ST_AsGeoJSON(ST_Transform(geom, %s))::json FROM public.jrc_parcels"


@dataclass(frozen=True)
class Image:
    """A band in memory.

    Attributes:
        pixels: (row, col).
        affine: its transform.
    """

    pixels: NDArray[Any]
    affine: rasterio.Affine


def read(path: Path) -> Image:
    """Decode a whole band, as the JRC does before anything else."""
    with rasterio.open(path) as source:
        return Image(source.read(1), source.transform)


def features(wkb: Sequence[bytes], pids: Sequence[int] | NDArray[Any]) -> dict[str, Any]:
    """Parcels as the collection that rasterstats is given."""
    shapes = shapely.from_wkb(list(wkb))
    return _collection(
        (int(pid), shape.__geo_interface__) for pid, shape in zip(pids, shapes, strict=True)
    )


def statistics(collection: dict[str, Any], image: Image, all_touched: bool = False) -> pd.DataFrame:
    """One band's statistics of a chunk: a row per feature, NaN where no pixel is valid."""
    found = zonal_stats(
        collection,
        image.pixels,
        affine=image.affine,
        stats=STATS,
        prefix="",
        nodata=0,
        geojson_out=True,
        all_touched=all_touched,
    )
    properties = pd.DataFrame(found).properties
    return pd.DataFrame.from_dict(properties.to_dict(), orient="index").rename(columns=_SHORT)


def store(cursor: Any, frame: pd.DataFrame, obsid: int, band: str) -> None:
    """COPY a chunk's rows and commit; parcels without a valid pixel vanish."""
    rows = frame.assign(obsid=obsid, band=band).dropna()
    text = io.StringIO()
    rows.to_csv(text, header=False, index=False, sep=",")
    text.seek(0)
    cursor.copy_from(text, "jrc_sigs", columns=tuple(rows.columns), sep=",")
    cursor.connection.commit()


def extract(env: Mapping[str, str], images: Mapping[str, Image], epsg: int, obsid: int) -> None:
    """Everything after decoding: fetch public.jrc_parcels, reduce every band, store."""
    reading, writing = connect(env), connect(env)
    try:
        with writing.cursor() as cursor:
            for collection in _chunks(reading, epsg):
                for band, image in images.items():
                    store(cursor, statistics(collection, image), obsid, band)
    finally:
        reading.close()
        writing.close()


def make_table(env: Mapping[str, str]) -> None:
    """An empty table of long rows with the JRC's three indexes."""
    _run(env, _TABLE)


def choose_parcels(env: Mapping[str, str], table: str, pids: Sequence[int]) -> None:
    """Fill public.jrc_parcels with some parcels of our parcel table, stored as the JRC has them."""
    _run(env, "DROP TABLE IF EXISTS public.jrc_parcels")
    _run(
        env,
        f"CREATE TABLE public.jrc_parcels AS SELECT pid, geom FROM {table} "
        "WHERE pid = ANY(%s) ORDER BY random()",
        (list(pids),),
    )
    _run(env, "ANALYZE public.jrc_parcels")


def connect(env: Mapping[str, str]) -> Any:
    """A connection such as the JRC's scripts open; they use psycopg2 as it is."""
    return psycopg2.connect(
        host=env["PGHOST"],
        port=env["PGPORT"],
        user=env["PGUSER"],
        password=env.get("PGPASSWORD"),
        dbname=env["PGDATABASE"],
    )


def _chunks(connection: Any, epsg: int) -> Iterator[dict[str, Any]]:
    cursor = connection.cursor(name="fetch", cursor_factory=psycopg2.extras.DictCursor)
    cursor.execute(_PARCELS, (epsg,))
    while rows := cursor.fetchmany(size=CHUNK):
        yield _collection((int(row[0]), row[1]) for row in rows)


def _collection(parcels: Any) -> dict[str, Any]:
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": geometry, "properties": {"pid": pid}}
            for pid, geometry in parcels
        ],
    }


def _run(env: Mapping[str, str], statement: str, params: Sequence[Any] | None = None) -> None:
    connection = connect(env)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, params)
    connection.close()
