"""Finding scenes in folders and STAC catalogues, and describing them as rows of the catalogue."""
