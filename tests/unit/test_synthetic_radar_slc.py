"""The Level-1 simulator on its own: pairs of SLC products."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio

from standalone.synthetic.radar.orbit import Pass
from standalone.synthetic.radar.slc import (
    AMPLITUDE,
    LINE_S,
    SAMPLE_M,
    WAVELENGTH_M,
    PairTruth,
    SlcPair,
    Sweep,
    respond,
    write_slc_pair,
)
from standalone.synthetic.radar.terrain import AnalyticTerrain, Level, Site, hills
from tests.stripes import Stripes
from tests.unit.level1_documents import documents, paths

SITE = Site(32632, 458_000.0, 5_245_000.0)
LEVELS = (0.0, 0.3, 0.6, 0.95)
PAIR = SlcPair(
    SITE,
    Pass(datetime(2024, 5, 1, 5, 34, tzinfo=UTC)),
    AnalyticTerrain(300.0),
    coherence={"VV": Stripes(SITE.east_m - 2000, 1000.0, LEVELS), "VH": 0.5},
    lines=160,
    samples=800,
    baseline_m=0.0,
    line_shift=0.0,
)
REAL_SLC = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1.SAFE.zip"


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> PairTruth:
    """A pair of two equal orbits: coherence can be measured pixel by pixel."""
    return write_slc_pair(tmp_path_factory.mktemp("same"), PAIR)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> PairTruth:
    """Two sub-swaths over hills, 80 m apart, single polarisation."""
    pair = replace(
        PAIR,
        terrain=hills(2),
        coherence={"VV": 0.8},
        gamma0={"VV": 0.1},
        swaths=("IW1", "IW2"),
        samples=500,
        baseline_m=80.0,
        line_shift=0.4,
    )
    return write_slc_pair(tmp_path_factory.mktemp("apart"), pair)


def image(home: Path, name: str) -> np.ndarray:
    with rasterio.open(next(home.glob(f"measurement/*-{name}-*.tiff"))) as src:
        return src.read(1)


def document(home: Path, name: str) -> ET.Element:
    return ET.parse(next(home.glob(f"annotation/*-{name}-*.xml"))).getroot()


def seconds(text: str, epoch: datetime) -> float:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - epoch).total_seconds()


def coherence(one: np.ndarray, two: np.ndarray) -> float:
    return float(abs(np.vdot(one, two)) / np.sqrt(np.vdot(one, one).real * np.vdot(two, two).real))


def test_one_response_has_energy_1_and_its_phase_where_it_is() -> None:
    line, sample = np.array([40.3, 41.0]), np.array([50.7, 120.0])
    phase, turn = np.array([0.4, -1.1]), np.array([2.0, -0.3])
    amplitudes = np.array([[1, 2j], [3, 0]], dtype=np.complex64)
    images = respond(line, sample, phase, turn, amplitudes, (90, 180))
    left, right = images[0][:, :85], images[0][:, 85:]
    for part, power in ((left, 1.0), (right, 4.0)):
        assert np.square(np.abs(part)).sum() == pytest.approx(power, rel=2e-3)
    np.testing.assert_allclose(images[1][:, :85], 3 * left, rtol=1e-5)
    assert not images[1][:, 85:].any()
    assert np.angle(right[41, 35]) == pytest.approx(-1.1 + np.pi / 2, abs=1e-4)
    turned = np.angle(right[42, 35] / right[41, 35])
    assert turned == pytest.approx(-0.3, abs=1e-4)
    rows = np.square(np.abs(left)).sum(axis=1)
    assert np.average(np.arange(90), weights=rows) == pytest.approx(40.3, abs=5e-3)


def test_responses_are_the_same_wherever_they_lie() -> None:
    rng = np.random.default_rng(1)
    line, sample = rng.uniform(-5, 55, 40), rng.uniform(-5, 65, 40)
    phase, turn = rng.uniform(-3, 3, 40), rng.uniform(-3, 3, 40)
    amplitudes = (rng.normal(size=(1, 40)) + 1j * rng.normal(size=(1, 40))).astype(np.complex64)
    whole = respond(line, sample, phase, turn, amplitudes, (50, 60))
    moved = respond(line - 13, sample - 5, phase, turn, amplitudes, (30, 40))
    np.testing.assert_allclose(whole[:, 13:43, 5:45], moved, atol=1e-4)


@pytest.mark.parametrize("centroid", [20.0, 2000.0])
def test_esas_deramping_stills_every_scatterer(centroid: float) -> None:
    """Definition of the TOPS SLC deramping function, ESA COPE-GSEG-EOPG-TN-14-0025."""
    from standalone.synthetic.radar.orbit import fly
    from standalone.synthetic.radar.slc import _strips

    pair = replace(PAIR, doppler_hz=centroid, lines=1500, samples=8000)
    strip = _strips(pair, fly(pair.flight, *SITE.geographic()), 0.0)[0]
    sweep = strip.sweeps[0]
    near = strip.raster.axis.near_m
    for sample in (50.0, 4000.0, 7900.0):
        slant = np.array([near + sample * SAMPLE_M])
        for line in (30.0, 750.0, 1470.0):
            deramped = _deramp_frequency(sweep, slant, strip.raster.first_s + line * LINE_S)
            doppler = sweep.doppler(strip.raster.first_s + np.array([line]) * LINE_S, slant)[0]
            assert abs(doppler - deramped) < 0.05
    rates = sweep.steering_hz_s, sweep.fm_rate.at(slant)[0]
    assert rates[0] == pytest.approx(2 * 7593 / WAVELENGTH_M * np.radians(0.97986), rel=0.01)
    assert sweep.rate(float(slant[0])) == pytest.approx(
        rates[0] * rates[1] / (rates[1] - rates[0]), rel=1e-6
    )


def _deramp_frequency(sweep: Sweep, slant: np.ndarray, t: float) -> float:
    """Frequency of ESA's phase at a time of the burst: rate (t - reference) + centroid."""
    ka, ks = sweep.fm_rate.at(slant)[0], sweep.steering_hz_s
    first = np.array([sweep.near_m])
    centre = -sweep.centroid.at(slant)[0] / ka
    centre_first = -sweep.centroid.at(first)[0] / sweep.fm_rate.at(first)[0]
    reference = sweep.middle_s + centre - centre_first
    return float(ka * ks / (ka - ks) * (t - reference) + sweep.centroid.at(slant)[0])


