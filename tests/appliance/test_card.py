"""Scenes of an archive: found by timer, each once, read from the object store with a key, shown."""

import json
import time
from collections.abc import Iterator
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

pytestmark = pytest.mark.full

SCENES = 3
SOURCE = {"collection": "sentinel-2-l2a", "bbox": "9.0,47.3,9.1,47.5", "days": 3660}
CAMPAIGN = "--aoi tt --year 2024"
PARCELS = {"p1": (10, 20), "p2": (40, 60)}
SIZE = 10
OFFSET_DN = -1000


@pytest.fixture
def archive(appliance: Appliance, tmp_path: Path) -> Iterator[tuple[StacServer, s3_door.Bucket]]:
    """A STAC API of this machine, as the hosts see it, and the bucket that its scenes lie in."""
    operator, *_ = appliance.shared("common_ssh_from")
    secrets = appliance.inventory.parent / "secrets"
    with (
        s3_door.bucket(operator, secrets, tmp_path) as bucket,
        serving(tmp_path, SCENES, operator) as stac,
    ):
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
        (secrets / "scenes_s3").write_text(bucket.secret)
        yield stac, bucket
        (secrets / "scenes_s3").unlink()


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
        scenes_s3_endpoint=bucket.endpoint,
        scenes_s3_region=REGION,
        scenes_s3_key_id=bucket.key_id,
    )
    try:
        assert manager.service("cbm-card-sync.timer").is_running
        for _ in range(2):
            manager.check_output("systemctl start cbm-card-sync.service")
            assert int(appliance.sql(known)) == before + SCENES
        _await_extracted(manager)
        assert _means(appliance) == _own_means(tmp_path)
        assert _chip_is_the_scenes_own_pixels(appliance, tmp_path)
    finally:
        references = ", ".join(f"'{one['id']}'" for one in stac.items)
        appliance.sql(f"DELETE FROM public.scene WHERE reference IN ({references})")
        converge(appliance)
    assert not manager.service("cbm-card-sync.timer").is_running


def _await_extracted(manager: Host) -> None:
    for _ in range(120):
        totals = json.loads(manager.check_output("cbm-extract status --json"))["totals"]
        if totals["pending"] + totals["claimed"] == 0:
            assert totals["dead"] == 0
            return
        time.sleep(1)
    pytest.fail(f"not extracted in two minutes: {totals}")


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
    told = user.ask(f"/query/rawChipByParcelID?{question}&{days}")
    assert told.status == 200, told.body
    address = urlsplit(told.json["chips"][0])
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
