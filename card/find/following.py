"""Following a source for a campaign: day by day of sensing, so that a kill loses nothing."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from card.find.candidate import Candidate, Query
from card.find.product_reader import READERS
from card.find.scan_result import Problem
from card.find.search import search
from card.find.sources import INPUT_KINDS, Source
from card.find.transport import Transport
from store import catalogue, inputs, listings
from store.catalogue import RegisterReport, Scene
from store.db import Connection
from store.errors import (
    CallerError,
    ConfigError,
    ConflictError,
    NotFoundError,
    SceneError,
    WorldError,
)
from store.inputs import InputProduct, InputReport
from store.listings import Area, Listing
from store.objects import object_exists
from store.parcels.campaigns import Campaign

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_FAILURES = 3
"""Days in a row that a source may fail on: after that it is taken to be out of order."""


@dataclass(frozen=True)
class Description:
    """A product of a list, described as a row of the catalogue.

    Attributes:
        listing: with the state that reading found.
        row: None where the product cannot be used now, or was not read.
    """

    listing: Listing
    row: Scene | InputProduct | None = None


@dataclass(frozen=True)
class DayReport:
    """What reading a day brought.

    Attributes:
        day: of sensing, UTC.
        listed: products that meet parcels.
        added: of these, rows that are new in the catalogue.
        changed: rows that changed.
        queued: pieces of work added to the queue.
        offline: products to be ordered first.
        absent: products that the store has not got.
        unusable: products that cannot be used.
        complete: whether the source gave all of the day.
        problems: entries without a name, and products that cannot be used.
    """

    day: date
    listed: int = 0
    added: int = 0
    changed: int = 0
    queued: int = 0
    offline: int = 0
    absent: int = 0
    unusable: int = 0
    complete: bool = True
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Follower:
    """A source that is followed for a campaign.

    Attributes:
        campaign: whose days and parcels count.
        source: what is read.
        kind: what is looked for: a CARD kind, or grd or slc.
        transport: sends the requests.
        register: False only writes down what the source lists.
        check: look for each new product in the store before it is registered.
    """

    campaign: Campaign
    source: Source
    kind: str
    transport: Transport
    register: bool = True
    check: bool = False

    def due(self, conn: Connection, today: date, again: bool = False) -> tuple[Area, list[date]]:
        """Where the parcels are, and the days to be read, the oldest first.

        Args:
            conn: an open connection.
            today: days after it are left.
            again: all days, whenever they were read.

        Raises:
            CallerError: the campaign is closed, or has no parcels.
        """
        campaign = self.campaign
        if campaign.state != "open":
            raise ConflictError(f"the campaign {campaign.name} is closed: no scene joins it")
        area = listings.campaign_area(conn, campaign)
        if area is None:
            raise CallerError(f"the campaign {campaign.name} has no parcels: import them first")
        if again:
            last = min(campaign.end, today)
            count = (last - campaign.start).days + 1
            return area, [campaign.start + timedelta(days=n) for n in range(count)]
        name = self.source.name
        return area, listings.due_days(conn, campaign, name, self.kind, area, today)

    def sync(self, conn: Connection, area: Area, days: Sequence[date]) -> Iterator[DayReport]:
        """Read days, register what they list, and write down that they were read.

        A day on which the source fails is left for the next time.

        Raises:
            WorldError: the source failed on some days; the others are done.
            CallerError: it refuses the request, or our sign-in.
        """
        failed: dict[date, WorldError] = {}
        in_a_row = 0
        for day in days:
            try:
                report = self.sync_day(conn, area, day)
            except WorldError as error:
                _log.warning("source=%s day=%s left for later: %s", self.source.name, day, error)
                failed[day] = error
                in_a_row += 1
                if in_a_row >= _FAILURES or conn.closed:
                    break
            else:
                in_a_row = 0
                yield report
        if failed:
            last = max(failed)
            raise WorldError(
                f"{self.source.name}: {len(failed)} days could not be read and are left for the "
                f"next time; {last}: {failed[last]}"
            ) from failed[last]

    def sync_day(self, conn: Connection, area: Area, day: date) -> DayReport:
        """Read one day; safe to be killed in, and to be repeated.

        Raises:
            WorldError: source, store or database do not answer.
            CallerError: the source refuses the request, or our sign-in.
        """
        start = datetime.combine(day, time(), UTC)
        query = Query(self.kind, area.bbox, start, start + timedelta(days=1))
        found = search(self.source, query, self.transport)
        described = self._describe(conn, found.candidates)
        try:
            listed, reports = _store(conn, described)
        except ConfigError:
            raise
        except CallerError:  # a value that the database cannot hold: of one, not of all
            stored = [_store_alone(conn, each) for each in described]
            listed = [listing for listings_of, _ in stored for listing in listings_of]
            reports = [report for _, reports_of in stored for report in reports_of]
        listings.close_day(
            conn, self.campaign, self.source.name, self.kind, day, area, listed, found.complete
        )
        states = [listing.state for listing in listed]
        return DayReport(
            day,
            len(listed),
            sum(report.added for report in reports),
            sum(report.changed for report in reports),
            sum(report.queued for report in reports if isinstance(report, RegisterReport)),
            states.count("offline"),
            states.count("absent"),
            states.count("unusable"),
            found.complete,
            (*found.problems, *_problems(listed)),
        )

    def _describe(self, conn: Connection, candidates: Sequence[Candidate]) -> list[Description]:
        """Describe the candidates that meet parcels; what is registered is not read again."""
        wanted = self._meeting(conn, candidates, [one.listing.footprint_wkt for one in candidates])
        known = listings.known_references(conn, [one.listing.reference for one in wanted])

        def describe_one(one: Candidate) -> Description:
            registered = one.listing.reference in known
            located = one.listing.footprint_wkt is not None
            if located and (not self.register or (registered and not one.cheap)):
                return Description(one.listing)
            return describe(one, check=self.check and not registered)

        with ThreadPoolExecutor(READERS) as pool:
            described = list(pool.map(describe_one, wanted))
        met = self._meeting(conn, described, [each.listing.footprint_wkt for each in described])
        return met if self.register else [replace(each, row=None) for each in met]

    def _meeting(
        self, conn: Connection, found: Sequence[_T], footprints: Sequence[str | None]
    ) -> list[_T]:
        met = listings.meet_parcels(conn, self.campaign, footprints)
        return [one for one, meets in zip(found, met, strict=True) if meets]


_Stored = tuple[list[Listing], list[RegisterReport | InputReport]]


def _store(conn: Connection, described: Sequence[Description]) -> _Stored:
    """Register what was described; the listings of it, and what registering did."""
    scenes = [each.row for each in described if isinstance(each.row, Scene)]
    products = [each.row for each in described if isinstance(each.row, InputProduct)]
    reports: list[RegisterReport | InputReport] = []
    refused: dict[str, str] = {}
    if scenes:
        report = catalogue.register(conn, scenes)
        refused = dict(report.refused)
        reports.append(report)
    if products:
        reports.append(inputs.register_inputs(conn, products))
    return [
        _unusable(each.listing, refused[each.row.reference])
        if isinstance(each.row, Scene) and each.row.reference in refused
        else each.listing
        for each in described
    ], reports


def _store_alone(conn: Connection, described: Description) -> _Stored:
    try:
        return _store(conn, [described])
    except ConfigError:
        raise
    except CallerError as error:
        return [_unusable(described.listing, str(error))], []


def _unusable(listing: Listing, reason: str) -> Listing:
    return replace(listing, footprint_wkt=None, state="unusable", reason=reason)


def describe(candidate: Candidate, *, check: bool = False) -> Description:
    """Describe a candidate; what keeps it from use becomes the state of its listing.

    Args:
        candidate: a product of a list.
        check: look for it in the store, too.

    Raises:
        WorldError: source or store do not answer.
        ConfigError: the store's settings or our sign-in are wrong.
    """
    listing = candidate.listing
    if listing.state == "offline" and listing.kind not in INPUT_KINDS:
        return Description(listing)
    try:
        row = candidate.read()
        if check and listing.state == "online":
            _look_for(row)
    except ConfigError:
        raise
    except NotFoundError as error:
        return Description(replace(listing, state="absent", reason=str(error)))
    except (SceneError, CallerError) as error:
        return Description(replace(listing, state="unusable", reason=str(error)))
    if isinstance(row, InputProduct):
        row = replace(row, state=listing.state)
        listing = replace(listing, relative_orbit=row.relative_orbit)
    return Description(replace(listing, footprint_wkt=row.footprint_wkt), row)


def _look_for(row: Scene | InputProduct) -> None:
    """Find a product's files in the store.

    Raises:
        NotFoundError: they are not there.
    """
    places = [source.href for source in row.bands.values()] if isinstance(row, Scene) else [
        f"{row.href}/manifest.safe"
    ]  # fmt: skip
    for place in places:
        if place.startswith(("s3://", "/")) and not object_exists(place):
            raise NotFoundError(f"{place} does not exist")


def _problems(listed: Sequence[Listing]) -> Iterator[Problem]:
    for listing in listed:
        if listing.state in ("absent", "unusable"):
            yield Problem(listing.reference, f"{listing.state}: {listing.reason}")
