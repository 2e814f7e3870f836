"""A small synthetic Member State: parcels, Sentinel-2 products and Sentinel-1 CARD, by seed."""
