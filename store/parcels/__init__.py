"""Campaigns and their parcels: making and dropping them, importing files, reading geometries.

`campaigns` keeps declarations; `importing` brings a parcel file in (`source` reads it, `shape`
makes its geometries storable, `report` says what happened); `reading` hands geometries out.
"""

from store.parcels.campaigns import Campaign
from store.parcels.importing import import_parcels
from store.parcels.reading import buffered, geometries
from store.parcels.report import ImportReport

__all__ = ["Campaign", "ImportReport", "buffered", "geometries", "import_parcels"]
