"""Reading parcel files: layers, columns, encodings, archives."""

import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from store.errors import ParcelFileError
from store.parcels.source import as_text, open_source, resolve
from tests.hostile_files import PARCEL_NAMES, PARCELS, write_parcels
from tests.unit.parcel_files import texts, write


def read(path, *columns, **options):
    batches = list(open_source(path, **options).batches(columns))
    return [[v for b in batches for v in b.columns[name]] for name in columns]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([324.0, 1.5, None, float("nan")]), ["324", "1.5", None, None]),
        (pa.array([12345678901.0, -3.0]), ["12345678901", "-3"]),
        (pa.array([7, None]), ["7", None]),
        (pa.array(["007", " 8 ", "", "  ", None]), ["007", "8", None, None, None]),
        (pa.array(["324.0"]), ["324.0"]),
        (pa.array(["a\0b"]), ["ab"]),
        (pa.array([True]), ["True"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    ],
)
def test_values_become_text_without_losing_a_digit_or_gaining_one(values, expected):
    assert as_text(values, "id") == expected


def test_decimal_numbers_become_integer_text_where_they_are_integral():
    from decimal import Decimal

    assert as_text(pa.array([Decimal("10.00"), Decimal("10.50")]), "id") == ["10", "10.50"]


@pytest.mark.parametrize("values", [pa.array([b"x"]), pa.array([[1]])])
def test_bytes_and_lists_are_no_ids(values):
    with pytest.raises(ParcelFileError, match="neither text nor number"):
        as_text(values, "id")


@pytest.mark.parametrize(
    ("driver", "name"),
    [("GPKG", "p.gpkg"), ("ESRI Shapefile", "p.shp"), ("GeoJSON", "p.geojson"), ("GML", "p.gml")],
)
def test_leading_zeros_survive_every_format(tmp_path, driver, name):
    path = write(tmp_path / name, {"id": texts("007", "012")}, driver, crs="EPSG:4326")
    path.with_suffix(".xsd").unlink(missing_ok=True)
    before = sorted(tmp_path.iterdir())
    assert read(path, "id") == [["007", "012"]]
    assert sorted(tmp_path.iterdir()) == before, "reading left a file behind"


def test_the_feature_id_column_can_be_asked_for_by_its_name(tmp_path):
    path = write(tmp_path / "p.gpkg", {"crop": texts("a", "b")})
    assert read(path, "fid", "crop") == [["1", "2"], ["a", "b"]]


def test_a_wrong_column_name_lists_the_columns(tmp_path):
    source = open_source(write(tmp_path / "p.gpkg", {"kod": texts("a"), "crop": texts("b")}))
    with pytest.raises(ParcelFileError, match="no column 'id'; it has fid, kod, crop"):
        resolve(source, "id")


def test_accents_match_however_they_are_composed(tmp_path):
    source = open_source(write(tmp_path / "p.gpkg", {"portugu\u00eas": texts("a")}))
    assert resolve(source, "portugue\u0302s") == "portugu\u00eas"


def test_several_layers_need_a_choice_and_are_named(tmp_path):
    path = write(tmp_path / "p.gpkg", {"id": texts("a")}, layer="north")
    write(path, {"id": texts("b", "c")}, layer="south", append=True)
    with pytest.raises(ParcelFileError, match=r"north \(1 features\), south \(2 features\)"):
        open_source(path)
    assert read(path, "id", layer="south") == [["b", "c"]]
    with pytest.raises(ParcelFileError, match="no layer 'west'; it has north, south"):
        open_source(path, layer="west")


def test_layers_without_geometry_or_with_points_are_ignored(tmp_path):
    path = write(tmp_path / "p.gpkg", {"id": texts("a")}, layer="parcels")
    pyogrio.raw.write(
        path, None, [texts("x")], ["name"], layer="table", driver="GPKG", append=True,
        geometry_type=None, crs=None,
    )  # fmt: skip
    pyogrio.raw.write(
        path, texts(shapely.Point(1, 1).wkb), [texts("x")], ["name"], layer="labels",
        driver="GPKG", append=True, geometry_type="Point", crs="EPSG:25832",
    )  # fmt: skip
    assert open_source(path).layer == "parcels"


