"""Following sources for a campaign: an archive that stumbles, a real database, a real S3."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import shapely
from click.testing import CliRunner

from card.cli import main
from card.find.following import Follower
from card.find.sources import find_source
from card.find.transport import Transport
from store import db, objects
from store.errors import CallerError, ConfigError, WorldError
from store.parcels import campaigns
from tests.beds.archive import Archive, Server, held, s2_product, serving, write_safe
from tests.integration.small_state import add_campaign, square

FIRST = datetime(2024, 4, 1, tzinfo=UTC)
PROTOCOLS = ("cdse", "cdse-odata", "cdse-opensearch")


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def campaign(database):
    """A campaign of the first twelve days of April, with one parcel."""
    add_campaign(database, [square(10, 10)])
    db.execute(database, "UPDATE campaign SET start_date = '2024-04-01', end_date = '2024-04-12'")
    return campaigns.find(database, "tt", 2024)


@pytest.fixture
def eodata(tmp_path) -> Path:
    """A mount of an archive's store."""
    return tmp_path / "eodata"


def days_of_products(count: int, tiles: tuple[str, ...] = ("32TNT",)):
    return [s2_product(FIRST + timedelta(days=n), tile) for n in range(count) for tile in tiles]


def lead_here(server: Server, tmp_path: Path, monkeypatch, store: Path | str = "/nowhere") -> None:
    monkeypatch.setenv("CBM_SOURCES", server.sources(tmp_path / "sources.toml", str(store)))


def follower(campaign, name: str, **options) -> Follower:
    transport = Transport(pause=lambda _seconds: None, timeout_s=0.5)
    return Follower(campaign, find_source(name), "s2", transport, **options)


def sync(conn, campaign, name: str, *, again: bool = False, **options) -> list:
    reader = follower(campaign, name, **options)
    area, days = reader.due(conn, date(2024, 12, 31), again)
    return list(reader.sync(conn, area, days))


def references(conn) -> list[str]:
    return [row.reference for row in db.fetch_all(conn, "SELECT reference FROM scene ORDER BY 1")]


def names(made) -> list[str]:
    return sorted(product.name for product in made)


@pytest.fixture
def served(database, campaign, eodata, tmp_path, monkeypatch):
    """An archive with nine tiles on the 2nd of April, whose metadata are in the store."""
    tiles = [f"32T{column}{row}" for column in "MNP" for row in "STU"]
    made = [s2_product(FIRST + timedelta(days=1), tile) for tile in tiles]
    for product in made:
        write_safe(eodata, product)
    archive = Archive([held(product) for product in made])
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch, eodata)
        yield archive, names(made)


FAULTS = [429, 429, None, 500, 502, 503, 504, None, "cut", "cut", "html", None, "silent", None]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stumbling_source_gives_all_once(database, campaign, served, protocol):
    archive, expected = served
    archive.faults = list(FAULTS)
    reports = sync(database, campaign, protocol)
    assert archive.faults == []
    assert references(database) == expected
    assert [report.listed for report in reports] == [0, 9, *[0] * 10]
    assert all(report.complete for report in reports)
    assert db.fetch_one(database, "SELECT count(*) AS n FROM work").n == 9
    assert sync(database, campaign, protocol, again=True)[1].added == 0
    assert references(database) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_page_that_links_to_itself_ends_and_is_said(database, campaign, served, protocol):
    archive, expected = served
    archive.faults = [None, *[None, "self"] * 9]
    reports = sync(database, campaign, protocol)
    assert len(archive.requests) < 60
    assert not reports[1].complete
    assert set(references(database)) <= set(expected)
    archive.faults = []
    assert [report.day.day for report in sync(database, campaign, protocol)] == [2]
    assert references(database) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("counts", [True, False])
def test_a_list_that_changes_between_its_pages_loses_nothing(
    database, campaign, served, protocol, counts, eodata
):
    archive, expected = served
    archive.counts = counts
    late = s2_product(FIRST + timedelta(days=1), "32SMA")  # sorts before all: it shifts the pages
    write_safe(eodata, late)

    changes = [lambda held_now: held_now[1:], lambda held_now: [*held_now, held(late)]]

    def vanish_and_appear(changing: Archive) -> None:
        if changes:
            changing.held = changes.pop(0)(changing.held)

    archive.between = vanish_and_appear
    sync(database, campaign, protocol)
    left = {one.name for one in archive.held}
    assert left <= set(references(database)) <= {*expected, late.name}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_list_that_shrinks_under_its_reader_skips_nothing(database, campaign, served, protocol):
    archive, expected = served
    gone = []

    def shrink(changing: Archive) -> None:
        if not gone:
            gone.append(changing.held.pop(0).name)  # the rest moves up by one place

    archive.between = shrink
    sync(database, campaign, protocol)
    assert references(database) == expected


