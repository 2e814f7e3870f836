"""P17: requests and bytes for a band in S3, beside the exact ranges of its tiles with parcels.

A real S3 server stands on this machine behind a door that counts every request, GDAL's look
at the file too.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import numpy as np

from extraction import codestream, tiff
from extraction.codestream import TileParts
from extraction.ranges import ByteSource, Sources
from extraction.scene import Outcome, reduce_scene
from extraction.spans import ParcelSpans, SpanCache
from store import objects, raster
from store.catalogue import BandSource, Scene
from tests.beds.s3 import server
from tests.beds.s3.door import TrafficCount, counting
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import EPSG
from tests.benchmarks.results import Figure, Result

_BANDS = ("B04", "B11")


@dataclass
class _Count:
    """The cost of a reading."""

    requests: int = 0
    bytes: int = 0
    wall_s: float = 0.0


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Read two bands out of S3, of either coding, by ranges and as GDAL does."""
    with server.running() as s3, counting(s3.http.url) as (url, count):
        env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        with mock.patch.dict(os.environ, env | s3.http.env | {"AWS_ENDPOINT_URL": url}, clear=True):
            bench.say("P17: two bands out of S3")
            bucket = s3.new_bucket()
            read, exact = dict[str, _Count](), dict[str, _Count]()
            for coding in ("jp2", "cog"):
                files = getattr(bench.granule, coding)
                scene = _stored(files, bucket)
                read[f"{coding}, GDAL"], _ = _read(bench, scene, count)
                first, outcome = _read(bench, scene, count, Sources())
                read[coding], _ = _read(bench, scene, count, Sources(), outcome.tile_parts)
                read[f"{coding}, first time"] = first
                exact[coding] = _exact(bench, files)
    yield Result.of(
        "P17",
        "S3: requests ; bytes of two bands / exact ranges, of JP2 with places of its tiles known ; "
        "zstd COG",
        [
            Figure(
                getattr(read[coding], what) / getattr(exact[coding], what),
                most,
                False,
                f"{coding.upper()} {what}",
            )
            for coding in exact
            for what, most in (("requests", 1.5), ("bytes", 1.1))
        ],
        {
            name: {"requests": each.requests, "bytes": each.bytes, "wall_s": each.wall_s}
            for name, each in [*read.items(), *((f"{c}, exact", e) for c, e in exact.items())]
        },
    )


PART = Part(frozenset({"P17"}), run)


def _stored(files: Mapping[str, Path], bucket: str) -> Scene:
    hrefs = {band: f"s3://{bucket}/{files[band].name}" for band in _BANDS}
    for band, href in hrefs.items():
        objects.put_object(href, files[band])
    return Scene(
        reference="bench",
        kind="s2",
        platform="S2A",
        obstime=datetime(2024, 6, 1, tzinfo=UTC),
        acquisition="bench",
        unit="dn",
        epsg=EPSG,
        footprint_wkt="",
        bands={band: BandSource(href, nodata=0.0) for band, href in hrefs.items()},
    )


def _read(
    bench: Bench,
    scene: Scene,
    count: TrafficCount,
    sources: Sources | None = None,
    tile_parts: Mapping[str, TileParts] = MappingProxyType({}),
) -> tuple[_Count, Outcome]:
    """What a reading costs; without sources, GDAL's own."""
    before, began = (count.requests, count.bytes), time.monotonic()
    cache = SpanCache(bench.folder / "spans-remote", 10**9)
    parcels = ParcelSpans(cache, "bench", 0.0, lambda _: [(bench.pids, bench.wkb)])
    with raster.gdal_env(objects.gdal_options()):
        outcome = reduce_scene(scene, [parcels], sources=sources, tile_parts=tile_parts)
    wall_s = time.monotonic() - began
    return _Count(count.requests - before[0], count.bytes - before[1], wall_s), outcome


def _exact(bench: Bench, files: Mapping[str, Path]) -> _Count:
    """The head of each file, and each run of neighbouring tiles with parcels."""
    total = _Count()
    for band in _BANDS:
        parts, first = _tile_parts(Sources().open(str(files[band])))
        with raster.gdal_env(), raster.open_band(str(files[band])) as reader:
            plan = bench.plan(reader.grid, reader.block_shape_px)
        tiles = np.flatnonzero(np.diff(plan.block_ends))
        total.requests += 1 + 1 + int((np.diff(tiles) > 1).sum())
        total.bytes += first + sum(parts.lengths[tile] for tile in tiles)
    return total


def _tile_parts(source: ByteSource) -> tuple[TileParts, int]:
    """Where the tiles of a file lie, and where what says so ends."""
    if source.read(0, 2) in {b"II", b"MM"}:
        tiff_header = tiff.read_header(source)
        place, word = tiff_header.places
        parts = tiff_header.parts
        return parts, place + len(parts.starts) * struct.calcsize(word)
    header = codestream.read_header(source)
    return codestream.find_tile_parts(header, source), header.first
