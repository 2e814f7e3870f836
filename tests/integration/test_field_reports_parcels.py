"""Parcel files that went wrong after public reports: imported in full, or refused by name."""

import re

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from store import db
from store.errors import ParcelFileError
from store.parcels import campaigns, codes
from store.parcels.geometry import CrsTransform, storable
from store.parcels.importing import import_parcels
from tests.unit.parcel_files import texts, write


@pytest.fixture
def campaign(database):
    return campaigns.create(database, "fr", 2024)


def imported(conn) -> list[str]:
    return [row.code for row in db.fetch_all(conn, "SELECT code FROM fr.parcels ORDER BY code")]


@pytest.mark.parametrize("zone", ["25833", "32632"])
def test_a_whole_country_in_one_zone_is_imported(database, campaign, shared_data, zone):
    file = shared_data / f"field_reports/parcels/whole_country_one_zone_{zone}.gpkg"
    report = import_parcels(database, campaign, file, id_column="id")
    assert (report.imported, report.refused) == (5, ())
    assert any("outside the area" in note for note in report.notes)


@pytest.mark.parametrize(("epsg", "lon", "lat"), [
    (4269, -150.0, 61.0), (4269, 175.0, 52.5), (3763, -25.5, 37.7), (2154, 55.5, -21.1),
    (4258, 55.5, -21.1)])  # fmt: skip
def test_islands_and_far_lands_are_imported_wherever_their_crs_is_made_for(epsg, lon, lat):
    frame = CrsTransform(CRS.from_epsg(epsg), epsg)
    to_source = Transformer.from_crs(4326, epsg, always_xy=True)
    box = shapely.transform(
        shapely.box(lon, lat, lon + 0.01, lat + 0.01),
        lambda xy: np.column_stack(to_source.transform(xy[:, 0], xy[:, 1])),
    )
    shapes = storable([shapely.to_wkb(box)], frame)
    assert not shapes.refused
    assert bool(shapes.outside) == (epsg != 4269)


def test_strange_ids_are_refused_by_name_and_others_kept(database, campaign, shared_data):
    file = shared_data / "field_reports/parcels/strange_ids.gpkg"
    report = import_parcels(database, campaign, file, id_column="id")
    reasons = " ".join(case.reason for case in report.refused)
    assert len(report.refused) == 4
    for part in ("more than 100", "control character", "no-break space", "soft hyphen"):
        assert part in reasons
    assert set(imported(database)) == {"12 345/6-A", "A&B#c+d%41=e?f", 'Łąka "7"; drop', "-12"}


def test_ids_of_several_columns_are_joined(database, campaign, tmp_path):
    fields = {"block": texts("61", "61", "62", None), "part": texts("1A", "1B", "1A", "9")}
    file = write(tmp_path / "se.gpkg", fields)
    report = import_parcels(database, campaign, file, id_column=["block", "part"])
    assert imported(database) == ["61-1A", "61-1B", "62-1A"]
    assert [case.reason for case in report.refused] == ["no id"]


def test_a_wide_number_is_refused_and_changes_no_id(database, campaign, shared_data):
    file = shared_data / "field_reports/parcels/wide_number_apart/parcels.shp"
    with pytest.raises(ParcelFileError, match="rounded digits: deliver it as text"):
        import_parcels(database, campaign, file, id_column="PARCEL_ID")
    assert not imported(database)


def test_codes_of_crops_alone_are_imported(database, campaign, shared_data):
    file = shared_data / "field_reports/parcels/code_only.gpkg"
    import_parcels(database, campaign, file, id_column="ID_PARCEL", crop_code_column="CODE_CULTU")
    rows = db.fetch_all(database, "SELECT crop_name, crop_code FROM fr.parcels ORDER BY code")
    assert rows == [(None, "BTH")] * 3 + [(None, "MIS")] * 2


