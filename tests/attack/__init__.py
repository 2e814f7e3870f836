"""Attacks on the whole API at once, as one table of what was tried and what went wrong."""
