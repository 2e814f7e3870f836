"""Which pixels belong to a parcel."""

import shutil
import tempfile

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from extraction import spans
from extraction.spans import Rule, SpanCache
from store.grid import Grid, Lattice

LATTICE = Lattice(32632, 10.0)


def build(*geometries, lattice=LATTICE, buffer_m=0.0):
    pids = np.arange(1, len(geometries) + 1, dtype=np.int32)
    return spans.build([(pids, [g.wkb for g in geometries])], lattice, buffer_m)


def pixels(index, i):
    """Set of lattice (row, col) of parcel i."""
    found = set()
    for s in range(index.offsets[i], index.offsets[i + 1]):
        found |= {(int(index.row[s]), c) for c in range(index.first[s], index.last[s])}
    return found


def gdal_pixels(geometry, all_touched=False):
    """The same from GDAL, over a window of 100 x 100 pixels at the lattice's origin."""
    mask = rasterize(
        [geometry],
        out_shape=(100, 100),
        transform=Affine(10, 0, 0, 0, -10, 0),
        all_touched=all_touched,
    )
    return {(int(r), int(c)) for r, c in np.argwhere(mask)}


def test_a_square_of_two_by_three_pixels_has_those_six():
    index = build(shapely.box(20, -50, 40, -20))
    assert pixels(index, 0) == {(2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (4, 3)}
    assert index.px[0] == 6
    assert list(index.bounds[0]) == [2, 5, 2, 4]
    assert index.rules[0] == Rule.CENTRE


def test_a_pixel_belongs_when_its_centre_is_inside_and_not_by_area():
    index = build(shapely.box(4, -16, 16, -4))
    assert pixels(index, 0) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert pixels(build(shapely.box(6, -14, 14, -6)), 0) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_holes_and_islands_in_holes_follow_the_even_odd_rule():
    ring = shapely.box(0, -90, 90, 0).difference(shapely.box(20, -70, 70, -20))
    both = shapely.MultiPolygon([ring, shapely.box(40, -50, 50, -40)])
    assert pixels(build(both), 0) == gdal_pixels(both)
    assert len(pixels(build(both), 0)) == 81 - 25 + 1


def test_a_parcel_without_pixel_centre_takes_what_it_touches_and_says_so():
    strip = shapely.box(1, -38, 4, -2)
    index = build(strip, shapely.box(0, -20, 20, 0))
    assert pixels(index, 0) == {(0, 0), (1, 0), (2, 0), (3, 0)}
    assert index.rules[0] == Rule.TOUCHED
    assert index.rules[1] == Rule.CENTRE
    assert list(index.px) == [4, 4]


def test_no_parcel_disappears_however_thin():
    needle = shapely.Polygon([(10, -10), (30, -10), (30, -10.0000001)])
    assert build(needle).px[0] >= 1


def test_overlapping_parcels_keep_their_own_pixels():
    index = build(shapely.box(0, -50, 50, 0), shapely.box(30, -50, 80, 0))
    assert pixels(index, 0) & pixels(index, 1) == {(r, c) for r in range(5) for c in (3, 4)}


def test_an_inward_buffer_takes_pixels_away_and_never_the_parcel():
    wide, narrow = shapely.box(0, -100, 100, 0), shapely.box(0, -100, 12, 0)
    index = build(wide, narrow, buffer_m=8)
    assert index.px[0] == 64 + 0 * index.px[1]
    assert index.px[1] == 10
    assert list(index.rules) == [Rule.CENTRE, Rule.UNBUFFERED]


def test_lattices_with_another_origin_shift_the_pixels():
    shifted = Lattice(32632, 10.0, x0_m=5.0, y0_m=5.0)
    assert pixels(build(shapely.box(5, -35, 25, -15), lattice=shifted), 0) == {
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
    }


polygon = st.lists(st.tuples(st.floats(1, 999), st.floats(-999, -1)), min_size=3, max_size=12).map(
    lambda corners: shapely.make_valid(shapely.Polygon(corners))
)


@settings(max_examples=300, deadline=None)
@given(polygon)
def test_random_polygons_have_the_pixels_that_gdal_gives_them(geometry):
    parts = [p for p in shapely.get_parts(geometry) if p.geom_type == "Polygon" and p.area > 0]
    if not parts:
        return
    parcel = shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]
    index = build(parcel)
    centre = gdal_pixels(parcel)
    if centre:
        assert pixels(index, 0) == centre
    else:
        assert index.rules[0] == Rule.TOUCHED
        assert pixels(index, 0) == gdal_pixels(parcel, all_touched=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(4, 36), min_size=2, max_size=9))