def test_fm_rate_is_like_the_real_ones(same: PairTruth) -> None:
    # Real IW2 of 2023-09-04: -2199.14 at 5.6444 ms, and falls as annotated there.
    real = np.polynomial.Polynomial([-2.199143037565464e03, 4.009671210877029e05, -6.48e07])
    for rate in document(same.homes[0], "iw2-slc-vv").iter("azimuthFmRate"):
        t0 = float(rate.findtext("t0"))
        c0 = float(rate.findtext("azimuthFmRatePolynomial").split()[0])
        assert c0 == pytest.approx(real(t0 - 5.644353088882477e-03), rel=0.01)


def test_stripes_have_their_coherence(same: PairTruth) -> None:
    strip = same.strips[0][0]
    for band, levels in (("vv", LEVELS), ("vh", (0.5,))):
        one, two = (image(home, f"iw2-slc-{band}") for home in same.homes)
        for number, level in enumerate(levels):
            cols = slice(30, -30)
            if len(levels) > 1:
                # Within 300 m of the stripe's middle, where it crosses the burst's middle line.
                cols = _columns(strip, SITE.east_m - 1500 + 1000 * number)
                if cols.start < 20 or cols.stop > 780:
                    continue
            for burst in range(2):
                rows = slice(burst * 160 + 20, burst * 160 + 140)
                assert coherence(one[rows, cols], two[rows, cols]) == pytest.approx(level, abs=0.06)


def _columns(strip, east: float) -> slice:
    level = Level(SITE, 300.0)
    ends = np.array([east - 300, east + 300])
    points = level.points(ends, np.full(2, SITE.north_m))[0]
    pixel = strip.raster.locate(points)[1]
    return slice(int(pixel.min()), int(pixel.max()))


def test_the_level_is_that_of_gamma0(same: PairTruth) -> None:
    root = document(same.homes[0], "iw2-slc-vh")
    view = np.radians(float(root.find(".//incidenceAngleMidSwath").text))
    for band, gamma0 in (("vv", 0.1), ("vh", 0.02)):
        samples = image(same.homes[0], f"iw2-slc-{band}")[20:140, 20:-20]
        beta0 = np.square(np.abs(samples)).mean() / AMPLITUDE**2
        assert beta0 * np.tan(view) == pytest.approx(gamma0, rel=0.03)
        # Fully developed speckle: intensity is exponential.
        intensity = np.square(np.abs(samples))
        assert intensity.std() / intensity.mean() == pytest.approx(1, abs=0.05)


