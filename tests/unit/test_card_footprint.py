"""Outlines on the globe."""

import pytest
import shapely

from card.find import footprint


def test_a_box_in_utm_becomes_a_curved_outline():
    outline = footprint.from_bounds(32632, 399960, 5190240, 509760, 5300040)  # tile 32TMT
    west, south, east, north = outline.bounds
    assert (west, east) == (pytest.approx(7.6628, abs=1e-3), pytest.approx(9.1305, abs=1e-3))
    assert (south, north) == (pytest.approx(46.8583, abs=1e-3), pytest.approx(47.8537, abs=1e-3))
    chord = shapely.LineString([(west, north), (east, north)])
    assert len(outline.exterior.coords) == 4 * 20 + 1
    assert not chord.within(outline)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_ring_across_the_antimeridian_is_cut_there(sign):
    ring = [(179, sign), (-179, sign), (-179, 2 * sign), (179, 2 * sign), (179, sign)]
    outline = footprint.from_ring(ring)
    east, west = sorted(part.bounds for part in shapely.get_parts(outline))
    south, north = sorted((sign, 2 * sign))
    assert east == (-180, south, -179, north)
    assert west == (179, south, 180, north)


def test_an_outline_that_is_cut_already_stays_as_it_is():
    halves = shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
    assert shapely.equals(footprint.tidy(halves), halves)


def test_a_crossed_ring_keeps_its_areas():
    bow = footprint.from_ring([(0, 0), (2, 2), (2, 0), (0, 2), (0, 0)])
    assert bow.is_valid
    assert bow.area == pytest.approx(2)


def test_wkt_holds_areas_only_and_always_several():
    mixed = shapely.GeometryCollection([
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1)]), shapely.box(2, 0, 3, 1),
        shapely.Point(9, 9),
    ])  # fmt: skip
    outline = shapely.from_wkt(footprint.multipolygon_wkt(mixed))
    assert outline.geom_type == "MultiPolygon"
    assert (len(outline.geoms), outline.area) == (2, 2)
