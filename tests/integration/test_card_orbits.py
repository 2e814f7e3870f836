"""Orbit files: fetched from an OData archive with sign-in, into a folder or a bucket."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import shapely
from click.testing import CliRunner

from card.cli import main
from card.find.orbits import parse_orbit, sync_orbits
from card.find.sources import find_source, sign_in_of_cdse
from card.find.transport import Transport
from store import objects
from store.errors import ConfigError, WorldError
from store.inputs import InputProduct, register_inputs
from tests.beds.archive import Archive, Held, serving

START = datetime(2024, 4, 2, 5, 30, 12, tzinfo=UTC)
PLACE = "MULTIPOLYGON(((9 47,10 47,10 48,9 47)))"


def product(platform: str = "S1A", days: int = 0) -> InputProduct:
    start = START + timedelta(days=days)
    return InputProduct(
        f"{platform}_IW_SLC__1SDV_{start:%Y%m%dT%H%M%S}", "SLC", "IW_SLC__1S", platform, start,
        start + timedelta(seconds=27), 53256, 45, PLACE, "s3://eodata/x.SAFE",
    )  # fmt: skip


def orbit(
    kind: str, start: datetime, hours: float, platform: str = "S1A", made_days: int = 20
) -> Held:
    stop = start + timedelta(hours=hours)
    made = start + timedelta(days=made_days)
    name = (
        f"{platform}_OPER_AUX_{kind}_OPOD_{made:%Y%m%dT%H%M%S}"
        f"_V{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}.EOF"
    )
    content = (
        f"<?xml?><Earth_Explorer_File><File_Name>{name[:-4]}</File_Name></Earth_Explorer_File>\n"
    )
    return Held(name, f"AUX_{kind}", shapely.box(-180, -90, 180, 90), start, stop,
                content=content.encode())  # fmt: skip


PRECISE = orbit("POEORB", START - timedelta(hours=6), 26)
RESTITUTED = orbit("RESORB", START + timedelta(days=6, hours=-1), 3.3, made_days=1)
TOO_SHORT = orbit("POEORB", START - timedelta(seconds=10), 26)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive with orbits for two of three products, behind a sign-in."""
    made = Archive([TOO_SHORT, PRECISE, RESTITUTED], token="fresh", page_size=100)
    with serving(made) as server:
        monkeypatch.setenv("CBM_SOURCES", server.sources(tmp_path / "sources.toml"))
        monkeypatch.setenv("CBM_CDSE_TOKEN_URL", f"{server.url}/token")
        monkeypatch.setenv("CBM_CDSE_HOSTS", "127.0.0.1")
        monkeypatch.setenv("CBM_CDSE_USER", "somebody@example.org")
        secret = tmp_path / "password"
        secret.write_text("right\n")
        monkeypatch.setenv("CBM_CDSE_PASSWORD_FILE", str(secret))
        yield made


def fetch(folder: str, *products: InputProduct):
    transport = Transport(sign_in=sign_in_of_cdse(), pause=lambda _seconds: None)
    return sync_orbits(products, folder, find_source("cdse-odata"), transport)


def test_each_product_gets_the_best_orbit_there_is(archive, tmp_path):
    folder = tmp_path / "orbits"
    folder.mkdir()
    done = fetch(str(folder), product(), product(days=6), product("S1C"))
    assert done.fetched == (PRECISE.name, RESTITUTED.name)
    assert (done.precise, done.restituted) == (1, 1)
    assert done.missing == (product("S1C").reference,)
    assert {path.name for path in folder.iterdir()} == {PRECISE.name, RESTITUTED.name}
    assert (folder / PRECISE.name).read_bytes() == PRECISE.content
    assert fetch(str(folder), product(), product(days=6)).fetched == ()
    later = orbit("POEORB", START + timedelta(days=6, hours=-6), 26)
    archive.held.append(later)
    assert fetch(str(folder), product(days=6)).fetched == (later.name,)


def test_orbits_go_into_a_bucket(archive, s3, monkeypatch):
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{s3.new_bucket()}/orbits"
    assert fetch(place, product()).fetched == (PRECISE.name,)
    assert [found.href for found in objects.list_objects(place)] == [f"{place}/{PRECISE.name}"]
    assert fetch(place, product()).fetched == ()


