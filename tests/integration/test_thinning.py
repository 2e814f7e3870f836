"""Scenes read by code blocks, end to end: the same statistics as GDAL's, from wherever they lie."""

import json
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from extraction import cli, codestream, spans, thinning
from extraction import scene as scenes
from extraction.codestream import UnsuitedError
from extraction.ranges import Sources
from extraction.scene import reduce_scene
from extraction.worker import Worker
from store import catalogue, db, objects, raster
from store.catalogue import BandSource
from store.config import WorkerSettings
from store.errors import NotFoundError, ObjectStoreError, ReplacedError, SceneError
from tests.beds import stac
from tests.integration.small_state import (
    EPSG,
    NORTH_M,
    WEST_M,
    a_scene,
    add_campaign,
    square,
    write_band,
)
from tests.jp2 import noise, write_jp2

PARCELS = [
    square(3, 3, 4),
    square(120, 130, 12),  # over the corner of four tiles
    square(210, 180, 5),
    square(200, 200, 5),  # nodata in part
    square(245, 245, 10),  # half off the raster
    square(40, 60, 9),
]
SHAPE = (250, 250)
TILE_PX = 128


@dataclass
class CountedSources(Sources):
    """Real sources that count what is read."""

    reads: list = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def open(self, href):
        return _Counted(super().open(href), self.reads)


@dataclass
class _Counted:
    source: object
    reads: list

    @property
    def remote(self):
        return self.source.remote

    def read(self, start, length):
        data = self.source.read(start, length)
        self.reads.append(len(data))
        return data


@pytest.fixture
def granule(tmp_path):
    """A scene of B04, B08 and B11 as JPEG 2000, and SCL as well."""
    bands = {}
    for number, (band, res_m) in enumerate({"B04": 10.0, "B08": 10.0, "B11": 20.0}.items()):
        shape = tuple(int(side * 10 / res_m) for side in SHAPE)
        options = {"CODEBLOCK_WIDTH": 16, "CODEBLOCK_HEIGHT": 16, "RESOLUTIONS": 3}
        path = tmp_path / f"{band}.jp2"
        write_jp2(path, noise(shape, number), TILE_PX, res_m, **options, PRECINCTS=None)
        bands[band] = BandSource(str(path), offset=-1000.0, nodata=0)
    classes = np.random.default_rng(5).integers(0, 12, (125, 125)).astype(np.uint8)
    bands["SCL"] = BandSource(str(write_jp2(tmp_path / "SCL.jp2", classes, TILE_PX, 20.0)))
    return a_scene(0, bands)


@pytest.fixture
def reduced(tmp_path):
    """A function that reduces a scene for the parcels."""
    pids = np.arange(1, len(PARCELS) + 1, dtype=np.int32)
    outlines = pids, [parcel.wkb for parcel in PARCELS]
    cache = spans.SpanCache(tmp_path / "spans", 10**9)

    def reduce(scene, sources, **more):
        parcels = spans.ParcelSpans(cache, "parcels", 0.0, lambda _: [outlines])
        with raster.gdal_env(objects.gdal_options()):
            return reduce_scene(scene, [parcels], sources=sources, **more)

    return reduce


def assert_equal(a, b):
    a, b = a.sets[0].signatures, b.sets[0].signatures
    np.testing.assert_array_equal(a.pids, b.pids)
    np.testing.assert_array_equal(a.classes, b.classes)
    assert a.stats.keys() == b.stats.keys()
    for band, table in a.stats.items():
        np.testing.assert_array_equal(table, b.stats[band])


def moved(scene, address):
    """The scene with its files at another address."""
    return replace(
        scene,
        bands={
            band: replace(source, href=address(source.href)) for band, source in scene.bands.items()
        },
    )


