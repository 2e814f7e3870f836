"""Transcript of an API: requests of every kind as two users, with the digests of their answers.

What must differ between two recordings, such as signatures of addresses, is in `VARIABLE` with its
reason and is blanked before the digest; all else is compared byte by byte.
"""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

CALLS = 200
TIMEOUT_S = 120


@dataclass(frozen=True)
class VariablePart:
    """A part of answers that two recordings cannot share: a pattern and why."""

    pattern: bytes
    reason: str


VARIABLE = (
    VariablePart(rb"(?<=/chips/)[0-9a-f]{42}(?=/)", "expiry and signature of an image's address"),
    VariablePart(rb"(?<=/chip/)[0-9a-f]{42}(?=,)", "expiry and signature of an image's ticket"),
    VariablePart(
        rb'"day":"\d{4}-\d\d-\d\d","rows":\d+', "days of the last month on the status page"
    ),
)
UNCOVERED = {
    "/login": "begins a session, whose cookie is random",
    "/logout": "ends a session",
    "/metrics": "counts of the process that answers",
    "/guide": "files of the release, where it is built",
    "/static": "files of the release",
    "/chips": "images, fetched by the addresses that the calls for chips give",
    "/chip": "the same by tickets",
    "/jrc/chip": "the same by tickets of the JRC's prefix",
}
"""Routes without a call of their own, with the reason."""


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        user: whose login is used; '' for none.
        method: GET or POST.
        path: from the root.
        params: of the address (GET) or of the body as JSON (POST).
        image: of the list of addresses in the answer the first is fetched, too.
    """

    user: str
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    image: bool = False

    @property
    def title(self) -> str:
        """The call in a line."""
        text = " ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.user or 'nobody'}: {self.method} {self.path} {text}"[:160].rstrip()


@dataclass(frozen=True)
class Answer:
    """An answer: its status, media type, bytes, digest without variable parts, and those blanked.

    The image's is the digest of the image that the answer leads to, '' without one.
    """

    status: int
    media_type: str
    size: int
    digest: str
    image: str = ""
    blanked: tuple[int, ...] = ()


@dataclass(frozen=True)
class TranscriptEntry:
    """A call with its answer."""

    call: Call
    answer: Answer


@dataclass(frozen=True)
class TranscriptDifference:
    """A call whose answer is another than before."""

    call: Call
    before: Answer
    after: Answer

    def __str__(self) -> str:
        """The call, and what of its answer differs."""
        pairs = zip(asdict(self.before).items(), asdict(self.after).values(), strict=True)
        parts = [f"{name} {old} -> {new}" for (name, old), new in pairs if old != new]
        return f"{self.call.title}: {'; '.join(parts)}"


@dataclass(frozen=True)
class ApiDoor:
    """Where an API is, and who may enter.

    Attributes:
        url: without a slash at its end.
        passwords: by user.
        authority: file of the certificate that signed the API's; None for the system's.
    """

    url: str
    passwords: Mapping[str, str]
    authority: Path | None = None

    def send(self, call: Call) -> requests.Response:
        """Send a call; redirects are answers as well."""
        auth = (call.user, self.passwords[call.user]) if call.user else None
        is_get = call.method == "GET"
        return requests.request(
            call.method,
            self.url + call.path,
            params=dict(call.params) if is_get else None,
            json=None if is_get else dict(call.params),
            auth=auth,
            verify=str(self.authority) if self.authority else True,
            allow_redirects=False,
            timeout=TIMEOUT_S,
        )


@dataclass(frozen=True)
class CallSubjects:
    """What calls are about, as an API with data names it.

    Attributes:
        aoi: code of the Member State.
        year: of its campaign.
        codes: of parcels.
        points: (longitude, latitude) within them, degrees.
        scenes: Sentinel-2 products' names.
        days: first days of them, YYYY-MM-DD.
        kinds: of series that the campaign has.
        tile: z, x, y of a tile with parcels.
    """

    aoi: str
    year: int
    codes: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    scenes: tuple[str, ...]
    days: tuple[str, ...]
    kinds: tuple[str, ...]


def find_subjects(door: ApiDoor, user: str, parcels: int = 12) -> CallSubjects:
    """The subjects that an API has for a user, the same each time.

    Raises:
        LookupError: there is no campaign with parcels and scenes.
    """
    campaigns = door.send(Call(user, "GET", "/page/campaigns")).json()["campaigns"]
    found = next((one for one in campaigns if one["parcels"]), None)
    if found is None:
        raise LookupError(f"{door.url} has no campaign with parcels for {user}")
    west, south, east, north = found["bounds"]
    campaign = {"aoi": found["aoi"], "year": found["year"]}
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    area = "-".join(f"{lon}_{lat}" for lon, lat in corners)
    ids = {"polygon": area, "limit": 10_000} | campaign
    codes = sorted(door.send(Call(user, "GET", "/query/parcelsByPolygon", ids)).json()["pid"])
    chosen = codes[:: max(1, len(codes) // parcels)][:parcels]
    points = [_point(door, user, campaign | {"pid": code}) for code in chosen]
    query = {"pid": chosen[0], "tstype": "s2", "ref": "True", "scl": "False", "band": "B08"}
    series = door.send(Call(user, "GET", "/query/parcelTimeSeries", campaign | query)).json()
    scenes = sorted(set(series["reference"]), key=lambda name: name.split("_")[2])
    if not scenes:
        raise LookupError(f"parcel {chosen[0]} of {campaign} has no Sentinel-2 scene yet")
    days = [re.sub(r"(\d{4})(\d\d)(\d\d).*", r"\1-\2-\3", name.split("_")[2]) for name in scenes]
    return CallSubjects(
        found["aoi"],
        found["year"],
        tuple(chosen),
        tuple(points),
        tuple(scenes),
        tuple(dict.fromkeys(days)),
        tuple(sorted(found["units"])),
    )


def _point(door: ApiDoor, user: str, parcel: Mapping[str, Any]) -> tuple[float, float]:
    fields = door.send(Call(user, "GET", "/query/parcelByID", parcel)).json()
    return round(fields["clon"][0], 6), round(fields["clat"][0], 6)


def build_calls(
    subjects: CallSubjects, users: Sequence[str], count: int = CALLS
) -> tuple[Call, ...]:
    """So many calls, of every kind as each user by turns; the same each time."""
    makers = itertools.cycle(_KINDS)
    turns = itertools.count()
    calls: list[Call] = []
    while len(calls) < count:
        turn = next(turns) // len(_KINDS)
        method, path, params, image = next(makers)(subjects, turn)
        calls += [Call(user, method, path, params, image) for user in users]
    return tuple(calls[:count])


_Made = tuple[str, str, dict[str, Any], bool]
_Maker = Callable[[CallSubjects, int], _Made]


def _campaign(s: CallSubjects) -> dict[str, Any]:
    return {"aoi": s.aoi, "year": s.year}


def _parcel(s: CallSubjects, n: int) -> dict[str, Any]:
    return _campaign(s) | {"pid": s.codes[n % len(s.codes)]}


def _place(s: CallSubjects, n: int) -> dict[str, Any]:
    lon, lat = s.points[n % len(s.points)]
    return {"lon": lon, "lat": lat}


def _around(s: CallSubjects, n: int) -> str:
    lon, lat = s.points[n % len(s.points)]
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return "-".join(f"{lon + 0.005 * x:.6f}_{lat + 0.005 * y:.6f}" for x, y in corners)


def _days(s: CallSubjects, n: int) -> dict[str, Any]:
    day = s.days[n % len(s.days)]
    return {"start_date": day, "end_date": day}


def _series(s: CallSubjects, n: int) -> _Made:
    kind = s.kinds[n % len(s.kinds)]
    form = ("json", "csv", "arrow")[n // len(s.kinds) % 3]
    shown = {"tstype": kind, "ref": "True", "flags": "True", "all": str(n % 2 == 1)}
    return "GET", "/query/parcelTimeSeries", _parcel(s, n) | shown | {"tsformat": form}, False


def _bulk(s: CallSubjects, n: int) -> _Made:
    form = ("arrow", "csv", "json", "parquet")[n % 4]
    kind = s.kinds[n % len(s.kinds)]
    params = _campaign(s) | {"pid": list(s.codes), "tstype": kind, "tsformat": form}
    return "POST", "/query/parcelTimeSeries", params, False


def _signatures(s: CallSubjects, n: int) -> _Made:
    form = ("arrow", "csv", "parquet")[n % 3]
    scene = {"scene": s.scenes[n % len(s.scenes)], "tsformat": form}
    return "GET", "/query/sceneSignatures", _campaign(s) | scene, False


def _get(
    path: str, params: Callable[[CallSubjects, int], dict[str, Any]], image: bool = False
) -> _Maker:
    return lambda s, n: ("GET", path, params(s, n), image)


def _post(
    path: str, params: Callable[[CallSubjects, int], dict[str, Any]], image: bool = False
) -> _Maker:
    return lambda s, n: ("POST", path, params(s, n), image)


def _batch(s: CallSubjects, n: int) -> dict[str, Any]:
    scene = s.scenes[n % len(s.scenes)]
    return _place(s, n) | {"tiles": [scene], "bands": ["B08", "SCL"], "chipsize": 400}


def _radar_batch(s: CallSubjects, n: int) -> dict[str, Any]:
    dates = [f"{s.year}-04-01", f"{s.year}-04-30"]
    return _place(s, n) | {"dates": dates, "plevel": "CARD-BS", "chipsize": 400}


def _tile(s: CallSubjects, n: int) -> _Made:
    x, y = _tile_of(*s.points[n % len(s.points)], zoom := 12 + n % 3)
    return "GET", f"/tiles/{s.aoi}/{s.year}/{zoom}/{x}/{y}", {}, False


def _tile_of(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    """Column and row of the web-mercator tile with a point."""
    side = 2**zoom
    radians = math.radians(lat)
    y = (1 - math.asinh(math.tan(radians)) / math.pi) / 2
    return int((lon + 180) / 360 * side), int(y * side)


def _with_geometry(s: CallSubjects, n: int) -> dict[str, Any]:
    return _parcel(s, n) | {"withGeometry": str(n % 2 == 0), "wgs84": "True"}


def _unknown_parcel(s: CallSubjects, n: int) -> dict[str, Any]:
    return _campaign(s) | {"pid": f"none-{n}"}


def _other_aoi(s: CallSubjects, n: int) -> dict[str, Any]:
    return _parcel(s, n) | {"aoi": "zz"}


def _nothing(_s: CallSubjects, _n: int) -> dict[str, Any]:
    return {}


_KINDS: tuple[_Maker, ...] = (
    _series,
    _bulk,
    _signatures,
    _get("/query/parcelTimeSeries", lambda s, n: _parcel(s, n) | {"tstype": "scl"}),
    _get("/query/parcelByID", _with_geometry),
    _get("/query/parcelByLocation", lambda s, n: _campaign(s) | _place(s, n)),
    _get("/query/parcelsByPolygon", lambda s, n: _campaign(s) | {"polygon": _around(s, n)}),
    _post(
        "/query/parcelsByPolygon",
        lambda s, n: _campaign(s) | {"polygon": _around(s, n), "only_ids": False},
    ),
    _get("/query/parcelPeers", lambda s, n: _parcel(s, n) | {"distance": 2000, "max": 5 + n}),
    _get("/query/weatherTimeSeries", _parcel),
    _get("/query/markers", _parcel),
    _get("/query/info", _nothing),
    _get(
        "/query/chipsByParcelID",
        lambda s, n: _parcel(s, n) | _days(s, n) | {"format": "json", "chipsize": 640},
        image=True,
    ),
    _get(
        "/query/chipsByLocation",
        lambda s, n: _place(s, n) | _days(s, n) | {"format": "json", "chipsize": 640},
        image=True,
    ),
    _get(
        "/query/rawChipByParcelID",
        lambda s, n: _parcel(s, n) | _days(s, n) | {"band": "B08", "chipsize": 400},
        image=True,
    ),
    _get(
        "/query/rawChipByLocation",
        lambda s, n: _place(s, n) | _days(s, n) | {"band": "B04", "chipsize": 400},
        image=True,
    ),
    _post("/query/rawChipsBatch", _batch, image=True),
    _post("/query/rawS1ChipsBatch", _radar_batch, image=True),
    _get("/query/backgroundByParcelID", _parcel),
    _get("/query/backgroundByLocation", _place),
    _get("/jrc/query/parcelById", _parcel),
    _get("/jrc/query/parcelByLocation", lambda s, n: _campaign(s) | _place(s, n)),
    _get("/jrc/query/parcelTimeSeries", _parcel),
    _get("/jrc/query/rawChipByLocation", lambda s, n: _place(s, n) | _days(s, n) | {"band": "B04"}),
    _tile,
    _get("/page/campaigns", _nothing),
    _get("/page/progress", _nothing),
    _get("/page/completeness", lambda s, n: _campaign(s)),
    lambda s, n: ("GET", f"/page/background/12/{2000 + n}/{1300 + n}", {}, False),
    _get("/", _nothing),
    _get("/status", _nothing),
    _get("/docs", _nothing),
    _get("/openapi.json", _nothing),
    _get("/healthz", _nothing),
    _get("/readyz", _nothing),
    _get("/query/parcelByID", _unknown_parcel),
    _get("/query/parcelTimeSeries", _other_aoi),
    _get("/query/parcelTimeSeries", lambda s, n: _parcel(s, n) | {"tstype": "none"}),
)
"""A maker of calls for each kind; what is refused must be refused alike."""


def find_uncovered(paths: Iterable[str], calls: Iterable[Call]) -> list[str]:
    """Paths of an OpenAPI document that no call is of, and no reason is given for.

    Below /jrc the same handlers answer: some calls there stand for all.
    """
    made = {call.path for call in calls}
    own = [path for path in paths if not path.startswith("/jrc/query/")]
    return [
        path
        for path in own
        if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), one) for one in made)
        and not any(path == root or path.startswith(f"{root}/") for root in UNCOVERED)
    ]


def record(door: ApiDoor, calls: Iterable[Call]) -> Iterator[TranscriptEntry]:
    """Send calls one after the other, each with its answer's digest."""
    for call in calls:
        yield TranscriptEntry(call, _answer(door, call))