def test_bursts_lie_in_the_file_where_the_annotation_says(same: PairTruth) -> None:
    home = same.homes[1]
    root, samples = document(home, "iw2-slc-vv"), image(home, "iw2-slc-vv")
    raw = next(home.glob("measurement/*-iw2-slc-vv-*.tiff")).read_bytes()
    lines, width = int(root.findtext(".//linesPerBurst")), int(root.findtext(".//samplesPerBurst"))
    assert (2 * lines, width) == samples.shape
    epoch = same.strips[1][0].raster.orbit.epoch
    bursts = list(root.iter("burst"))
    for number, burst in enumerate(bursts):
        offset = int(burst.findtext("byteOffset"))
        part = np.frombuffer(raw[offset : offset + 4 * lines * width], "<i2")
        whole = samples[number * lines : (number + 1) * lines]
        np.testing.assert_array_equal(part.reshape(lines, width, 2)[..., 0], whole.real)
        np.testing.assert_array_equal(part.reshape(lines, width, 2)[..., 1], whole.imag)
        first, last = (
            np.array(burst.findtext(name).split(), int)
            for name in ("firstValidSample", "lastValidSample")
        )
        cols = np.arange(width)
        valid = (cols >= first[:, None]) & (cols <= last[:, None]) & (first >= 0)[:, None]
        assert not whole[~valid].any()
        assert (whole[valid] != 0).mean() > 0.99
    times = [seconds(b.findtext("azimuthTime"), epoch) for b in bursts]
    assert times[1] - times[0] == pytest.approx(PAIR.period_lines * LINE_S, abs=2e-6)
    ids = [int(b.findtext("burstId")) for b in bursts]
    assert ids[1] == ids[0] + 1
    assert 1 <= ids[0] <= 375_887