def test_only_what_meets_parcels_is_taken(database, campaign, served):
    archive, _ = served
    elsewhere = shapely.box(11, 50, 12, 51)  # in the box of the parcel set, without a parcel
    archive.held = [replace(archive.held[0], footprint=elsewhere), *archive.held[1:3]]
    sync(database, campaign, "cdse-odata")
    assert references(database) == sorted(one.name for one in archive.held[1:])
    [row] = db.fetch_all(database, "SELECT DISTINCT source FROM listed_product")
    assert row.source == "cdse-odata"


def test_what_is_offline_or_absent_is_said_and_taken_later(database, campaign, served, eodata):
    archive, expected = served
    absent = eodata / "Sentinel-2/MSI/L2A/2024/04/02" / f"{expected[0]}.SAFE/MTD_MSIL2A.xml"
    content = absent.read_bytes()
    absent.unlink()
    archive.held = [replace(one, online=one.name != expected[1]) for one in archive.held]
    report = sync(database, campaign, "cdse-odata")[1]
    assert (report.offline, report.absent, report.added) == (1, 1, 7)
    assert references(database) == expected[2:]
    absent.write_bytes(content)
    archive.held = [replace(one, online=True) for one in archive.held]
    [report] = sync(database, campaign, "cdse-odata")
    assert (report.day, report.added) == (date(2024, 4, 2), 2)
    assert references(database) == expected


def test_broken_metadata_are_a_state_with_a_reason(database, campaign, served, eodata):
    _, expected = served
    broken = eodata / "Sentinel-2/MSI/L2A/2024/04/02" / f"{expected[0]}.SAFE/MTD_MSIL2A.xml"
    broken.write_bytes(broken.read_bytes()[:500])
    report = sync(database, campaign, "cdse-odata")[1]
    assert (report.unusable, report.added) == (1, 8)
    [row] = db.fetch_all(
        database, "SELECT reference, reason FROM listed_product WHERE state = 'unusable'"
    )
    assert row.reference == expected[0]
    assert "not readable XML" in row.reason


def test_a_value_that_the_database_cannot_hold_costs_its_scene_alone(database, campaign, served):
    archive, expected = served
    archive.held = [
        replace(one, cloud_pct=1e200 if one.name == expected[3] else 10) for one in archive.held
    ]
    report = sync(database, campaign, "cdse")[1]
    assert (report.added, report.unusable) == (8, 1)
    assert references(database) == [name for name in expected if name != expected[3]]
    assert "the database cannot hold a value" in report.problems[0].why


def test_a_check_finds_products_that_only_the_catalogue_has(database, campaign, tmp_path,
                                                            monkeypatch, s3):  # fmt: skip
    """STAC says where the bands lie; whether they do is seen in the store alone."""
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.http.url)
    archive = Archive([held(s2_product(FIRST))])
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch)
        assert sync(database, campaign, "cdse", check=True)[0].absent == 1
        assert references(database) == []
        assert sync(database, campaign, "cdse")[0].added == 1


def test_a_bucket_needs_no_catalogue(database, campaign, eodata, s3, monkeypatch, tmp_path):
    made = days_of_products(3, ("32TNT", "32TMT", "10SDG"))
    bucket = upload(s3, monkeypatch, eodata, made)
    with serving(Archive()) as server:
        lead_here(server, tmp_path, monkeypatch, f"s3://{bucket}")
        reports = sync(database, campaign, "eodata")
    near = [product for product in made if product.tile != "10SDG"]
    assert references(database) == names(near)
    assert sum(report.added for report in reports) == 6
    row = db.fetch_one(database, "SELECT * FROM scene WHERE reference = %s", (made[0].name,))
    assert (row.unit, row.epsg, row.bands["B04"]["offset"]) == ("dn", 32632, -1000)
    assert row.bands["B04"]["href"].startswith(f"s3://{bucket}/Sentinel-2/MSI/L2A/2024/04/01/")


