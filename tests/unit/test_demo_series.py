"""The plotted series: NDVI by hand, clear dates by their SCL histogram."""

from typing import Any

import pytest

from standalone import series
from standalone.programs import DemoError

PARCEL = series.ParcelRecord("demo", 2024, "0007", "", "")


class Answers:
    """Stands for the API's client: answers with the columns it was given."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}

    def get(self, path: str, **parameters: object) -> Any:
        return self.columns


def row(day: int, band: str, mean: float | None, **other: Any) -> dict[str, Any]:
    count = 0 if mean is None else 20
    whole = {"date_part": day * 86400.0, "reference": f"r{day}", "hist": {"4": 20}}
    return whole | {"band": band, "count": count, "mean": mean} | other


def ndvi(*rows: dict[str, Any]) -> list[series.Point]:
    return series.ndvi(Answers(list(rows)), PARCEL)  # type: ignore[arg-type]


def test_ndvi_is_that_of_the_means() -> None:
    (point,) = ndvi(row(0, "B04", 500), row(0, "B08", 1500))
    assert point.value == pytest.approx(0.5)
    assert point.clear


def test_near_infrared_is_the_band_with_more_dates() -> None:
    first, second = ndvi(
        row(0, "B04", 500), row(0, "B8A", 1500), row(0, "B08", 4500),
        row(1, "B04", 500), row(1, "B8A", 1500),
    )  # fmt: skip
    assert first.value == second.value == pytest.approx(0.5)


def test_date_without_a_valid_pixel_has_no_value() -> None:
    seen, unseen = ndvi(
        row(0, "B04", 500), row(0, "B08", 1500), row(1, "B04", None), row(1, "B08", None)
    )
    assert seen.value is not None
    assert unseen.value is None


@pytest.mark.parametrize(
    ("hist", "clear"),
    [
        ({"4": 20}, True),
        ({"4": 18, "9": 2}, True),  # exactly nine tenths
        ({"4": 17, "9": 3}, False),
        ({"3": 20}, False),  # shadow
        ({"10": 20}, False),  # cirrus
        ({"5": 10, "6": 5, "7": 4, "8": 1}, True),
        ({"5": 10, "6": 5, "11": 5}, False),  # snow
        (None, None),  # no scene classes: neither clear nor clouded
    ],
)
def test_a_date_is_clear_when_nine_tenths_of_the_parcel_show_the_ground(
    hist: dict[str, int] | None, clear: bool | None
) -> None:
    (point,) = ndvi(row(0, "B04", 500, hist=hist), row(0, "B08", 1500, hist=hist))
    assert point.clear is clear


def test_two_scenes_of_one_moment_stay_apart() -> None:
    points = ndvi(
        row(0, "B04", 500, reference="a"), row(0, "B08", 1500, reference="a"),
        row(0, "B04", 500, reference="b"), row(0, "B08", 500, reference="b"),
    )  # fmt: skip
    assert [point.value for point in points] == [pytest.approx(0.5), pytest.approx(0.0)]


@pytest.mark.parametrize(
    ("unit", "mean", "expected_db"),
    [("sigma0_linear", 0.1, -10.0), ("gamma0_db", -12.0, -12.0), ("gamma0_linear", 0.0, None)],
)
def test_backscatter_is_in_db_whatever_the_unit(
    unit: str, mean: float, expected_db: float | None
) -> None:
    client = Answers([row(0, "VVb", mean), row(0, "VHb", mean)])
    lines = series.backscatter(client, PARCEL, unit)  # type: ignore[arg-type]
    assert set(lines) == {"VV", "VH"}
    value = lines["VV"][0].value
    assert value == (expected_db if expected_db is None else pytest.approx(expected_db))


def test_parcel_without_a_series_is_an_error() -> None:
    with pytest.raises(DemoError, match="no s2 series of parcel 0007"):
        ndvi()
