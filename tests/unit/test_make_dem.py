"""Terrain models: heights above the ellipsoid on any grid, and nothing about them guessed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from card.make import dem, lattice
from store import raster
from store.errors import CallerError, ConfigError, NotFoundError
from store.grid import Grid
from tests import grd

BOX = (15.0, 42.0, 15.4, 42.4)
GRID = Grid(32633, 10.0, 506000.0, 4680000.0, 400, 300)


def slope(lon, lat):
    return 1000 + 300 * (lon - 15) - 200 * (lat - 42)


def heights(terrain: dem.Dem, grid: Grid = GRID, margin: int = 5):
    nodes = lattice.NodeGrid(
        grid, 32, -margin, -margin, (grid.height_px + 2 * margin, grid.width_px + 2 * margin)
    )
    with raster.gdal_env(), dem.open_terrain(terrain) as opened:
        return opened.heights(
            grid, nodes.east_m, nodes.north_m, 32, nodes.shift, nodes.shape
        )[margin:-margin, margin:-margin]  # fmt: skip


def places(grid: Grid = GRID):
    x = grid.west_m + grid.res_m * (np.arange(grid.width_px) + 0.5)
    y = grid.north_m - grid.res_m * (np.arange(grid.height_px) + 0.5)
    return Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(*np.meshgrid(x, y))


def test_ellipsoidal_heights_are_taken_as_they_are(tmp_path):
    found = dem.find(grd.terrain(tmp_path / "dem.tif", slope), None, BOX)
    assert found.geoid is None
    assert heights(found) == pytest.approx(slope(*places()), abs=0.02)


def test_a_geoid_is_added_to_heights_that_stand_on_it(tmp_path):
    geoid = grd.terrain(
        tmp_path / "geoid.tif", lambda lon, lat: 40 + lon - lat, 0, 60, 40, 0.25, "EPSG:4326"
    )
    path = grd.terrain(tmp_path / "dem.tif", slope, crs="EPSG:4326+5773")
    lon, lat = places()
    found = dem.find(path, str(geoid), BOX)
    assert heights(found) == pytest.approx(slope(lon, lat) + 40 + lon - lat, abs=0.02)


def test_the_geoid_of_projs_data_is_read_anywhere():
    grid = Path("/usr/share/proj/egm96_15.gtx")
    if not grid.is_file():
        pytest.skip(f"{grid} of the package proj-data is not installed")
    lon, lat = np.array([[12.5, -179.99]]), np.array([[41.9, 0.0]])
    undulations = dem.undulations_m(grid, lon, lat)[0]
    assert undulations[0] == pytest.approx(48.5, abs=0.3)  # Rome
    assert undulations[1] == pytest.approx(dem.undulations_m(grid, lon + 360, lat)[0, 1])


@pytest.mark.parametrize(
    ("crs", "geoid", "why"),
    [
        ("EPSG:4326", None, "does not say what its heights stand on: name its geoid's grid"),
        ("EPSG:4326+3855", None, "heights above EGM2008 height: name that geoid's grid"),
        ("EPSG:4326+3855", "ellipsoid", "heights above EGM2008 height, so --geoid ellipsoid is"),
        ("EPSG:4979", "geoid.tif", "heights above ellipsoid, so --geoid geoid.tif is wrong"),
    ],
)
def test_a_vertical_datum_is_never_guessed(tmp_path, crs, geoid, why):
    path = grd.terrain(tmp_path / "dem.tif", slope, crs=crs)
    with pytest.raises(CallerError, match=why):
        dem.find(path, geoid, BOX)


def test_a_geoid_that_is_missing_or_no_raster_is_named(tmp_path):
    path = grd.terrain(tmp_path / "dem.tif", slope, crs="EPSG:4326")
    with pytest.raises(NotFoundError, match=r"geoid: there is no .*none\.tif"):
        dem.find(path, str(tmp_path / "none.tif"), BOX)
    (tmp_path / "text.tif").write_text("no raster")
    found = dem.find(path, str(tmp_path / "text.tif"), BOX)
    with pytest.raises(ConfigError, match=r"geoid .*text\.tif cannot be read"):
        heights(found)


def copernicus(folder: Path, south: int, west: int, step_deg=1 / 3600) -> None:
    name = f"Copernicus_DSM_COG_10_N{south:02d}_00_E{west:03d}_00_DEM"
    (folder / name).mkdir(parents=True)
    half = 1 / 7200  # pixel centres lie on whole degrees in latitude
    path, corner = folder / name / f"{name}.tif", (west - half, south + 1 + half)
    grd.terrain(path, slope, *corner, 1.0, step_deg, "EPSG:4326")


def test_copernicus_tiles_are_one_model_whose_missing_tiles_are_sea(tmp_path):
    copernicus(tmp_path / "dem", 42, 14)
    copernicus(tmp_path / "dem", 42, 15)
    geoid = grd.terrain(
        tmp_path / "geoid.tif", lambda lon, lat: 45 + 0 * lon, 0, 60, 40, 0.25, "EPSG:4326"
    )
    found = dem.find(tmp_path / "dem", str(geoid), (14.9, 41.9, 15.1, 42.1))
    assert (found.sea, len(found.files)) == (True, 2)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.0, 42.0)
    corner = Grid(32633, 10.0, x // 10 * 10 - 1500, y // 10 * 10 + 1500, 300, 300)
    lon, lat = places(corner)
    made = heights(found, corner)
    land = lat > 42.001
    assert made[land] == pytest.approx(slope(lon, lat)[land] + 45, abs=0.05)  # no seam at 15 east
    assert (made[lat < 41.999] == 45).all()


def test_tiles_of_unlike_width_meet_without_a_step(tmp_path):
    copernicus(tmp_path / "dem", 42, 15)
    copernicus(tmp_path / "dem", 43, 15, step_deg=1.5 / 3600)
    geoid = grd.terrain(
        tmp_path / "geoid.tif", lambda lon, lat: 0 * lon, 0, 60, 40, 0.25, "EPSG:4326"
    )
    found = dem.find(tmp_path / "dem", str(geoid), (15.3, 42.9, 15.5, 43.1))
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.4, 43.0)
    corner = Grid(32633, 10.0, x // 10 * 10, y // 10 * 10 + 1500, 300, 100)
    assert heights(found, corner) == pytest.approx(slope(*places(corner)), abs=0.3)


def test_missing_heights_stay_missing(tmp_path):
    def hole(lon, lat):
        return np.where((np.abs(lon - 15.09) < 0.005) & (np.abs(lat - 42.25) < 0.005), -9999, 700)

    found = dem.find(grd.terrain(tmp_path / "dem.tif", hole), None, BOX)
    made = heights(found)
    lon, lat = places()
    inside = (np.abs(lon - 15.09) < 0.0045) & (np.abs(lat - 42.25) < 0.0045)
    assert inside.any()
    assert np.isnan(made[inside]).all()
    assert (made[~np.isnan(made)] == 700).all()


def test_a_finer_model_is_averaged_to_the_cells(tmp_path):
    path = tmp_path / "fine.tif"
    noise = np.random.default_rng(1).normal(size=(4400, 3400))
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=4400, width=3400,
        crs="EPSG:32633", transform=rasterio.Affine(1, 0, 505800, 0, -1, 4680200),
    ) as out:  # fmt: skip
        out.write((500 + noise).astype(np.float32), 1)
    made = heights(dem.find(path, "ellipsoid", BOX))
    assert made.mean() == pytest.approx(500, abs=0.02)
    assert made.std() < 0.2  # of 100 heights in a cell


def test_a_model_elsewhere_is_refused_before_anything_is_made(tmp_path):
    path = grd.terrain(tmp_path / "dem.tif", slope)
    with pytest.raises(CallerError, match=r"DEM dem has no heights at longitude 20\.0 to 21\.0"):
        dem.find(path, None, (20, 50, 21, 51))
    with pytest.raises(NotFoundError, match="DEM: there is no"):
        dem.find(tmp_path / "none", None, BOX)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(CallerError, match=r"DEM: .*cannot be read as a raster"):
        dem.find(tmp_path / "text.tif", None, BOX)


def test_a_model_that_changed_has_another_key(tmp_path):
    path = grd.terrain(tmp_path / "dem.tif", slope)
    before = dem.find(path, None, BOX)
    grd.terrain(path, slope, size_deg=0.5)
    assert dem.find(path, None, BOX).key != before.key


def test_a_model_is_described_in_a_program_that_opened_no_raster_before(tmp_path):
    path = grd.terrain(tmp_path / "dem.tif", slope)
    find = f"dem.find(Path({str(path)!r}), None, {BOX})"
    program = f"from pathlib import Path; from card.make import dem; {find}"
    subprocess.run([sys.executable, "-c", program], check=True)
