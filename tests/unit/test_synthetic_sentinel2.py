"""The synthetic Sentinel-2 products are laid out as ESA's, and show crops under clouds."""

import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer

from standalone.synthetic import parcels as lpis
from standalone.synthetic.crops import CROPS, reflectance
from standalone.synthetic.landscape import Landscape, landscape
from standalone.synthetic.parcels import TILES
from standalone.synthetic.sentinel2 import SEASON, View, products, view, write_jp2, write_product
from standalone.synthetic.state import Ground, ground_of, parcels_of
from store.grid import Grid

SEED = 5
COUNT = 150
CROP = {crop.name: i for i, crop in enumerate(CROPS)}


@pytest.fixture(scope="module")
def ground() -> Ground:
    return ground_of(COUNT)


@pytest.fixture(scope="module")
def land(ground: Ground) -> Landscape:
    return landscape(parcels_of(SEED, COUNT), ground.whole, SEED)


def overpass_on(date: str):
    return next(o for o in SEASON if f"{o.start:%Y-%m-%d}" == date)


@pytest.fixture(scope="module")
def reprocessed(ground: Ground, land: Landscape, tmp_path_factory) -> dict[tuple[str, str], Path]:
    """All products of the date that is delivered twice, by (tile, baseline)."""
    overpass = overpass_on("2024-06-29")
    seen, folder = view(land, overpass, SEED), tmp_path_factory.mktemp("scenes")
    return {
        (p.tile, p.baseline): write_product(folder, p, seen, ground.whole)
        for p in products(overpass, ground.windows)
    }


def band(safe: Path, name: str) -> np.ndarray:
    (path,) = safe.glob(f"GRANULE/*/IMG_DATA/*/*_{name}_*.jp2")
    with rasterio.open(path) as src:
        return src.read(1)


def paths_of(xml: Path) -> set[str]:
    """All element paths of a document, without namespaces."""

    def walk(element: ElementTree.Element, above: str):
        here = f"{above}/{element.tag.rpartition('}')[2]}"
        yield here
        for child in element:
            yield from walk(child, here)

    return set(walk(ElementTree.parse(xml).getroot(), ""))


def test_a_product_has_the_files_of_a_real_one(reprocessed) -> None:
    safe = reprocessed["32TMT", "05.10"]
    assert re.fullmatch(
        r"S2A_MSIL2A_20240629T101601_N0510_R065_T32TMT_2024\d{4}T\d{6}\.SAFE", safe.name
    )
    granule = "GRANULE/L2A_T32TMT_A047109_20240629T101601"
    images = [f"R10m/T32TMT_20240629T101601_{b}_10m.jp2" for b in ("B02", "B03", "B04", "B08")]
    images += [f"R20m/T32TMT_20240629T101601_{b}_20m.jp2" for b in ("B05", "B11", "SCL")]
    assert {str(p.relative_to(safe)) for p in safe.rglob("*") if p.is_file()} == {
        "MTD_MSIL2A.xml",
        "manifest.safe",
        f"{granule}/MTD_TL.xml",
        *(f"{granule}/IMG_DATA/{image}" for image in images),
    }


def test_metadata_say_everything_where_real_ones_do(reprocessed, shared_data: Path) -> None:
    (real,) = (shared_data / "s2_metadata").glob("*_N0509_*.SAFE")
    ours = reprocessed["32TMT", "05.10"]
    assert paths_of(ours / "MTD_MSIL2A.xml") <= paths_of(real / "MTD_MSIL2A.xml")
    (tile,), (real_tile,) = (safe.glob("GRANULE/*/MTD_TL.xml") for safe in (ours, real))
    assert paths_of(tile) <= paths_of(real_tile)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_gdal_reads_the_metadata_as_a_sentinel_2_product(reprocessed, ground: Ground) -> None:
    with rasterio.open(reprocessed["32TNT", "05.10"] / "MTD_MSIL2A.xml") as product:
        tags, (ten_metres, *_) = product.tags(), product.subdatasets
    assert tags["PROCESSING_BASELINE"] == "05.10"
    assert tags["DATATAKE_1_SPACECRAFT_NAME"] == "Sentinel-2A"
    with rasterio.open(ten_metres) as src:
        assert src.bounds == ground.windows["32TNT"].bounds_m
        assert src.crs.to_epsg() == 32632
        assert src.read(4).any()


