"""Documentation of successful responses: media type, JSON schema, example."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.http.response import JSON
from app.query.tables import MEDIA_TYPES

_TYPES: Mapping[str, str | list[str]] = {
    "text": "string",
    "text?": ["string", "null"],
    "number": "number",
    "number?": ["number", "null"],
    "whole": "integer",
    "whole?": ["integer", "null"],
    "counts?": ["object", "null"],
}


@dataclass(frozen=True)
class ResponseDoc:
    """One form of a route's successful response.

    Attributes:
        media_type: of the body.
        schema: its JSON schema; binary by default.
        example: a body; None shows none.
        description: a few words.
        status: of HTTP.
    """

    media_type: str
    schema: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "string", "format": "binary"}
    )
    example: Any = None
    description: str = "the answer"
    status: int = 200


def table_doc(
    columns: Mapping[str, tuple[str, Any]],
    optional: Iterable[str] = (),
    example: Iterable[str] | None = None,
) -> ResponseDoc:
    """JSON with a list per column, all of one length.

    Args:
        columns: name -> type of its values (text, number, whole, counts; with ? if they may be
            null), and an example of one value.
        optional: columns that depend on the request.
        example: columns of the example; None for those that are always there.
    """
    depending = set(optional)
    always = [name for name in columns if name not in depending]
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": _TYPES[kind]}}
            for name, (kind, _) in columns.items()
        },
        "required": always,
        "additionalProperties": False,
    }
    values = {name: [columns[name][1]] for name in example or always}
    return ResponseDoc(JSON, schema, values, "a list per column, all of one length")


def file_docs(*forms: str) -> tuple[ResponseDoc, ...]:
    """Files of some forms: csv, arrow, parquet."""
    text = {"type": "string"}
    return tuple(
        ResponseDoc(MEDIA_TYPES[form].partition(";")[0], text, description=f"a table as {form}")
        for form in forms
    )


_PARCEL = {
    "pid": ("text", "007"),
    "cropname": ("text?", "Maize"),
    "cropcode": ("text?", "259"),
    "srid": ("whole", 28992),
    "geom": ("text", '{"type":"MultiPolygon","coordinates":[]}'),
    "area": ("whole", 10012),
    "clon": ("number", 5.3879),
    "clat": ("number", 52.0382),
}
PARCELS = table_doc(_PARCEL, optional=["geom"])
PARCEL_IDS = table_doc(_PARCEL, optional=set(_PARCEL) - {"pid"})
PEERS = table_doc({"pids": ("text", "008"), "distance": ("number", 12.5)})
_STATISTICS = {
    name: ("number?", value)
    for name, value in {
        "mean": 812.25, "std": 40.5, "min": 700, "p25": 790, "p50": 811, "p75": 830, "max": 990,
    }.items()
}  # fmt: skip
_SERIES = {
    "date_part": ("number", 1714559431.024),
    "band": ("text", "B04"),
    "count": ("whole", 187),
    **_STATISTICS,
    "hist": ("counts?", {"4": 186, "5": 1}),
    "reference": ("text", "S2A_MSIL2A_20240501T103031_N0510_R108_T31UFT_20240501T153000"),
    "obsid": ("whole", 17),
    "px": ("whole", 190),
    "valid": ("number", 0.98),
    "flags": ("whole", 0),
    "layover": ("number", 0),
    "shadow": ("number", 0.1),
}
SERIES = table_doc(
    _SERIES, optional=_SERIES, example=["date_part", "band", "count", *_STATISTICS, "hist"]
)
MANY_SERIES = ResponseDoc(
    JSON,
    {"type": "object", "additionalProperties": SERIES.schema},
    {"007": SERIES.example},
    "by parcel, each as parcelTimeSeries has it",
)
WEATHER = table_doc(
    {
        "meteo_date": ("text", "2024-05-01"),
        "tmin": ("number?", 8.5),
        "tmax": ("number?", 19.25),
        "tmean": ("number?", 13.5),
        "prec": ("number?", 2.5),
    }
)
MARKERS = table_doc(
    {
        "foi_id": ("text", "007"),
        "marker": ("text", "mowing"),
        "marker_type": ("text", "drop"),
        "date_start": ("text", "2024-05-20"),
        "date_main": ("text?", "2024-05-25"),
        "date_end": ("text?", "2024-06-01"),
        "duration_days": ("whole?", 12),
        "value_1": ("number?", 0.25),
        "value_2": ("number?", None),
        "value_3": ("number?", None),
        "pid": ("text", "007"),
        "practice": ("text?", None),
    }
)
_TEXTS = {"type": "array", "items": {"type": "string"}}
CHIP_LIST = ResponseDoc(
    JSON,
    {
        "type": "object",
        "properties": {"dates": _TEXTS, "chips": _TEXTS},
        "required": ["dates", "chips"],
        "additionalProperties": False,
    },
    {
        "dates": ["20240501T103031"],
        "chips": [
            "/chips/006640f1c00123456789abcdef0123456789abcdef/ann/c_17_5.39_52.15_1280.0/S2A.B04.tif"
        ],
    },
    "times of sensing, and addresses of images that open without credentials",
)
INFO = ResponseDoc(
    JSON,
    {
        "type": "object",
        "properties": {part: {"type": "object"} for part in ("server", "helpers", "aois")},
        "required": ["server", "helpers", "aois"],
    },
    {"server": {"name": "CbM"}, "helpers": {"swagger": "/docs"}, "aois": {"nl": {}}},
)