def test_a_file_with_points_only_is_refused(tmp_path):
    path = tmp_path / "p.gpkg"
    pyogrio.raw.write(
        path, texts(shapely.Point(1, 1).wkb), [texts("x")], ["name"], layer="labels",
        driver="GPKG", geometry_type="Point", crs="EPSG:25832",
    )  # fmt: skip
    with pytest.raises(ParcelFileError, match="no layer with polygons; it has labels"):
        open_source(path)


def test_umlauts_are_read_in_the_encoding_the_shapefile_states(tmp_path):
    for encoding in ("ISO-8859-1", "UTF-8"):
        path = write(
            tmp_path / f"{encoding}.shp", {"Größe": texts("Öl")}, "ESRI Shapefile",
            encoding=encoding,
        )  # fmt: skip
        assert read(path, "Größe") == [["Öl"]]


@pytest.mark.parametrize("column", ["Größe", "crop"])
def test_a_wrong_encoding_is_named_as_the_cause_and_can_be_given(tmp_path, column):
    path = write(
        tmp_path / "p.shp", {column: texts("Käse")}, "ESRI Shapefile", encoding="ISO-8859-1"
    )
    path.with_suffix(".cpg").write_text("UTF-8")
    with pytest.raises(ParcelFileError, match="--encoding"):
        read(path, column)
    assert read(path, column, encoding="ISO-8859-1") == [["Käse"]]
    with pytest.raises(ParcelFileError, match="no encoding 'klingon'"):
        open_source(path, encoding="klingon")


@pytest.mark.parametrize(
    ("driver", "name"), [("GPKG", "p.gpkg"), ("ESRI Shapefile", "p.shp"), ("GeoJSON", "p.geojson")]
)
def test_files_inside_a_zip_are_read_in_place_even_in_a_folder(tmp_path, driver, name):
    folder = tmp_path / "made"
    folder.mkdir()
    write(folder / name, {"id": texts("007")}, driver, crs="EPSG:4326")
    archive = tmp_path / "Lieferung (2024) ä.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for part in folder.iterdir():
            packed.write(part, f"Straße/{part.name}")
    assert read(archive, "id") == [["007"]]


def test_metadata_and_droppings_beside_a_zipped_shapefile_are_passed_over(tmp_path):
    write(tmp_path / "p.shp", {"id": texts("007")}, "ESRI Shapefile")
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for suffix in ("shp", "shx", "dbf", "prj"):
            packed.write(tmp_path / f"p.{suffix}", f"p.{suffix}")
        packed.writestr("p.shp.xml", "<metadata/>")
        packed.writestr("__MACOSX/._p.shp", "x")
    assert read(archive, "id") == [["007"]]


def test_a_zip_with_several_files_or_none_says_what_it_holds(tmp_path):
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("readme.txt", "x")
    with pytest.raises(ParcelFileError, match="no file that could be parcels"):
        open_source(archive)
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("a.gpkg", "x")
        packed.writestr("b.gpkg", "x")
    with pytest.raises(ParcelFileError, match=r"holds a.gpkg, b.gpkg: unpack it"):
        open_source(archive)


@pytest.mark.parametrize("name", ["p.7z", "p.7z.001", "p.tar.gz", "p.RAR"])
def test_other_archives_are_refused_with_the_advice_to_unpack(tmp_path, name):
    (tmp_path / name).write_bytes(b"7z\xbc\xaf\x27\x1c")
    with pytest.raises(ParcelFileError, match="unpack it"):
        open_source(tmp_path / name)


def test_what_is_no_vector_file_is_refused(tmp_path):
    (tmp_path / "p.gpkg").write_bytes(b"not a database")
    with pytest.raises(ParcelFileError, match=r"p\.gpkg cannot be read"):
        open_source(tmp_path / "p.gpkg")
    with pytest.raises(ParcelFileError, match="there is no file"):
        open_source(tmp_path / "absent.gpkg")


_ARC = """<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/"
xmlns:gml="http://www.opengis.net/gml/3.2"><gml:featureMember><ogr:p><ogr:id>2</ogr:id><ogr:shape>
<gml:Surface srsName="urn:ogc:def:crs:EPSG::25832"><gml:patches><gml:PolygonPatch><gml:exterior>
<gml:Ring><gml:curveMember><gml:Curve><gml:segments>
<gml:Arc><gml:posList>0 0 50 50 100 0</gml:posList></gml:Arc>
<gml:LineStringSegment><gml:posList>100 0 0 0</gml:posList></gml:LineStringSegment>
</gml:segments></gml:Curve></gml:curveMember></gml:Ring></gml:exterior></gml:PolygonPatch>
</gml:patches></gml:Surface></ogr:shape></ogr:p></gml:featureMember></ogr:FeatureCollection>"""