def test_only_products_since_baseline_4_state_an_offset(reprocessed) -> None:
    texts = {key[1]: (safe / "MTD_MSIL2A.xml").read_text() for key, safe in reprocessed.items()}
    assert texts["05.10"].count("-1000</BOA_ADD_OFFSET>") == 13
    assert "BOA_ADD_OFFSET" not in texts["03.01"]


def test_the_offset_brings_both_baselines_to_the_same_reflectance_but_for_calibration(
    reprocessed,
) -> None:
    old, new = (band(reprocessed["32TMT", base], "B08") for base in ("03.01", "05.10"))
    np.testing.assert_allclose(old, (new - 1000.0) * 1.04, atol=1.1)


def test_both_tiles_hold_the_same_pixels_of_the_ground_they_share(
    reprocessed, ground: Ground
) -> None:
    west, east = (band(reprocessed[tile, "05.10"], "B04") for tile in ("32TMT", "32TNT"))
    shared_px = 2 * len(west) - ground.whole.width_px
    assert shared_px >= len(west) // 3
    np.testing.assert_array_equal(west[:, -shared_px:], east[:, :shared_px])


@pytest.mark.parametrize("count", [20, 150, 3000, 8000])
def test_windows_lie_on_the_20_m_pixels_of_their_real_tiles(count: int) -> None:
    for tile, grid in ground_of(count).windows.items():
        west, north = TILES[tile]
        assert (grid.west_m - west) % 20 == 0
        assert (north - grid.north_m) % 20 == 0
        assert grid.height_px % 2 == grid.width_px % 2 == 0
        assert west <= grid.west_m
        assert grid.bounds_m[2] <= west + 109_800
        assert grid.width_px <= 1500


def test_jp2_is_lossless_in_tiles_of_1024(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 2**15, (1100, 1050)).astype(np.uint16)
    write_jp2(tmp_path / "a.jp2", image, Grid(32632, 10, 399960, 5300040, 1100, 1050))
    with rasterio.open(tmp_path / "a.jp2") as src:
        assert src.block_shapes == [(1024, 1024)]
        assert src.transform[:6] == (10, 0, 399960, 0, -10, 5300040)
        np.testing.assert_array_equal(src.read(1), image)


def test_one_orbit_ends_within_the_land_and_the_footprint_says_where(
    ground: Ground, land: Landscape, tmp_path: Path
) -> None:
    overpass = overpass_on("2024-05-23")
    seen = view(land, overpass, SEED)
    product = list(products(overpass, ground.windows))[1]
    safe = write_product(tmp_path, product, seen, ground.whole)
    scl, b02, b11 = (band(safe, name) for name in ("SCL", "B02", "B11"))
    assert 0.1 < (scl == 0).mean() < 0.9
    np.testing.assert_array_equal(b11 == 0, scl == 0)
    np.testing.assert_array_equal(b02 == 0, (scl == 0).repeat(2, axis=0).repeat(2, axis=1))
    text = re.search("<EXT_POS_LIST>(.*)</EXT_POS_LIST>", (safe / "MTD_MSIL2A.xml").read_text())
    latlon = np.array(text.group(1).split(), dtype=float).reshape(-1, 2)
    to_utm = Transformer.from_crs(4326, 32632).transform
    footprint = shapely.Polygon(np.stack(to_utm(*latlon.T), axis=1))
    rows, cols = np.mgrid[: scl.shape[0], : scl.shape[1]]
    x, y = product.grid.west_m + 20 * cols + 10, product.grid.north_m - 20 * rows - 10
    inside = shapely.contains_xy(footprint, x, y)
    assert (inside != (scl > 0)).mean() < 0.01