def test_the_products_of_a_bucket_are_registered_where_they_lie(
    database, campaign, eodata, s3, monkeypatch
):
    made = days_of_products(2, ("32TNT", "10SDG"))
    bucket = upload(s3, monkeypatch, eodata, made)
    status, out, err = run("register", f"s3://{bucket}/Sentinel-2/MSI/L2A/2024/", "--aoi=tt",
                           "--year=2024")  # fmt: skip
    assert status == 0, err
    assert "Registered: 2 added" in out
    assert references(database) == names(made[::2])
    status, out, _ = run("register", f"s3://{bucket}/Sentinel-2/MSI/L2A/2024/04/01")
    assert (status, "1 added, 0 changed, 1 known already" in out) == (0, True)
    status, _, err = run("register", f"s3://{bucket}/Sentinel-1/")
    assert (status, "no scene found" in err) == (2, True)


def test_a_store_that_refuses_our_keys_is_named(database, campaign, s3, monkeypatch):
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    status, _, err = run("register", f"s3://{s3.new_bucket()}/Sentinel-2")
    assert status == 1
    assert "AWS_ACCESS_KEY_ID" in err


def upload(s3, monkeypatch, eodata: Path, made) -> str:
    """Put products into a bucket as the archive lays them out; its name."""
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3.new_bucket()
    for product in made:
        write_safe(eodata, product)
    for path in eodata.rglob("*"):
        if path.is_file():
            objects.put_object(f"s3://{bucket}/{path.relative_to(eodata)}", path)
    return bucket


def test_the_command_reads_what_is_due_and_says_how_far_it_is(
    database, campaign, tmp_path, monkeypatch
):
    archive = Archive([held(product) for product in days_of_products(12)])
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch)
        command = ("sync", "--aoi", "tt", "--year", "2024", "--kind", "s2")
        status, out, _ = run(*command, "--dry-run")
        assert (status, "Would read 12 days of cdse" in out) == (0, True)
        status, out, err = run(*command)
        assert status == 0, err
        assert "2024-04-01  1 listed, 1 added, 0 changed  [1/12]" in out
        assert (
            "Read 12 of 12 days of cdse (Copernicus Data Space, STAC), s2: 12 listed, 12 added"
            in out
        )
        # Years later each of these days may have changed once more, and then is settled.
        status, out, _ = run(*command, "--json")
        assert json.loads(out)["added"] == 0
        assert json.loads(out)["due"] == 0


def test_a_source_that_is_out_of_order_leaves_its_days_for_later(
    database, campaign, tmp_path, monkeypatch
):
    archive = Archive([held(product) for product in days_of_products(12)])
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch)
        archive.faults = [None, None, *[503] * 6]
        with pytest.raises(WorldError, match=r"1 days could not be read.*2024-04-03.*503"):
            sync(database, campaign, "cdse")
        assert len(references(database)) == 11
        assert [report.day.day for report in sync(database, campaign, "cdse")] == [3]
        archive.faults = [503] * 1000
        with pytest.raises(WorldError, match=r"3 days could not be read"):
            sync(database, campaign, "cdse", again=True)


def test_a_refusal_or_a_wrong_address_is_the_callers(database, campaign, tmp_path, monkeypatch):
    with serving(Archive(faults=[400])) as server:
        lead_here(server, tmp_path, monkeypatch)
        with pytest.raises(CallerError, match="HTTP 400"):
            sync(database, campaign, "cdse")
    (tmp_path / "sources.toml").write_text('[cdse]\nurl = "http://192.0.2.1/stac"\n')
    with pytest.raises(ConfigError, match="not an https:// address"):
        sync(database, campaign, "cdse")
    (tmp_path / "sources.toml").write_text('[mine]\nprotocol = "ftp"\nurl = "https://x.org"\n')
    with pytest.raises(ConfigError, match="protocol"):
        sync(database, campaign, "mine")
    (tmp_path / "sources.toml").write_text("")
    status, _, err = run("sync", "--aoi", "tt", "--year", "2024", "--source", "other")
    assert (status, "no source is called 'other'" in err) == (2, True)


