"""Annotations, calibration and noise: all of real products, and every fault by its name."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from card.make import annotation, products
from store.errors import NotFoundError, SceneError

PRODUCTS = {
    "S1A_IW_GRDH_1SDV_20150222T170725": ("GRD", (2, 36), 117, "VV VH"),
    "S1A_IW_GRDH_1SDV_20150222T170750": ("GRD", (2, 36), 117, "VV VH"),
    "S1B_IW_GRDH_1SDV_20211223T051122": ("GRD", (3, 40), 22, "VV"),
    "S1B_IW_SLC__1SDV_20210401T052622": ("SLC", (3, 31), 168, "VV VH VH"),
    "S1A_IW_SLC__1SDV_20230904T063730": ("SLC", (3, 61), 52, "VV VV VH VH"),
    "S1A_IW_SLC__1SDV_20230916T063730": ("SLC", (3, 61), 52, "VV VV VH VH"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_real_product_of_iw_is_read(safes, name):
    product = products.read(safes[name])
    type_, ipf, orbit, polarisations = PRODUCTS[name]
    assert (product.type, product.ipf, product.relative_orbit) == (type_, ipf, orbit)
    assert " ".join(one.polarisation for one in product.channels) == polarisations
    assert product.polarisations == ("VV", "VH")
    for channel in product.channels:
        image = annotation.read(channel.annotation)
        assert (image.swath, image.polarisation) == (channel.swath, channel.polarisation)
        tables = annotation.read_calibration(channel.calibration)
        noise = annotation.read_noise(channel.noise, ipf, tables.dn)
        assert noise.is_zero == (ipf == (2, 36))
        assert bool(noise.blocks) == (ipf >= (2, 90))
        assert bool(image.bursts) == (type_ == "SLC")
        assert (image.conversions is None) == (type_ == "SLC")
        assert len(image.fm_rates) >= 9
        assert len(image.doppler) >= 9
    assert channel.measurement is None


def test_wide_swath_is_refused_by_its_name(safes):
    with pytest.raises(SceneError, match="mode EW is not processed, only IW is"):
        products.read(safes["S1A_EW_SLC__1SDH_20210403T122536"])


def test_a_product_that_is_not_there_is_the_callers_fault(tmp_path):
    with pytest.raises(NotFoundError, match="there is no product"):
        products.read(tmp_path / "none.SAFE")


def test_bursts_know_ids_and_valid_samples(safes):
    channel = products.read(safes["S1A_IW_SLC__1SDV_20230904T063730"]).channels[0]
    image = annotation.read(channel.annotation)
    assert [burst.id for burst in image.bursts] == list(range(110431, 110440))
    assert image.lines_per_burst == 1507
    burst = image.bursts[0]
    assert burst.t_s == 0
    assert burst.since_node_s == pytest.approx(2444.0798979983)
    assert burst.sensing_s == pytest.approx(1.148511)
    assert (burst.first_valid_px[0], burst.first_valid_px[21]) == (-1, 239)
    assert burst.last_valid_px[21] == 20703
    assert image.fm_rates[0].t0_s == 5.334431164884956e-03
    assert image.doppler[0].coefficients.tolist() == [-1.001209e01, 1.178121e04, -1.821658e07]


def test_times_count_from_the_first_line(safes):
    image = annotation.read(
        products.read(safes["S1B_IW_GRDH_1SDV_20211223T051122"]).channels[0].annotation
    )
    assert image.epoch.isoformat() == "2021-12-23T05:11:22.594441+00:00"
    assert image.last_s == pytest.approx(24.998705)
    assert image.conversions.t_s[0] == pytest.approx(-1.909162)
    assert image.vectors.t_s[0] == pytest.approx(-61.565141)
    assert image.orbit_direction == "descending"


def test_an_old_noise_table_is_scaled_by_the_version_of_the_processor(safes, tmp_path):
    channel = products.read(safes["S1A_IW_GRDH_1SDV_20150222T170725"]).channels[0]
    tree = ElementTree.parse(channel.noise)
    for node in tree.iter("noiseLut"):
        node.text = " ".join(["2e-5"] * len(node.text.split()))
    tree.write(tmp_path / "noise.xml")
    for ipf, scale in (((2, 33), 75088.7 * 474), ((2, 36), 75088.7 * 474**2), ((2, 53), 1)):
        noise = annotation.read_noise(tmp_path / "noise.xml", ipf, 474.0)
        assert noise.range.values == pytest.approx(2e-5 * scale)


def edited(safes, tmp_path, kind: str, *edits: tuple[str, str]) -> Path:
    """A file of the GRD of 2021 with changed text."""
    channel = products.read(safes["S1B_IW_GRDH_1SDV_20211223T051122"]).channels[0]
    source = getattr(channel, kind)
    text = source.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / source.name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<numberOfLines>16705</numberOfLines>", "", "no element numberOfLines"),
        ("<numberOfLines>16705", "<numberOfLines>many", "numberOfLines is 'many', not a number"),
        ("<numberOfLines>16705", "<numberOfLines>16000", "16000 lines take 23.9"),
        ("<numberOfLines>16705", "<numberOfLines>-5", "not a number of things"),
        ("<azimuthTimeInterval>1.49", "<azimuthTimeInterval>-1.49", "line_interval_s is -0.00"),
        ("<rangePixelSpacing>1.0", "<rangePixelSpacing>nan1.0", "rangePixelSpacing is"),
        ("<productFirstLineUtcTime>2021-12-", "<productFirstLineUtcTime>2021-13-", "not a time"),
        ('<grsrCoefficients count="9">', '<grsrCoefficients count="8">', "states 8 numbers, has 9"),
        ('<grsrCoefficients count="9">', '<grsrCoefficients count="10">NaN ', "no list of numbers"),
        ("<product>", "<product", "not readable XML"),
    ],
)  # fmt: skip
def test_a_broken_annotation_is_refused_with_its_fault(safes, tmp_path, old, new, why):
    path = edited(safes, tmp_path, "annotation", (old, new))
    with pytest.raises(SceneError, match=why) as error:
        annotation.read(path)
    assert path.name in str(error.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.xml").touch()
    with pytest.raises(SceneError, match=r"empty\.xml: 0 bytes are no XML"):
        annotation.read(tmp_path / "empty.xml")


def test_vectors_of_unequal_length_and_negative_lines_make_one_table(safes, tmp_path):
    path = edited(
        safes, tmp_path, "noise",
        ("<line>0</line>", "<line>-7</line>"),
        ('<pixel count="657">0 40 80', '<pixel count="656">0 80'),
        ('count="657">2.375788e+03 2.330880e+03', 'count="656">2.375788e+03'),
    )  # fmt: skip
    table = annotation.read_noise(path, (3, 40), 1.0).range
    assert table.lines[0] == -7
    assert table.values.shape == (27, 657)
    assert table.values[0, 1] == pytest.approx((2375.788 + 2287.692) / 2)  # where 40 was left out


def test_a_table_with_a_value_of_zero_is_no_calibration(safes, tmp_path):
    path = edited(safes, tmp_path, "calibration", (">4.739733e+02 ", ">0 "))
    with pytest.raises(SceneError, match="not above 0"):
        annotation.read_calibration(path)


def test_tables_are_bilinear_between_and_level_beyond():
    values = np.array([[0.0, 4.0], [10.0, 14.0]])
    table = annotation.LookupTable(np.array([-5.0, 5.0]), np.array([0.0, 4.0]), values)
    profiles, index, weight = table.window(-10, 9, 1, 7)
    values = profiles[index] + weight[:, None] * (profiles[index + 1] - profiles[index])
    lines = np.clip(np.arange(-10, 9), -5, 5)
    assert values == pytest.approx((lines + 5)[:, None] + np.clip(np.arange(1, 7), 0, 4))


def test_gaps_between_azimuth_blocks_are_closed_from_both_sides(safes):
    channel = products.read(safes["S1B_IW_GRDH_1SDV_20211223T051122"]).channels[0]
    noise = annotation.read_noise(channel.noise, (3, 40), 1.0)
    whole = noise.factors(0, 40, 8880, 8900)
    assert whole[0, 0] == np.float32(1.091791)
    assert whole[0, -1] != whole[0, 0]  # another sub-swath
    short = replace(noise.blocks[0], line0=0, line1=10, lines=np.array([0.0]))
    block = replace(short, factors=np.array([2.0]))
    later = replace(block, line0=30, line1=40, factors=np.array([3.0]))
    closed = annotation.Noise(noise.range, tuple(annotation.close_gaps([later, block])))
    assert closed.factors(-5, 50, 0, 1)[:, 0].tolist() == [2.0] * 25 + [3.0] * 30