def test_curves_become_lines(tmp_path):
    (tmp_path / "p.gml").write_text(_ARC)
    (batch,) = open_source(tmp_path / "p.gml").batches(["id"])
    # Half a disc of radius 50 m, within the 4 degree steps of its chords.
    assert shapely.from_wkb(batch.wkb[0]).area == pytest.approx(np.pi * 50**2 / 2, rel=2e-3)


def test_a_file_that_states_no_crs_has_none(tmp_path):
    path = write(tmp_path / "p.shp", {"id": texts("a")}, "ESRI Shapefile")
    assert open_source(path).crs.to_epsg() == 25832
    path.with_suffix(".prj").unlink()
    assert open_source(path).crs is None


def geoparquet(path, geo, name="geometry"):
    table = pa.table(
        {"id": ["007", "008"], name: [shapely.box(k, 0, k + 1, 1).wkb for k in (0, 1)]}
    )
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)} if geo else {}), path)
    return path


def described(**column):
    return {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"]} | column},
    }


def test_geoparquet_is_read_with_its_crs(tmp_path):
    import pyproj

    crs = pyproj.CRS.from_epsg(25832).to_json_dict()
    source = open_source(geoparquet(tmp_path / "p.parquet", described(crs=crs)))
    (batch,) = source.batches(["id"])
    assert source.crs.to_epsg() == 25832
    assert batch.columns == {"id": ["007", "008"]}
    assert batch.fids.tolist() == [0, 1]
    assert shapely.from_wkb(batch.wkb[1]).bounds == (1, 0, 2, 1)


def test_geoparquet_without_crs_is_longitude_and_latitude_and_null_is_none(tmp_path):
    source = open_source(geoparquet(tmp_path / "a.parquet", described()))
    assert source.crs.to_authority() == ("OGC", "CRS84")
    for number, unknown in enumerate((None, {"type": "foo"}, 7)):
        path = geoparquet(tmp_path / f"{number}.parquet", described(crs=unknown))
        assert open_source(path).crs is None


@pytest.mark.parametrize(
    ("geo", "reason"),
    [
        (None, "without a GeoParquet description"),
        (described(encoding="polygon"), "only the encod"),
        ({"primary_column": "geometry"}, "without a GeoParquet description"),
        ([1], "without a GeoParquet description"),
        ({"primary_column": ["geometry"], "columns": {}}, "without a GeoParquet description"),
    ],
)
def test_parquet_that_is_not_geoparquet_with_wkb_is_refused(tmp_path, geo, reason):
    with pytest.raises(ParcelFileError, match=reason):
        open_source(geoparquet(tmp_path / "p.parquet", geo))


# Only known formats, and nothing beyond the file


@pytest.mark.parametrize("text", PARCELS.values(), ids=PARCELS.keys())
@pytest.mark.parametrize("name", PARCEL_NAMES)
def test_a_file_that_leads_on_to_others_is_not_opened(tmp_path, name, text, monkeypatch):
    secret = write(tmp_path / "secret.gpkg", {"id": texts("secret")})
    path = write_parcels(tmp_path, name, text, str(secret), "http://127.0.0.1:9/")
    monkeypatch.setattr(pyogrio, "list_layers", lambda *_: pytest.fail("GDAL saw it"))
    with pytest.raises(ParcelFileError):
        open_source(path)


def test_a_format_that_is_not_listed_is_named(tmp_path):
    path = write(tmp_path / "p.sqlite", {"id": texts("a")}, "SQLite")
    with pytest.raises(ParcelFileError, match="is read as SQLite: only GPKG"):
        open_source(path)


def test_geodatabases_are_found_in_archives_with_folders(shared_data):
    place = shared_data / "field_reports/parcels"
    for name in ("lpis.gdb.zip", "delivery_with_folder.zip"):
        assert read(place / name, "parcel_id") == [["007", "008", "009"]]


