"""What becomes of a file's geometries before they are stored."""

import numpy as np
import pytest
import shapely
from pyproj import CRS

from store.errors import ParcelFileError
from store.parcels.geometry import EUROPE, CrsTransform, hilbert, resolve_crs, storable

UTM = CrsTransform(CRS.from_epsg(25832), 25832)
X, Y = 500_000, 5_200_000


def box(west=0, south=0, size=10):
    return shapely.box(X + west, Y + south, X + west + size, Y + south + size)


def at(wkt):
    """A geometry written near (0, 0), moved to where EPSG:25832 is at home."""
    return shapely.transform(shapely.from_wkt(wkt), lambda xy: xy + np.array([X, Y]))


def store(*geometries, frame=UTM):
    return storable([g if g is None or isinstance(g, bytes) else g.wkb for g in geometries], frame)


def stored(shapes, index=0):
    return shapely.from_wkb(shapes.wkb[index])


def test_a_polygon_is_stored_as_a_multipolygon_of_the_same_area():
    shapes = store(box())
    assert stored(shapes).geom_type == "MultiPolygon"
    assert stored(shapes).equals(box())
    assert not shapes.repaired
    assert not shapes.refused


def test_the_same_shape_is_stored_alike_whatever_its_first_vertex_and_direction():
    one = at("POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,4 2,4 4,2 2))")
    other = at("POLYGON((10 10,10 0,0 0,0 10,10 10),(4 4,4 2,2 2,4 4))")
    shapes = store(one, other)
    assert shapes.wkb[0] == shapes.wkb[1]


def test_the_third_dimension_and_measures_are_dropped():
    shapes = store(at("POLYGON Z((0 0 7,10 0 7,10 10 8,0 0 7))"))
    assert not shapely.has_z(stored(shapes))
    assert shapes.wkb[0] == store(at("POLYGON((0 0,10 0,10 10,0 0))")).wkb[0]


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        (None, "no geometry"),
        (b"\x01\x03\x00", "unreadable geometry"),
        (shapely.Polygon(), "empty geometry"),
        (at("POINT(1 1)"), "a Point without any polygon"),
        (at("LINESTRING(0 0,1 1)"), "a LineString without any polygon"),
        (at("GEOMETRYCOLLECTION(POINT(1 1))"), "a GeometryCollection without any polygon"),
        (at("POLYGON((0 0,10 0,5 0,0 0))"), "no area is left after repair"),
        (at("POLYGON((0 0,1 NaN,1 1,0 0))"), "not numbers"),
        (at("POLYGON((0 0,1 Inf,1 1,0 0))"), "not numbers"),
    ],
)
def test_what_is_no_area_is_refused_and_says_why(geometry, reason):
    shapes = store(box(), geometry, box())
    assert list(shapes.refused) == [1]
    assert reason in shapes.refused[1]
    assert shapes.wkb[1] is None
    assert None not in (shapes.wkb[0], shapes.wkb[2])


def test_a_spike_is_cut_off_and_reported():
    shapes = store(at("POLYGON((0 0,10 0,10 10,10 12,10 10,0 10,0 0))"))
    assert stored(shapes).equals(box())
    assert "Self-intersection" in shapes.repaired[0]
    assert shapes.repaired[0].endswith("area changed by 0.00%")


def test_a_repair_that_changes_the_area_by_more_than_one_percent_is_refused():
    # A hole that leaves its shell: 100 - 20 m2 as written, 84 m2 repaired, 4.8 % of the larger.
    shapes = store(at("POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,12 2,12 4,2 4,2 2))"))
    assert "would change the area by 4.8%, more than 1%" in shapes.refused[0]
    assert not shapes.repaired


def test_a_bow_tie_is_refused_since_nobody_knows_which_half_is_meant():
    shapes = store(at("POLYGON((0 0,10 10,10 0,0 10,0 0))"))
    assert "would change the area by 100.0%" in shapes.refused[0]


def test_a_collection_keeps_its_polygons_and_is_reported():
    shapes = store(
        shapely.GeometryCollection([shapely.Point(X, Y), box(), shapely.MultiPolygon([box(20)])])
    )
    assert stored(shapes).area == 200
    assert "polygons kept of a GeometryCollection" in shapes.repaired[0]


def test_swapped_axes_are_refused():
    shapes = store(shapely.box(Y, X, Y + 10, X + 10))
    assert "are x and y swapped" in shapes.refused[0]