def test_a_campaign_that_is_closed_or_empty_is_refused(database, campaign):
    campaigns.create(database, "tt", 2025)
    assert "no parcels" in run("sync", "--aoi", "tt", "--year", "2025")[2]
    campaigns.close(database, campaign)
    assert "is closed" in run("sync", "--aoi", "tt", "--year", "2024")[2]
    assert run("sync", "--kind", "s2")[0] == 2


def test_slc_become_inputs(database, campaign, tmp_path, monkeypatch):
    name = "S1A_IW_SLC__1SDV_20240402T053012_20240402T053039_053256_06749A_DAA1"
    start = datetime(2024, 4, 2, 5, 30, 12, 345000, tzinfo=UTC)
    footprint = shapely.box(8, 47, 10, 48)
    slc = replace(held(s2_product(FIRST)), name=name, kind="IW_SLC__1S", start=start,
                  stop=start + timedelta(seconds=27), footprint=footprint, orbit=45)  # fmt: skip
    with serving(Archive([slc])) as server:
        lead_here(server, tmp_path, monkeypatch)
        for source in PROTOCOLS:
            reader = replace(follower(campaign, source), kind="slc")
            area, days = reader.due(database, date(2024, 12, 31))
            assert sum(report.listed for report in reader.sync(database, area, days)) == 1
    [row] = db.fetch_all(database, "SELECT * FROM input_product")
    assert (row.reference, row.level, row.relative_orbit) == (name, "SLC", 45)
    assert (row.sensing_start, row.orbit_direction) == (start, "descending")
    assert row.href.endswith(f"/Sentinel-1/SAR/IW_SLC__1S/2024/04/02/{name}.SAFE")


def test_gaps_show_what_a_second_source_has(database, campaign, tmp_path, monkeypatch):
    made = [held(product) for product in days_of_products(12)]
    archive = Archive(made[:4] + made[6:])
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch)
        status, _, err = run("gaps", "--aoi", "tt", "--year", "2024")
        assert (status, "no source was read" in err) == (2, True)
        run("sync", "--aoi", "tt", "--year", "2024")
        archive.held = made
        status, out, err = run("gaps", "--aoi", "tt", "--year", "2024", "--against",
                               "cdse-odata", "--products")  # fmt: skip
    assert status == 0, err
    assert "Expected 12; gaps 2 (16.7 %): 2 missing." in out
    assert f"2024-04-05  s2    32TNT  missing    {made[4].name}" in out
    status, out, _ = run("gaps", "--aoi", "tt", "--year", "2024", "--json")
    report = json.loads(out)
    assert [gap["state"] for gap in report["gaps"]] == ["missing", "missing"]
    assert report["table"][0]["waiting"] == 10
    figures = db.fetch_all(database, "SELECT state, scenes FROM figures_gaps ORDER BY 1")
    assert [(row.state, row.scenes) for row in figures] == [("missing", 2), ("waiting", 10)]
    [row] = db.fetch_all(database, "SELECT * FROM figures_sync WHERE source = 'cdse'")
    assert (row.campaign, row.days, row.incomplete_days) == ("2024", 12, 0)


def test_killed_at_any_moment_it_goes_on_and_ends_complete(
    database, campaign, tmp_path, monkeypatch
):
    archive = Archive([held(product) for product in days_of_products(12, ("32TNT", "32TMT"))])
    archive.page_size = 1
    archive.between = lambda _archive: time.sleep(0.02)
    with serving(archive) as server:
        lead_here(server, tmp_path, monkeypatch)
        command = [sys.executable, "-m", "card.cli", "sync", "--aoi=tt", "--year=2024", "--follow"]
        for kill in range(6):
            done = _days_read(database)
            process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)  # fmt: skip
            _await(lambda seen=done: _days_read(database) > min(seen, 10))
            time.sleep(0.013 * kill)
            process.send_signal(signal.SIGKILL)
            process.wait()
        status, _, err = run("sync", "--aoi", "tt", "--year", "2024")
    assert status == 0, err
    assert references(database) == sorted(one.name for one in archive.held)
    assert _days_read(database) == 12
    assert db.fetch_one(database, "SELECT count(*) AS n FROM work").n == 24


def _days_read(conn) -> int:
    return db.fetch_one(conn, "SELECT count(*) AS n FROM sync_day").n


def _await(reached, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it did not get there"
        time.sleep(0.01)
