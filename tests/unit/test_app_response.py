"""Responses: JSON without NaN, files with names that are safe in a header."""

import json
import math
from http import HTTPStatus

import pytest

from app.http.response import error_response, file_response, json_response


def test_json_refuses_nan_rather_than_writing_what_is_no_json():
    with pytest.raises(ValueError, match="JSON"):
        json_response({"mean": [math.nan]})


def test_an_error_names_the_status_in_words_and_the_detail():
    response = error_response(HTTPStatus.BAD_REQUEST, "year: missing")
    assert json.loads(response.body) == {"error": "Bad Request", "detail": "year: missing"}


def test_a_file_name_cannot_break_out_of_its_header():
    name = 'a"; x=\r\nSet-Cookie: ü/../b.csv'
    disposition = file_response(b"", "text/csv", name).headers["Content-Disposition"]
    assert "\r" not in disposition
    assert "\n" not in disposition
    assert '"' not in disposition
    assert disposition.startswith("attachment; filename=a___x___Set-Cookie_")
    assert "filename*=UTF-8''a%22%3B%20x%3D" in disposition
