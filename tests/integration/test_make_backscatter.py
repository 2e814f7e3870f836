"""CARD-BS of small products with real metadata: what is known of a scene comes out on the map."""

import shutil

import numpy as np
import pytest

from card.make import backscatter, dem, kernels, orbit, products
from card.make.backscatter import BackscatterSettings
from store.errors import CallerError, MissingFactError, SceneError
from tests import grd
from tests.simulated import mosaic

GAMMA0 = 0.1
BOX = (14.8, 42.0, 15.5, 42.6)


def even(corner: grd.Corner):
    """Pixels whose gamma0 on the ellipsoid is the same everywhere, with the noise in them."""
    return np.sqrt(GAMMA0 * corner.gamma**2 + corner.noise)


def seen_level(corner: grd.Corner):
    """Pixels whose gamma0 is the same everywhere if the ground is the ellipsoid."""
    beta0 = GAMMA0 / np.tan(np.radians(corner.incidence_deg))
    return np.sqrt(beta0 * corner.beta**2 + corner.noise)


def hills(lon, lat):
    return 500 + 200 * np.sin(lon * 400) * np.cos(lat * 500)


@pytest.fixture(scope="module")
def product(shared_data, tmp_path_factory):
    return grd.make(shared_data, tmp_path_factory.mktemp("even"), seen_level)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dem")
    return {
        "sea level": grd.terrain(folder / "level.tif", lambda lon, lat: 0 * lon),
        "hills": grd.terrain(folder / "hills.tif", hills),
    }


def plan(safe, model, **settings):
    product = products.read(safe)
    images = backscatter.read_images(product)
    fitted = orbit.fit(images[0].annotation.vectors, 0, images[0].annotation.last_s)
    return backscatter.plan(
        product, images, fitted, dem.find(model, None, BOX), BackscatterSettings(**settings)
    )


def whole(order):
    """Values, flags and angles of the output grid."""
    card = mosaic(order)
    return card.values, card.flags, card.angles


def db(values):
    return 10 * np.log10(values)


def test_level_ground_has_the_gamma0_it_was_made_with(product, models):
    order = plan(product, models["sea level"])
    values, flags, angles = whole(order)
    assert order.bands == ("VV", "VH")
    known = ~np.isnan(values[0])
    assert known.sum() == pytest.approx(2006 * 1307 * 1.015, rel=0.01)
    assert db(values[:, known]).mean() == pytest.approx(db(GAMMA0), abs=0.01)
    assert np.abs(db(values[:, known] / GAMMA0)).max() < 0.05
    assert (flags[known] == 0).all()
    assert (flags[~known] == kernels.BORDER).all()
    assert {*np.unique(angles[known])} <= {30, 31, 32}


def test_the_output_lies_on_multiples_of_10_m_of_the_scenes_zone(product, models):
    grid = plan(product, models["sea level"]).grid
    assert grid.epsg == 32633
    assert (grid.west_m % 10, grid.north_m % 10) == (0, 0)
    assert plan(product, models["sea level"], epsg=3035).grid.epsg == 3035


@pytest.mark.parametrize("epsg", [4326, 2263, 999999])  # degrees, feet, none
def test_an_output_crs_must_be_in_metres(product, models, epsg):
    with pytest.raises(CallerError, match=f"EPSG:{epsg} is not a projected CRS in metres"):
        plan(product, models["sea level"], epsg=epsg)


def test_gamma0_on_the_ellipsoid_is_the_products_own_wherever_the_ground_is(
    shared_data, tmp_path, models
):
    safe = grd.make(shared_data, tmp_path, even, polarisations=("vv",))
    values, _, _ = whole(plan(safe, models["hills"], radiometry="gamma0_ellipsoid"))
    known = ~np.isnan(values[0])
    assert (
        np.abs(db(values[:, known] / GAMMA0)).max() < 0.03
    )  # pixel values are whole numbers about 200


def test_hills_are_darker_where_they_show_the_radar_more_area(product, models):
    values, _, angles = whole(plan(product, models["hills"]))
    known = ~np.isnan(values[0])
    facing, away = known & (angles < 24), known & (angles > 38) & (angles < 90)
    assert facing.sum() > 1000
    assert db(values[0][facing]).mean() < db(GAMMA0) - 1  # one brightness over more area
    assert db(values[0][away]).mean() > db(GAMMA0) + 1


def test_c9_tiles_are_the_whole_scene(product, models):
    small, small_flags, _ = whole(plan(product, models["hills"], tile_px=256))
    large, large_flags, _ = whole(plan(product, models["hills"], tile_px=4096))
    known = ~np.isnan(large[0])
    assert (np.isnan(small[0]) == ~known).mean() > 0.9999
    both = known & ~np.isnan(small[0]) & (large_flags == 0)
    assert np.abs(db(small[:, both] / large[:, both])).max() < 0.05
    assert (small_flags[both] == 0).mean() > 0.999


def test_a_tile_is_the_same_whoever_makes_it_and_when(product, models):
    order = plan(product, models["hills"])
    with backscatter.open_inputs(order) as inputs:
        last = backscatter.make_tile(order, order.tiles[-1], inputs)
        first = backscatter.make_tile(order, order.tiles[0], inputs)
    *_, again = backscatter.make_tiles(order)
    assert np.array_equal(last.values, again.values, equal_nan=True)
    assert np.array_equal(last.flags, again.flags)
    assert not np.array_equal(first.values, last.values, equal_nan=True)


