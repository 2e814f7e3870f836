"""Damaged metadata and headers: they are read, or refused by one of our errors, never a crash."""

import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from card.find import folder, safe
from card.make import annotation, orbit, products
from extraction import codestream
from extraction.codestream import UnsuitedError
from store.errors import CbmError
from tests import grd
from tests.fuzzing import damaged, damaged_xml, quickly
from tests.jp2 import noise, write_jp2
from tests.unit.test_codestream import Bytes

SLC = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"
EPOCH = datetime(2023, 9, 4, 6, 37, 30, tzinfo=UTC)
L2A = "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825.SAFE"
_KEPT = 5
"""Of a list's elements: what is read of a thousandth is read of the next alike."""


@cache
def short(product: Path, pattern: str) -> bytes:
    """A product's first document of a pattern, with short lists: an example takes little time."""
    root = ElementTree.parse(sorted(product.glob(pattern))[0]).getroot()
    for parent in list(root.iter()):
        seen: dict[str, int] = {}
        for child in list(parent):
            seen[child.tag] = seen.get(child.tag, 0) + 1
            if seen[child.tag] > _KEPT and len(parent) > 2 * _KEPT:
                parent.remove(child)
    out = io.BytesIO()
    ElementTree.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def products_of_esa(shared_data, tmp_path_factory) -> dict[str, Path]:
    into = tmp_path_factory.mktemp("safes")
    return {name: grd.unpack(shared_data, into, name) for name in (grd.NAME, grd.OLD_NAME, SLC)}


def read_annotation(path: Path) -> None:
    described = annotation.read(path)
    orbit.fit(described.vectors, 0.0, described.last_s)


def read_noise(path: Path) -> None:
    annotation.read_noise(path, (3, 40), 1.0)
    annotation.read_noise(path, (2, 36), 1.0)


READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "annotation of GRD": (grd.NAME, "annotation/s1*.xml", read_annotation),
    "annotation of SLC": (SLC, "annotation/s1*.xml", read_annotation),
    "calibration": (grd.NAME, "annotation/calibration/calib*.xml", annotation.read_calibration),
    "noise": (grd.NAME, "annotation/calibration/noise*.xml", read_noise),
    "noise of old": (grd.OLD_NAME, "annotation/calibration/noise*.xml", read_noise),
}


@pytest.mark.parametrize("kind", READERS)
@quickly(25)
@given(data=st.data())
def test_annotations_are_read_or_refused(products_of_esa, tmp_path_factory, kind, data):
    name, pattern, read = READERS[kind]
    path = tmp_path_factory.getbasetemp() / "damaged.xml"
    path.write_bytes(data.draw(damaged_xml(short(products_of_esa[name], pattern))))
    with suppress(CbmError):
        read(path)


@pytest.mark.parametrize("kind", READERS)
def test_undamaged_annotations_are_read_short_as_they_are(products_of_esa, tmp_path, kind):
    name, pattern, read = READERS[kind]
    (tmp_path / "short.xml").write_bytes(short(products_of_esa[name], pattern))
    read(tmp_path / "short.xml")


@quickly(40)
@given(data=st.data())
def test_manifests_are_read_or_refused(products_of_esa, data):
    product = products_of_esa[grd.NAME]
    manifest = product / "manifest.safe"
    kept = manifest.with_suffix(".kept")
    if not kept.exists():
        shutil.copy(manifest, kept)
    manifest.write_bytes(data.draw(damaged_xml(kept.read_bytes())))
    try:
        with suppress(CbmError):
            products.read(product)
    finally:
        shutil.copy(kept, manifest)


def orbit_file() -> bytes:
    vectors = "".join(
        f"<OSV><UTC>UTC={EPOCH.replace(second=s):%Y-%m-%dT%H:%M:%S}.000000</UTC>"
        f'<X unit="m">{7e6 + s}</X><Y unit="m">{1e3 * s}</Y><Z unit="m">0</Z>'
        f'<VX unit="m/s">0</VX><VY unit="m/s">1000</VY><VZ unit="m/s">7500</VZ></OSV>'
        for s in range(0, 60, 10)
    )
    return (
        "<Earth_Explorer_File><Earth_Explorer_Header><Variable_Header>"
        "<Ref_Frame>EARTH_FIXED</Ref_Frame><Time_Reference>UTC</Time_Reference>"
        "</Variable_Header></Earth_Explorer_Header><Data_Block type='xml'>"
        f"<List_of_OSVs count='6'>{vectors}</List_of_OSVs></Data_Block></Earth_Explorer_File>"
    ).encode()