def test_adjoining_parcels_share_no_pixel_and_lose_none(bends):
    """Even where their common edge runs through pixel centres, half a pixel being 5 m."""
    edge = [(5.0 * x, 200.0 * n / (1 - len(bends))) for n, x in enumerate(bends)]
    left = shapely.Polygon([(0, -200), (0, 0), *edge])
    right = shapely.Polygon([(200, -200), (200, 0), *edge])
    index = build(left, right)
    assert not pixels(index, 0) & pixels(index, 1)
    assert index.px.sum() == 400


def test_members_are_the_parcels_whose_extent_meets_the_raster():
    index = build(
        shapely.box(0, -50, 50, 0),
        shapely.box(500, -550, 550, -500),
        shapely.box(90, -110, 120, -90),
    )
    grid = Grid(32632, 10.0, 0.0, 0.0, 10, 10)
    assert list(index.members(grid)) == [0, 2]


def test_a_plan_cuts_at_the_rasters_edge_and_counts_what_is_inside():
    index = build(shapely.box(-30, -20, 30, 0), shapely.box(900, -950, 950, -900))
    grid = Grid(32632, 10.0, 0.0, 0.0, 100, 100)
    plan = spans.plan_reads(index, grid, (16, 16))
    assert list(plan.members) == [0, 1]
    assert list(plan.inside_px) == [6, 25]
    assert list(index.px) == [12, 25]


def test_one_index_serves_tiles_with_other_origins_by_an_offset():
    index = build(shapely.box(500_000, 5_200_000, 500_100, 5_200_050))
    west = Grid(32632, 10.0, 499_980.0, 5_300_040.0, 10_980, 10_980)
    plan = spans.plan_reads(index, west, (1024, 1024))
    assert (int(plan.row.min()), int(plan.col.min())) == (9_999, 2)
    assert plan.inside_px[0] == 50


@pytest.fixture
def cache(tmp_path):
    return SpanCache(tmp_path / "spans", max_bytes=10**6)


def test_the_cache_returns_what_was_put_and_nothing_for_other_content(cache):
    index = build(shapely.box(0, -50, 50, 0), shapely.box(1, -38, 4, -2))
    assert cache.get("a", LATTICE, 0.0) is None
    cache.put("a", LATTICE, 0.0, index)
    found = cache.get("a", LATTICE, 0.0)
    for name in ("pids", "offsets", "row", "first", "last", "px", "bounds", "rules"):
        np.testing.assert_array_equal(getattr(found, name), getattr(index, name))
    assert cache.get("b", LATTICE, 0.0) is None
    assert cache.get("a", LATTICE, 5.0) is None
    assert cache.get("a", Lattice(32632, 20.0), 0.0) is None


def test_the_cache_stays_within_its_bound_and_keeps_the_newest(tmp_path):
    cache = SpanCache(tmp_path, max_bytes=1)
    index = build(shapely.box(0, -50, 50, 0))
    cache.put("old", LATTICE, 0.0, index)
    cache.put("new", LATTICE, 0.0, index)
    assert cache.get("old", LATTICE, 0.0) is None
    assert cache.get("new", LATTICE, 0.0) is not None


def test_a_damaged_cache_entry_counts_as_none_and_is_made_anew(cache, tmp_path):
    index = build(shapely.box(0, -50, 50, 0))
    cache.put("a", LATTICE, 0.0, index)
    (broken,) = (tmp_path / "spans").glob("*/row.npy")
    broken.write_bytes(broken.read_bytes()[:90])
    assert cache.get("a", LATTICE, 0.0) is None
    cache.put("a", LATTICE, 0.0, index)
    assert cache.get("a", LATTICE, 0.0).px[0] == 25


