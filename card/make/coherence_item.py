"""CARD-COH as files: a COG of both polarisations and a STAC Item, see card.make.item."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from card.make import burst_kernels, item
from card.make.burst_pairs import SlcPasses
from card.make.coherence import CoherencePlan, CoherenceTile
from store import products as names
from store import raster
from store.errors import SceneError

UNIT = "coherence"

_FORM = "%Y%m%dT%H%M%S"


def product_name(passes: SlcPasses) -> str:
    """Name of the CARD-COH of two passes, as the JRC's: the later product's start comes first.

    Raises:
        ProductNameError: the folder of a product is not called as the product.
    """
    reference, *pair = (
        names.parse(product.reference) for product in (passes.reference, *passes.partners)
    )
    start = min(each.sensing_start for each in pair)
    stop = max(each.sensing_stop or each.sensing_start for each in pair)
    return (
        f"{reference.platform}_{reference.sensing_start:{_FORM}}__1{pair[0].platform[-1]}__"
        f"{start:{_FORM}}_{stop:{_FORM}}_{product_type(passes)}"
    )


def product_type(passes: SlcPasses) -> str:
    """CARD-COH1, CARD-COH6 or CARD-COH12."""
    return f"CARD-COH{passes.days}"


def write(
    order: CoherencePlan, tiles: Iterable[CoherenceTile], into: Path, *, replace: bool = False
) -> Path:
    """Write CARD-COH from its tiles.

    Args:
        order: what is made.
        tiles: all of the plan's, in any order.
        into: folder in which the product becomes a folder of its own.
        replace: take away what is there under its name.

    Returns:
        The product's folder.

    Raises:
        SceneError: no pixel has a value.
        ConflictError: meanwhile somebody else put a product of that name there.
    """
    name = product_name(order.passes)
    with item.temporary_folder(into, name) as folder:
        counts = _write_values(order, tiles, folder, name)
        if not any(counts.values()):
            raise SceneError(f"{order.passes.reference.folder}: no burst lies on known terrain")
        assets = {
            "values": item.values_asset(
                folder / f"{name}.tif", order.grid, order.passes.bands, UNIT
            )
        }
        properties = _properties(order) | {"cbm:valid_pixels": counts}
        item.write_item(folder, item.stac_item(name, order.passes.outline, properties, assets))
        return item.publish(folder, into / name, replace=replace)


def inputs(order: CoherencePlan) -> dict[str, Any]:
    """What a product is a function of; two with the same inputs have the same bytes."""
    passes = order.passes
    return {
        "cbm:source": passes.reference.reference,
        "cbm:pair": [product.reference for product in passes.partners],
        "cbm:orbit_file": _orbits(passes, "image"),
        "cbm:pair_orbit_file": _orbits(passes, "partner"),
        "cbm:window": [burst_kernels.WINDOW_LINES, burst_kernels.WINDOW_SAMPLES],
        "cbm:coregistration_terrain_m": order.settings.terrain_m,
    } | item.map_inputs(order.dem, order.grid)


def _orbits(passes: SlcPasses, side: str) -> str:
    """Orbit files of one pass, each once."""
    return ", ".join(dict.fromkeys(getattr(pair, side).orbit.source for pair in passes.pairs))


def _write_values(
    order: CoherencePlan, tiles: Iterable[CoherenceTile], folder: Path, name: str
) -> dict[str, int]:
    """Write the values; returns valid pixels by band."""
    bands = order.passes.bands
    counts, values = dict.fromkeys(bands, 0), folder / "values.tif"
    with (
        raster.gdal_env(),
        item.create_raster(values, order.grid, "float32", np.nan, bands) as out,
    ):
        out.units = [UNIT] * len(bands)
        out.update_tags(PASS=order.passes.image.annotation.orbit_direction.upper())
        for made in tiles:
            for band, of in zip(bands, made.values, strict=True):
                counts[band] += int(np.count_nonzero(~np.isnan(of)))
            if not np.isnan(made.values).all():
                out.write(made.values, window=item.window_of(made.tile))
    with raster.gdal_env():
        item.write_cog(values, folder / f"{name}.tif", 3, "AVERAGE")
    return counts


def _properties(order: CoherencePlan) -> dict[str, Any]:
    passes = order.passes
    image, pairs = passes.image, passes.pairs
    facts = item.sensing_facts(
        image.annotation, (passes.start, passes.stop), passes.reference.relative_orbit, passes.bands
    )
    residuals_m = [side.orbit.residual_m for pair in pairs for side in (pair.image, pair.partner)]
    return (
        facts
        | {
            "product:type": product_type(passes),
            "sar:product_type": "COH",
            "sar:looks_azimuth": burst_kernels.WINDOW_LINES,
            "sar:looks_range": burst_kernels.WINDOW_SAMPLES,
            "processing:lineage": _lineage(order),
            "cbm:ipf": item.version(passes.reference.ipf),
            "cbm:pair_ipf": [item.version(product.ipf) for product in passes.partners],
            "cbm:pair_start": item.iso_time(min(pair.partner.annotation.epoch for pair in pairs)),
            "cbm:temporal_baseline_days": passes.days,
            "cbm:perpendicular_baseline_m": round(passes.baseline_m, 1),
            "cbm:equivalent_looks": None if passes.looks is None else round(passes.looks, 1),
            "cbm:bursts": [pair.name for pair in pairs],
            "cbm:bursts_missed": list(passes.missed),
            "cbm:azimuth_shift_lines": round(passes.shift_lines, 3),
            "cbm:warnings": passes.warnings,
            "cbm:orbit_residual_m": float(f"{max(residuals_m):.3g}"),
            "cbm:bias": "not corrected",
        }
        | inputs(order)
    )


def _lineage(order: CoherencePlan) -> str:
    lines, samples = burst_kernels.WINDOW_LINES, burst_kernels.WINDOW_SAMPLES
    return (
        "Sentinel-1 SLC pair; bursts brought together by orbits and terrain; flat earth and "
        f"topographic phase removed with {order.dem.name}; coherence in windows of {lines} lines x "
        f"{samples} samples; geocoded, bilinear; estimator's bias not corrected"
    )
