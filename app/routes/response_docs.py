"""Documentation of successful responses: media type, JSON schema, example."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.http.response import JSON
from app.query.tables import MEDIA_TYPES


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
        columns: name -> type of its values as JSON schemas name it, with ? if they may be null,
            and an example of one value.
        optional: columns that depend on the request.
        example: columns of the example; None for those that are always there.
    """
    depending = set(optional)
    always = [name for name in columns if name not in depending]
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": _json_type(kind)}}
            for name, (kind, _) in columns.items()
        },
        "required": always,
        "additionalProperties": False,
    }
    values = {name: [columns[name][1]] for name in example or always}
    return ResponseDoc(JSON, schema, values, "a list per column, all of one length")


def _json_type(kind: str) -> str | list[str]:
    return [kind.removesuffix("?"), "null"] if kind.endswith("?") else kind


FILES = tuple(
    ResponseDoc(media_type.partition(";")[0], {"type": "string"}, description=f"a table as {form}")
    for form, media_type in MEDIA_TYPES.items()
)
_PARCEL = {
    "pid": ("string", "007"),
    "cropname": ("string?", "Maize"),
    "cropcode": ("string?", "259"),
    "srid": ("integer", 28992),
    "geom": ("string", '{"type":"MultiPolygon","coordinates":[]}'),
    "area": ("integer", 10012),
    "clon": ("number", 5.3879),
    "clat": ("number", 52.0382),
}
PARCELS = table_doc(_PARCEL, optional=["geom"])
PARCEL_IDS = table_doc(_PARCEL, optional=set(_PARCEL) - {"pid"})
PEERS = table_doc({"pids": ("string", "008"), "distance": ("number", 12.5)})
_STATISTICS = {
    name: ("number?", value)
    for name, value in {
        "mean": 812.25, "std": 40.5, "min": 700, "p25": 790, "p50": 811, "p75": 830, "max": 990,
    }.items()
}  # fmt: skip
_SERIES = {
    "date_part": ("number", 1714559431.024),
    "band": ("string", "B04"),
    "count": ("integer", 187),
    **_STATISTICS,
    "hist": ("object?", {"4": 186, "5": 1}),
    "reference": ("string", "S2A_MSIL2A_20240501T103031_N0510_R108_T31UFT_20240501T153000"),
    "obsid": ("integer", 17),
    "px": ("integer", 190),
    "valid": ("number", 0.98),
    "flags": ("integer", 0),
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
        "meteo_date": ("string", "2024-05-01"),
        "tmin": ("number?", 8.5),
        "tmax": ("number?", 19.25),
        "tmean": ("number?", 13.5),
        "prec": ("number?", 2.5),
    }
)
MARKERS = table_doc(
    {
        "foi_id": ("string", "007"),
        "marker": ("string", "mowing"),
        "marker_type": ("string", "drop"),
        "date_start": ("string", "2024-05-20"),
        "date_main": ("string?", "2024-05-25"),
        "date_end": ("string?", "2024-06-01"),
        "duration_days": ("integer?", 12),
        "value_1": ("number?", 0.25),
        "value_2": ("number?", None),
        "value_3": ("number?", None),
        "pid": ("string", "007"),
        "practice": ("string?", None),
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
