"""Parameters of requests: what is accepted, and what is refused with which words."""

from datetime import date

import pytest

from app import parameters
from app.errors import ParameterError
from app.parameters import Parameter, parse

YEAR = Parameter("year", "year of the declaration", parameters.year_number)
START = Parameter("start", "first day", parameters.day, default=None, aliases=("start_date",))


def read(reader, text):
    return parse(f"p={text}", [Parameter("p", "a parameter", reader)])["p"]


def refused(reader, text):
    with pytest.raises(ParameterError) as caught:
        read(reader, text)
    return str(caught.value)


def test_absent_and_empty_parameters_take_their_default():
    assert parse("year=2024", [YEAR, START]) == {"year": 2024, "start": None}
    assert parse("year=2024&start=", [YEAR, START]) == {"year": 2024, "start": None}


def test_an_alias_stands_for_its_parameter_but_not_beside_it():
    assert parse("year=2024&start_date=2024-05-01", [YEAR, START])["start"] == date(2024, 5, 1)
    with pytest.raises(ParameterError, match="start_date: given more than once"):
        parse("year=2024&start=2024-05-01&start_date=2024-05-01", [YEAR, START])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "year: missing"),
        ("year=", "year: missing"),
        ("year=2024&year=2024", "year: given more than once"),
        ("year=2024&yaer=2024", "'yaer' is no parameter here; known: year, start"),
        ("year=%ff", "not UTF-8"),
        ("year=2024" + "&x=1" * 60, "more than 50 parameters"),
    ],
)
def test_a_query_that_cannot_be_read_says_which_parameter_and_why(query, message):
    with pytest.raises(ParameterError, match=message):
        parse(query, [YEAR, START])


def test_booleans_are_the_jrcs_words_in_any_case_or_digits():
    assert [read(parameters.truth, text) for text in ("True", "true", "TRUE", "1")] == [True] * 4
    assert [read(parameters.truth, text) for text in ("False", "false", "0")] == [False] * 3


@pytest.mark.parametrize("text", ["yes", "2", "Tru", "None", "on"])
def test_other_words_are_no_booleans(text):
    assert refused(parameters.truth, text) == f"p: {text!r} is neither True nor False"


@pytest.mark.parametrize(
    "text", ["24", "02024", "-024", "2024.0", "abcd", "\uff12\uff10\uff12\uff14"]
)
def test_a_year_has_four_digits(text):
    assert "is not a year of four digits" in refused(parameters.year_number, text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "180.1", "1e9", "east", "1,5"])
def test_a_longitude_is_a_number_in_range(text):
    assert "is not a number from -180 to 180" in refused(parameters.number_within(-180, 180), text)


def test_numbers_may_be_at_the_bounds():
    assert read(parameters.number_within(-180, 180), "-180") == -180.0


@pytest.mark.parametrize("text", ["2024-02-30", "2024-13-01"])
def test_a_day_is_in_the_calendar(text):
    assert "is no day of the calendar" in refused(parameters.day, text)


@pytest.mark.parametrize("text", ["20240501", "01-05-2024", "2024-W18-3", "today"])
def test_a_day_is_written_year_month_day(text):
    assert "is not a date like" in refused(parameters.day, text)


def test_an_aoi_is_lower_cased_and_looks_like_one():
    assert read(parameters.aoi_code, "BEwa") == "bewa"
    for text in ("n", "1nl", "nl-be", "public.x", "toolonganame", "nl;", "İz"):
        assert "is not a letter" in refused(parameters.aoi_code, text)


def test_ids_keep_their_spaces_and_letters_but_not_control_characters():
    assert read(parameters.plain_text, "NL+007%2Fa%C3%BC") == "NL 007/aü"
    for text in ("a%00b", "a%0Ab", "x" * 101):
        assert "printable characters" in refused(parameters.plain_text, text)


def test_a_choice_names_what_there_is_to_choose():
    kinds = parameters.one_of({"s2": "s2", "c1": "c12"})
    assert read(kinds, "C1") == "c12"
    assert refused(kinds, "s3") == "p: 's3' is none of s2, c1"


def test_a_name_without_a_text_may_have_a_value_of_its_own():
    flag = Parameter("raw", "a flag", parameters.plain_text, default=None, bare="yes")
    asked = {query: parse(query, [flag])["raw"] for query in ("", "raw", "raw=", "raw=no")}
    assert asked == {"": None, "raw": "yes", "raw=": "yes", "raw=no": "no"}
