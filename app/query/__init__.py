"""Answers out of the database: parcels, series, weather, markers, tiles, progress."""