def test_zeros_at_the_edge_are_border_and_noise_alone_averages_to_nothing(
    shared_data, tmp_path, models
):
    def faint(corner):
        """Speckle of 4.4 looks of noise alone; no data in 100 columns."""
        rng = np.random.default_rng(3)
        power = corner.noise * rng.gamma(4.4, 1 / 4.4, (corner.lines, corner.samples))
        pixels = np.sqrt(power)
        pixels[:, :100] = 0
        return pixels

    safe = grd.make(shared_data, tmp_path, faint, polarisations=("vv",))
    values, flags, _ = whole(plan(safe, models["sea level"]))
    known = ~np.isnan(values[0])
    assert known.sum() == pytest.approx(2006 * 1207 * 1.015, rel=0.01)
    assert (flags[~known] & kernels.BORDER).all()
    assert 0.4 < (values[0][known] < 0).mean() < 0.7
    assert abs(values[0][known].mean()) < 10**-4  # -40 dB, 16 dB below the noise
    clipped, _, _ = whole(plan(safe, models["sea level"], clip=True))
    assert np.nanmin(clipped) == 0


def test_products_of_2015_keep_their_noise_and_lose_its_border(shared_data, tmp_path):
    def bordered(corner):
        pixels = np.array(even(corner))
        pixels[:, -90:] = np.random.default_rng(5).integers(0, 4, (corner.lines, 90))  # -45 dB
        return pixels

    safe = grd.make(shared_data, tmp_path, bordered, grd.OLD_NAME)
    images = backscatter.read_images(products.read(safe))
    assert all(image.noise.is_zero for image in images)
    described = images[0].annotation
    signal = backscatter.signal_cells(images[0], -30.0)
    assert signal.shape == (-(-described.lines // 8), -(-described.samples // 8))
    edge = (described.samples - 90) // 8
    assert signal[:, : edge - 1].all()
    assert not signal[:, edge:].any()
    lon, lat = (np.array(part) for part in zip(*backscatter.footprint(images), strict=True))
    model = grd.terrain(
        tmp_path / "dem.tif", lambda x, y: 0 * x, lon.min() - 0.3, lat.max() + 0.3, 1.0
    )
    fitted = orbit.fit(described.vectors, 0, described.last_s)
    box = (lon.min(), lat.min(), lon.max(), lat.max())
    order = backscatter.plan(
        products.read(safe), images, fitted, dem.find(model, None, box),
        BackscatterSettings(radiometry="gamma0_ellipsoid"),
    )  # fmt: skip
    values, flags, _ = whole(order)
    known = ~np.isnan(values[0])
    assert known.sum() == pytest.approx(described.lines * 8 * (edge - 1) * 1.015, rel=0.02)
    assert np.abs(db(values[0][known] / GAMMA0)).max() < 0.05
    assert (flags[~known] & kernels.BORDER).all()


def test_files_that_are_not_there_are_named(product, models, tmp_path):
    safe = tmp_path / product.name
    shutil.copytree(product, safe)
    image = next(safe.glob("measurement/*-vh-*.tiff"))
    image.unlink()
    with pytest.raises(MissingFactError, match="the product has VH, but the files of it are not"):
        plan(safe, models["sea level"])
    for path in safe.glob("annotation/**/*-vh-*.xml"):
        path.unlink()
    with pytest.raises(MissingFactError, match="the product has VH"):
        plan(safe, models["sea level"])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as a raster"),
        (lambda path: path.write_bytes(path.read_bytes()[:100_000]), "is damaged"),
        (
            lambda path: grd.terrain(path, lambda lon, lat: 0 * lon),
            "its annotation says 2006 x 1307 uint16",
        ),
    ],
)
def test_broken_pixels_are_refused_with_the_files_name(product, models, tmp_path, damage, why):
    safe = tmp_path / product.name
    shutil.copytree(product, safe)
    image = next(safe.glob("measurement/*-vh-*.tiff"))
    damage(image)
    order = plan(safe, models["sea level"])
    with pytest.raises(SceneError, match=why) as error:
        list(backscatter.make_tiles(order))
    assert image.name in str(error.value)


def test_tiled_and_deflated_pixels_give_the_same_values(shared_data, tmp_path, product, models):
    twin = grd.make(
        shared_data,
        tmp_path,
        seen_level,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
    )
    renamed = twin.with_name(twin.name.replace(".SAFE", "_COG.SAFE"))
    twin.rename(renamed)
    for path in [*renamed.glob("measurement/*"), *renamed.glob("annotation/**/*.xml")]:
        path.rename(path.with_name(f"{path.stem}-cog{path.suffix}"))
    order = plan(renamed, models["sea level"])
    assert order.product.reference == grd.NAME
    mine, _, _ = whole(order)
    plain, _, _ = whole(plan(product, models["sea level"]))
    assert np.array_equal(mine, plain, equal_nan=True)


def test_an_slc_is_no_input_of_backscatter(shared_data, tmp_path):
    archive = next((shared_data / "s1_metadata").glob("S1A_IW_SLC__1SDV_20230904*"))
    safe = grd.unpack(shared_data, tmp_path, archive.name.split(".")[0])
    with pytest.raises(SceneError, match="CARD-BS is made of a GRD, not of an SLC"):
        backscatter.read_images(products.read(safe))
