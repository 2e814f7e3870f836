"""JPEG 2000 files, and plans that want the pixels of a mask, for tests of thinning."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from extraction import spans
from extraction.spans import ReadPlan, SpanIndex
from store.grid import Grid
from tests.integration.small_state import EPSG, NORTH_M, WEST_M

SENTINEL_2 = {
    "REVERSIBLE": "YES",
    "QUALITY": "100",
    "RESOLUTIONS": "5",
    "PROGRESSION": "LRCP",
    "PRECINCTS": ",".join(["{256,256}"] * 5),
}


def write_jp2(
    path: Path, pixels: np.ndarray, tile_px: int, res_m: float = 10.0, **options: object
) -> Path:
    """Code pixels as Sentinel-2's are, unless options say otherwise."""
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs=EPSG,
        transform=Affine(res_m, 0, WEST_M, 0, -res_m, NORTH_M),
        blockxsize=tile_px,
        blockysize=tile_px,
        **{key: value for key, value in (SENTINEL_2 | options).items() if value is not None},
    ) as sink:
        sink.write(pixels, 1)
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)
    return path


def noise(shape: tuple[int, int], seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    """A slope with noise; nodata (0) in the lower right."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))
    top = np.iinfo(dtype).max // 8
    pixels = (slope % top + rng.integers(1, top // 8, shape)).astype(dtype)
    pixels[shape[0] * 2 // 3 :, shape[1] // 2 :] = 0
    return pixels


def random_mask(shape: tuple[int, int], boxes: int, seed: int) -> np.ndarray:
    """Boxes of up to 30 pixels, anywhere; one at the lower right corner."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(boxes):
        row, col = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, 30, 2)
        mask[row : row + height, col : col + width] = True
    mask[-1, -1] = True
    return mask


def plan_of(mask: np.ndarray, block_shape_px: tuple[int, int]) -> ReadPlan:
    """A plan that wants the pixels of a mask: each run of a row is a parcel."""
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, first = (each.astype(np.int32) for each in np.nonzero(steps == 1))
    last = np.nonzero(steps == -1)[1].astype(np.int32)
    n = row.size
    index = SpanIndex(
        np.arange(n, dtype=np.int32),
        np.arange(n + 1, dtype=np.int64),
        row,
        first,
        last,
        last - first,
        np.stack([row, row + 1, first, last], axis=1),
        np.zeros(n, np.uint8),
    )
    return spans.plan_reads(index, Grid(EPSG, 10.0, 0.0, 0.0, *mask.shape), block_shape_px)
