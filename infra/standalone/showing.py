"""What the demo leaves for its user: a picture, a file of settings, and what was done."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.standalone import campaign as campaigns
from infra.standalone import plot, series
from infra.standalone.api import Client
from infra.standalone.campaign import Campaign, Progress
from infra.standalone.database import Database
from infra.standalone.programs import DemoError


@dataclass(frozen=True)
class Picture:
    """A plot of one parcel's series, and how to ask the API for the same.

    Attributes:
        path: the PNG.
        code: the parcel.
        query: what to ask parcelTimeSeries for, besides aoi, year and pid.
        text: what it shows.
    """

    path: Path
    code: str
    query: str
    text: str


def picture(
    folder: Path, database: Database, campaign: Campaign, client: Client, credit: str
) -> Picture:
    """Draw the parcel that was seen most often: its NDVI, or backscatter if there is only radar.

    Raises:
        DemoError: no parcel has a signature, or the API refuses its series.
    """
    optical = campaigns.best_optical(database, campaign)
    if optical:
        return _ndvi(folder / "ndvi.png", campaign, client, optical, credit)
    radar = campaigns.best_radar(database, campaign)
    if radar:
        return _backscatter(folder / "backscatter.png", campaign, client, radar, credit)
    raise DemoError(
        "no parcel has a signature: do parcels and scenes meet in place, and is "
        f"{campaign.year} the scenes' year?"
    )


def _ndvi(path: Path, campaign: Campaign, client: Client, code: str, credit: str) -> Picture:
    parcel = series.parcel(client, campaign.aoi, campaign.year, code)
    points = series.ndvi(client, parcel)
    plot.draw_ndvi(path, parcel, points, credit)
    clear = sum(point.clear and point.value is not None for point in points)
    text = f"NDVI of parcel {code}, {len(points)} dates, {clear} clear"
    return Picture(path, code, "tstype=s2&band=B04", text)


def _backscatter(
    path: Path, campaign: Campaign, client: Client, radar: tuple[str, str], credit: str
) -> Picture:
    code, unit = radar
    parcel = series.parcel(client, campaign.aoi, campaign.year, code)
    lines = series.backscatter(client, parcel, unit)
    plot.draw_backscatter(path, parcel, lines, credit)
    return Picture(path, code, "tstype=bs", f"{' and '.join(lines)} of parcel {code}")


def settings(
    database: Database, campaign: Campaign, client: Client, shown: Picture
) -> dict[str, str]:
    """What any tool needs to go on from here: the API's user, and a database login that reads."""
    return {
        "CBM_URL": client.url,
        "CBM_USER": client.user,
        "CBM_PASSWORD": client.password,
        "CBM_AOI": campaign.aoi,
        "CBM_YEAR": str(campaign.year),
        "CBM_PID": shown.code,
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
    progress: Progress,
    parcels: int,
    client: Client,
    shown: Picture,
) -> str:
    """What was done, how long it took, and what to do next.

    Args:
        env: the file of settings.
        seconds: by stage.
        campaign: the campaign.
        progress: how far its scenes are.
        parcels: the number of its parcels.
        client: the API and its user.
        shown: the picture.
    """
    stages = [*seconds.items(), ("In all", sum(seconds.values()))]
    curl = (
        f'. {_typed(env)}; curl -fsS -u "$CBM_USER:$CBM_PASSWORD"'
        f' -G "$CBM_URL/query/parcelTimeSeries" -d "aoi=$CBM_AOI&year=$CBM_YEAR&{shown.query}"'
        ' --data-urlencode "pid=$CBM_PID"'
    )
    done = (
        f"Campaign {campaign.aoi} {campaign.year}: {progress.scenes:,} scenes, "
        f"{parcels:,} parcels, {progress.signatures:,} signatures."
    )
    failed = [f"{progress.failed} scenes failed, one because: {progress.reason}"]
    return "\n".join(
        [
            "",
            *(f"  {name:16}{took:7.1f} s" for name, took in stages),
            "",
            done,
            *(failed if progress.failed else []),
            f"Picture: {_typed(shown.path)} ({shown.text})",
            f"API:     {client.url} (user {client.user}, password in {_typed(env)})",
            "Ask the API, or the database:",
            f"  {curl}",
            f"  (set -a; . {_typed(env)}; psql)",
            "The API keeps running: make demo-stop ends it, make demo-clean removes everything.",
        ]
    )


def _typed(path: Path) -> str:
    """The path as it is typed from here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
