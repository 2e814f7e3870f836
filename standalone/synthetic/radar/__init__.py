"""Sentinel-1 Level-1 products of a known ground, and the DEM of that ground.

The products are there to prove a processor, so nothing here may be shared with one: every step
is done by another method than a processor would use, and the truth is returned beside the files.
"""
