"""The kernel: what is known (scenes, parcels, signatures) and where it is kept."""
