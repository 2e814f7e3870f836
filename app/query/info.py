"""The overview of a user's aois and campaigns, as the JRC's clients read it."""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from app.query.campaigns import CampaignView
from app.query.parcels import fetch_example_codes
from store import db


def fetch_info(
    conn: db.Connection, campaigns: Sequence[CampaignView], backgrounds: Sequence[str]
) -> dict[str, Any]:
    """Three objects: server, helpers and aois.

    Args:
        conn: an open connection.
        campaigns: of the user.
        backgrounds: names of the background sources, the same for every aoi.
    """
    aois: dict[str, Any] = {}
    for campaign in campaigns:
        examples = fetch_example_codes(conn, campaign, 5)
        entry = aois.setdefault(campaign.aoi, _aoi_entry(campaign, examples, backgrounds))
        suffix = f"{campaign.year}_{campaign.ptype}".rstrip("_")
        entry[f"id_examples_{suffix}"] = examples
        _add(entry["years"], [str(campaign.year)])
        _add(entry["datasets"], [campaign.ptype] if campaign.ptype else [])
        _add(entry["time_series"], campaign.kinds)
    return {
        "server": {"name": "CbM", "attribution": "Contains modified Copernicus Sentinel data"},
        "helpers": {
            "documentation": "/docs",
            "swagger": "/docs",
            "openapi": "/openapi.json",
            "information_page": "/query/info",
        },
        "aois": aois,
    }


def _aoi_entry(
    newest: CampaignView, examples: Sequence[str], backgrounds: Sequence[str]
) -> dict[str, Any]:
    return {
        "years": [],
        "datasets": [],
        "time_series": [],
        "tms": list(backgrounds),
        "id_table_column": "code",
        "request_examples": _request_examples(newest, examples[0]) if examples else {},
    }


def _request_examples(campaign: CampaignView, code: str) -> dict[str, str]:
    params = {"aoi": campaign.aoi, "year": campaign.year, "pid": code}
    if campaign.ptype:
        params["ptype"] = campaign.ptype
    parcel = urlencode(params)
    examples = {"parcelByID": f"/query/parcelByID?{parcel}&withGeometry=True"}
    for kind in campaign.kinds:
        examples[f"parcelTimeSeries_{kind}"] = f"/query/parcelTimeSeries?{parcel}&tstype={kind}"
    return examples


def _add(values: list[str], more: Iterable[str]) -> None:
    values.extend(value for value in more if value not in values)