def boxes_file(path, driver: str, count: int = 20_000):
    crs = "EPSG:4326" if driver == "GeoJSON" else "EPSG:25832"
    return write(path, {"id": texts(*(f"{k:06}" for k in range(count)))}, driver, crs=crs)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path) -> None:
    """What a power cut leaves of pages that were never written."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 65_536] = bytes(len(content[half : half + 65_536]))
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, zero])
@pytest.mark.parametrize(("driver", "name", "part"), [
    ("GPKG", "p.gpkg", "p.gpkg"), ("GML", "p.gml", "p.gml"), ("FlatGeobuf", "p.fgb", "p.fgb"),
    ("GeoJSON", "p.geojson", "p.geojson"), ("ESRI Shapefile", "p.shp", "p.shp"),
    ("ESRI Shapefile", "p.shp", "p.dbf"), ("ESRI Shapefile", "p.shp", "p.shx"),
    ("OpenFileGDB", "p.gdb", "*.gdbtable")])  # fmt: skip
def test_a_damaged_file_loses_no_parcel_without_a_word(
    database, campaign, tmp_path, driver, name, part, damage
):
    count = 80 if driver == "GeoJSON" else 20_000  # degrees end
    file = boxes_file(tmp_path / name, driver, count)
    inside = file if file.is_dir() else tmp_path
    damage(max(inside.glob(part), key=lambda path: path.stat().st_size))
    try:
        report = import_parcels(database, campaign, file, id_column="id")
    except ParcelFileError:
        assert not imported(database)
    else:
        assert report.refused
        assert report.imported + len(report.refused) == count


def test_records_that_a_shapefile_marks_as_deleted_are_no_damage(database, campaign, tmp_path):
    file = write(tmp_path / "p.shp", {"id": texts("a", "b", "c")}, "ESRI Shapefile")
    table = bytearray(file.with_suffix(".dbf").read_bytes())
    header, length = (int.from_bytes(table[at : at + 2], "little") for at in (8, 10))
    table[header + length] = ord("*")
    file.with_suffix(".dbf").write_bytes(table)
    import_parcels(database, campaign, file, id_column="id")
    assert imported(database) == ["a", "c"]


def test_numbers_that_geojson_calls_id_are_the_ids(database, campaign, tmp_path):
    ids = np.array([7, 9_007_199_254_740_993, 7])
    file = write(tmp_path / "p.geojson", {"id": ids}, "GeoJSON", crs="EPSG:4326")
    report = import_parcels(database, campaign, file, id_column="id")
    assert imported(database) == ["9007199254740993"]
    assert {case.reason for case in report.refused} == {"the same id for several geometries"}


def test_letters_of_windows_that_are_read_as_another_encoding_are_named(
    database, campaign, tmp_path
):
    fields = {"id": texts("1"), "crop": texts("Œillet")}
    file = write(tmp_path / "p.shp", fields, "ESRI Shapefile", encoding="CP1252")
    file.with_suffix(".cpg").unlink()
    table = bytearray(file.with_suffix(".dbf").read_bytes())
    table[29] = 0x57  # "ANSI", as most programs write it
    file.with_suffix(".dbf").write_bytes(table)
    with pytest.raises(ParcelFileError, match="--encoding, such as CP1252"):
        import_parcels(database, campaign, file, id_column="id", crop_column="crop")
    import_parcels(database, campaign, file, id_column="id", crop_column="crop", encoding="CP1252")
    assert db.fetch_one(database, "SELECT crop_name FROM fr.parcels").crop_name == "Œillet"


def test_degrees_that_lie_in_europe_once_swapped_are_remarked(database, campaign, tmp_path):
    file = tmp_path / "p.gpkg"
    box = shapely.box(46, 9, 46.01, 9.01).wkb
    pyogrio.raw.write(file, texts(box), [texts("1")], ["id"], geometry_type="Polygon",
                      crs="EPSG:4326", driver="GPKG")  # fmt: skip
    report = import_parcels(database, campaign, file, id_column="id")
    assert any("latitude first" in note for note in report.notes)


def test_other_columns_are_kept_as_told(database, campaign, tmp_path):
    fields = {
        "id": texts("1", "2"), "crop": texts("wheat", None), "ha": np.array([0.1, np.nan]),
        "area": np.array([12.5, 3], np.float32), "farm": np.array([7, 8]),
        "eco": np.array([True, False]), "day": np.array(["2024-05-01", "NaT"], "datetime64[D]"),
        "note": texts("Öl \"x\"", ""),
    }  # fmt: skip
    file = write(tmp_path / "p.gpkg", fields)

    def kept(**options) -> list[dict]:
        report = import_parcels(database, campaign, file, id_column="id", crop_column="crop",
                                **options)  # fmt: skip
        notes.append(" ".join(report.notes))
        return [row.attributes for row in db.fetch_all(
            database, "SELECT attributes FROM fr.parcels_2024 ORDER BY code")]  # fmt: skip

    notes: list[str] = []
    assert kept() == [None, None]
    assert "not kept: ha, area, farm, eco, day, note (--keep, --keep-all)" in notes[-1]
    assert kept(kept=["farm", "ha"]) == [{"farm": 7, "ha": 0.1}, {"farm": 8}]
    first = {"ha": 0.1, "area": 12.5, "farm": 7, "eco": True, "note": 'Öl "x"'}
    [one, two] = kept(kept=None)
    assert one.pop("day").startswith("2024-05-01")
    assert (one, two) == (first, {"area": 3, "farm": 8, "eco": False, "note": ""})
    assert "not kept" not in notes[-1]
    assert kept() == [None, None]
    with pytest.raises(ParcelFileError, match="no column 'x'"):
        kept(kept=["x"])


def test_columns_that_cannot_be_kept_are_named_and_disturb_no_import(
    database, campaign, shared_data, tmp_path
):
    file = shared_data / "field_reports/parcels/duplicate_fields/parcels.shp"
    report = import_parcels(database, campaign, file, id_column="PARCEL_ID", kept=None)
    assert report.imported == 3
    wrong = write(tmp_path / "w.shp", {"id": texts("1"), "note": texts("Ã¶l")}, "ESRI Shapefile",
                  encoding="ISO-8859-1")  # fmt: skip
    wrong.with_suffix(".cpg").write_text("UTF-8")
    wrong.with_suffix(".dbf").write_bytes(
        wrong.with_suffix(".dbf").read_bytes().replace("Ã¶l".encode("latin-1"), b"\xf6l ")
    )
    report = import_parcels(database, campaign, wrong, id_column="id", kept=None)
    assert any("Values of note could not be kept" in note for note in report.notes)


def attempt(database, campaign, path, **options):
    """The report of an import; None where not one feature can be a parcel."""
    try:
        return import_parcels(
            database, campaign, path, id_column="id", accept_losses=True, **options
        )
    except ParcelFileError as error:
        if re.search("none of the|no layer with polygons", str(error)):
            return None
        raise


LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120)


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    ids=st.lists(LETTERS, min_size=1, max_size=6),
    driver=st.sampled_from([("GPKG", "gpkg"), ("GeoJSON", "geojson"), ("FlatGeobuf", "fgb")]),
    shape=st.sampled_from([
        lambda k: shapely.box(5e5 + 20 * k, 52e5, 5e5 + 20 * k + 10, 5_200_010),
        lambda k: shapely.Point(5e5 + k, 52e5),
        lambda k: shapely.Polygon(),
        lambda k: shapely.MultiPolygon([shapely.box(5e5 + k, 52e5, 5e5 + k + 1, 52e5 + 1)]),
    ]),
)  # fmt: skip
def test_every_feature_is_imported_or_its_refusal_is_listed(
    database, campaign, tmp_path, ids, driver, shape
):
    path = tmp_path / f"p.{driver[1]}"
    path.unlink(missing_ok=True)
    geometries = [shapely.to_wkb(shape(k)) for k in range(len(ids))]
    crs = "EPSG:4326" if driver[0] == "GeoJSON" else "EPSG:25832"
    pyogrio.raw.write(
        path, np.array(geometries, dtype=object), [np.array(ids, dtype=object)], ["id"],
        geometry_type="Unknown", crs=crs, driver=driver[0],
        **({"SPATIAL_INDEX": "NO"} if driver[0] == "FlatGeobuf" else {}),
    )  # fmt: skip
    options = {"crs": "EPSG:25832"} if driver[0] == "GeoJSON" else {}
    report = attempt(database, campaign, path, **options)
    if report is not None:
        assert report.read == len(ids)
        assert report.imported + len(report.merged) + len(report.refused) == len(ids)
    stored = imported(database)
    assert report is None or set(stored) <= {text.strip(" ") for text in ids}
    assert all(codes.flaw(code) is None for code in stored)
