"""The results of a demo: a plot, a file of settings, and a report."""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from standalone import parcel_choice, plot, series
from standalone.api import ApiClient
from standalone.database import Database
from store import db
from store.parcels.campaigns import Campaign
from store.queue import CampaignProgress

_FAILURES_SHOWN = 5

_FAILURES = """
    SELECT DISTINCT ON (s.reference) s.reference, w.reason
    FROM work w JOIN scene s USING (obsid) JOIN parcel_set p ON p.id = w.set_id
    WHERE p.campaign_id = %s AND w.state = 'dead' ORDER BY s.reference"""


@dataclass(frozen=True)
class ParcelRequest:
    """A request of one parcel to the API.

    Attributes:
        code: the parcel.
        route: below /query/.
        query: its parameters besides aoi, year and pid.
    """

    code: str
    route: str = "parcelByID"
    query: str = ""


@dataclass(frozen=True)
class SeriesPlot:
    """A plot of one parcel's series.

    Attributes:
        path: the PNG.
        request: gives the same series.
        text: a description.
    """

    path: Path
    request: ParcelRequest
    text: str


def draw_plots(
    folder: Path,
    database: Database,
    campaign: Campaign,
    client: ApiClient,
    credit: str,
    own_card: Collection[str] = (),
) -> list[SeriesPlot]:
    """Draw the parcels that were seen most often: NDVI of one, backscatter of one; what there is.

    Args:
        folder: of the pictures.
        database: with the signatures.
        campaign: theirs.
        client: of the API, which gives the series.
        credit: owner of the data.
        own_card: references of scenes that the appliance made itself; they are marked.

    Raises:
        DemoError: the API refuses a series.
    """
    with database.connect("analyst") as conn:
        optical = parcel_choice.best_optical(conn, campaign)
        radar = parcel_choice.best_radar(conn, campaign)
    plots = []
    if optical:
        plots.append(_ndvi(folder / "ndvi.png", campaign, client, optical, credit))
    if radar:
        code, unit = radar
        parcel = series.parcel(client, campaign.aoi, campaign.year, code)
        lines = series.backscatter(client, parcel, unit)
        beside = series.ndvi(client, parcel) if optical else []
        path = folder / "backscatter.png"
        pairs = series.coherence(client, parcel)
        plot.draw_backscatter(path, parcel, lines, credit, beside, own_card, pairs)
        text = f"{' and '.join(lines)}{' and coherence' if pairs else ''} of parcel {code}"
        plots.append(SeriesPlot(path, _series(code, "tstype=bs"), text))
    return plots


def _series(code: str, query: str) -> ParcelRequest:
    return ParcelRequest(code, "parcelTimeSeries", f"&{query}")


def choose_request(
    database: Database, campaign: Campaign, plotted: Sequence[SeriesPlot]
) -> ParcelRequest:
    """The request of the first plot; else of any parcel with signatures, else of the first."""
    if plotted:
        return plotted[0].request
    with database.connect("analyst") as conn:
        extracted = parcel_choice.any_extracted(conn, campaign)
        if extracted is None:
            return ParcelRequest(parcel_choice.first(conn, campaign))
    return _series(extracted[0], f"tstype={extracted[1]}")


def explain(
    database: Database, campaign: Campaign, progress: CampaignProgress, has_plots: bool
) -> list[str]:
    """Sentences on scenes that failed, and on what cannot be shown."""
    with database.connect("analyst") as conn:
        failed = db.fetch_all(conn, _FAILURES, (campaign.id,))
    lines = [f"{len(failed)} scenes failed (cbm-extract status lists them):"] if failed else []
    lines += [f"  {row.reference}: {row.reason}" for row in failed[:_FAILURES_SHOWN]]
    if len(failed) > _FAILURES_SHOWN:
        lines.append(f"  ... and {len(failed) - _FAILURES_SHOWN} more")
    if not progress.scenes:
        lines.append(
            "No scene meets the parcels: do they lie in the same place, and is "
            f"{campaign.year} the scenes' year (YEAR=)?"
        )
    elif not progress.signatures:
        lines.append(
            "No parcel has a signature: none has a valid pixel in any scene, or all failed."
        )
    elif not has_plots:
        lines.append("No picture: no parcel has B04 with B08 or B8A, and none has VV or VH.")
    return lines


def _ndvi(path: Path, campaign: Campaign, client: ApiClient, code: str, credit: str) -> SeriesPlot:
    parcel = series.parcel(client, campaign.aoi, campaign.year, code)
    points = series.ndvi(client, parcel)
    plot.draw_ndvi(path, parcel, points, credit)
    clear = sum(point.clear is True and point.value is not None for point in points)
    text = f"NDVI of parcel {code}, {len(points)} dates, {clear} clear"
    return SeriesPlot(path, _series(code, "tstype=s2&band=B04"), text)


def settings(
    database: Database, campaign: Campaign, client: ApiClient, request: ParcelRequest
) -> dict[str, str]:
    """Settings for other tools: the API's user, and a database login that reads."""
    return {
        "CBM_URL": client.url,
        "CBM_USER": client.user,
        "CBM_PASSWORD": client.password,
        "CBM_AOI": campaign.aoi,
        "CBM_YEAR": str(campaign.year),
        "CBM_PID": request.code,
    } | database.settings("analyst")


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write variables in shell syntax to a file that only its owner reads."""
    lines = (f"{key}={shlex.quote(text)}\n" for key, text in values.items())
    write_private(path, "".join(lines))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads (mode 0600), whole or not at all."""
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    half.replace(path)


def report(
    env: Path,
    seconds: Mapping[str, float],
    campaign: Campaign,
    progress: CampaignProgress,
    parcels: int,
    client: ApiClient,
    plotted: Sequence[SeriesPlot],
    request: ParcelRequest,
    remarks: Sequence[str],
) -> str:
    """A text with the results, the time of each stage, and the next commands.

    Args:
        env: the file of settings.
        seconds: by stage.
        campaign: the campaign.
        progress: how far its scenes are.
        parcels: the number of its parcels.
        client: the API and its user.
        plotted: the plots.
        request: an example.
        remarks: from `explain`.
    """
    stages = [*seconds.items(), ("In all", sum(seconds.values()))]
    curl = (
        f'. {_typed(env)}; curl -fsS -u "$CBM_USER:$CBM_PASSWORD"'
        f' -G "$CBM_URL/query/{request.route}" -d "aoi=$CBM_AOI&year=$CBM_YEAR{request.query}"'
        ' --data-urlencode "pid=$CBM_PID"'
    )
    done = (
        f"Campaign {campaign.aoi} {campaign.year}: {progress.scenes:,} scenes, "
        f"{parcels:,} parcels, {progress.signatures:,} signatures."
    )
    return "\n".join(
        [
            "",
            *(f"  {name:16}{took:7.1f} s" for name, took in stages),
            "",
            done,
            *remarks,
            *(f"Picture: {_typed(each.path)} ({each.text})" for each in plotted),
            f"API:     {client.url} (user {client.user}, password in {_typed(env)})",
            "A request to the API, and a client of the database:",
            f"  {curl}",
            f"  (set -a; . {_typed(env)}; psql)",
            "The API keeps running: make demo-stop ends it, make demo-clean removes everything.",
        ]
    )


def _typed(path: Path) -> str:
    """The path as it is typed from here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
