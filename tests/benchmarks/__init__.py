"""The benchmark behind `make bench`: ours beside the JRC's way and exactextract, as ratios."""
