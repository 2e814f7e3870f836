"""The OpenAPI document says what is served: all of it, and validly."""

import json
import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.http.parameters import param_schemas, query_pairs, read_params
from app.routes.openapi import document, example
from app.routes.table import ROUTES

DOCUMENT = document(ROUTES, "1")
NAMES = [f"{route.method} {route.path}" for route in ROUTES]

every_route = pytest.mark.parametrize("route", ROUTES, ids=NAMES)


def operation(route) -> dict:
    return DOCUMENT["paths"][route.path][route.method.lower()]


def described(route) -> dict[str, dict]:
    """Parameters by name, wherever they stand."""
    found = {p["name"]: p["schema"] for p in operation(route)["parameters"]}
    for content in operation(route).get("requestBody", {}).get("content", {}).values():
        found |= content["schema"]["properties"]
    return found


def test_the_document_is_valid_and_is_json():
    OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).validate()


def test_every_address_and_method_has_one_operation_of_its_own():
    assert len(set(NAMES)) == len(NAMES)
    operations = [o for path in DOCUMENT["paths"].values() for o in path.values()]
    assert len(operations) == len(ROUTES)
    assert len({o["operationId"] for o in operations}) == len(ROUTES)


@every_route
def test_every_parameter_is_described_with_type_meaning_and_example(route):
    parameters = param_schemas(route.params)
    assert set(described(route)) == set(parameters)
    for name, parameter in parameters.items():
        schema = described(route)[name]
        assert schema["type"] in {"string", "number", "integer", "array"}
        assert parameter["description"]
        assert example(parameter) is not None, name


@every_route
def test_the_examples_of_all_parameters_are_accepted(route):
    pairs = []
    for name, parameter in param_schemas(route.params).items():
        value = example(parameter)
        texts = value if isinstance(value, list) else [value]
        pairs += [(name, str(text)) for text in texts]
        jsonschema.validate(value, described(route)[name])
    params = read_params(route.params, pairs)
    assert all(value is not None for _, value in params)


@every_route
def test_every_answer_has_a_media_type_and_fits_its_own_example(route):
    responses = operation(route)["responses"]
    assert any(status.startswith(("2", "3")) for status in responses)
    assert {"400", "401", "403", "404", "429", "503"} <= set(responses)
    for answer in route.responses:
        content = responses[str(answer.status)]["content"][answer.media_type]
        if answer.example is not None:
            jsonschema.validate(content["example"], content["schema"])


@every_route
def test_every_question_to_the_jrcs_paths_asks_who_is_there(route):
    if route.path.startswith("/query/"):
        assert operation(route)["security"]


def test_names_in_paths_are_parameters():
    for route in ROUTES:
        assert set(route.path_params) <= set(param_schemas(route.params))


def test_unknown_words_in_a_query_are_no_parameters():
    assert query_pairs("a=1&b=") == [("a", "1"), ("b", "")]
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
