"""Campaigns and their parcels: making and dropping them, importing files, reading geometries.

`campaigns` keeps declarations; `importing` brings a parcel file in (`source` reads it, `shape`
makes its geometries storable, `staging` puts them beside the campaign's parcels, `report` says
what happened); `reading` hands geometries out.
"""

from store.parcels.campaigns import Campaign
from store.parcels.importing import import_parcels
from store.parcels.reading import geometries
from store.parcels.report import ImportReport

__all__ = ["Campaign", "ImportReport", "geometries", "import_parcels"]
