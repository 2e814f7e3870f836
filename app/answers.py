"""What successful answers look like, for the documentation."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.chips.addresses import PATH
from app.route import JSON, Answer
from app.tables import MEDIA_TYPES

_TYPES: Mapping[str, str | list[str]] = {
    "text": "string",
    "text?": ["string", "null"],
    "number": "number",
    "number?": ["number", "null"],
    "whole": "integer",
    "whole?": ["integer", "null"],
    "counts?": ["object", "null"],
}


def table(
    columns: Mapping[str, tuple[str, Any]],
    optional: Iterable[str] = (),
    shown: Iterable[str] | None = None,
) -> Answer:
    """JSON with a list per column, all of one length.

    Args:
        columns: name -> type of its values (text, number, whole, counts; with ? if they may be
            null), and an example of one.
        optional: columns that are only there when asked for.
        shown: columns of the example; None for those that are always there.
    """
    left_out = set(optional)
    always = [name for name in columns if name not in left_out]
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": _TYPES[kind]}}
            for name, (kind, _) in columns.items()
        },
        "required": always,
        "additionalProperties": False,
    }
    example = {name: [columns[name][1]] for name in shown or always}
    return Answer(JSON, schema, example, "a list per column, all of one length")


def files(*forms: str) -> tuple[Answer, ...]:
    """Files of some forms: csv, arrow, parquet."""
    text = {"type": "string"}
    return tuple(
        Answer(MEDIA_TYPES[form].partition(";")[0], text, meaning=f"a table as {form}")
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
PARCELS = table(_PARCEL, optional=["geom"])
PARCEL_IDS = table(_PARCEL, optional=set(_PARCEL) - {"pid"})
PEERS = table({"pids": ("text", "008"), "distance": ("number", 12.5)})
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
}
SERIES = table(
    _SERIES, optional=_SERIES, shown=["date_part", "band", "count", *_STATISTICS, "hist"]
)
MANY_SERIES = Answer(
    JSON,
    {"type": "object", "additionalProperties": SERIES.schema},
    {"007": SERIES.example},
    "by parcel, each as parcelTimeSeries has it",
)
WEATHER = table(
    {
        "meteo_date": ("text", "2024-05-01"),
        "tmin": ("number?", 8.5),
        "tmax": ("number?", 19.25),
        "tmean": ("number?", 13.5),
        "prec": ("number?", 2.5),
    }
)
MARKERS = table(
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
CHIP_LIST = Answer(
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
            PATH.format(
                proof="006640f1c0" + "0123456789abcdef" * 2,
                holder="ann",
                subject="c_17_5.39_52.15_1280.0",
                name="S2A_MSIL2A_20240501T103031_N0510_R108_T31UFU_20240501T155001.B04.tif",
            )
        ],
    },
    "times of sensing, and addresses of images to fetch without credentials",
)
INFO = Answer(
    JSON,
    {
        "type": "object",
        "properties": {part: {"type": "object"} for part in ("server", "helpers", "aois")},
        "required": ["server", "helpers", "aois"],
    },
    {"server": {"name": "CbM"}, "helpers": {"swagger": "/docs"}, "aois": {"nl": {}}},
)