def test_bursts_share_the_ground_where_they_overlap(tmp_path: Path) -> None:
    """Mean powers agree; the speckle does not, since the bursts see it at other Dopplers."""

    def patches(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        return np.where(np.sin(east / 90) * np.sin(north / 90) > 0, 1.0, 0.001)

    pair = replace(PAIR, gamma0={"VV": patches}, overlap_lines=60)
    truth = write_slc_pair(tmp_path, pair)
    power = np.square(np.abs(image(truth.homes[0], "iw2-slc-vv")))
    period = pair.period_lines
    shared = slice(pair.edge + period, 160 - pair.edge)
    first, second = power[shared], power[160:][pair.edge : 160 - pair.edge - period]
    assert first.shape[0] == pair.overlap_lines
    means = [p[:, 20:780].reshape(15, 4, 95, 8).mean(axis=(1, 3)).ravel() for p in (first, second)]
    assert np.corrcoef(np.log(means))[0, 1] > 0.9
    moved = np.roll(means[0].reshape(15, 95), 12, axis=1).ravel()
    assert np.corrcoef(np.log(moved), np.log(means[1]))[0, 1] < 0.6


def test_the_second_pass_is_the_wanted_baseline_away(apart: PairTruth) -> None:
    assert apart.baseline_m == pytest.approx(80.0, abs=1e-3)
    level = Level(SITE, apart.pair.terrain.base_m)
    point = level.points(np.array([SITE.east_m]), np.array([SITE.north_m]))[0]
    (line1, slant1, ray1), (line2, slant2, ray2) = (s[0].raster.rays(point) for s in apart.strips)
    angle = np.arccos(np.clip((ray1 * ray2).sum(), -1, 1))
    assert angle * slant1[0] == pytest.approx(80.0, rel=0.01)
    assert (line1 - line2)[0] == pytest.approx(0.4, abs=1e-3)
    assert 5 < abs(slant2 - slant1)[0] / SAMPLE_M < 60


def test_sub_swaths_of_both_dates(apart: PairTruth) -> None:
    names = [home.name.split("_") for home in apart.homes]
    assert [n[4] for n in names] == ["1SSV", "1SSV"]
    assert [n[5][:8] for n in names] == ["20240501", "20240513"]
    assert int(names[1][7]) - int(names[0][7]) == 175
    for home in apart.homes:
        assert len(list(home.glob("measurement/*.tiff"))) == 2
        near = [
            float(document(home, f"{swath}-slc-vv").findtext(".//slantRangeTime"))
            for swath in ("iw1", "iw2")
        ]
        assert near[1] > near[0]
    ids = [
        [
            [int(b.text) for b in document(home, f"{s}-slc-vv").iter("burstId")]
            for s in ("iw1", "iw2")
        ]
        for home in apart.homes
    ]
    assert ids[0] == ids[1]


def test_interferometric_phase_is_that_of_the_paths(apart: PairTruth) -> None:
    """Known places of both images differ in phase by 4 pi / wavelength times the path difference.

    Both bursts are deramped and read at the known places by their neighbours' nearest pixels;
    what is left is the speckle's common part, so the coherence is near the known one.
    """
    surface, pair = apart.surface, apart.pair
    rng = np.random.default_rng(3)
    east, north = (a + rng.uniform(-350, 350, 4000) for a in (SITE.east_m, SITE.north_m))
    points = surface.points(east, north)[0]
    values = []
    for home, strips in zip(apart.homes, apart.strips, strict=True):
        strip = strips[0]
        line, slant, _ = strip.raster.rays(points)
        sample = (slant - strip.raster.axis.near_m) / SAMPLE_M
        burst = image(home, "iw1-slc-vv")[: pair.lines]
        values.append(_read(burst, strip, line, sample, slant))
    flat = values[0] * np.conj(values[1])
    known = np.isfinite(flat)
    assert known.sum() > 500
    flat = flat[known]
    power = [np.square(np.abs(v[known])).mean() for v in values]
    assert abs(flat.mean()) / np.sqrt(power[0] * power[1]) > 0.7
    assert abs(np.angle(flat.mean())) < 0.2


def _read(burst: np.ndarray, strip, line: np.ndarray, sample: np.ndarray, slant: np.ndarray):
    """Deramped values at places by a windowed sinc of 12 x 12, path phase taken off."""
    sweep, first = strip.sweeps[0], strip.raster.first_s
    taps = np.arange(-5, 7)
    inside = (line > 20) & (line < burst.shape[0] - 20)
    inside &= (sample > 20) & (sample < burst.shape[1] - 20)
    out = np.full(len(line), np.nan + 0j)
    rate = sweep.rate(float(slant.mean()))
    for n in np.flatnonzero(inside):
        rows, cols = int(line[n]) + taps, int(sample[n]) + taps
        t = first + rows * LINE_S
        own = first + line[n] * LINE_S
        doppler = sweep.doppler(np.array([own]), slant[n : n + 1])[0]
        # Locally the image turns with the scatterers' Doppler, which changes along the lines.
        still = np.exp(-2j * np.pi * (doppler * (t - own) + rate * (t - own) ** 2 / 2))
        down, across = (
            np.sinc(x - y) * np.cos(np.pi * (x - y) / 14) ** 2
            for x, y in ((rows, line[n]), (cols, sample[n]))
        )
        value = (burst[np.ix_(rows, cols)] * still[:, None] * np.outer(down, across)).sum()
        out[n] = value * np.exp(4j * np.pi / WAVELENGTH_M * slant[n])
    return out


def test_documents_have_no_element_that_real_products_lack(
    shared_data: Path, same: PairTruth
) -> None:
    real = documents(shared_data / "s1_metadata" / REAL_SLC)
    home = same.homes[0]
    name = next(home.glob("annotation/*-vv-*.xml")).name
    tables = home / "annotation" / "calibration"
    own = {
        "product": ET.parse(home / "annotation" / name).getroot(),
        "calibration": ET.parse(tables / f"calibration-{name}").getroot(),
        "noise": ET.parse(tables / f"noise-{name}").getroot(),
        "manifest": ET.parse(home / "manifest.safe").getroot(),
    }
    for kind, root in own.items():
        assert paths(root) - paths(real[kind]) == set(), kind
    groups = ("swathTiming", "geolocationGrid", "generalAnnotation/orbitList")
    for group in (f"/product/{g}" for g in groups):
        assert {p for p in paths(real["product"]) if p.startswith(group)} <= paths(own["product"])
    bursts = list(own["product"].iter("burst"))
    steps = {float(b.findtext("azimuthAnxTime")) for b in bursts}
    assert all(0 < step < 5924 for step in steps)
    assert [a < b for a, b in pairwise(sorted(steps))] == [True]


def test_old_processors_annotate_no_burst_ids(tmp_path: Path) -> None:
    pair = replace(PAIR, ipf="003.31", lines=60, samples=100, bursts=1, gamma0={"VV": 0.1})
    truth = write_slc_pair(tmp_path, pair)
    assert document(truth.homes[0], "iw2-slc-vv").find(".//burstId") is None


def test_noise_takes_coherence_away(tmp_path: Path) -> None:
    pair = replace(
        PAIR, coherence={"VV": 1.0}, gamma0={"VV": 0.1}, bursts=1, samples=400, noise_db=-9.0
    )
    truth = write_slc_pair(tmp_path, pair)
    one, two = (image(home, "iw2-slc-vv")[20:140, 20:-20] for home in truth.homes)
    root = document(truth.homes[0], "iw2-slc-vv")
    view = np.radians(float(root.find(".//incidenceAngleMidSwath").text))
    signal = 0.1 / np.tan(view)
    assert coherence(one, two) == pytest.approx(signal / (signal + 10**-0.9), abs=0.03)
    noise = ET.parse(next(truth.homes[0].glob("annotation/calibration/noise-*"))).getroot()
    levels = {float(v) for v in noise.find(".//noiseRangeLut").text.split()}
    assert list(levels) == pytest.approx([AMPLITUDE**2 * 10**-0.9])
