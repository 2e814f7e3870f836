"""Scenes of an archive, found by timer and shown; those that it lacks, made by the swarm."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from testinfra.host import Host

from tests.appliance import s3_door
from tests.appliance.conftest import Appliance
from tests.appliance.way_in import WayIn
from tests.beds.s3.server import REGION
from tests.beds.stac import StacServer, serving
from tests.integration.small_state import EPSG, NORTH_M, WEST_M, square
from tests.standalone.demo import Demo

pytestmark = pytest.mark.full

SCENES = 3
SOURCE = {"collection": "sentinel-2-l2a", "bbox": "9.0,47.3,9.1,47.5", "days": 3660}
CAMPAIGN = "--aoi tt --year 2024"
PARCELS = {"p1": (10, 20), "p2": (40, 60)}
SIZE = 10
OFFSET_DN = -1000

HILLS = "--aoi hills --year 2024"
EODATA = "/eodata/hills"
STATISTICS = ("mean", "std", "min", "p25", "p50", "p75", "max")
Signature = tuple[object, ...]


@pytest.fixture
def bucket(appliance: Appliance, tmp_path: Path) -> Iterator[s3_door.Bucket]:
    """A bucket of this machine, as the hosts see it; its key is the operator's secret."""
    operator, *_ = appliance.shared("common_ssh_from")
    secrets = appliance.inventory.parent / "secrets"
    with s3_door.bucket(operator, secrets, tmp_path) as made:
        (secrets / "scenes_s3").write_text(made.secret)
        yield made
        (secrets / "scenes_s3").unlink()


@pytest.fixture
def archive(
    appliance: Appliance, bucket: s3_door.Bucket, tmp_path: Path
) -> Iterator[tuple[StacServer, s3_door.Bucket]]:
    """A STAC API of this machine, as the hosts see it, and the bucket that its scenes lie in."""
    operator, *_ = appliance.shared("common_ssh_from")
    secrets = appliance.inventory.parent / "secrets"
    door = s3_door.certificate(operator, secrets, tmp_path)
    with serving(tmp_path, SCENES, operator, door) as stac:
        store = boto3.client(
            "s3",
            endpoint_url=f"https://{bucket.endpoint}",
            aws_access_key_id=bucket.key_id,
            aws_secret_access_key=bucket.secret,
            region_name=REGION,
            verify=secrets / "authority.crt",
        )
        for asset in (asset for item in stac.items for asset in item["assets"].values()):
            name = asset["href"].rpartition("/")[2]
            store.upload_file(tmp_path / name, bucket.name, name)
            asset["href"] = f"s3://{bucket.name}/{name}"
        yield stac, bucket


@pytest.fixture
def manager(appliance: Appliance) -> Iterator[Host]:
    """With a campaign of two parcels, which goes at the end as the scenes of the archive do."""
    host = appliance.host("card")
    to_wgs84 = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    features = [
        {
            "type": "Feature",
            "properties": {"code": code},
            "geometry": json.loads(
                shapely.to_geojson(
                    shapely.transform(square(*place, size=SIZE), to_wgs84, interleaved=False)
                )
            ),
        }
        for code, place in PARCELS.items()
    ]
    parcels = json.dumps({"type": "FeatureCollection", "features": features})
    host.check_output("mkdir -p /run/tt && printf %s > /run/tt/parcels.geojson", parcels)
    host.check_output(f"cbm-store campaign create {CAMPAIGN}")
    read = f"cbm-store parcels import parcels.geojson {CAMPAIGN} --id-column code"
    host.check_output(f"cd /run/tt && {read}")
    host.check_output("cbm-api users grant admin tt --role=operator")
    yield host
    host.check_output(f"cbm-store campaign drop {CAMPAIGN} --yes; rm -r /run/tt")


def converge(appliance: Appliance, **chosen: object) -> None:
    hosts = {*appliance.names("card"), *appliance.names("api"), "localhost"}
    appliance.play("site.yml", "--limit", ",".join(hosts), "--extra-vars", json.dumps(chosen))


