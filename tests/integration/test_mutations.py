"""Descriptions that are damaged in thousands of ways beside a sound product: that one is always
registered, and nothing ends the scan, the registration or its transaction."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import rasterio

from card.find import folder, safe
from card.find.scan_result import ScanResult
from store import catalogue, db
from tests.mutations import damaged, damaged_xml, mutations
from tests.unit.safe_folders import IMAGES, N0400, safe_folder

GRD = "S1A_IW_GRDH_1SDV_20240501T171550_20240501T171615_053683_06855A_{:04X}_CARD_BS"
ITEMS, PRODUCTS = (2000, 1500) if os.environ.get("CBM_TEST_FULL") else (600, 120)
"""Damaged descriptions: STAC items; and products in SAFE and in DIMAP each. 5,000 at full size."""


def registered(database: db.Connection, found: ScanResult, reference: str) -> bool:
    """Whether a scene is in the catalogue once all that was found is registered."""
    report = catalogue.register(database, found.scenes)
    assert report.added + len(report.refused) == len(found.scenes)
    return bool(db.fetch_all(database, "SELECT FROM scene WHERE reference = %s", (reference,)))


def test_damaged_stac_items_keep_no_sound_one_out(database, shared_data, tmp_path):
    path = shared_data / "catalogue/cdse_stac/item_S2A_MSIL2A_20241107_N0511_T32VKR.json"
    item = json.loads(path.read_text())
    sound = {**item, "id": "sound"}
    sound["properties"] = {k: v for k, v in item["properties"].items() if k != "s2:product_uri"}
    (tmp_path / "sound.json").write_text(json.dumps(sound))
    rng = random.Random(1)
    for number, changed in zip(range(ITEMS), mutations(item, rng), strict=False):
        if "id" in changed and rng.random() < 0.9:
            changed["id"] = f"item {number}"
        (tmp_path / f"{number}.json").write_text(json.dumps(changed))
    found = folder.scan(tmp_path)
    assert not [p for p in found.problems if "nobody foresaw" in p.why]
    assert registered(database, found, "sound")


def test_damaged_safe_products_keep_no_sound_one_out(database, shared_data, tmp_path):
    source = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    sound = safe_folder(source, tmp_path / "here", N0400, IMAGES[:1])
    rng = random.Random(2)
    text = (sound / safe.METADATA).read_text()
    for number in range(PRODUCTS):
        name = N0400.replace("20220414T082126", f"20220414T{number // 60:02}{number % 60:02}00")
        place = tmp_path / "here" / f"{name}.SAFE"
        shutil.copytree(sound, place, copy_function=lambda a, b: Path(b).symlink_to(a))
        (place / safe.METADATA).unlink()
        (place / safe.METADATA).write_text(damaged_xml(text, rng))
    found = folder.scan(tmp_path / "here")
    assert not [p for p in found.problems if "nobody foresaw" in p.why]
    assert registered(database, found, N0400)


def test_damaged_dimap_products_keep_no_sound_one_out(database, shared_data, tmp_path):
    source = next((shared_data / "field_reports/scenes/dimap_db").glob("*.dim"))
    rng = random.Random(3)
    image = tmp_path / "Gamma0_VV_db.img"
    with rasterio.open(
        image, "w", driver="ENVI", width=4, height=4, count=1, dtype="float32", crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5200000),
    ) as out:  # fmt: skip
        out.write(np.full((1, 4, 4), -12, "float32"))
    for number in range(PRODUCTS):
        name = GRD.format(number)
        data = tmp_path / "here" / f"{name}.data"
        data.mkdir(parents=True)
        for file in (image, image.with_suffix(".hdr")):
            (data / file.name).symlink_to(file)
        text = source.read_text()
        header = text if number == 0 else damaged(text, rng)
        (data.parent / f"{name}.dim").write_text(header)
    found = folder.scan(tmp_path / "here")
    assert not [p for p in found.problems if "nobody foresaw" in p.why]
    assert registered(database, found, GRD.format(0))
