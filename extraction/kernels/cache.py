"""Whether the loops lie compiled on disk; else numba compiles each when it is first needed."""

from pathlib import Path
from typing import Any

from extraction.kernels import polygons, spans, statistics

_FIRST: tuple[tuple[str, Any], ...] = (
    ("polygons.scan_polygons", polygons.scan_polygons),
    ("spans.gather", spans.gather),
    ("statistics.reduce_integers", statistics.reduce_integers),
)
"""Loops that every worker needs; the others come and go with them."""


def is_filled() -> bool:
    """Whether compiled loops are in numba's cache, and not older than their source."""
    return all(map(_is_cached, *zip(*_FIRST, strict=True)))


def _is_cached(name: str, loop: Any) -> bool:
    written = [path.stat().st_mtime for path in _indexes(name, loop)]
    source = Path(loop.py_func.__code__.co_filename)
    return bool(written) and max(written) >= source.stat().st_mtime


def _indexes(name: str, loop: Any) -> list[Path]:
    """The files in which numba keeps what it has compiled of a loop."""
    place = loop.stats.cache_path
    return list(Path(place).glob(f"{name}-*.nbi")) if place else []
