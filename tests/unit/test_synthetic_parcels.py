"""The synthetic parcels look like an agency's, and are the same for the same seed."""

import hashlib

import numpy as np
import pyogrio
import pytest
import shapely

from standalone.synthetic.crops import CROPS
from standalone.synthetic.parcels import (
    Parcels,
    make_parcels,
    paint,
    write_geopackage,
)
from store.errors import CallerError
from store.grid import Grid
from tests.benchmarks.parcel_set import benchmark_grid, benchmark_set, summary

EXTENT = (500_000.0, 5_240_000.0, 508_000.0, 5_246_000.0)


@pytest.fixture(scope="module")
def parcels() -> Parcels:
    return make_parcels(EXTENT, 1000, clusters=4, seed=7)


def digest(parcels: Parcels) -> str:
    text = b"".join(shapely.to_wkb(parcels.geometry)) + parcels.crop.tobytes()
    return hashlib.sha256(text).hexdigest()


def square(x: float, y: float, side: float) -> shapely.Polygon:
    return shapely.box(x, y, x + side, y + side)


def test_equal_seeds_make_equal_parcels_and_others_do_not(parcels: Parcels) -> None:
    assert digest(make_parcels(EXTENT, 1000, clusters=4, seed=7)) == digest(parcels)
    assert digest(make_parcels(EXTENT, 1000, clusters=4, seed=8)) != digest(parcels)


def test_parcels_are_valid_and_lie_within_the_extent(parcels: Parcels) -> None:
    assert len(parcels) == 1000
    assert shapely.is_valid(parcels.geometry).all()
    west, south, east, north = shapely.total_bounds(parcels.geometry)
    assert west >= EXTENT[0]
    assert south >= EXTENT[1]
    assert east <= EXTENT[2]
    assert north <= EXTENT[3]


def test_neighbours_share_their_boundaries_without_gap_or_overlap(parcels: Parcels) -> None:
    tree = shapely.STRtree(parcels.geometry)
    first, second = tree.query(parcels.geometry, predicate="intersects")
    a, b = (parcels.geometry[i[first < second]] for i in (first, second))
    common = shapely.area(shapely.intersection(a, b))
    greedy = common > 1
    assert 0 < greedy.sum() < 60  # some claim a strip of their neighbours' land
    assert common[~greedy].max() < 1e-3
    shared = shapely.length(shapely.intersection(a, shapely.buffer(b, 1e-3)))
    assert shared.sum() > 0.25 * shapely.length(parcels.geometry).sum()


def test_there_are_ponds_multipolygons_strips_and_slivers_below_a_pixel() -> None:
    many = make_parcels((500_000.0, 5_230_000.0, 515_000.0, 5_245_000.0), 4000, 6, seed=3)
    area = shapely.area(many.geometry)
    width = 2 * area / shapely.length(many.geometry)
    kinds = shapely.get_type_id(many.geometry)
    assert (kinds == shapely.GeometryType.MULTIPOLYGON).sum() >= 5
    assert set(np.unique(kinds)) <= {3, 6}
    assert (shapely.get_num_interior_rings(many.geometry) > 0).sum() >= 15
    assert ((width < 7) & (area > 300)).sum() >= 50
    assert (area < 100).sum() >= 5


def test_a_scaled_down_benchmark_set_has_the_figures_of_the_full_one() -> None:
    figures = summary(benchmark_set(seed=1, count=5000), benchmark_grid(5000))
    assert figures["parcels"] == 5000
    assert figures["mean_ha"] == pytest.approx(2.42, rel=0.10)
    assert figures["median_ha"] == pytest.approx(1.03, rel=0.10)
    assert figures["share_below_0.3_ha"] == pytest.approx(0.203, rel=0.10)
    assert figures["pixels"] == pytest.approx(9.48e6 / 8, rel=0.10)
    assert figures["vertices_mean"] == pytest.approx(12, rel=0.15)
    assert figures["cells_256_touched"] == pytest.approx(0.20, rel=0.15)
    assert figures["cells_64_touched"] == pytest.approx(0.11, rel=0.15)


def test_the_full_benchmark_fills_the_real_tile() -> None:
    assert benchmark_grid() == Grid(32632, 10, 399960, 5300040, 10980, 10980)


def test_the_summary_counts_pixels_and_cells_as_by_hand() -> None:
    # 200 x 200 pixels; a square of 30 x 30 in the corner, one of 5 x 5 across row and column 192
    grid = Grid(32632, 10, 0, 2000, 200, 200)
    geometry = np.array([square(0, 1700, 300), square(1900, 50, 50)])
    made = summary(Parcels(geometry, np.array(["1", "2"]), np.array([0, 1])), grid)
    assert made["pixels"] == 925
    assert made["pixels_median"] == 462.5
    assert made["mean_ha"] == pytest.approx(4.625)
    assert made["share_below_0.3_ha"] == 0.5
    assert made["vertices_mean"] == 4
    assert made["cells_64_touched"] == 5 / 16
    assert made["cells_256_touched"] == 1


def test_a_pixel_is_painted_by_the_parcel_that_holds_its_centre() -> None:
    grid = Grid(32632, 10, 0, 30, 3, 3)
    geometry = np.array([shapely.box(4, 0, 14, 30)])
    label = paint(Parcels(geometry, np.array(["1"]), np.array([0])), grid)
    assert label.tolist() == [[0, 1, 1]] * 3


def test_the_parcel_file_keeps_leading_zeros_and_lies_in_another_crs(
    parcels: Parcels, tmp_path
) -> None:
    write_geopackage(parcels, tmp_path / "parcels.gpkg")
    meta, _, wkb, columns = pyogrio.raw.read(tmp_path / "parcels.gpkg")
    code, crop, crop_code = columns
    assert list(meta["fields"]) == ["code", "crop", "crop_code"]
    assert meta["crs"] == "EPSG:3035"
    assert code[0] == "00000001"
    assert len(set(code)) == 1000
    assert all(text.startswith("0") for text in crop_code)
    names = {crop.name: crop.code for crop in CROPS}
    assert {(n, c) for n, c in zip(crop, crop_code, strict=True)} <= set(names.items())
    # both projections are true to area, UTM but for its scale of 0.9996 here
    area = shapely.area(shapely.from_wkb(wkb)) * 0.9996**2
    np.testing.assert_allclose(area, shapely.area(parcels.geometry), rtol=1e-3)


def test_more_parcels_than_fit_are_refused_with_the_number_that_does() -> None:
    with pytest.raises(CallerError, match="5000 parcels do not fit"):
        make_parcels((0.0, 0.0, 3000.0, 3000.0), 5000, clusters=1, seed=1)


def test_shares_of_crops_add_up() -> None:
    assert sum(crop.share for crop in CROPS) == pytest.approx(1)
    assert sum(crop.share_small for crop in CROPS) == pytest.approx(1)