@quickly(60)
@given(content=damaged_xml(orbit_file()), zipped=st.booleans())
def test_orbit_files_are_read_or_refused(tmp_path_factory, content, zipped):
    path = tmp_path_factory.getbasetemp() / ("damaged.EOF.zip" if zipped else "damaged.EOF")
    path.write_bytes(content)
    with suppress(CbmError):
        orbit.read_file(path, EPOCH, 25.0)


def test_a_whole_orbit_file_is_read(tmp_path):
    (tmp_path / "whole.EOF").write_bytes(orbit_file())
    assert orbit.read_file(tmp_path / "whole.EOF", EPOCH, 25.0).t_s.size == 6


@pytest.fixture(scope="module")
def level_2a(shared_data, tmp_path_factory) -> Path:
    """Metadata of a real product, to be damaged."""
    into = tmp_path_factory.mktemp("l2a") / L2A
    shutil.copytree(shared_data / "s2_metadata" / L2A, into)
    return into


@quickly(40)
@given(data=st.data())
def test_metadata_of_level_2a_are_read_or_refused(level_2a, data):
    files = sorted(path for path in level_2a.rglob("*.xml") if path.name.startswith("MTD"))
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged_xml(whole)))
    try:
        with suppress(CbmError):
            safe.read(level_2a)
    finally:
        path.write_bytes(whole)


DIM = b"""<?xml version="1.0"?><Dimap_Document><Image_Interpretation><Spectral_Band_Info>
<BAND_NAME>Gamma0_VV</BAND_NAME><LOG10_SCALED>false</LOG10_SCALED><SCALING_FACTOR>1.0</SCALING_FACTOR>
<SCALING_OFFSET>0.0</SCALING_OFFSET><NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED>
<NO_DATA_VALUE>0.0</NO_DATA_VALUE></Spectral_Band_Info></Image_Interpretation>
<MDElem name="metadata"><MDATTR name="PASS">ASCENDING</MDATTR><MDElem name="Processing_Graph">
<MDATTR name="operator">Terrain-Flattening</MDATTR></MDElem></MDElem></Dimap_Document>"""


@pytest.fixture(scope="module")
def dimap(tmp_path_factory) -> Path:
    """A product in BEAM-DIMAP; its header is to be written."""
    name = "S1A_IW_GRDH_1SDV_20220305T053012_20220305T053037_042175_05066C_1A2B_CARD_BS"
    data = tmp_path_factory.mktemp("dimap") / f"{name}.data"
    data.mkdir()
    with rasterio.open(
        data / "Gamma0_VV.img", "w", driver="ENVI", width=4, height=4, count=1, dtype="float32",
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5200000),
    ) as out:  # fmt: skip
        out.write(np.full((1, 4, 4), 0.1, np.float32))
    return data.with_suffix(".dim")


@quickly(40)
@given(header=damaged_xml(DIM))
def test_headers_of_dimap_are_read_or_refused(dimap, header):
    dimap.write_bytes(header)
    found = folder.scan(dimap.parent)
    assert len(found.scenes) + len(found.problems) == 1


@pytest.fixture(scope="module")
def jp2(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("jp2") / "small.jp2"
    return write_jp2(path, noise((96, 96)), 64).read_bytes()


@quickly(150)
@given(data=st.data())
def test_codestreams_headers_are_read_or_refused(jp2, data):
    head = 400  # where the boxes and the main header lie
    source = Bytes(data.draw(damaged(jp2[:head]) | st.just(jp2[:head])) + data.draw(
        damaged(jp2[head:])
    ))  # fmt: skip
    with suppress(UnsuitedError, CbmError):
        header = codestream.read_header(source)
        parts = codestream.find_tile_parts(header, source)
        assert len(parts.starts) == len(parts.lengths)