def test_geoparquet_in_an_archive_is_read(tmp_path):
    geo = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    path = geoparquet(tmp_path / "p.parquet", geo)
    with zipfile.ZipFile(tmp_path / "delivery.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "lpis/p.parquet")
        archive.writestr("lpis/readme.txt", "parcels")
    assert read(tmp_path / "delivery.zip", "id") == [["007", "008"]]


def test_a_folder_with_one_delivery_in_it_is_read(shared_data):
    folder = shared_data / "field_reports/parcels/duplicate_fields"
    assert read(folder, "PARCEL_ID") == [["007", "008", "009"]]


def test_two_columns_of_one_name_are_named_and_disturb_no_others(shared_data):
    path = shared_data / "field_reports/parcels/duplicate_fields/parcels.shp"
    assert read(path, "PARCEL_ID") == [["007", "008", "009"]]
    with pytest.raises(ParcelFileError, match="2 columns that are called 'CROP_CODE'"):
        resolve(open_source(path), "CROP_CODE")


def test_a_column_called_as_the_feature_id_is_read(tmp_path):
    path = write(tmp_path / "p.shp", {"OGC_FID": texts("a", "b"), "fid": texts("c", "d")},
                 "ESRI Shapefile")  # fmt: skip
    assert read(path, "OGC_FID", "fid") == [["a", "b"], ["c", "d"]]


def test_numbers_whose_digits_are_lost_are_no_ids(shared_data):
    path = shared_data / "field_reports/parcels/wide_number_apart/parcels.shp"
    with pytest.raises(ParcelFileError, match="PARCEL_ID holds numbers such as 1234567890123456"):
        read(path, "PARCEL_ID")


@pytest.mark.parametrize(
    ("values", "number"),
    [
        (pa.array(np.array([4097, 1], np.float16)), "4096"),
        (pa.array(np.array([16777217, 1], np.float32)), "16777216"),
        (pa.array([2.0**53]), "9007199254740992"),
        (pa.array([1.0, 12.10]), "12.1"),
        (pa.array([float("inf")]), "inf"),
    ],
)
def test_ids_of_numbers_that_lost_digits_are_refused(values, number):
    with pytest.raises(ParcelFileError, match=rf"numbers such as {number} .* deliver it as text"):
        as_text(values, "id", is_id=True)
    assert as_text(pa.array([1.0, None, float("nan")]), "id", is_id=True) == ["1", None, None]


def test_texts_that_look_like_dates_keep_their_letters(tmp_path):
    path = write(
        tmp_path / "p.geojson", {"id": texts("2024/01/02", "2024-1-3")}, "GeoJSON", "EPSG:4326"
    )
    assert read(path, "id") == [["2024/01/02", "2024-1-3"]]


@pytest.mark.parametrize("driver", ["GeoJSON", "FlatGeobuf", "GPKG"])
def test_a_column_called_as_the_geometry_is_read(tmp_path, driver):
    path = write(tmp_path / "p.x", {"wkb_geometry": texts("a")}, driver, "EPSG:4326")
    path = path.rename(path.with_suffix({"GPKG": ".gpkg", "GeoJSON": ".json"}.get(driver, ".fgb")))
    assert read(path, "wkb_geometry") == [["a"]]


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, member in members.items():
            archive.write(member, name)
    return path


def encrypted(path):
    """Set the bit of encryption in an archive's headers."""
    data = bytearray(path.read_bytes())
    for head, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := data.find(head, at + 1)) >= 0:
            data[at + offset] |= 1
    path.write_bytes(data)
    return path


def test_archives_that_cannot_be_read_in_place_are_to_be_unpacked(tmp_path):
    parcels = write(tmp_path / "p.gpkg", {"id": texts("007")})
    packed = [
        zipped(tmp_path / "lzma.zip", {"p.gpkg": parcels}, zipfile.ZIP_LZMA),
        zipped(tmp_path / "windows.zip", {"delivery\\p.gpkg": parcels}),
        encrypted(zipped(tmp_path / "secret.zip", {"p.gpkg": parcels})),
    ]
    for path in packed:
        with pytest.raises(ParcelFileError, match="unpack it and import the file inside"):
            open_source(path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed[1].read_bytes()[:2000])
    with pytest.raises(ParcelFileError, match="ends early"):
        open_source(cut)


def test_an_archive_with_braces_in_its_name_is_read(tmp_path):
    parcels = write(tmp_path / "p.gpkg", {"id": texts("007")})
    path = zipped(tmp_path / "o}dd {n} #%20.zip", {"ä/p.gpkg": parcels})
    assert read(path, "id") == [["007"]]
