"""Weather and markers: what is kept of a file, and what is refused with nothing kept."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from click.testing import CliRunner

from store import db
from store.cli import main
from store.errors import CallerError
from store.markers import import_markers
from store.parcels import campaigns
from store.weather import import_weather
from tests.integration.small_state import add_campaign, square

DAYS = "SELECT day::text, tmin_c, tmax_c, tmean_c, prec_mm FROM weather_day ORDER BY cell_id, day"
HEADER = "code,marker,marker_type,date_start,date_main,date_end,value_1,practice\n"


def csv_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.csv"
    path.write_text(text)
    return path


def kept(conn: db.Connection) -> list[tuple]:
    return [tuple(row) for row in db.fetch_all(conn, DAYS)]


def test_weather_of_a_csv_is_kept_and_replaced_by_point_and_day(database, tmp_path):
    file = csv_file(
        tmp_path, "lon,lat,date,tmin,tmax,tmean,prec\n5.25,52,2024-05-01,8.5,19.25,13.5,\n"
        "365.5,52,2024-05-01,1,2,1.5,0.25\n",
    )  # fmt: skip
    report = str(import_weather(database, file))
    assert report == "2 days of 2 points, from 2024-05-01 to 2024-05-01"
    more = csv_file(tmp_path, "lon,lat,date,tmin,prec\n5.25,52,2024-05-01,,2.5\n")
    import_weather(database, more)
    import_weather(database, more)
    assert sorted(kept(database)) == [
        ("2024-05-01", 1.0, 2.0, 1.5, 0.25),
        ("2024-05-01", 8.5, 19.25, 13.5, 2.5),
    ]
    assert db.fetch_one(database, "SELECT max(ST_X(centre)) AS x FROM weather_cell").x == 5.5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lon,lat,day,tmin\n1,2,2024-05-01,3\n", "needs the columns"),
        ("lon,lat,date,tmin\n5,52,2024-05-01,1\n5,52,2024-13-01,1\n", "line 3"),
        ("lon,lat,date,tmean\n5,52,2024-05-01,285.5\n", "degrees Celsius"),
        ("lon,lat,date,tmean\n52,105,2024-05-01,8\n", "no latitude"),
        ("lon,lat,date,tmean\n5,52,2024-05-01,nan\n", "tmean is nan"),
        ("lon,lat,date,tmean\n", "holds no weather"),
    ],
)
def test_weather_that_cannot_be_right_is_refused(database, tmp_path, text, why):
    with pytest.raises(CallerError, match=why):
        import_weather(database, csv_file(tmp_path, text))
    assert kept(database) == []


def netcdf(path: Path, name: str, units: str, days: np.ndarray, step: str = "days",
           *, accumulated: bool = False) -> Path:  # fmt: skip
    """One variable on a grid of 0.25 degrees from 5 E, 52.5 N; shape (days, rows, cols)."""
    tags = {
        "NETCDF_DIM_EXTRA": "{time}",
        "NETCDF_DIM_time_DEF": f"{{{len(days)},6}}",
        "NETCDF_DIM_time_VALUES": f"{{{','.join(str(n) for n in range(len(days)))}}}",
        "time#units": f"{step} since 2024-05-01",
    }
    with rasterio.open(
        path.with_suffix(".tif"), "w", driver="GTiff", dtype="float32", nodata=-9999,
        count=days.shape[0], height=days.shape[1], width=days.shape[2], crs=4326,
        transform=Affine(0.25, 0, 4.875, 0, -0.25, 52.625),
    ) as raster:  # fmt: skip
        raster.update_tags(**tags)
        raster.write(days.astype(np.float32))
        for band in raster.indexes:
            more = {"units": units} if units else {}
            more |= {"GRIB_stepType": "accum"} if accumulated else {}
            raster.update_tags(band, NETCDF_VARNAME=name, NETCDF_DIM_time=str(band - 1), **more)
    rasterio.shutil.copy(path.with_suffix(".tif"), path, driver="netCDF")
    return path


def test_weather_of_netcdf_files_comes_in_celsius_and_mm_by_day_and_point(database, tmp_path):
    kelvin = np.array([[[281.65, -9999]], [[282.65, 283.15]]])
    import_weather(database, netcdf(tmp_path / "a.nc", "mn2t", "K", kelvin))
    metres = np.array([[[0.0025, 0.0]], [[0.0, 0.001]]])
    import_weather(database, netcdf(tmp_path / "b.nc", "tp", "m", metres))
    found = {(row.x, row.day): (row.tmin_c, row.prec_mm) for row in db.fetch_all(
        database, "SELECT ST_X(centre) AS x, day::text, tmin_c, prec_mm FROM weather_day "
                  "JOIN weather_cell ON id = cell_id AND ST_Y(centre) = 52.5")}  # fmt: skip
    assert found == {
        (5.0, "2024-05-01"): (pytest.approx(8.5, abs=1e-3), pytest.approx(2.5)),
        (5.25, "2024-05-01"): (None, 0),
        (5.0, "2024-05-02"): (pytest.approx(9.5, abs=1e-3), 0),
        (5.25, "2024-05-02"): (pytest.approx(10, abs=1e-3), pytest.approx(1)),
    }


def test_netcdf_by_the_hour_is_refused(database, tmp_path):
    hourly = netcdf(tmp_path / "h.nc", "t2m", "K", np.full((2, 1, 2), 280.0), "hours")
    with pytest.raises(CallerError, match="several steps of one day"):
        import_weather(database, hourly)


def test_a_file_that_is_no_netcdf_is_refused_by_name(database, tmp_path):
    (tmp_path / "x.nc").write_text("no")
    with pytest.raises(CallerError, match=r"x\.nc is no NetCDF file"):
        import_weather(database, tmp_path / "x.nc")


@pytest.fixture
def campaign(database) -> campaigns.Campaign:
    add_campaign(database, [square(0, 0), square(0, 5)])
    return campaigns.find(database, "tt", 2024, "")


def markers_kept(conn: db.Connection) -> list[tuple]:
    statement = "SELECT code, marker, date_start::text, value_1 FROM marker ORDER BY 1, 2, 3"
    return [tuple(row) for row in db.fetch_all(conn, statement)]


def test_markers_are_kept_replaced_by_key_and_forgotten_on_demand(database, campaign, tmp_path):
    file = csv_file(tmp_path, HEADER + "p1,mowing,drop,2024-05-20,2024-05-25,2024-06-01,0.25,\n"
                                       "p2,mowing,drop,2024-05-21,,,,catch crop\n")  # fmt: skip
    assert import_markers(database, campaign, file) == 2
    again = csv_file(tmp_path, HEADER + "p1,mowing,drop,2024-05-20,,,0.5,\n")
    import_markers(database, campaign, again)
    assert markers_kept(database) == [("p1", "mowing", "2024-05-20", 0.5),
                                      ("p2", "mowing", "2024-05-21", None)]  # fmt: skip
    import_markers(database, campaign, again, replace=True)
    assert markers_kept(database) == [("p1", "mowing", "2024-05-20", 0.5)]


def test_markers_go_with_their_campaign(database, campaign, tmp_path):
    import_markers(database, campaign, csv_file(tmp_path, HEADER + "p1,m,,2024-05-20,,,,\n"))
    campaigns.drop(database, campaign)
    assert markers_kept(database) == []


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("p1,m,,2024-05-20,,,,\nnobody,m,,2024-05-20,,,,\n", "lacks 1 of its parcels: 'nobody'"),
        ("p1,m,,2024-05-20,,,,\np1,m,,2024-05-20,,,1,\n", "a marker twice"),
        ("p1,m,,2024-05-20,,2024-05-01,,\n", "ends before it starts"),
        ("p1,,,2024-05-20,,,,\n", "line 2: marker is empty"),
        ("p1,m,,2024-05-20,,,inf,\n", "not finite"),
    ],
)
def test_markers_that_cannot_be_right_are_refused(database, campaign, tmp_path, lines, why):
    with pytest.raises(CallerError, match=why):
        import_markers(database, campaign, csv_file(tmp_path, HEADER + lines))
    assert markers_kept(database) == []


def test_both_are_imported_on_the_command_line(database, campaign, tmp_path):
    weather = csv_file(tmp_path, "lon,lat,date,tmin\n9,47,2024-05-01,3\n")
    done = CliRunner().invoke(main, ["weather", "import", str(weather)])
    assert done.output.endswith("1 days of 1 points, from 2024-05-01 to 2024-05-01\n")
    markers = csv_file(tmp_path, HEADER + "p1,m,,2024-05-20,,,,\n")
    done = CliRunner().invoke(
        main, ["markers", "import", str(markers), "--aoi", "tt", "--year", "2024"]
    )
    assert done.output == "1 markers of tt_2024\n"
    done = CliRunner().invoke(main, ["weather", "import", str(tmp_path / "missing.csv")])
    assert done.exit_code == 2
    assert "cannot read" in done.output


# Lines and units that are not as they should be


@pytest.mark.parametrize(("text", "why"), [
    ("lon,lat,date,tmin\n9,47,2024-05-01,3,5\n", "line 2: 5 cells, but the header has 4"),
    ("lon,lat,date,tmin\n9,47,2024-05-01,3\n9,47,2024-05-02\n", "line 3: 3 cells"),
    ("lon,lat,date,tmin\n9,5,47,2024-05-01,3\n", "line 2: 5 cells"),
    ("lon;lat;date;tmin\n9;47;2024-05-01;1.234,5\n", "line 2: tmin is '1.234,5'"),
    ("lon,lat,date,tmin\n9,47,2024-05-01,nan\n", "not finite"),
    ("lon,lat,date,tmin\n9,47,2024-05-01,1_0\n", "line 2: tmin is '1_0', which is no number"),
    ("lon,lat,date,tmin,tmin\n9,47,2024-05-01,3,4\n", "column 'tmin' twice"),
])  # fmt: skip
def test_a_line_that_is_not_like_its_header_is_refused_with_its_number(
    database, tmp_path, text, why
):
    with pytest.raises(CallerError, match=why):
        import_weather(database, csv_file(tmp_path, text))
    assert kept(database) == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_refused_with_what_to_do(database, tmp_path, encoding):
    file = tmp_path / "w.csv"
    file.write_bytes("lon,lat,date,höhe\n".encode(encoding))
    with pytest.raises(CallerError, match="save it as UTF-8"):
        import_weather(database, file)


def test_semicolons_and_decimal_commas_are_understood(database, campaign, tmp_path):
    import_weather(database, csv_file(tmp_path, "lon;lat;date;tmin\n9,5;47,25;2024-05-01;-3,5\n"))
    row = db.fetch_one(database, "SELECT tmin_c, ST_X(centre) AS x FROM weather_day "
                                 "JOIN weather_cell ON id = cell_id")  # fmt: skip
    assert row == (-3.5, 9.5)
    text = "code;marker;date_start;value_1\np1;m;2024-05-20;0,25\n"
    assert import_markers(database, campaign, csv_file(tmp_path, text)) == 1
    assert markers_kept(database) == [("p1", "m", "2024-05-20", 0.25)]


@pytest.mark.parametrize(("name", "unit", "value", "stored"), [
    ("tp", "metres", 0.0025, 2.5), ("tp", "m of water equivalent", 0.0025, 2.5),
    ("tp", "kg m**-2", 2.5, 2.5), ("mn2t", "kelvin", 274.15, 1.0), ("mn2t", "degC", 1.0, 1.0),
    ("tp", "", 0.0025, None), ("tp", "K", 0.0025, None), ("mn2t", "", 1.0, None),
    ("mn2t", "F", 50.0, None), ("tp", "inches", 0.1, None),
])  # fmt: skip
def test_units_are_understood_or_asked_for(database, tmp_path, name, unit, value, stored):
    file = netcdf(tmp_path / "w.nc", name, unit, np.array([[[value, value]]]))
    if stored is None:
        with pytest.raises(CallerError, match=f"unit .*{name}: set its attribute units"):
            import_weather(database, file)
        return
    import_weather(database, file)
    row = db.fetch_one(database, "SELECT coalesce(prec_mm, tmin_c) AS value FROM weather_day")
    assert row.value == pytest.approx(stored, abs=1e-3)


def test_midnight_of_an_accumulation_belongs_to_the_day_before(database, tmp_path):
    file = netcdf(tmp_path / "w.nc", "tp", "m", np.full((2, 1, 2), 0.001), accumulated=True)
    done = import_weather(database, file)
    assert (str(done.first), str(done.last)) == ("2024-04-30", "2024-05-01")