def test_a_zone_serves_the_country_beyond_its_edge():
    madrid_in_zone_31 = CrsTransform(CRS.from_epsg(25831), 25831)
    lon_minus_4 = shapely.box(-100_000, 4_480_000, -99_000, 4_481_000)
    assert not store(lon_minus_4, frame=madrid_in_zone_31).refused


def test_latitude_first_degrees_beyond_the_pole_are_refused():
    frame = CrsTransform(CRS.from_epsg(4326), 4326)
    assert store(shapely.box(8, 95, 9, 96), frame=frame).refused


def test_coordinates_are_transformed_to_the_stored_crs():
    frame = resolve_crs(CRS.from_epsg(4326), None, 25832, lambda code: True)
    shapes = store(shapely.box(9, 47, 9.001, 47.001), frame=frame)
    west, south, _, _ = stored(shapes).bounds
    assert (west, south) == pytest.approx((500_000, 5_205_250), abs=100)
    assert "transformed to EPSG:25832" in frame.notes[0]
    assert shapes.degrees[0] == pytest.approx([9.0005, 47.0005], abs=1e-6)


def test_a_crs_with_a_known_code_is_kept():
    frame = resolve_crs(CRS.from_epsg(31370), None, None, lambda code: True)
    assert (frame.srid, frame.to_stored, frame.notes) == (31370, None, ())


def test_a_crs_described_in_other_words_is_recognised():
    esri = CRS.from_wkt(CRS.from_epsg(25832).to_wkt("WKT1_ESRI"))
    assert resolve_crs(esri, None, None, lambda code: True).srid == 25832


def test_longitude_and_latitude_in_the_order_of_geojson_are_stored_as_4326():
    frame = resolve_crs(CRS.from_user_input("OGC:CRS84"), None, None, lambda code: True)
    assert (frame.srid, frame.to_stored) == (4326, None)


def test_a_height_is_no_part_of_the_stored_crs():
    frame = resolve_crs(CRS.from_user_input("EPSG:25832+7837"), None, None, lambda code: True)
    assert (frame.srid, frame.to_stored) == (25832, None)


def test_a_crs_without_code_is_transformed_to_the_european_one_and_said():
    own = CRS.from_proj4("+proj=tmerc +lat_0=1 +lon_0=10.123 +k=1 +x_0=123 +ellps=GRS80 +units=m")
    frame = resolve_crs(own, None, None, lambda code: True)
    assert frame.srid == EUROPE
    assert any("no EPSG code" in note for note in frame.notes)
    assert any("EPSG:3035" in note for note in frame.notes)


def test_a_code_that_the_database_lacks_is_transformed_to_the_european_one():
    assert resolve_crs(CRS.from_epsg(31370), None, None, lambda code: False).srid == EUROPE


def test_no_crs_is_refused_unless_it_is_given():
    with pytest.raises(ParcelFileError, match="give it"):
        resolve_crs(None, None, None, lambda code: True)
    assert resolve_crs(None, "EPSG:25832", None, lambda code: True).srid == 25832


def test_a_given_crs_wins_over_the_stated_one_and_it_is_said():
    frame = resolve_crs(CRS.from_epsg(25833), "EPSG:25832", None, lambda code: True)
    assert frame.srid == 25832
    assert "was used, as given" in frame.notes[0]


@pytest.mark.parametrize("text", ["EPSG:1", "nonsense", "EPSG:5773"])
def test_what_is_no_horizontal_crs_is_refused(text):
    with pytest.raises(ParcelFileError):
        resolve_crs(None, text, None, lambda code: True)


def test_an_empty_batch_is_no_problem():
    assert storable([], UTM).wkb == []


def test_the_hilbert_curve_visits_every_cell_once_stepping_to_neighbours():
    side = 8
    row, col = np.mgrid[:side, :side].reshape(2, -1)
    # Cells of the globe's coarse grid: the middle of each of 8 x 8.
    degrees = np.column_stack(((col + 0.5) / side * 360 - 180, (row + 0.5) / side * 180 - 90))
    order = np.argsort(hilbert(degrees))
    assert len(np.unique(hilbert(degrees))) == side * side
    steps = np.abs(np.diff(row[order])) + np.abs(np.diff(col[order]))
    assert (steps == 1).all()
