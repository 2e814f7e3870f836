"""Parameters that several routes share."""

from app.parameters import (
    Parameter,
    aoi_code,
    number_within,
    parcel_type,
    plain_text,
    truth,
    year_number,
)

AOI = Parameter("aoi", "Member State or region", aoi_code, example="nl")
YEAR = Parameter("year", "year of the declaration", year_number, example="2024")
PTYPE = Parameter("ptype", "parcel type, if a year has several", parcel_type, "", example="g")
CAMPAIGN = (AOI, YEAR, PTYPE)
"""Which declaration."""

PID = Parameter("pid", "the agency's id of the parcel", plain_text, example="007")
PARCEL = (*CAMPAIGN, PID)
"""Which parcel."""

LON = Parameter("lon", "longitude in degrees, WGS 84", number_within(-180, 180), example=5.39)
LAT = Parameter("lat", "latitude in degrees, WGS 84", number_within(-90, 90), example=52.15)
PLACE = (LON, LAT)

GEOMETRY = Parameter("withGeometry", "with the geometry as GeoJSON", truth, False, ("geom",))
WGS84 = Parameter("wgs84", "geometry in longitude and latitude", truth, False)
