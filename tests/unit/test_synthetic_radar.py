"""The Level-1 simulator on its own: orbits, ground, detected products, DEMs."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import pytest
import rasterio

from standalone.synthetic.radar import dem as dems
from standalone.synthetic.radar import orbit as orbits
from standalone.synthetic.radar.eof import write_orbit_file
from standalone.synthetic.radar.geometry import LINEAR, NEAREST
from standalone.synthetic.radar.grd import (
    AMPLITUDE,
    GrdScene,
    Target,
    Truth,
    deposit,
    image_energy,
    image_raster,
    write_grd,
)
from standalone.synthetic.radar.orbit import ASCENDING, DESCENDING, Pass, fly
from standalone.synthetic.radar.projection import UtmZone, normal, to_ecef
from standalone.synthetic.radar.terrain import (
    AnalyticTerrain,
    Site,
    Surface,
    Wave,
    hills,
    mountains,
)
from tests.unit.level1_documents import documents, paths

SITE = Site(32632, 458_000.0, 5_245_000.0)
FLIGHT = Pass(datetime(2024, 5, 1, 5, 34, tzinfo=UTC))
FLAT = AnalyticTerrain(300.0)
SMALL = GrdScene(SITE, FLIGHT, FLAT, lines=120, samples=120, noise_db=None)
REAL_GRD = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE.zip"
REAL_OLD_GRD = "S1A_IW_GRDH_1SDV_20150222T170725_20150222T170750_004739_005DD8_CEAB.zip"


def written(home: Path) -> dict[str, ET.Element]:
    """The same of a folder."""
    name = next(home.glob("annotation/*-vv-*.xml")).name
    tables = home / "annotation" / "calibration"
    return {
        "product": ET.parse(home / "annotation" / name).getroot(),
        "calibration": ET.parse(tables / f"calibration-{name}").getroot(),
        "noise": ET.parse(tables / f"noise-{name}").getroot(),
        "manifest": ET.parse(home / "manifest.safe").getroot(),
    }


def pixels(truth: Truth, band: str) -> np.ndarray:
    with rasterio.open(next(truth.home.glob(f"measurement/*-{band}-*.tiff"))) as src:
        return src.read(1).astype(np.float64)


def flat_gamma0(truth: Truth, band: str) -> np.ndarray:
    """Gamma0 of flat ground: beta0 times the tangent of the incidence angle."""
    points = [
        (int(p.findtext("pixel")), float(p.findtext("incidenceAngle")))
        for p in written(truth.home)["product"].iter("geolocationGridPoint")
        if p.findtext("line") == "0"
    ]
    view = np.interp(np.arange(truth.raster.samples), *zip(*points, strict=True))
    dn2 = pixels(truth, band) ** 2 - truth.noise_dn2[band.upper()]
    return dn2 / AMPLITUDE**2 * np.tan(np.radians(view))


# Orbit and projection


def test_a_minute_of_flight_ends_at_the_real_vector(shared_data: Path) -> None:
    root = documents(shared_data / "s1_metadata" / REAL_GRD)["product"]
    rows = [
        [float(o.findtext(f"{part}/{axis}")) for part in ("position", "velocity") for axis in "xyz"]
        for o in root.iter("orbit")
    ]
    assert tuple(rows[0]) == orbits.STATES[DESCENDING]
    after = orbits.integrate(np.array(rows[0]), 1.0, 60)[-1]
    assert np.linalg.norm(after[:3] - rows[6][:3]) < 0.3
    assert np.linalg.norm(after[3:] - rows[6][3:]) < 0.01


@pytest.mark.parametrize("direction", [ASCENDING, DESCENDING])
@pytest.mark.parametrize(("lat", "lon"), [(47.4, 9.0), (-34.0, 150.0), (0.5, -179.5), (65.0, 24.0)])
@pytest.mark.parametrize("view", [31.0, 45.0])
def test_a_pass_sees_its_site_to_the_right_as_wanted(
    direction: str, lat: float, lon: float, view: float
) -> None:
    place = np.radians([lat]), np.radians([lon])
    flight = replace(FLIGHT, direction=direction, incidence_deg=view)
    orbit = fly(flight, float(place[0][0]), float(place[1][0]))
    point, (position, velocity, acceleration) = to_ecef(*place), orbit.state(np.zeros(1), 2)
    assert abs(orbits.zero_doppler(orbit, point)[0]) < 1e-9
    assert np.degrees(orbits.incidence(point, position, normal(*place)))[0] == pytest.approx(view)
    right = np.cross(velocity[0], position[0])
    assert right @ (point - position)[0] > 0
    assert (velocity[0, 2] > 0) == (direction == ASCENDING)
    assert 780e3 < np.linalg.norm(point - position) < 990e3
    assert -5924 < orbit.node_s <= 0
    step = orbit.state(np.array([1e-2]))[1] - orbit.state(np.array([-1e-2]))[1]
    np.testing.assert_allclose(step / 2e-2, acceleration, atol=1e-5)


def test_zero_doppler_times_leave_no_residual() -> None:
    orbit = fly(FLIGHT, *SITE.geographic()).cut(-6, 6)
    rng = np.random.default_rng(1)
    east, north = (a + rng.uniform(-15e3, 15e3, 500) for a in (SITE.east_m, SITE.north_m))
    points = to_ecef(*SITE.zone.to_geographic(east, north), rng.uniform(0, 3000, 500))
    position, velocity = orbit.state(orbits.zero_doppler(orbit, points))
    ahead = np.einsum("ij,ij->i", points - position, velocity) / np.linalg.norm(velocity, axis=1)
    assert np.abs(ahead).max() < 1e-6


def test_a_cut_orbit_is_the_same_orbit() -> None:
    orbit = fly(FLIGHT, *SITE.geographic())
    times = np.linspace(-5, 5, 101)
    for whole, part in zip(orbit.state(times), orbit.cut(-5, 5).state(times), strict=True):
        assert np.abs(whole - part).max() < 1e-6


@pytest.mark.parametrize("epsg", [32632, 32601, 32755])
def test_kruegers_series_agree_with_proj(epsg: int) -> None:
    zone, rng = UtmZone.of_epsg(epsg), np.random.default_rng(2)
    lat = rng.uniform(-78, -1, 500) if zone.south else rng.uniform(1, 78, 500)
    lon = 6 * zone.zone - 183 + rng.uniform(-4.5, 4.5, 500)
    east, north = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    own = zone.from_geographic(np.radians(lat), np.radians(lon))
    np.testing.assert_allclose(own, (east, north), atol=1e-6)
    back = np.degrees(zone.to_geographic(east, north))
    np.testing.assert_allclose(back[0], lat, atol=1e-10)
    np.testing.assert_allclose((back[1] - lon + 180) % 360, 180, atol=1e-10)
    ecef = pyproj.Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, 0 * lon + 70)
    np.testing.assert_allclose(to_ecef(np.radians(lat), np.radians(lon), 70.0).T, ecef, atol=1e-6)


# Ground and energy


def test_facets_have_the_grounds_area_and_direction() -> None:
    plane = AnalyticTerrain(100.0, (Wave(50.0, 1e5, 90.0, 0.0),))  # 0.18 degrees at most
    for terrain in (plane, hills(3), mountains(4)):
        surface = Surface(SITE, terrain, 3000.0)
        rng = np.random.default_rng(3)
        east, north = (a + rng.uniform(-3e3, 3e3, 2000) for a in (SITE.east_m, SITE.north_m))
        _, areas = surface.facets(east, north, 4.0)
        step = 0.01
        slopes = [
            (terrain.height(east + e, north + n) - terrain.height(east - e, north - n)) / 2 / step
            for e, n in ((step, 0.0), (0.0, step))
        ]
        scale = 0.9996 * (1 + (east - 5e5) ** 2 / 2 / 6.38e6**2)  # of UTM
        rise = 1 + terrain.height(east, north) / 6.38e6
        # Slopes are per map metre, so the level part alone grows with the ground's scale.
        level = (rise / scale) ** 2
        expected = 4.0 * np.sqrt(level) * np.sqrt(level + slopes[0] ** 2 + slopes[1] ** 2)
        np.testing.assert_allclose(np.linalg.norm(areas, axis=1), expected, rtol=2e-4)
        up = normal(*SITE.zone.to_geographic(east, north))
        np.testing.assert_allclose(np.einsum("ij,ij->i", areas, up), 4.0 * level, rtol=2e-5)


def test_an_area_too_large_for_the_polynomials_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        Surface(SITE, FLAT, 400e3)


@pytest.mark.parametrize("half", [1, 2, 3])
def test_spreading_keeps_energy_and_position(half: int) -> None:
    rng, image = np.random.default_rng(4), np.zeros((2, 40, 50))
    line, pixel, power = rng.uniform(8, 30, 300), rng.uniform(8, 40, 300), rng.uniform(0, 2, 300)
    deposit(image, line, pixel, [power, 3 * power], half)
    np.testing.assert_allclose(image.sum(axis=(1, 2)), [power.sum(), 3 * power.sum()])
    rows, cols = np.indices(image.shape[1:])
    assert (image[0] * rows).sum() == pytest.approx((power * line).sum())
    assert (image[0] * cols).sum() == pytest.approx((power * pixel).sum())


def test_an_image_holds_the_energy_of_its_ground() -> None:
    scene = replace(SMALL, terrain=hills(2), gamma0={"VV": 1.0})
    orbit = fly(FLIGHT, *SITE.geographic())
    raster = image_raster(scene, orbit)
    surface = Surface(SITE, scene.terrain, 3000.0)
    image = image_energy(scene, raster, surface)["VV"]
    rng = np.random.default_rng(5)
    east, north = (a + rng.uniform(-1500, 1500, 200_000) for a in (SITE.east_m, SITE.north_m))
    centres, areas = surface.facets(east, north, 3000.0**2 / 200_000)
    line, pixel, ray = raster.view(centres)
    # Points that arrive before the others must not move on by their rounding errors.
    assert np.abs(line - 60).max() < 200
    inside = (line > 20.5) & (line < 99.5) & (pixel > 20.5) & (pixel < 99.5)
    truth_area = np.einsum("ij,ij->i", areas, ray)[inside].sum()
    # The response carries some energy over the window's edge, in both directions alike.
    assert image[21:100, 21:100].sum() == pytest.approx(truth_area, rel=0.02)


# Detected products


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_grd(tmp_path_factory.mktemp("flat"), replace(SMALL, noise_db=-22.0, ramp=0.0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"site": Site(32755, 420_000.0, 6_145_000.0)},
        {"site": Site(32632, 770_000.0, 5_245_000.0)},
        {"flight": replace(FLIGHT, direction=ASCENDING, incidence_deg=31.0)},
        {"flight": replace(FLIGHT, incidence_deg=45.0)},
        {"response_px": 1},
        {"response_px": 3},
    ],
    ids=["descending", "south", "beyond the zone", "near", "far", "sharp", "blurred"],
)
def test_flat_ground_has_the_wanted_gamma0(tmp_path: Path, changes: dict) -> None:
    # Bright, since whole numbers of DN bias an even image by up to half of one.
    levels = {"VV": 3.0, "VH": 1.5}
    truth = write_grd(tmp_path, replace(SMALL, gamma0=levels, **changes))
    for band, level in levels.items():
        gamma0 = flat_gamma0(truth, band.lower())[10:-10, 10:-10]
        assert 10 * np.log10(gamma0.mean() / level) == pytest.approx(0, abs=0.01)
        assert 10 * np.log10(gamma0 / level).std() < 0.06


def test_noise_is_what_the_tables_say(flat: Truth) -> None:
    gamma0 = flat_gamma0(flat, "vh")[10:-10, 10:-10]
    assert 10 * np.log10(gamma0.mean() / 0.02) == pytest.approx(0, abs=0.02)
    root = written(flat.home)["noise"]
    vectors = [
        [np.array(v.findtext(name).split(), float) for name in ("pixel", "noiseRangeLut")]
        for v in root.iter("noiseRangeVector")
    ]
    assert [v.findtext("line") for v in root.iter("noiseRangeVector")] == ["0", "60", "119"]
    level = np.interp(77, *vectors[0]) * 2 / 3 + np.interp(77, *vectors[1]) / 3
    block = next(
        b
        for b in root.iter("noiseAzimuthVector")
        if int(b.findtext("firstAzimuthLine")) <= 20 <= int(b.findtext("lastAzimuthLine"))
        and int(b.findtext("firstRangeSample")) <= 77 <= int(b.findtext("lastRangeSample"))
    )
    along = [np.array(block.findtext(name).split(), float) for name in ("line", "noiseAzimuthLut")]
    assert flat.noise_dn2["VV"][20, 77] == pytest.approx(level * np.interp(20, *along))
    covered = np.zeros((120, 120), dtype=int)
    for b in root.iter("noiseAzimuthVector"):
        first_line, last_line, first, last = (
            int(b.findtext(name))
            for name in (
                "firstAzimuthLine",
                "lastAzimuthLine",
                "firstRangeSample",
                "lastRangeSample",
            )
        )
        covered[first_line : last_line + 1, first : last + 1] += 1
    assert (covered == 1).all()


def test_known_points_appear_where_the_truth_says(tmp_path: Path) -> None:
    spots = [(-330.0, 210.0), (40.0, -370.0), (300.0, 120.0)]
    targets = tuple(Target(SITE.east_m + e, SITE.north_m + n) for e, n in spots)
    dark = {"VV": 1e-7}
    scene = replace(SMALL, terrain=hills(6), targets=targets, gamma0=dark)
    truth = write_grd(tmp_path, scene)
    power = pixels(truth, "vv") ** 2
    rows, cols = np.indices(power.shape)
    for known, target in zip(truth.targets, targets, strict=True):
        near = (abs(rows - known.line) < 3) & (abs(cols - known.pixel) < 3)
        assert np.average(rows, weights=power * near) == pytest.approx(known.line, abs=0.01)
        assert np.average(cols, weights=power * near) == pytest.approx(known.pixel, abs=0.01)
        surface = to_ecef(
            *SITE.zone.to_geographic(np.array([target.east_m]), np.array([target.north_m])),
            known.height_m,
        )
        assert np.ravel(truth.raster.locate(surface)) == pytest.approx(
            (known.line, known.pixel), abs=1e-5
        )


def test_annotated_conversions_give_the_exact_pixels(tmp_path: Path) -> None:
    steps = {"update_s": 0.05, "update_heights_m": (200.0, 700.0, 300.0), "lead_px": 12_000}
    # Blending coefficients instead of spheres leaves a trace; a rule of nearest leaves none.
    for rule, exact in ((LINEAR, 0.02), (NEAREST, 1e-4)):
        scene = replace(SMALL, update_rule=rule, gamma0={"VV": 0.1}, step_m=6.0, **steps)
        truth = write_grd(tmp_path / rule, scene)
        raster, orbit = truth.raster, truth.raster.orbit
        rows = [
            (
                (_time(c, "azimuthTime") - orbit.epoch).total_seconds(),
                np.array(c.findtext("grsrCoefficients").split(), float),
            )
            for c in written(truth.home)["product"].iterfind(".//coordinateConversionList/*")
        ]
        times = np.array([t for t, _ in rows])
        assert times[0] < raster.first_s
        assert times[-1] > raster.last_s
        t, pixel = raster.first_s + 0.0731, 12_070.0
        values = [np.polynomial.Polynomial(c)(10 * pixel) for _, c in rows]
        nearest = values[int(np.argmin(abs(times - t)))]
        slant = np.interp(t, times, values) if rule == LINEAR else nearest
        own = raster.axis.slant(np.array([pixel]), np.array([t]))[0]
        per_pixel = 10 * raster.axis.slope(np.array([pixel]), np.array([t]))[0]
        assert abs(slant - own) / per_pixel < exact
        assert raster.axis.pixel(np.array([own]), np.array([t]))[0] == pytest.approx(pixel)
        spread_px = np.ptp(values) / per_pixel
        assert spread_px > 5
        assert not pixels(truth, "vv")[:, :12_000].any()


def _time(node: ET.Element, name: str) -> datetime:
    return datetime.fromisoformat(node.findtext(name)).replace(tzinfo=UTC)


def test_geolocation_grid_lies_where_the_image_says(flat: Truth) -> None:
    for point in written(flat.home)["product"].iter("geolocationGridPoint"):
        lat, lon, height, line, pixel, slant = (
            float(point.findtext(name))
            for name in ("latitude", "longitude", "height", "line", "pixel", "slantRangeTime")
        )
        ground = to_ecef(np.radians([lat]), np.radians([lon]), height)
        where = np.ravel(flat.raster.locate(ground))
        assert where == pytest.approx((line, pixel), abs=1e-5)
        assert flat.raster.rays(ground)[1][0] * 2 / 299_792_458 == pytest.approx(slant, abs=1e-14)


@pytest.mark.parametrize(
    ("archive", "ipf"), [(REAL_GRD, "003.40"), (REAL_OLD_GRD, "002.36")], ids=["new", "old"]
)
def test_documents_have_no_element_that_real_products_lack(
    shared_data: Path, tmp_path: Path, archive: str, ipf: str
) -> None:
    real = documents(shared_data / "s1_metadata" / archive)
    own = written(write_grd(tmp_path, replace(SMALL, ipf=ipf, step_m=8.0)).home)
    for kind, root in own.items():
        assert paths(root) - paths(real[kind]) == set(), kind
    left_out = {
        p.split("/")[2] for p in paths(real["product"]) - paths(own["product"]) if p.count("/") > 1
    }
    needed = {"imageAnnotation", "geolocationGrid", "coordinateConversion", "swathMerging"}
    for group in needed - {"imageAnnotation"}:
        assert group not in left_out
    image = "/product/imageAnnotation/imageInformation"
    missing = {p for p in paths(real["product"]) - paths(own["product"]) if p.startswith(image)}
    assert {p.split("/")[4].split("@")[0] for p in missing} == {"sliceList", "imageStatistics"}


def test_old_layout(tmp_path: Path) -> None:
    scene = replace(SMALL, ipf="002.36", noise_db=-22.0, border_px=9, step_m=5.0)
    truth = write_grd(tmp_path, scene)
    roots = written(truth.home)
    times = [_time(o, "time") for o in roots["product"].iter("orbit")]
    assert {(b - a).total_seconds() for a, b in pairwise(times)} == {1.0}
    assert len(times) == 28
    assert roots["product"].find(".//grsrCoefficients").get("count") == "5"
    table = [float(v) for v in roots["noise"].find(".//noiseLut").text.split()]
    # ESA's scaling of old noise tables: k = 75088.7 A_dn^2 up to IPF 2.50.
    assert table[0] * 75088.7 * AMPLITUDE**2 == pytest.approx(truth.noise_dn2["VV"][0, 0])
    dn = pixels(truth, "vv")
    edge = np.ones(dn.shape, dtype=bool)
    edge[9:-9, 9:-9] = False
    assert 5 < dn[edge].mean() < 20
    assert dn[~edge].min() > 80
    zeros = write_grd(tmp_path / "zeros", replace(scene, annotate_noise=False))
    assert {float(v) for v in written(zeros.home)["noise"].find(".//noiseLut").text.split()} == {0}
    np.testing.assert_array_equal(pixels(zeros, "vv"), dn)


def test_border_is_cleared_since_ipf_2_90(tmp_path: Path) -> None:
    truth = write_grd(tmp_path, replace(SMALL, border_px=7, step_m=5.0))
    dn = pixels(truth, "vh")
    assert (dn[7:-7, 7:-7] > 0).all()
    dn[7:-7, 7:-7] = 0
    assert not dn.any()


def test_speckle_has_its_looks_and_no_bias(tmp_path: Path) -> None:
    truth = write_grd(tmp_path, replace(SMALL, speckle=True, noise_db=-24.0, step_m=5.0))
    intensity = pixels(truth, "vv")[10:-10, 10:-10] ** 2
    looks = intensity.mean() ** 2 / intensity.var()
    assert looks == pytest.approx(4.4, rel=0.07)
    gamma0 = flat_gamma0(truth, "vv")[10:-10, 10:-10]
    assert gamma0.mean() == pytest.approx(0.1, rel=0.02)
    both = np.corrcoef(intensity.ravel(), pixels(truth, "vh")[10:-10, 10:-10].ravel() ** 2)
    assert abs(both[0, 1]) < 0.05


def test_gamma0_may_follow_the_place(tmp_path: Path) -> None:
    def halves(east: np.ndarray, _north: np.ndarray) -> np.ndarray:
        return np.where(east < SITE.east_m, 0.05, 0.2)

    truth = write_grd(tmp_path, replace(SMALL, gamma0={"VV": halves}))
    gamma0 = flat_gamma0(truth, "vv")
    # On a pass southwards the radar looks west: near range is east.
    assert gamma0[55:65, 10:20].mean() == pytest.approx(0.2, rel=0.01)
    assert gamma0[55:65, -20:-10].mean() == pytest.approx(0.05, rel=0.01)
    assert truth.home.name.split("_")[3] == "1SSV"
    assert len(list(truth.home.glob("measurement/*"))) == 1


def test_equal_scenes_make_equal_files_and_other_seeds_do_not(tmp_path: Path) -> None:
    scene = replace(SMALL, speckle=True, terrain=hills(1), step_m=6.0)
    made = [write_grd(tmp_path / str(i), scene).home for i in range(2)]
    files = sorted(p.relative_to(made[0]) for p in made[0].rglob("*") if p.is_file())
    assert len(files) == 2 * 4 + 1
    for file in files:
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()
    other = write_grd(tmp_path / "other", replace(scene, seed=2))
    image = next(f for f in files if f.suffix == ".tiff")
    assert (made[0] / image).read_bytes() != (other.home / image).read_bytes()


def test_annotated_orbit_may_be_wrong_and_the_orbit_file_right(tmp_path: Path) -> None:
    truth = write_grd(tmp_path, replace(SMALL, orbit_shift_m=15.0, step_m=8.0))
    orbit = truth.raster.orbit
    first = written(truth.home)["product"].find(".//orbit")
    t = (_time(first, "time") - orbit.epoch).total_seconds()
    annotated = np.array([float(first.findtext(f"position/{axis}")) for axis in "xyz"])
    position, velocity = (a[0] for a in orbit.state(np.array([t])))
    ahead = (annotated - position) @ velocity / np.linalg.norm(velocity)
    assert ahead == pytest.approx(15.0, rel=1e-3)
    path = write_orbit_file(tmp_path, truth.scene.flight, orbit)
    rows = list(ET.parse(path).getroot().iter("OSV"))
    assert len(rows) == 31
    for row in rows:
        when = datetime.fromisoformat(row.findtext("UTC").removeprefix("UTC="))
        t = (when.replace(tzinfo=UTC) - orbit.epoch).total_seconds()
        state = np.concatenate([a[0] for a in orbit.state(np.array([t]))])
        given = [float(row.findtext(name)) for name in ("X", "Y", "Z", "VX", "VY", "VZ")]
        np.testing.assert_allclose(given, state, atol=1e-3)


def test_manifest_names_every_file_and_its_place(flat: Truth) -> None:
    root = written(flat.home)["manifest"]
    hrefs = {node.get("href") for node in root.iter("fileLocation")}
    files = {f"./{p.relative_to(flat.home)}" for p in flat.home.rglob("*") if p.is_file()}
    assert hrefs == files - {"./manifest.safe"}
    text = ET.tostring(root, encoding="unicode")
    assert 'version="003.40"' in text
    relative = [n.text for n in root.iter() if n.tag.endswith("}relativeOrbitNumber")]
    assert relative == [str((50174 - 73) % 175 + 1)] * 2
    corners = next(n.text for n in root.iter() if n.tag.endswith("}coordinates")).split()
    assert len(corners) == 4
    lat, lon = np.mean([[float(v) for v in c.split(",")] for c in corners], axis=0)
    assert (lat, lon) == pytest.approx(np.degrees(SITE.geographic()), abs=0.001)


# DEM


@pytest.mark.parametrize("grid", [dems.UTM, dems.GEOGRAPHIC])
@pytest.mark.parametrize("datum", [dems.ELLIPSOID, dems.GEOID])
def test_a_dem_holds_the_terrain(tmp_path: Path, grid: str, datum: str) -> None:
    terrain = hills(8)
    dem = dems.SyntheticDem(SITE, terrain, 1500.0, 10.0, datum, grid)
    geoid = dems.write_dem(tmp_path / "dem.tif", dem)
    with rasterio.open(tmp_path / "dem.tif") as src:
        heights, crs = src.read(1), pyproj.CRS(src.crs)
        rows, cols = np.array([3, 70, 120]), np.array([9, 33, 101])
        x, y = src.xy(rows, cols)
        assert src.tags()["VERTICAL_DATUM"] == datum
    flat = crs.sub_crs_list[0] if crs.is_compound else crs.to_2d()
    lon, lat = pyproj.Transformer.from_crs(flat, 4326, always_xy=True).transform(x, y)
    east, north = pyproj.Transformer.from_crs(4326, 32632, always_xy=True).transform(lon, lat)
    expected = terrain.height(np.array(east), np.array(north))
    if datum == dems.GEOID:
        assert "EGM2008" in crs.name
        with rasterio.open(geoid) as src:
            sample = np.array([v[0] for v in src.sample(zip(lon, lat, strict=True))])
        np.testing.assert_allclose(heights[rows, cols], expected - sample, atol=0.05)
    else:
        np.testing.assert_allclose(heights[rows, cols], expected, atol=1e-3)
    assert list(tmp_path.glob("*.aux.xml")) == []
