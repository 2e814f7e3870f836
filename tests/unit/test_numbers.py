"""Numbers of files: any mix of type, tag, fill value, scale and offset is reduced as meant, or
refused by name."""

import math
import shutil

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio import Affine

from card.find import folder
from extraction.scene import reduce_scene
from extraction.spans import ParcelSpans, SpanCache

GRD = "S1A_IW_GRDH_1SDV_20240501T171550_20240501T171615_053683_06855A_1234"
NAMES = {
    "reflectance": "S2B_MSIL2A_20220725T101559_N0400_R065_T32TMT_20220725T132135_B04",
    "gamma0_db": f"{GRD}_Gamma0_VV_db",
    "gamma0_linear": f"{GRD}_Gamma0_VV",
    "sigma0_linear": f"{GRD}_Sigma0_VV",
    "gamma0_db by its tag": f"{GRD}_Gamma0_VV",
    "coherence": "S1A_20220305T053012__1A__20220221T053012_20220221T053037_CARD-COH12_VV",
}
TYPICAL = {
    "reflectance": 0.2,
    "gamma0_db": -12.0,
    "gamma0_linear": 0.05,
    "coherence": 0.4,
    "sigma0_linear": 0.05,
    "gamma0_db by its tag": -12.0,
}
SIZE = 40
PARCEL = shapely.box(500_000, 5_199_600, 500_400, 5_200_000)
VALUES = [None, 0.0, -9999.0, -10000.0, 1e20, 65535.0, 32767.0, -3.4028234663852886e38, math.nan,
          70000.0]  # fmt: skip
ENDS = [255.0, -128.0, 127.0, 4294967295.0, -2147483648.0]
"""Fill values of the integer types whose ends they are; in others nobody can know them."""


DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64", "complex64"]


def stored_pixels(dtype: str, physical: np.ndarray, scale: float, offset: float) -> np.ndarray:
    values = (physical - offset) / (scale or 1.0)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        assume(limits.min <= values.min() and values.max() <= limits.max)
        assume(np.unique(values.round()).size > 5)
        return values.round().astype(dtype)
    return values.astype(dtype)


def write(path, pixels, tag, scale, offset, unit) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", width=SIZE, height=SIZE, count=1, dtype=pixels.dtype,
        crs="EPSG:32632", transform=Affine(10, 0, 500_000, 0, -10, 5_200_000), nodata=tag,
    ) as out:  # fmt: skip
        out.write(pixels, 1)
        out.scales, out.offsets = [scale], [offset]
        out.units = [unit]


SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(
    unit=st.sampled_from(sorted(NAMES)),
    dtype=st.sampled_from(DTYPES),
    tag=st.sampled_from(VALUES),
    fill=st.sampled_from([*VALUES[:-1], *ENDS]),  # nobody can know 70000 for one
    scale=st.sampled_from([1.0, 0.01, 0.0001, 0.5, -0.01, 0.0]),
    offset=st.sampled_from([0.0, -0.1, 1.0]),
)
def test_files_are_reduced_as_meant_or_refused_by_name(
    tmp_path, unit, dtype, tag, fill, scale, offset
):
    rng = np.random.default_rng(7)
    physical = TYPICAL[unit] * rng.uniform(0.8, 1.2, (SIZE, SIZE))
    pixels = stored_pixels(dtype, physical, scale, offset)
    holes = np.zeros((SIZE, SIZE), bool)
    if fill is not None:
        if np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            assume(not math.isnan(fill) and limits.min <= fill <= limits.max)
            assume(fill not in ENDS or fill in (limits.min, limits.max))
        else:
            assume(fill not in ENDS)
        holes[:, : SIZE // 3] = True
        pixels[holes] = fill
    place = tmp_path / "here"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = place / f"{NAMES[unit]}.tif"
    try:
        write(path, pixels, tag, scale, offset, "dB" if "tag" in unit else "")
    except (ValueError, OverflowError, rasterio.errors.RasterioError):
        assume(False)
    found = folder.scan(place)
    if not found.scenes:
        assert "B04" in found.problems[0].why or "VV" in found.problems[0].why
        return
    [scene] = found.scenes
    assert scale > 0
    assert not dtype.startswith("complex")
    band = "B04" if unit == "reflectance" else "VV"
    outlines = np.array([1], np.int32), [shapely.to_wkb(PARCEL)]
    parcels = ParcelSpans(SpanCache(tmp_path / "cache", 10**8), "d", 0.0, lambda _epsg: [outlines])
    table = reduce_scene(scene, [parcels]).sets[0].signatures.stats[band][0]
    meant = pixels[~holes].astype(np.float64) * scale + offset
    assert table[0] == meant.size
    factor = scene.scale or 1.0
    np.testing.assert_allclose(
        np.array([table[1], table[3], table[7]]) * factor,
        [meant.mean(), meant.min(), meant.max()], rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    assert table[2] * factor == pytest.approx(meant.std(), rel=1e-4, abs=1e-6)
