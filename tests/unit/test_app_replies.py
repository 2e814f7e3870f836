"""How answers are written: JSON without NaN, CSV files with names that are safe in a header."""

import csv
import io
import json
import math
from http import HTTPStatus

import pytest

from app import replies


def test_json_refuses_nan_rather_than_writing_what_is_no_json():
    with pytest.raises(ValueError, match="JSON"):
        replies.as_json({"mean": [math.nan]})


def test_an_error_names_the_status_in_words_and_the_detail():
    reply = replies.as_error(HTTPStatus.BAD_REQUEST, "year: missing")
    assert json.loads(reply.body) == {"error": "Bad Request", "detail": "year: missing"}


def test_csv_has_a_line_per_row_with_empty_cells_for_none_and_json_for_objects():
    table = {"band": ["B04", "B08"], "mean": [812.5, None], "hist": [{"4": 7}, None]}
    reply = replies.as_csv(table, "a")
    assert list(csv.reader(io.StringIO(reply.body.decode()))) == [
        ["band", "mean", "hist"],
        ["B04", "812.5", '{"4":7}'],
        ["B08", "", ""],
    ]


def test_csv_of_no_rows_is_its_header():
    assert replies.as_csv({"band": [], "mean": []}, "a").body.decode() == "band,mean\r\n"


def test_a_file_name_cannot_break_out_of_its_header():
    name = 'a"; x=\r\nSet-Cookie: ü/../b.csv'
    disposition = replies.as_csv({"band": []}, name).headers["Content-Disposition"]
    assert "\r" not in disposition
    assert "\n" not in disposition
    assert '"' not in disposition
    assert disposition.startswith("attachment; filename=a___x___Set-Cookie_")
    assert "filename*=UTF-8''a%22%3B%20x%3D" in disposition
