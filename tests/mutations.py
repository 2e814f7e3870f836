"""Descriptions of products that are damaged by chance, and small sound ones to damage."""

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from standalone.synthetic import safe, sentinel1
from standalone.synthetic.safe import SafeProduct
from standalone.synthetic.sentinel1 import DIMAP, SEASON
from standalone.synthetic.sentinel2 import write_jp2
from store.grid import Grid

VALUES = (None, True, "", "x", "nul\0", -1, 0, 10**400, 1e308, -5.5, [], {}, [None], {"a": 1},
          ["x"] * 9, "2024-02-30T00:00:00Z", "EPSG:4326", "\ud800")  # fmt: skip
_TEXTS = ("", "x", "-1", "1e400", "nan", "0", "9" * 40, "\u00e9")
_PIECES = ("0", "-", "nan", "<a>", "&", "9" * 30)
_GRID = Grid(32632, 10.0, 600_000.0, 5_200_020.0, 8, 8)
_START = datetime(2024, 5, 2, 10, 26, 11, tzinfo=UTC)


def places(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all members of a JSON document."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def mutated(document: dict, path: tuple, value: Any) -> dict:
    """A copy with another value at a place; without the place for Ellipsis."""
    changed = copy.deepcopy(document)
    node = changed
    for key in path[:-1]:
        node = node[key]
    if value is Ellipsis:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


def mutations(document: dict, rng: random.Random) -> Iterator[dict]:
    """Copies of a JSON document without end, each with a change at one place."""
    everywhere = list(places(document))
    while True:
        yield mutated(document, rng.choice(everywhere), rng.choice((*VALUES, ...)))


def damaged(text: str, rng: random.Random) -> str:
    """A text with one piece removed, doubled or replaced."""
    start = rng.randrange(len(text))
    end = start + rng.choice((1, 5, 40, 400))
    piece = text[start:end]
    return text[:start] + rng.choice(("", piece * 2, *_PIECES)) + text[end:]


def changed_value(text: str, rng: random.Random) -> str:
    """An XML text with another value in one of its elements."""
    value = rng.choice(list(re.finditer(r">([^<>\s][^<>]*)<", text)))
    return text[: value.start(1)] + rng.choice(_TEXTS) + text[value.end(1) :]


def damaged_xml(text: str, rng: random.Random) -> str:
    """An XML text with a value changed, or a piece damaged."""
    return (changed_value if rng.random() < 0.5 else damaged)(text, rng)


def stac_item() -> dict[str, Any]:
    """A sound Item of a Sentinel-2 scene, with all that an archive says of one."""
    bands = {
        name: {
            "href": f"https://archive.example/S2A/{name}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "gsd": 10,
            "proj:shape": [10980, 10980],
            "proj:transform": [10, 0, 600000, 0, -10, 5200020],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
            "eo:bands": [{"name": name, "common_name": "x", "center_wavelength": 0.6}],
        }
        for name in ("B02", "B04", "B08")
    }
    bands["SCL"] = {"href": "https://archive.example/S2A/SCL.tif", "roles": ["data"]}
    ring = [[10.3, 46.0], [11.7, 46.0], [11.7, 46.9], [10.3, 46.9], [10.3, 46.0]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_MSIL2A_20240502T102611_N0510_R108_T32TPT_20240502T151155",
        "bbox": [10.3, 46.0, 11.7, 46.9],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": "2024-05-02T10:26:11.024Z",
            "platform": "sentinel-2a",
            "proj:epsg": 32632,
            "s2:processing_baseline": "05.10",
            "s2:mgrs_tile": "32TPT",
            "sat:relative_orbit": 108,
            "eo:cloud_cover": 12.5,
            "created": "2024-05-02T15:11:55Z",
            "earthsearch:boa_offset_applied": False,
        },
        "links": [{"rel": "self", "href": "https://archive.example/items/x"}],
        "assets": bands,
    }


def sentinel2_product(folder: Path, number: int = 0) -> Path:
    """The .SAFE folder of a small Sentinel-2 product; each number is another one's."""
    made = _START + timedelta(hours=5, seconds=number)
    product = SafeProduct("S2A", _START, 108, "32TPT", "05.10", made, _GRID)
    home = folder / f"{product.name}.SAFE"
    images = {product.image("B04", 10): (_GRID, "uint16"), product.image("SCL", 20): (
        replace(_GRID, res_m=20.0, height_px=4, width_px=4), "uint8")}  # fmt: skip
    for image, (grid, dtype) in images.items():
        path = home / f"{image}.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jp2(path, np.full((grid.height_px, grid.width_px), 4, dtype), grid)
    safe.write_metadata(home, product, list(images), shapely.box(*_GRID.bounds_m), {4: 100.0})
    return home


def radar_product(folder: Path, number: int = 0) -> Path:
    """The folder of a small CARD-BS product in BEAM-DIMAP; each number is another one's."""
    scene = replace(SEASON[0], start=SEASON[0].start + timedelta(seconds=number), layout=DIMAP)
    pixels = np.full((_GRID.height_px, _GRID.width_px), 0.1, np.float32)
    return sentinel1.write_scene(folder, scene, {"VV": pixels, "VH": pixels}, _GRID)