def test_slivers_far_apart_in_one_parcel_take_what_they_touch_and_no_more():
    slivers = shapely.MultiPolygon(
        [shapely.box(1, -9, 4, -1), shapely.box(60001, -60009, 60004, -60001)]
    )
    index = build(slivers)
    assert pixels(index, 0) == {(0, 0), (6000, 6000)}
    assert index.rules[0] == Rule.TOUCHED


def test_parts_of_a_set_give_the_spans_of_the_whole():
    rng = np.random.default_rng(5)
    parcels = [
        shapely.box(x, y, x + 37, y + 3 + 40 * (i % 3 > 0))
        for i, (x, y) in enumerate(rng.uniform(-900, 900, (50, 2)))
    ]
    whole = build(*parcels)
    parts = [
        (np.arange(at, min(at + 7, 50), dtype=np.int32), [p.wkb for p in parcels[at : at + 7]])
        for at in range(0, 50, 7)
    ]
    portions = spans.build(iter(parts), LATTICE)
    np.testing.assert_array_equal(portions.pids, np.arange(50))
    for name in ("offsets", "row", "first", "last", "px", "bounds", "rules"):
        np.testing.assert_array_equal(getattr(portions, name), getattr(whole, name))


def test_no_parcels_have_no_spans():
    assert build().px.size == 0
    assert list(build(buffer_m=5).offsets) == [0]


@pytest.mark.parametrize("name", ["row", "offsets", "last"])
def test_pages_lost_at_a_power_cut_are_not_taken_for_spans(cache, tmp_path, name):
    built = build(shapely.box(0, -400, 400, 0))
    cache.put("d", LATTICE, 0.0, built)
    assert cache.get("d", LATTICE, 0.0) is not None
    [path] = tmp_path.rglob(f"{name}.npy")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert cache.get("d", LATTICE, 0.0) is None
    cache.put("d", LATTICE, 0.0, built)
    assert cache.get("d", LATTICE, 0.0) is not None


def test_a_cache_whose_folder_is_gone_or_full_keeps_nobody_from_working(tmp_path, monkeypatch):
    built = build(shapely.box(0, -400, 400, 0))
    cache = SpanCache(tmp_path / "gone", 10**9)
    assert cache.get("d", LATTICE, 0.0) is None
    cache.put("d", LATTICE, 0.0, built)
    assert cache.get("d", LATTICE, 0.0) is not None
    shutil.rmtree(tmp_path / "gone")
    assert cache.get("d", LATTICE, 0.0) is None

    def without_inodes(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", without_inodes)
    cache.put("d", LATTICE, 0.0, built)
    (tmp_path / "file").touch()
    SpanCache(tmp_path / "file" / "below", 10**9).put("d", LATTICE, 0.0, built)


def test_lattices_that_differ_anywhere_have_keys_of_their_own():
    near = [
        Lattice(32632, 10.0), Lattice(32632, 10.0000001), Lattice(32632, 10.0, 0.0000001),
        Lattice(32632, 10.0, 0.0, 1e-9), Lattice(32632, 10.0, 1234.567),
        Lattice(32632, 10.0, 1234.57),
    ]  # fmt: skip
    assert len({lattice.key for lattice in near}) == len(near)


@pytest.mark.parametrize(("kept_parcels", "reads"), [(2, 1), (1, 2)])
def test_outlines_of_a_small_set_are_read_once_for_all_lattices(
    tmp_path, monkeypatch, kept_parcels, reads
):
    monkeypatch.setattr(spans, "_KEPT_PARCELS", kept_parcels)
    parts = [(np.array([pid], np.int32), [shapely.box(0, -20, 30, 0).wkb]) for pid in (1, 2)]
    read = []

    def read_outlines(epsg):
        read.append(epsg)
        yield from parts

    of_set = spans.ParcelSpans(SpanCache(tmp_path, 1), "d", 0.0, read_outlines)
    found = [of_set.on(Lattice(32632, res_m)).px.tolist() for res_m in (10.0, 5.0)]
    assert found == [[6, 6], [24, 24]]
    assert read == [32632] * reads
