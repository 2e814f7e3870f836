"""Files and addresses that lead elsewhere: nothing but what was named is opened."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyogrio

from card.find import stac
from store import objects, raster
from store.errors import CbmError
from store.parcels.source import open_source
from tests.attack.outcomes import Outcome, report
from tests.hostile_files import (
    ADDRESSES_OF_GDAL,
    ADDRESSES_OF_ITEMS,
    PARCEL_NAMES,
    PARCELS,
    RASTER_NAMES,
    RASTERS,
    link_envi,
    write_parcels,
    write_raster,
)
from tests.integration.small_state import write_band
from tests.mutations import stac_item


@contextmanager
def inner_server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that nobody has business with, and who came nevertheless."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", came
        try:
            while True:
                came.append(f"a connection from {server.accept()[1]}")
        except BlockingIOError:
            pass


def is_opened(path: Path) -> bool:
    """Whether pixels of a file can be read."""
    try:
        with raster.open_band(str(path)) as reader:
            reader.read(0, reader.grid.height_px, 0, reader.grid.width_px)
    except CbmError:
        return False
    return True


def test_no_scene_file_leads_to_another_file_or_address(tmp_path):
    secret = write_band(tmp_path / "secret.tif", np.full((4, 5), 77, np.uint8))
    (tmp_path / "password").write_bytes(b"the-password-of-the-database")
    tried, wrong = 0, []
    with inner_server() as (address, came):
        sources = (str(secret), "/proc/self/environ", f"/vsicurl/{address}x.tif", address)
        for n, (name, (kind, text), source) in enumerate(
            product(RASTER_NAMES, RASTERS.items(), sources)
        ):
            (folder := tmp_path / str(n)).mkdir()
            tried += 1
            if is_opened(write_raster(folder, name, text, source)):
                wrong.append((kind, name, source))
        for name in ("password", "/proc/self/environ", "/etc/passwd", "/proc/self/cmdline"):
            tried += 1
            if is_opened(link_envi(tmp_path, str(tmp_path / name), f"link{tried}")):
                wrong.append(("a link", name))
    wrong += came
    report(Outcome("scene files that lead elsewhere", tried, len(wrong)), wrong)


def test_no_band_has_an_address_of_gdals_own(tmp_path):
    wrong = []
    for href in ADDRESSES_OF_GDAL:
        try:
            wrong.append((href, objects.gdal_path(href)))
        except CbmError:
            continue
    report(Outcome("addresses of bands", len(ADDRESSES_OF_GDAL), len(wrong)), wrong)


def test_no_item_leads_to_local_files_or_inner_addresses(tmp_path):
    item, tried, wrong = stac_item(), 0, []
    bases = ("s3://bucket/x.json", "https://stac.example/items/x", tmp_path)
    assert stac.scene_from_item(item, bases[1]).bands
    for href, base, name in product(ADDRESSES_OF_ITEMS, bases, item["assets"]):
        asset = {**item["assets"][name], "href": href}
        tried += 1
        try:
            assets = {**item["assets"], name: asset}
            band = stac.scene_from_item({**item, "assets": assets}, base).bands[name]
        except CbmError:
            continue
        # What is no address to a browser either is a path on the item's own host.
        if urlsplit(band.href).netloc != urlsplit(str(base)).netloc:
            wrong.append((href, base, band.href))
    report(Outcome("addresses in STAC Items", tried, len(wrong)), wrong)


def test_no_parcel_file_leads_to_another_file_or_address(tmp_path):
    secret = tmp_path / "secret.gpkg"
    outline = np.array([bytes.fromhex("0101000000" + "00" * 16)], dtype=object)
    pyogrio.raw.write(
        secret, outline, [np.array(["secret"], dtype=object)], ["id"], geometry_type="Point",
        crs="EPSG:25832", driver="GPKG",
    )  # fmt: skip
    tried, wrong = 0, []
    with inner_server() as (address, came):
        for n, (name, (kind, text)) in enumerate(product(PARCEL_NAMES, PARCELS.items())):
            (folder := tmp_path / str(n)).mkdir()
            tried += 1
            try:
                source = open_source(write_parcels(folder, name, text, str(secret), address))
                wrong.append((kind, name, source.columns))
            except CbmError:
                continue
    wrong += came
    report(Outcome("parcel files that lead elsewhere", tried, len(wrong)), wrong)
