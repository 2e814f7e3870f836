"""Parameters of requests: what is accepted, and the words of a refusal."""

from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, Field, create_model

from app.http.errors import ParameterError
from app.http.parameters import (
    AoiCode,
    Day,
    Flag,
    Params,
    Presence,
    Text,
    Whole,
    Year,
    choice_of,
    query_pairs,
    read_params,
)


class Period(Params):
    year: Year = Field(description="year of the declaration")
    start: Day | None = Field(
        None, validation_alias=AliasChoices("start", "start_date"), description="first day"
    )


def period(query: str) -> dict[str, Any]:
    return read_params(Period, query_pairs(query)).model_dump()


def read(kind: Any, text: str, **field: Any) -> Any:
    """The value of a parameter of a type."""
    model = create_model("P", __base__=Params, p=(kind, Field(description="a parameter", **field)))
    return read_params(model, query_pairs(f"p={text}")).p


def refusal(kind: Any, text: str, **field: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        read(kind, text, **field)
    return str(caught.value)


def test_absent_and_empty_parameters_take_their_default():
    assert period("year=2024") == {"year": 2024, "start": None}
    assert period("year=2024&start=") == {"year": 2024, "start": None}


def test_an_alias_stands_for_its_parameter_but_not_beside_it():
    assert period("year=2024&start_date=2024-05-01")["start"] == date(2024, 5, 1)
    with pytest.raises(ParameterError, match="start_date: given more than once"):
        period("year=2024&start=2024-05-01&start_date=2024-05-01")


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
        period(query)


def test_a_parameter_of_the_path_cannot_be_replaced_by_the_query():
    assert read_params(Period, [], {"year": "2024"}).year == 2024
    with pytest.raises(ParameterError, match="'year' is no parameter here; known: start"):
        read_params(Period, query_pairs("year=2023"), {"year": "2024"})


def test_a_parameter_may_have_several_values_up_to_its_bound():
    several = {"max_length": 2}
    assert read(tuple[Text, ...], "a&p=b", **several) == ("a", "b")
    assert refusal(tuple[Text, ...], "a&p=b&p=c", **several) == "p: given more than 2 times"
    assert refusal(tuple[Text, ...], "a&p=%00", **several).startswith(r"p: '\x00' is not up to")
    assert refusal(tuple[Day, ...], "2024-05-01&p=x", **several).startswith("p: 'x' is not a date")


def test_booleans_are_the_jrcs_words_in_any_case_or_digits():
    assert [read(Flag, text) for text in ("True", "true", "TRUE", "1")] == [True] * 4
    assert [read(Flag, text) for text in ("False", "false", "0")] == [False] * 3


@pytest.mark.parametrize("text", ["yes", "2", "Tru", "None", "on"])
def test_other_words_are_no_booleans(text):
    assert refusal(Flag, text) == f"p: {text!r} is neither True nor False"


@pytest.mark.parametrize(
    "text", ["24", "02024", "-024", "2024.0", "abcd", "\uff12\uff10\uff12\uff14"]
)
def test_a_year_has_four_digits(text):
    assert "is not a year of four digits" in refusal(Year, text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "180.1", "1e9", "east", "1,5"])
def test_a_longitude_is_a_number_in_range(text):
    assert "is not a number from -180 to 180" in refusal(float, text, ge=-180, le=180)


def test_numbers_may_be_at_the_bounds():
    assert read(float, "-180", ge=-180, le=180) == -180.0


@pytest.mark.parametrize("text", ["0", "11", "5.0", "5.5", "1e1", " 5", "1_0", "five", "9" * 400])
def test_a_whole_number_is_written_in_digits(text):
    assert f"{text[:100]!r} is not a whole number from 1 to 10" in refusal(Whole, text, ge=1, le=10)


@pytest.mark.parametrize("text", ["2024-02-30", "2024-13-01"])
def test_a_day_is_in_the_calendar(text):
    assert "is no day of the calendar" in refusal(Day, text)


def test_a_day_of_several_is_in_the_calendar():
    class Days(Params):
        days: tuple[Day, ...] = Field(description="some", examples=[["2024-05-01"]], max_length=2)

    with pytest.raises(ParameterError, match="days: '2024-13-01' is no day of the calendar"):
        read_params(Days, [("days", "2024-05-01"), ("days", "2024-13-01")])


@pytest.mark.parametrize("text", ["20240501", "01-05-2024", "2024-W18-3", "today"])
def test_a_day_is_written_year_month_day(text):
    assert "is not a date like" in refusal(Day, text)


def test_an_aoi_is_lower_cased_and_looks_like_one():
    assert read(AoiCode, "BEwa") == "bewa"
    for text in ("n", "1nl", "nl-be", "public.x", "toolonganame", "nl;", "İz", "nl%0A"):
        assert "is not a letter" in refusal(AoiCode, text)


def test_ids_keep_their_spaces_and_letters_but_not_control_characters():
    assert read(Text, "NL+007%2Fa%C3%BC") == "NL 007/aü"
    for text in ("a%00b", "a%0Ab", "x" * 101):
        assert "printable characters" in refusal(Text, text)


def test_a_choice_names_the_alternatives():
    kinds = Annotated[str, choice_of({"s2": "s2", "c1": "c12"})]
    assert read(kinds, "C1") == "c12"
    assert refusal(kinds, "s3") == "p: 's3' is none of s2, c1"


def test_a_presence_is_true_with_and_without_a_value():
    class Raw(Params):
        raw: Presence = Field(
            False, description="a flag", json_schema_extra={"allowEmptyValue": True}
        )

    values = {q: read_params(Raw, query_pairs(q)).raw for q in ("", "raw", "raw=", "raw=no")}
    assert values == {"": False, "raw": True, "raw=": True, "raw=no": True}
