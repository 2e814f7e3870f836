"""The synthetic CARD-BS scenes are laid out as SNAP and the clouds lay them out."""

import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

from standalone.synthetic.crops import CROPS, backscatter
from standalone.synthetic.landscape import Landscape, landscape
from standalone.synthetic.sentinel1 import COG, DIMAP, SEASON, grid_of, view, write_scene
from standalone.synthetic.state import ground_of, parcels_of

SEED, COUNT = 5, 100
CROP = {crop.name: i for i, crop in enumerate(CROPS)}


def land_of(layout: str) -> Landscape:
    return landscape(parcels_of(SEED, COUNT), grid_of(ground_of(COUNT).whole, layout), SEED)


@pytest.fixture(scope="module", params=[DIMAP, COG])
def written(request, tmp_path_factory):
    """A scene of each layout: (folder, scene, bands, grid)."""
    scene = next(s for s in SEASON if s.layout == request.param)
    land = land_of(scene.layout)
    bands = view(land, scene, SEED)
    home = write_scene(tmp_path_factory.mktemp("scenes"), scene, bands, land.grid)
    return home, scene, bands, land.grid


def test_rasters_hold_linear_vv_and_vh_as_float32_with_crs_and_nodata(written) -> None:
    home, scene, bands, grid = written
    for number, (name, values) in enumerate(bands.items(), start=1):
        dimap = scene.layout == DIMAP
        path = home / (f"{home.name}.data/Gamma0_{name}.img" if dimap else f"{home.name}.tif")
        with rasterio.open(path) as src:
            index = 1 if dimap else number
            assert src.dtypes[index - 1] == "float32"
            assert src.descriptions[index - 1] == (f"Gamma0_{name}" if dimap else name)
            assert src.nodata == 0
            assert src.crs.to_epsg() == 32632
            assert src.bounds == grid.bounds_m
            np.testing.assert_array_equal(src.read(index), values)


def test_envi_rasters_are_big_endian(tmp_path: Path) -> None:
    scene = next(s for s in SEASON if s.layout == DIMAP)
    land = land_of(DIMAP)
    bands = view(land, scene, SEED)
    home = write_scene(tmp_path, scene, bands, land.grid)
    data = home / f"{home.name}.data"
    raw = np.fromfile(data / "Gamma0_VV.img", dtype=">f4").reshape(land.label.shape)
    np.testing.assert_array_equal(raw, bands["VV"])
    assert "byte order = 1" in (data / "Gamma0_VV.hdr").read_text()
    document = ElementTree.parse(home / f"{home.name}.dim").getroot()
    names = [e.text for e in document.iter("BAND_NAME")]
    facts = {e.get("name"): e.text for e in document.iter("MDATTR")}
    assert names == ["Gamma0_VV", "Gamma0_VH"]
    assert facts["PASS"] == scene.direction
    assert facts["REL_ORBIT"] == str(scene.relative_orbit)
    for entry in document.iter("DATA_FILE_PATH"):
        assert (home / entry.get("href")).is_file()


def test_dimap_scenes_lie_off_the_lattice_of_the_others_and_have_empty_lines() -> None:
    whole = ground_of(COUNT).whole
    assert grid_of(whole, COG).lattice == whole.lattice
    assert grid_of(whole, DIMAP).lattice != whole.lattice
    for scene in (next(s for s in SEASON if s.layout == layout) for layout in (DIMAP, COG)):
        empty = (view(land_of(scene.layout), scene, SEED)["VV"] == 0).all(axis=1)
        assert empty.sum() == (2 if scene.layout == DIMAP else 0)


def test_the_season_has_both_directions_in_both_layouts() -> None:
    assert {(s.direction, s.layout) for s in SEASON} == {
        (direction, layout) for direction in ("ASCENDING", "DESCENDING") for layout in (DIMAP, COG)
    }


def test_names_follow_the_convention_and_dates_the_cycle() -> None:
    for scene in SEASON:
        match = re.fullmatch(
            r"S1A_IW_GRDH_1SDV_(\d{8}T\d{6})_\d{8}T\d{6}_(\d{6})_[0-9A-F]{6}_[0-9A-F]{4}_CARD_BS",
            scene.name,
        )
        orbit = int(match.group(2))
        assert (orbit - 73) % 175 + 1 == scene.relative_orbit
        known = datetime.fromisoformat("2021-08-09T17:39:53+00:00")  # orbit 39156
        days = (scene.start - known).total_seconds() / 86400
        assert days == pytest.approx((orbit - 39156) * 12 / 175, abs=0.1)


def test_speckle_scatters_about_the_crop_s_level() -> None:
    scene = next(s for s in SEASON if s.layout == COG)
    land = land_of(COG)
    vh = view(land, scene, SEED)["VH"]
    big = np.bincount(land.label.ravel()).argmax()
    pixels = vh[land.label == big]
    assert pixels.min() > 0
    assert pixels.std() / pixels.mean() == pytest.approx(4.4**-0.5, rel=0.1)


def test_maize_brightens_and_wheat_darkens_as_they_grow() -> None:
    def vv(crop: str, day: float) -> float:
        return backscatter(CROPS[CROP[crop]], np.array([day]), np.ones(1))[0, 0]

    assert vv("maize", 210) > vv("maize", 120) + 1
    assert vv("winter wheat", 140) < vv("winter wheat", 60) - 2