@pytest.fixture
def bucket(s3, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()


@pytest.fixture
def stored(granule, bucket):
    """The scene with its files in S3."""
    for source in granule.bands.values():
        name = source.href.rpartition("/")[2]
        objects.put_object(f"s3://{bucket}/{name}", Path(source.href))
    return moved(granule, lambda href: f"s3://{bucket}/{href.rpartition('/')[2]}")


def content(href):
    return Path(href).read_bytes()


def test_statistics_are_those_of_whole_tiles(granule, caplog, reduced):
    caplog.set_level(logging.DEBUG, "cbm")
    sources = CountedSources()
    outcome = reduced(granule, sources)
    assert_equal(outcome, reduced(granule, None))
    assert outcome.thinning_flaw is None
    assert not any("read_whole" in record.message and "B0" in record.message
                   for record in caplog.records)  # fmt: skip
    assert sources.reads


def test_a_real_product_without_a_place_of_its_own_is_read_by_code_blocks(
    shared_data, reduced, caplog, recwarn
):
    """Files of 120 m that are JPEG 2000 by another name; laid where the test parcels are."""
    folder = shared_data / "s2_l2a_products_120m" / "S2A_33TWM_20230815_0_L2A"
    west, north = WEST_M - 200 * 120, NORTH_M + 300 * 120
    place = {"epsg": EPSG, "bounds_m": (west, north - 915 * 120, west + 915 * 120, north)}
    scene = a_scene(
        0,
        {
            band: BandSource(str(folder / f"{band}.tif"), nodata=0, **place)
            for band in ("B04", "B08", "SCL")
        },
    )
    caplog.set_level(logging.DEBUG, "cbm")
    assert_equal(reduced(scene, Sources()), reduced(scene, None))
    assert "read_whole" not in caplog.text
    assert not recwarn.list


def test_several_plans_of_one_band_are_read_alike(granule, monkeypatch, reduced):
    whole = reduced(granule, None)
    monkeypatch.setattr(scenes, "_MAX_VALUES", 100)
    assert_equal(reduced(granule, Sources()), whole)


def test_a_file_that_cannot_be_thinned_is_read_whole(granule, tmp_path, reduced):
    href = write_jp2(tmp_path / "x.jp2", noise(SHAPE, 9), TILE_PX, PROGRESSION="RPCL")
    scene = replace(granule, bands=dict(granule.bands) | {"B04": BandSource(str(href), nodata=0.0)})
    assert_equal(reduced(scene, Sources()), reduced(scene, None))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_the_scenes_fault_or_read_as_gdal_reads_it(granule, damage, reduced):
    href = granule.bands["B04"].href
    data = bytearray(content(href))
    for seed in range(6):
        broken = bytearray(data)
        if damage == "cut":
            broken = broken[: len(data) * (seed + 3) // 10]
        else:
            at = np.random.default_rng(seed).integers(200, len(data), 20)
            for place in at:
                broken[place] ^= 0x55
        Path(href).write_bytes(broken)
        outcome, whole = (outcome_or_error(reduced, granule, each) for each in (Sources(), None))
        if isinstance(whole, SceneError):
            # What is damaged outside of the blocks needed may go unnoticed.
            assert not isinstance(outcome, UnsuitedError)
        else:
            assert_equal(outcome, whole)


def outcome_or_error(reduced, scene, sources):
    try:
        return reduced(scene, sources)
    except SceneError as error:
        return error


def test_remote_tiles_are_fetched_in_few_ranges_and_looked_for_once(stored, granule, reduced):
    first = CountedSources()
    outcome = reduced(stored, first)
    assert_equal(outcome, reduced(granule, None))
    hrefs = {stored.bands[band].href for band in ("B04", "B08", "B11", "SCL")}
    assert outcome.tile_parts.keys() == hrefs

    again = CountedSources()
    known = reduced(stored, again, tile_parts=outcome.tile_parts)
    assert_equal(known, outcome)
    # Of each band its header and its tiles, which are neighbours; and the tile that is checked.
    assert len(again.reads) == 2 * len(hrefs) + 1
    assert len(first.reads) == len(again.reads) + sum(
        len(parts.starts) + 1 for parts in outcome.tile_parts.values()
    )


def test_a_list_of_tiles_that_is_not_the_files_costs_nothing_but_time(stored, granule, reduced):
    outcome = reduced(stored, Sources())
    href = stored.bands["B04"].href
    parts = outcome.tile_parts[href]
    stale = codestream.TileParts(
        (parts.starts[0], *(s + 7 for s in parts.starts[1:])), parts.lengths
    )
    again = reduced(stored, Sources(), tile_parts=outcome.tile_parts | {href: stale})
    assert_equal(again, reduced(granule, None))
    assert again.tile_parts.get(href) != stale


def test_bands_on_the_web_are_fetched_by_ranges(s3, bucket, stored, granule, reduced):
    objects._client().put_bucket_acl(Bucket=bucket, ACL="public-read")
    folder = f"{s3.http.url}/v1/AUTH_cbm/{bucket}"
    scene = moved(granule, lambda href: f"{folder}/{href.rpartition('/')[2]}")
    sources = CountedSources()
    outcome = reduced(scene, sources)
    assert_equal(outcome, reduced(granule, None))
    assert len(outcome.tile_parts) == 4
    with pytest.raises(ObjectStoreError, match="404"):
        sources.open(f"{folder}/no-such.jp2").read(0, 10)
    assert sources.open(scene.bands["B04"].href).read(10**9, 5) == b""


@pytest.fixture
def tiffs(granule, bucket, tmp_path):
    """The scene as TIFF, in S3."""
    bands = {}
    for band, source in granule.bands.items():
        path = tmp_path / f"{band}.tif"
        with rasterio.open(source.href) as band_file:
            write_band(path, band_file.read(1), band_file.res[0], compress="zstd")
        objects.put_object(f"s3://{bucket}/{band}.tif", path)
        bands[band] = replace(source, href=f"s3://{bucket}/{band}.tif")
    return replace(granule, bands=bands)


def test_remote_tiffs_are_fetched_in_few_ranges_ahead(tiffs, granule, reduced, caplog):
    caplog.set_level(logging.DEBUG, "cbm")
    sources = CountedSources()
    outcome = reduced(tiffs, sources)
    assert_equal(outcome, reduced(granule, None))
    # Of each band its head and its tiles, which are neighbours.
    assert len(sources.reads) == 2 * len(tiffs.bands)
    assert "read_whole" not in caplog.text
    assert outcome.tile_parts == {}


def test_a_remote_tiff_with_tiles_left_out_is_read_by_gdal(tiffs, reduced, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "cbm")
    pixels = np.zeros(SHAPE, np.uint16)
    pixels[:64, :64] = 2000
    path = write_band(tmp_path / "sparse.tif", pixels, sparse_ok=True)
    source = tiffs.bands["B04"]
    objects.put_object(source.href, path)
    here, there = (
        replace(tiffs, bands={"B04": replace(source, href=href)})
        for href in (str(path), source.href)
    )
    assert_equal(reduced(there, Sources()), reduced(here, None))
    assert "a tile without pixels" in caplog.text


@dataclass
class ReplacingSources(Sources):
    """Real sources that put another file in place of a band's as soon as its head was read."""

    path: Path
    other: bytes

    def __post_init__(self):
        super().__init__({})

    def open(self, href):
        return _Replacing(super().open(href), self)


@dataclass
class _Replacing:
    source: object
    by: ReplacingSources
    remote: bool = True

    def read(self, start, length):
        data = self.source.read(start, length)
        self.by.path.write_bytes(self.by.other)
        return data


def test_a_file_that_is_replaced_between_its_head_and_its_tiles_is_read_another_time(
    tmp_path, reduced
):
    """GDAL, which opened the old file, would read pixels of the new one at the old one's places."""
    path, new = tmp_path / "B04.tif", tmp_path / "new.tif"
    write_band(path, noise(SHAPE, 1))
    write_band(new, noise(SHAPE, 2), compress="zstd")
    with stac.serving(tmp_path, 0) as server:
        scene = a_scene(0, {"B04": BandSource(f"{server.url}/assets/B04.tif", nodata=0)})
        with pytest.raises(ReplacedError):
            reduced(scene, ReplacingSources(path, new.read_bytes()))
        again = reduced(scene, Sources())
    assert_equal(again, reduced(moved(scene, lambda _: str(new)), None))


def test_a_store_that_goes_away_is_the_worlds_fault(s3, stored, reduced):
    with s3.without("object"), pytest.raises(ObjectStoreError):
        reduced(stored, Sources())


def test_addresses_without_a_file_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError):
        Sources().open(str(tmp_path / "none.jp2")).read(0, 1)
    with pytest.raises(NotFoundError, match="bytes of its own"):
        Sources().open("vrt:///x/y.jp2")


@pytest.fixture
def state(database, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    add_campaign(database, PARCELS)
    return database


def test_a_tile_that_differs_has_its_scene_read_whole_and_says_so(
    state, granule, monkeypatch, caplog, reduced
):
    monkeypatch.setattr(
        thinning.codestream, "choose_blocks", misunderstood(codestream.choose_blocks)
    )
    catalogue.register(state, [granule])
    worker = Worker(WorkerSettings.from_env(os.environ))
    assert worker.work_on(granule.reference) == 1
    assert "event=thinning_flaw" in caplog.text
    rows = db.fetch_all(state, "SELECT pid, b04_mean, b08_p50, b11_max FROM tt.s2 ORDER BY pid")
    stats = reduced(granule, None).sets[0].signatures.stats
    for column, expected in (("b04_mean", stats["B04"][:, 1]), ("b08_p50", stats["B08"][:, 5])):
        found = np.array([getattr(row, column) for row in rows], float)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    status = CliRunner().invoke(cli.main, ["status"]).output
    assert f"whole    {granule.reference}" in status
    assert "differ" in status
    listed = json.loads(CliRunner().invoke(cli.main, ["status", "--json"]).output)["read_whole"]
    assert [row["reference"] for row in listed] == [granule.reference]
    assert db.fetch_one(state, "SELECT flawed_scenes FROM figures_decoding").flawed_scenes == 1

    # From then on it is read whole at once; until an operator trusts the reader again.
    requeue(state)
    monkeypatch.setattr(scenes, "SceneThinning", None)
    assert worker.work_on(granule.reference) == 1
    assert CliRunner().invoke(cli.main, ["thin"]).output.startswith("1 scene")
    assert catalogue.flawed_scenes(state) == []


def requeue(conn):
    db.execute(conn, "UPDATE work SET state = 'pending', fence = fence + 1")


def misunderstood(choose):
    def choose_too_few(coding, plan):
        chosen = choose(coding, plan)
        for blocks in chosen.values():
            blocks[blocks.size // 4 :] = False
        return chosen

    return choose_too_few


def test_where_remote_tiles_lie_is_kept_with_the_scene(state, stored, monkeypatch):
    catalogue.register(state, [stored])
    worker = Worker(WorkerSettings.from_env(os.environ))
    worker.work_on(stored.reference)
    kept = db.fetch_one(state, "SELECT tile_parts FROM scene").tile_parts
    assert kept.keys() == {source.href for source in stored.bands.values()}
    requeue(state)
    monkeypatch.setattr(codestream, "find_tile_parts", None)
    monkeypatch.setattr(thinning._log, "debug", pytest.fail)
    worker.work_on(stored.reference)
    catalogue.register(state, [replace(stored, cloud_cover_pct=3.0)])
    assert db.fetch_one(state, "SELECT tile_parts FROM scene").tile_parts is None


def test_a_worker_may_be_set_to_read_whole_tiles(state, granule, monkeypatch):
    monkeypatch.setenv("CBM_THIN", "0")
    monkeypatch.setattr(scenes, "SceneThinning", None)
    catalogue.register(state, [granule])
    assert Worker(WorkerSettings.from_env(os.environ)).work_on(granule.reference) == 1