def test_the_command_fetches_for_what_is_registered(archive, database, tmp_path):
    (tmp_path / "orbits").mkdir()
    register_inputs(database, [product(), product("S1C")])
    result = CliRunner().invoke(main, ["orbits", "sync", "--to", str(tmp_path / "orbits")])
    assert result.exit_code == 0, result.output
    assert f"fetched  {PRECISE.name}" in result.stdout
    assert f"MISSING  {product('S1C').reference}" in result.stdout
    assert (
        "Fetched 1 files; 1 products with a precise orbit, 0 with a restituted one, 1 without."
        in (result.stdout)
    )


def test_a_token_that_expired_is_renewed_once(archive, tmp_path):
    sign_in = sign_in_of_cdse()
    archive.token = "old"
    assert sign_in.token() == "old"
    archive.token = "new"
    transport = Transport(sign_in=sign_in, pause=lambda _seconds: None)
    done = sync_orbits([product()], str(tmp_path), find_source("cdse-odata"), transport)
    assert done.fetched == (PRECISE.name,)
    assert sum(path == "/token" for path, _ in archive.requests) == 2


def test_a_wrong_password_is_named_and_never_shown(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_CDSE_PASSWORD", "guess-4711")
    monkeypatch.delenv("CBM_CDSE_PASSWORD_FILE")
    with pytest.raises(ConfigError, match="CBM_CDSE_PASSWORD are wrong, or the account") as caught:
        fetch(str(tmp_path), product())
    assert "Invalid user credentials" in str(caught.value)
    assert "guess-4711" not in str(caught.value) + repr(sign_in_of_cdse())
    monkeypatch.delenv("CBM_CDSE_PASSWORD")
    with pytest.raises(ConfigError, match=r"^CBM_CDSE_PASSWORD .* not set"):
        sign_in_of_cdse()
    monkeypatch.setenv("CBM_CDSE_PASSWORD_FILE", "/nowhere/password")
    with pytest.raises(
        ConfigError, match="CBM_CDSE_PASSWORD_FILE=/nowhere/password cannot be read"
    ):
        sign_in_of_cdse()


def test_the_token_goes_to_the_archive_alone():
    sign_in = sign_in_of_cdse({"CBM_CDSE_USER": "a", "CBM_CDSE_PASSWORD": "b"})
    assert sign_in.covers("https://download.dataspace.copernicus.eu/odata/v1/Products(1)/$value")
    assert not sign_in.covers("https://dataspace.copernicus.eu.example.org/")
    assert not sign_in.covers("https://example.org/?dataspace.copernicus.eu")


@pytest.mark.parametrize(
    "content", [b"", b"<html>busy</html>", PRECISE.content[:40], RESTITUTED.content]
)
def test_a_download_that_is_not_the_whole_file_is_refused(archive, tmp_path, content):
    archive.held = [replace(PRECISE, content=content)]
    with pytest.raises(WorldError, match="not that orbit file, or not all of it"):
        fetch(str(tmp_path / "orbits"), product())
    assert not list(tmp_path.glob("orbits/*"))


def test_names_of_orbit_files_are_read():
    found = parse_orbit(PRECISE.name)
    assert found is not None
    assert (found.platform, found.kind) == ("S1A", "POEORB")
    assert (found.start, found.stop) == (PRECISE.start, PRECISE.stop)
    for name in ("", "x.EOF", f"../{PRECISE.name}", PRECISE.name.replace("2024", "2099", 1) + "x",
                 PRECISE.name.replace("_V20240401", "_V20241301")):  # fmt: skip
        assert parse_orbit(name) is None


def test_a_checksum_counts(archive, tmp_path, monkeypatch):
    from card.find import orbits

    orbits._check_content(
        found := parse_orbit(PRECISE.name), PRECISE.content,
        [{"Algorithm": "MD5", "Value": hashlib.md5(PRECISE.content).hexdigest().upper()}],
    )  # fmt: skip
    with pytest.raises(WorldError, match="another MD5"):
        orbits._check_content(found, PRECISE.content, [{"Algorithm": "MD5", "Value": "0" * 32}])