def test_scenes_of_an_archive_come_by_timer_are_extracted_and_shown(
    appliance: Appliance,
    archive: tuple[StacServer, s3_door.Bucket],
    manager: Host,
    tmp_path: Path,
) -> None:
    stac, bucket = archive
    known = "SELECT count(*) FROM public.scene"
    before = int(appliance.sql(known))
    converge(
        appliance,
        card_sources=[SOURCE | {"stac": stac.url}],
        card_campaigns=[{"aoi": "tt", "year": 2024, "kinds": [], "make": ["bs"]}],
        **_settings_of(bucket),
    )
    try:
        assert manager.service("cbm-card-sync.timer").is_running
        for _ in range(2):
            manager.check_output("systemctl start cbm-card-sync.service")  # nothing to make is fine
            assert int(appliance.sql(known)) == before + SCENES
        _await_end(manager, "cbm-extract status --json")
        assert _means(appliance) == _own_means(tmp_path)
        assert _chip_is_the_scenes_own_pixels(appliance, tmp_path)
    finally:
        references = ", ".join(f"'{one['id']}'" for one in stac.items)
        appliance.sql(f"DELETE FROM public.scene WHERE reference IN ({references})")
        converge(appliance)
    assert not manager.service("cbm-card-sync.timer").is_running
    assert manager.run("ls /etc/cbm/logins/*/aws").failed
    assert not appliance.host("api").file("/etc/cbm/api/secrets/aws").exists


@pytest.fixture
def hills(appliance: Appliance, standalone: Demo) -> Iterator[Host]:
    """The manager, with the parcels of a machine alone and its Level-1 products on every node."""
    host = appliance.host("card")
    data = standalone.folder / "data"
    for name in appliance.names("swarm"):
        _copy(appliance, data, name, EODATA, "level1", "dem")
    _copy(appliance, data, appliance.names("card")[0], "/run/hills", "parcels.gpkg")
    host.check_output(f"cbm-store campaign create {HILLS}")
    columns = "--id-column=code --crop-column=crop --crop-code-column=crop_code"
    host.check_output(f"cd /run/hills && cbm-store parcels import parcels.gpkg {HILLS} {columns}")
    host.check_output("cbm-api users grant admin hills --role=operator")
    yield host
    host.check_output(f"cbm-store campaign drop {HILLS} --yes; rm -r /run/hills")
    for node in appliance.hosts("swarm"):
        node.check_output(f"rm -r {EODATA}")


def test_swarm_makes_card_of_level1_and_serves_its_series(
    appliance: Appliance, bucket: s3_door.Bucket, hills: Host, standalone: Demo
) -> None:
    level1 = standalone.folder / "data" / "level1"
    made = {f"{product.stem}_CARD_BS" for product in level1.glob("*_GRDH_*.SAFE")}
    converge(
        appliance,
        card_output=f"s3://{bucket.name}/card",
        card_dem=f"{EODATA}/dem/dem.tif",
        card_geoid="ellipsoid",
        card_orbits=f"{EODATA}/level1/orbits",
        card_processors_per_host=1,
        **_settings_of(bucket),
    )
    try:
        hills.check_output(f"cd / && cbm-card register {EODATA}/level1")
        # The demo's archive may have scenes of these days already.
        hills.check_output(f"cbm-card make season {HILLS} --kind bs --replace")
        _await_end(hills, "cbm-card making status --json")
        _await_end(hills, "cbm-extract status --json")
        alone = _signatures(standalone.sql, "demo", made)
        assert {reference for _, reference, *_ in alone} == made
        assert _signatures(appliance.sql, "hills", made) == alone
        served = _served(appliance, made)
        assert len(served) > 0
        assert served <= alone
    finally:
        appliance.sql("DELETE FROM public.making; DELETE FROM public.input_product")
        appliance.sql(f"DELETE FROM public.scene WHERE {_is_one_of(made)}")
        converge(appliance)


def _settings_of(bucket: s3_door.Bucket) -> dict[str, str]:
    """Where scenes lie that are not files."""
    return {
        "scenes_s3_endpoint": bucket.endpoint,
        "scenes_s3_region": REGION,
        "scenes_s3_key_id": bucket.key_id,
    }