def _answer(door: ApiDoor, call: Call) -> Answer:
    response = door.send(call)
    body, blanked = blank(response.content)
    image = ""
    if call.image and response.status_code == 200:
        image = _fetch_image(door, response.json().get("chips", []))
    media_type = response.headers.get("Content-Type", "").partition(";")[0]
    return Answer(response.status_code, media_type, len(body), _digest(body), image, blanked)


def _fetch_image(door: ApiDoor, addresses: Sequence[str]) -> str:
    """Status and digest of the first image of a list, '' if it is empty."""
    if not addresses:
        return "none"
    image = door.send(Call("", "GET", addresses[0]))
    return f"{image.status_code} {_digest(image.content)}"


def blank(body: bytes) -> tuple[bytes, tuple[int, ...]]:
    """A body without its variable parts, and how many of each there were."""
    counts = []
    for part in VARIABLE:
        body, count = re.subn(part.pattern, b"*", body)
        counts.append(count)
    return body, tuple(counts)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def replay(
    door: ApiDoor, transcript: Iterable[TranscriptEntry]
) -> Iterator[tuple[TranscriptEntry, TranscriptDifference | None]]:
    """Send the calls of a transcript again: each entry, and its difference if there is one."""
    for entry in transcript:
        after = _answer(door, entry.call)
        same = after == entry.answer
        yield entry, None if same else TranscriptDifference(entry.call, entry.answer, after)


def count_kinds(transcript: Iterable[TranscriptEntry]) -> Counter[str]:
    """How many calls a transcript has of each method, path and status."""
    return Counter(
        f"{e.call.method} {re.sub(r'/[0-9]+(?=/|$)', '/N', e.call.path)} {e.answer.status}"
        for e in transcript
    )


def write(path: Path, transcript: Iterable[TranscriptEntry]) -> None:
    """Write a transcript, a line of JSON an entry."""
    path.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in transcript))


def read(path: Path) -> list[TranscriptEntry]:
    """Read a transcript."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        TranscriptEntry(
            Call(**entry["call"]),
            Answer(**entry["answer"] | {"blanked": tuple(entry["answer"]["blanked"])}),
        )
        for entry in entries
    ]