def test_the_other_orbit_sees_all_of_the_land(land: Landscape) -> None:
    assert (view(land, overpass_on("2024-06-29"), SEED).scl > 0).all()


@pytest.fixture(scope="module")
def cloudy(land: Landscape) -> View:
    return view(land, overpass_on("2024-06-17"), SEED)


def test_clouds_are_bright_and_their_shadows_dark_where_the_classes_say(cloudy: View) -> None:
    infrared = cloudy.bands["B08"].reshape(*cloudy.scl.shape[:1], 2, -1, 2).mean(axis=(1, 3))
    blue = cloudy.bands["B02"].reshape(*cloudy.scl.shape[:1], 2, -1, 2).mean(axis=(1, 3))
    clear = np.isin(cloudy.scl, (4, 5))
    assert blue[cloudy.scl == 9].min() > blue[clear].max()
    assert infrared[cloudy.scl == 3].mean() < 0.7 * infrared[clear].mean()
    assert 0.15 < np.isin(cloudy.scl, (8, 9)).mean() < 0.45
    assert {3, 8, 9}.issubset(np.unique(cloudy.scl))


def test_cirrus_occurs_in_the_season(land: Landscape) -> None:
    assert any((view(land, overpass, SEED).scl == 10).any() for overpass in SEASON[:6])


def ndvi(crop: str, month: int, day: int) -> float:
    when = np.array([float(datetime(2024, month, day, tzinfo=UTC).timetuple().tm_yday)])
    spectrum = reflectance(CROPS[CROP[crop]], when, np.ones(1))[0]
    red, infrared = spectrum[2], spectrum[4]
    return (infrared - red) / (infrared + red)


def test_winter_wheat_is_green_in_may_and_dry_in_july() -> None:
    assert ndvi("winter wheat", 5, 10) > 0.75
    assert ndvi("winter wheat", 7, 20) < 0.35


def test_maize_is_bare_in_may_and_green_in_august() -> None:
    assert ndvi("maize", 5, 10) < 0.3
    assert ndvi("maize", 8, 1) > 0.75


def test_grassland_is_green_all_season_but_for_its_cuts() -> None:
    assert min(ndvi("permanent grassland", month, 15) for month in range(4, 11)) > 0.55
    assert ndvi("permanent grassland", 5, 21) < ndvi("permanent grassland", 5, 15) - 0.1


def test_parcels_of_one_crop_differ_in_time_and_vigour(land: Landscape) -> None:
    wheat = land.cover == CROP["winter wheat"]
    red, infrared = land.by_label(reflectance, 180.0)[wheat][:, [2, 4]].T
    assert np.std((infrared - red) / (infrared + red)) > 0.03


def test_the_fields_of_the_written_image_show_their_crops(
    reprocessed, ground: Ground, land: Landscape
) -> None:
    # 29 June: maize stands, barley is ripe
    safe = reprocessed["32TMT", "05.10"]
    red, infrared = (band(safe, name) - 1000.0 for name in ("B04", "B08"))
    index = (infrared - red) / (infrared + red)
    label = lpis.paint(parcels_of(SEED, COUNT), ground.windows["32TMT"])
    crop = land.cover[label]
    maize, barley = (index[crop == CROP[name]] for name in ("maize", "winter barley"))
    assert maize.mean() > barley.mean() + 0.2
    assert 0.005 < maize.std() < 0.2


def test_dates_fit_the_orbits_of_the_satellites(ground: Ground) -> None:
    for overpass in SEASON:
        (product, *_) = products(overpass, ground.windows)
        start = {"S2A": (42640, "2023-08-21T22:19:41"), "S2B": (26649, "2022-04-13T15:07:59")}
        orbit, time = start[overpass.platform]
        days = (product.absolute_orbit - orbit) * 10 / 143
        known = datetime.fromisoformat(f"{time}+00:00")
        assert (overpass.start - known).total_seconds() / 86400 == pytest.approx(days, abs=0.5)
