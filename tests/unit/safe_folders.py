"""SAFE folders of real metadata with tiny images."""

import re
import shutil
from pathlib import Path

import numpy as np
import rasterio

from card.find import safe

N0400 = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126"


def tile_image(path: Path, granule: Path) -> Path:
    """A coarse image of a granule's whole tile, where its metadata lay it."""
    metadata = (granule / "MTD_TL.xml").read_text()
    epsg, west, north = (
        int(re.search(f"<{tag}>(?:EPSG:)?(\\d+)", metadata)[1])
        for tag in ("HORIZONTAL_CS_CODE", "ULX", "ULY")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", width=4, height=4, count=1, dtype="uint16",
        crs=f"EPSG:{epsg}", transform=rasterio.Affine(27450, 0, west, 0, -27450, north),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 4, 4), "uint16"))
    return path


def safe_folder(metadata: Path, into: Path, name: str, images: tuple[str, ...]) -> Path:
    """Real metadata with tiny images."""
    folder = into / f"{name}.SAFE"
    folder.mkdir(parents=True)
    shutil.copy(metadata / safe.METADATA, folder)
    granule = next((metadata / "GRANULE").iterdir())
    shutil.copytree(granule, folder / "GRANULE" / granule.name)
    for image in images:
        res = image.rsplit("_", 1)[1]
        at = folder / "GRANULE" / granule.name / "IMG_DATA" / f"R{res}" / f"T_{image}.jp2"
        tile_image(at, granule)
    return folder


IMAGES = ("B04_10m", "B04_20m", "B05_20m", "B8A_20m", "SCL_20m", "SCL_60m", "B01_60m", "TCI_10m")