def _copy(appliance: Appliance, source: Path, host: str, folder: str, *names: str) -> None:
    """Files and folders of this machine into a folder of a host, readable by all."""
    config = appliance.inventory.with_name("ssh_config")
    unpack = f"sudo sh -c 'mkdir -p {folder} && tar -x -C {folder} && chmod -R a+rX {folder}'"
    packed = subprocess.run(
        ["tar", "-c", "-C", source, *names], check=True, capture_output=True
    ).stdout
    subprocess.run(["ssh", "-F", config, host, unpack], check=True, input=packed)


def _signatures(sql: Callable[[str], str], aoi: str, references: set[str]) -> set[Signature]:
    """All signatures of these products in a campaign of 2024."""
    rows = sql(
        "SELECT json_build_array(code, reference, band, count, mean, std, min, p25, p50, p75, max)"
        f" FROM {aoi}.sigs_2024 JOIN {aoi}.parcels_2024 ON ogc_fid = pid"
        " JOIN public.scene USING (obsid)"
        f" WHERE {_is_one_of(references)}"
    )
    return {tuple(json.loads(row)) for row in rows.splitlines()}


def _is_one_of(references: set[str]) -> str:
    return f"reference = ANY ('{{{','.join(references)}}}')"


def _served(appliance: Appliance, references: set[str]) -> set[Signature]:
    """Those that users get over TLS for a few parcels, in their series."""
    user = WayIn.of(appliance).as_user("admin", appliance.secret("api_first_user"))
    codes = appliance.sql("SELECT code FROM hills.parcels_2024 ORDER BY code LIMIT 5").split()
    served: set[Signature] = set()
    for code in codes:
        question = f"aoi=hills&year=2024&pid={code}&tstype=bs&all=True&ref=True"
        series = user.ask(f"/query/parcelTimeSeries?{question}").json
        columns = [series[name] for name in ("reference", "band", "count", *STATISTICS)]
        served |= {(code, *row) for row in zip(*columns, strict=True) if row[0] in references}
    return served


def _await_end(manager: Host, status: str) -> None:
    """Until a queue has neither open work nor work in hand; nothing of it was given up."""
    for _ in range(300):
        totals = json.loads(manager.check_output(status))["totals"]
        if totals["pending"] + totals["claimed"] == 0:
            assert totals["dead"] == 0
            return
        time.sleep(1)
    pytest.fail(f"not at its end in five minutes: {totals}")


def _means(appliance: Appliance) -> dict[tuple[str, str], float]:
    """Mean of B04 by parcel and day."""
    rows = appliance.sql(
        "SELECT code, obstime::date, mean FROM tt.sigs_2024 s JOIN tt.parcels_2024 ON ogc_fid = pid"
        " JOIN public.scene USING (obsid) WHERE band = 'B04'"
    )
    values = [row.split("|") for row in rows.splitlines()]
    return {(code, day): pytest.approx(float(mean), abs=0.01) for code, day, mean in values}


def _own_means(folder: Path) -> dict[tuple[str, str], float]:
    """The same, from the files."""
    return {
        (code, f"2024-04-{1 + 5 * scene:02}"): _pixels(folder, scene)[
            row : row + SIZE, col : col + SIZE
        ].mean()
        for scene in range(SCENES)
        for code, (row, col) in PARCELS.items()
    }


def _chip_is_the_scenes_own_pixels(appliance: Appliance, folder: Path) -> bool:
    user = WayIn.of(appliance).as_user("admin", appliance.secret("api_first_user"))
    question = "aoi=tt&year=2024&pid=p1&band=B04&chipsize=200"
    days = "start_date=2024-04-01&end_date=2024-04-02"
    report = user.ask(f"/query/rawChipByParcelID?{question}&{days}")
    assert report.status == 200, report.body
    address = urlsplit(report.json["chips"][0])
    came = user.ask(f"{address.path}?{address.query}" if address.query else address.path)
    assert came.status == 200, came.body[:500]
    with rasterio.MemoryFile(came.body) as file, file.open() as chip:
        row, col = round((NORTH_M - chip.bounds.top) / 10), round((chip.bounds.left - WEST_M) / 10)
        height, width = chip.shape
        found = chip.read(1)
    own = _pixels(folder, 0)[row : row + height, col : col + width]
    return np.array_equal(found, own)


def _pixels(folder: Path, scene: int) -> np.ndarray:
    with rasterio.open(folder / f"{scene}_B04.tif") as raster:
        return raster.read(1).astype(int) + OFFSET_DN
