"""Tables as CSV, and streams of rows by parcel as JSON."""

import csv
import io
import json

import pyarrow as pa

from app.query.tables import encode_by_key, encode_table

TYPES = {"pid": pa.string(), "mean": pa.float32(), "hist": pa.string(), "reference": pa.string()}


def lines(*rows) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def read(*pieces: bytes, keys, wanted=("mean", "hist", "reference")) -> dict:
    return json.loads(b"".join(encode_by_key((piece for piece in pieces), TYPES, keys, wanted)))


def test_a_parcel_whose_rows_come_in_two_pieces_is_one_member():
    first = lines(("a", "1.5", '{"4":1}', "S2A"), ("b", "1e-05", "", "S2A"))
    found = read(first, lines(("b", "NaN", "", "S2B")), keys=["a", "b"])
    assert found == {
        "a": {"mean": [1.5], "hist": [{"4": 1}], "reference": ["S2A"]},
        "b": {"mean": [1e-05, None], "hist": [None, None], "reference": ["S2A", "S2B"]},
    }


def test_parcels_without_rows_have_empty_columns_and_unwanted_ones_are_left_out():
    assert read(keys=[]) == {}
    assert read(keys=["x"], wanted=["mean"]) == {"x": {"mean": []}}
    assert read(lines(("b", "2", "", "")), keys=["a", "b"], wanted=["mean"]) == {
        "b": {"mean": [2]},
        "a": {"mean": []},
    }


def test_ids_may_be_any_text():
    odd = ['"', "a,b", "a\nb", "\u2028", "\x0b", "\\", "{}", "é"]
    found = read(*(lines((code, "1", "", "")) for code in odd), keys=odd, wanted=["mean"])
    assert list(found) == odd


def test_a_parcel_is_sent_before_the_next_is_read():
    taken = []

    def rows():
        for code in "abcd":
            taken.append(code)
            yield lines((code, "1", "", ""))

    made = encode_by_key(rows(), TYPES, "abcd", ["mean"])
    assert next(made) == b'{"a":{"mean":[1]}'
    assert taken == ["a", "b"]


def test_csv_has_a_line_per_row_with_empty_cells_for_none_and_json_for_objects():
    table = {"band": ["B04", "B08"], "mean": [812.5, None], "hist": [{"4": 7}, None]}
    assert list(csv.reader(io.StringIO(encode_table(table, "csv").decode()))) == [
        ["band", "mean", "hist"],
        ["B04", "812.5", '{"4":7}'],
        ["B08", "", ""],
    ]


def test_csv_of_no_rows_is_its_header():
    assert encode_table({"band": [], "mean": []}, "csv").decode() == "band,mean\r\n"
