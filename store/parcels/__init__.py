"""Campaigns and their parcels: making and dropping them, importing files, reading geometries.

`campaigns` keeps declarations; `importing` brings a parcel file in (`source` reads it, `geometry`
makes its geometries storable, `staging` puts them beside the campaign's parcels, `report` says
what happened); `reading` hands geometries out.
"""
