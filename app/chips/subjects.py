"""What the address of an image says of it: enough to make it again, nothing to look up by name."""

from dataclasses import dataclass

import shapely

from app.campaigns import Campaign, named
from app.chips.addresses import Name
from app.chips.backgrounds import Background, Sources
from app.chips.looks import Lut
from app.chips.pictures import Picture, RawChip, ShownChip
from app.chips.place import Place
from app.chips.scenes import numbered
from app.parcels import internal_pid
from store import db
from store.errors import NotFoundError

_SHAPE = """
    SELECT ST_AsBinary(ST_Transform(geom, 4326)) AS shape,
           ST_X(ST_Transform(ST_Centroid(geom), 4326)) AS lon,
           ST_Y(ST_Transform(ST_Centroid(geom), 4326)) AS lat
    FROM {parcels} WHERE campaign_id = %s AND pid = %s"""


@dataclass(frozen=True)
class Target:
    """A point to show, and the parcel there.

    Attributes:
        lon: degrees, rounded to a centimetre, so that near points share what is kept.
        lat: the same.
        parcel: polygons in EPSG:4326, if a parcel was asked for.
        parcel_key: campaign and pid of it, '' without.
        aoi: of the parcel, '' without.
    """

    lon: float
    lat: float
    parcel: shapely.Geometry | None = None
    parcel_key: str = ""
    aoi: str = ""

    @classmethod
    def at(cls, lon: float, lat: float) -> "Target":
        """A point without a parcel."""
        return cls(round(lon, 7), round(lat, 7))

    def place(self, size_m: float) -> Place:
        """A square around it."""
        return Place(self.lon, self.lat, size_m)


def parcel_target(conn: db.Connection, campaign: Campaign, code: str) -> Target:
    """The centroid and shape of a parcel.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    pid = internal_pid(conn, campaign, code)
    row = db.one(conn, named(_SHAPE, campaign), (campaign.id, pid))
    parcel = shapely.from_wkb(bytes(row.shape))
    key = f"_{campaign.id}_{pid}"
    return Target(round(row.lon, 7), round(row.lat, 7), parcel, key, campaign.aoi)


def chip_subject(obsid: int, target: Target, size_m: float, *, outlined: bool) -> str:
    """The subject of a chip."""
    key = target.parcel_key if outlined else ""
    return f"c_{obsid}_{target.lon!r}_{target.lat!r}_{size_m!r}{key}"


def background_subject(picture: Background, target: Target, *, outlined: bool) -> str:
    """The subject of a background."""
    key = target.parcel_key if outlined else ""
    size = f"{picture.size_px}_{picture.extent_m!r}"
    return f"b_{picture.source.name}_{target.lon!r}_{target.lat!r}_{size}{key}"


def picture(conn: db.Connection, sources: Sources, subject: str, name: Name) -> Picture:
    """What an address of ours means, once its proof was found right.

    Raises:
        NotFoundError: what it shows is not there any more, or it never was one.
    """
    kind, what, lon, lat, *rest = subject.split("_")
    if kind == "b":
        size_px, extent_m, *key = rest
        source, parcel = sources.choose(what), _parcel(conn, key)
        return Background(
            source, float(lon), float(lat), int(size_px), float(extent_m), name.form, parcel
        )
    size_m, *key = rest
    scene, place = numbered(conn, int(what)), Place(float(lon), float(lat), float(size_m))
    bands, _, limits = name.words.partition(".")
    asked = tuple(bands.split("_"))
    raw = name.form == "tif"
    if not scene.bands.keys() >= set(asked) or (raw and name.words != asked[0]):
        raise NotFoundError(f"{scene.reference} has no band {name.words[:20]}")
    if raw:
        return RawChip(scene, place, asked[0])
    return ShownChip(scene, place, asked, Lut.read(limits), _parcel(conn, key))


def _parcel(conn: db.Connection, key: list[str]) -> shapely.Geometry | None:
    """The shape of the parcel that an address says to draw."""
    if not key:
        return None
    campaign_id, pid = (int(part) for part in key)
    row = db.one(conn, "SELECT aoi FROM public.campaign WHERE id = %s", (campaign_id,))
    if row:
        statement = db.compose(_SHAPE, parcels=(row.aoi, "parcels"))
        row = db.one(conn, statement, (campaign_id, pid))
    if not row:
        raise NotFoundError("the parcel is not there any more")
    return shapely.from_wkb(bytes(row.shape))
