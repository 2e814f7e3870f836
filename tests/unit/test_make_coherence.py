"""Pairs of SLC without their pixels: bursts of real products, refusals, ramps and weights."""

import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from card.make import annotation, burst_kernels, burst_pairs, coherence, orbit, products
from card.make.annotation import FrequencyBand
from card.make.burst_pairs import PassImage
from store.errors import CallerError, MissingFactError, SceneError
from tests import grd

LATER = "S1A_IW_SLC__1SDV_20230916T063730_20230916T063757_050349_060FCD_6814"
EARLIER = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"
OLDER = "S1B_IW_SLC__1SDV_20210401T052622_20210401T052650_026269_032297_EFA4"
IDS = [f"{swath} {number}" for swath in ("IW1", "IW2") for number in range(110431, 110440)]


def fit(described: annotation.Annotation) -> orbit.Orbit:
    return orbit.fit(described.vectors, 0.0, described.last_s)


@pytest.fixture(scope="module")
def slcs(shared_data, tmp_path_factory) -> dict[str, products.Level1]:
    """Real metadata; of pixels there are only the names."""
    folder, read = tmp_path_factory.mktemp("slc"), {}
    for name in (LATER, EARLIER, OLDER):
        safe = grd.unpack(shared_data, folder, name)
        (safe / "measurement").mkdir()
        for path in safe.glob("annotation/*.xml"):
            (safe / "measurement" / f"{path.stem}.tiff").touch()
        read[name] = products.read(safe)
    return read


@pytest.fixture(scope="module")
def passes(slcs) -> burst_pairs.SlcPasses:
    return burst_pairs.read_products(slcs[LATER], [slcs[EARLIER]], fit)


def images(product: products.Level1) -> list[PassImage]:
    """Its sub-swaths in VV."""
    return [
        PassImage(product.reference, described, (), fit(described))
        for channel in product.channels
        if channel.polarisation == "VV"
        for described in [annotation.read(channel.annotation)]
    ]


def without(image: PassImage, **changes) -> PassImage:
    """An image whose bursts state something else."""
    bursts = tuple(replace(burst, **changes) for burst in image.annotation.bursts)
    return replace(image, annotation=replace(image.annotation, bursts=bursts))


def test_all_bursts_of_a_real_pair_have_their_partners(passes):
    assert [pair.name for pair in passes.pairs] == IDS
    assert [pair.partner_burst.id for pair in passes.pairs] == [int(name[4:]) for name in IDS]
    assert (passes.missed, passes.bands, passes.days) == ((), ("VV", "VH"), 12)
    shifts = [pair.shift_lines for pair in passes.pairs]
    assert abs(passes.shift_lines) < 0.1
    assert max(map(abs, shifts)) < 3
    assert shifts[4] == pytest.approx(-0.06, abs=0.03)
    assert 10 < abs(passes.baseline_m) < 60
    assert passes.looks == pytest.approx(12.6, abs=0.2)


def test_bursts_without_ids_pair_by_their_time_on_the_orbit(slcs, passes):
    later, earlier = (images(slcs[name]) for name in (LATER, EARLIER))
    known = [(p.index, p.partner_index) for p in passes.pairs]
    pairs, missed = burst_pairs.pair_bursts([without(i, id=None) for i in later], earlier)
    assert [(p.index, p.partner_index) for p in pairs] == known
    assert missed == []
    # A node passed in between.
    turned = [
        without(i, id=None, since_node_s=i.annotation.bursts[0].since_node_s - 12 * 86400 / 175)
        for i in earlier
    ]
    pairs, missed = burst_pairs.pair_bursts(later, turned)
    assert [(p.image.annotation.swath, p.index) for p in pairs] == [("IW1", 0), ("IW2", 0)]
    assert missed == [name for name in IDS if not name.endswith("431")]


def test_bursts_of_a_slice_cut_elsewhere_come_from_two_slices_each_once(slcs):
    later, earlier = (images(slcs[name]) for name in (LATER, EARLIER))

    def cut(image: PassImage, part: slice) -> PassImage:
        described = replace(image.annotation, bursts=image.annotation.bursts[part])
        return replace(image, annotation=described)

    halves = [cut(i, part) for part in (slice(None, 5), slice(4, 7)) for i in earlier]
    pairs, missed = burst_pairs.pair_bursts(later, halves)
    assert [pair.name for pair in pairs] == [name for name in IDS if int(name[-2:]) < 38]
    assert len({(id(pair.image), pair.index) for pair in pairs}) == len(pairs) == 14
    assert missed == ["IW1 110438", "IW1 110439", "IW2 110438", "IW2 110439"]


def test_what_is_no_pair_is_refused_with_the_reason(slcs):
    later, earlier, older = (slcs[name] for name in (LATER, EARLIER, OLDER))
    with pytest.raises(CallerError, match="is the earlier pass: name the later one first"):
        burst_pairs.read_products(earlier, [later], fit)
    with pytest.raises(CallerError, match=r"is of relative orbit \d+, S1B.* only one track"):
        burst_pairs.read_products(later, [replace(older, polarisations=("VV", "VH"))], fit)
    with pytest.raises(CallerError, match="0 days apart: CARD-COH is of 1, 6 or 12 days"):
        burst_pairs.read_products(later, [later], fit)
    with pytest.raises(CallerError, match="no polarisation in common"):
        burst_pairs.read_products(
            replace(later, polarisations=("VV",)), [replace(earlier, polarisations=("VH",))], fit
        )


@pytest.mark.parametrize(("ipfs", "fits"), [((3, 31), True), ((2, 42), False)])
def test_pairs_do_not_mix_products_with_and_without_the_antenna_patterns_phase(slcs, ipfs, fits):
    later, earlier = slcs[LATER], replace(slcs[EARLIER], ipf=ipfs)
    if fits:
        assert burst_pairs.read_products(later, [earlier], fit).pairs
        return
    with pytest.raises(CallerError, match=r"before IPF 2\.43, without the antenna"):
        burst_pairs.read_products(later, [earlier], fit)
    both_old = replace(later, ipf=(2, 36))
    assert burst_pairs.read_products(both_old, [earlier], fit).pairs


def ahead(seconds: float):
    """Orbits of which the later pass' satellite is ahead of its bursts' times."""

    def fit_ahead(described: annotation.Annotation) -> orbit.Orbit:
        late = seconds if "20230916" in str(described.path) else 0.0
        moved = replace(described.vectors, t_s=described.vectors.t_s - late)
        return orbit.fit(moved, 0.0, described.last_s)

    return fit_ahead


def test_bursts_far_apart_on_the_ground_are_warned_of_and_refused_beyond_half_a_burst(slcs, passes):
    """As on days such as 2025-04-30 (isce2 issue 956)."""
    assert passes.warnings == []
    apart = burst_pairs.read_products(slcs[LATER], [slcs[EARLIER]], ahead(30 * 2.0555563e-3))
    assert apart.warnings == ["bursts of the passes begin 30.0 lines apart on the ground"]
    with pytest.raises(CallerError, match="lines from their partners' on the ground, more than"):
        burst_pairs.read_products(slcs[LATER], [slcs[EARLIER]], ahead(2.0))


def test_products_that_are_not_whole_are_named(slcs, tmp_path):
    whole = slcs[EARLIER]
    safe = tmp_path / whole.folder.name
    shutil.copytree(whole.folder, safe)
    next(safe.glob("measurement/*iw2-slc-vh*")).unlink()
    with pytest.raises(MissingFactError, match="the product has VH, but the files of it are not"):
        burst_pairs.read_products(slcs[LATER], [products.read(safe)], fit)
    with pytest.raises(SceneError, match="CARD-COH is made of SLC, not of a GRD"):
        burst_pairs.read_products(replace(slcs[LATER], type="GRD"), [whole], fit)


def test_a_pass_is_a_product_of_two_times(passes):
    assert passes.stop - passes.start == pytest.approx(timedelta(seconds=27), abs=timedelta(0, 2))
    lon, lat = zip(*passes.outline, strict=True)
    assert (min(lon), max(lon)) == pytest.approx((-10.4, -8.0), abs=0.5)
    assert (min(lat), max(lat)) == pytest.approx((30.2, 32.0), abs=0.4)


def test_the_ramp_is_that_of_the_note_with_each_polynomial_from_its_own_t0(passes):
    pair = passes.pairs[4]
    described, burst = pair.image.annotation, pair.burst
    ramp = coherence.steering_ramp(pair.image, burst)
    middle_s = burst.t_s + described.lines_per_burst / 2 * described.line_interval_s
    fm = min(described.fm_rates, key=lambda each: abs(each.t_s - middle_s))
    dc = min(described.doppler, key=lambda each: abs(each.t_s - middle_s))
    assert fm.t0_s != dc.t0_s
    for sample in (0, 11527, 23054):
        tau = described.near_slant_time_s + sample / described.range_sampling_hz
        ka = sum(c * (tau - fm.t0_s) ** k for k, c in enumerate(fm.coefficients))
        f = sum(c * (tau - dc.t0_s) ** k for k, c in enumerate(dc.coefficients))
        speed = np.linalg.norm(pair.image.orbit.velocity_m_s(np.array(middle_s)))
        ks = 2 * speed / 299792458.0 * described.frequency_hz * np.radians(1.590368784)
        assert ramp.rates[sample] == pytest.approx(ka * ks / (ka - ks), rel=1e-9)
        assert ramp.dopplers[sample] == pytest.approx(f, rel=1e-9)
    assert ramp.centres_s[described.samples // 2] == 0
    assert ramp.half_s == pytest.approx(1507 / 2 * 2.0555563e-3)


def test_deramping_and_the_turn_undo_one_another():
    rng = np.random.default_rng(2)
    lines, samples = 200, 40
    ramp = coherence.Ramp(
        np.full(samples, 1700.0) + np.arange(samples), np.linspace(0.001, 0.002, samples),
        np.linspace(-40, 2000, samples), 0.2, 2e-3,
    )  # fmt: skip
    image = (rng.normal(size=(lines, samples)) + 1j * rng.normal(size=(lines, samples))).astype(
        np.complex64
    )
    still = image.copy()
    burst_kernels.deramp(still, *ramp.deramping(slice(0, samples)))
    zero, turn = np.zeros((lines, samples), np.float32), np.empty_like(image)
    valid = np.array([0, lines - 1, 0, samples - 1])
    burst_kernels.turns(
        zero, zero, zero, 0, ramp.rates, ramp.centres_s, ramp.dopplers, ramp.half_s,
        ramp.interval_s, valid, valid, turn,
    )  # fmt: skip
    inside = ~np.isnan(turn)
    assert inside[3:-4, 3:-4].all()
    assert inside.sum() == (lines - 7) * (samples - 7)
    np.testing.assert_allclose((still * turn)[inside], image[inside], atol=2e-4)


def test_weights_sum_to_one_and_are_the_sample_itself_at_whole_places():
    table = coherence.kaiser_table()
    assert table.shape == (513, 8)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table[0], [0, 0, 0, 1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(table, table[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize("offsets", [(0.37, -2.61), (-5.5, 40.25)])
def test_resampling_finds_a_wave_between_the_samples(offsets):
    """A wave of each axis within the processed bands, read at shifted places."""
    lines, samples = 60, 160
    down, across = 2 * np.pi * 0.2, 2 * np.pi * 0.3

    def wave(i, j):
        return np.exp(1j * (down * i + across * j)).astype(np.complex64)

    image = wave(*np.mgrid[0.0:60, 0.0:210])
    dl, ds = (np.full((lines, samples), of, np.float32) for of in offsets)
    moved = np.empty((lines, samples), np.complex64)
    table = coherence.kaiser_table()
    burst_kernels.resample_range(image, 0, ds, round(offsets[0]), table, moved)
    expected = wave(*np.mgrid[0.0:60, 0.0:160]) * np.exp(1j * across * offsets[1])
    known = ~np.isnan(moved)
    assert known.sum() > 60 * 150
    assert np.abs(moved - expected)[known].max() < 0.03
    # Coherence of the wave with itself at the shifted places is 1, wherever windows are whole.
    turn = np.ones((lines, samples), np.complex64)
    turn[:12], turn[-12:], turn[:, :12] = np.nan, np.nan, np.nan
    out = np.empty((lines, coherence.window_count(samples)), np.float32)
    first = wave(*np.mgrid[0.0:60, 0.0:160])
    burst_kernels.correlate(first, moved, dl, turn, table, out)
    whole = ~np.isnan(out)
    assert whole[13:-13, 3:].all()
    assert not whole[:13].any()
    assert not whole[:, :3].any()
    assert out[whole] == pytest.approx(1, abs=1e-3)


def test_windows_are_whole():
    assert [coherence.window_count(n) for n in (9, 10, 13, 14, 1200)] == [0, 1, 1, 2, 298]
    assert coherence.sample_count(298) == 1198


def test_looks_of_a_band():
    assert FrequencyBand(1.0, 1.0).looks(10, 1.0) == pytest.approx(10, rel=0.01)
    assert FrequencyBand(0.5, 1.0).looks(100, 1.0) == pytest.approx(50, rel=0.02)
    assert FrequencyBand(0.5, 0.75).looks(100, 1.0) < 45  # a window is as less band


def test_valid_samples_are_the_rectangle_within_all_lines():
    first = np.array([-1, 30, 32, -1], np.int32)
    last = np.array([-1, 500, 490, -1], np.int32)
    burst = annotation.Burst(0.0, 0.0, 0.0, None, first, last)
    assert coherence.valid_samples(burst).tolist() == [1, 2, 32, 490]
    nothing = replace(burst, first_valid_px=np.full(4, -1, np.int32))
    assert coherence.valid_samples(nothing).tolist() == [0, -1, 0, -1]


def test_a_plane_in_the_map_is_a_plane_in_the_burst():
    """Offsets that are linear in the burst come out exact at every sample, holes stay NaN."""
    nodes = np.zeros((4, 6, 5, 3))
    row, col = np.mgrid[0:4, 0:6] * 8.0
    nodes[..., 0, 0], nodes[..., 1, 0] = 1.7 * row + 0.2 * col, 3.1 * col - 0.4 * row
    partner = nodes.copy()
    partner[..., 0, 0] += 0.01 * nodes[..., 0, 0] + 2.5
    partner[..., 1, 0] += 0.002 * nodes[..., 1, 0] - 7.0
    heights = np.zeros((24, 40), np.float32)
    heights[10, 20] = np.nan
    planes = [np.full((30, 50), np.nan, np.float32) for _ in range(3)]
    spans = np.tile(np.array([0, 40]), (3, 1))
    burst_kernels.rasterise(
        heights, nodes, partner, 8, 0, 0, spans, np.array([0.0, 1, 0, 1]),
        np.array([0.0, 1, 0, 1]), np.zeros(2), 30, 1.0, *planes,
    )  # fmt: skip
    i, j = np.mgrid[0:30, 0:50]
    known = ~np.isnan(planes[0])
    assert 0.9 < known[8:].mean() < 1
    assert planes[0][known] == pytest.approx((0.01 * i + 2.5)[known], abs=1e-5)
    assert planes[1][known] == pytest.approx((0.002 * (j + 30) - 7)[known], abs=1e-5)
    phase = (0.002 * (j + 30.0) - 7) % (2 * np.pi)
    assert planes[2][known] == pytest.approx(phase[known], abs=1e-5)
    hole = np.argwhere(~known[8:25, 5:45])
    assert 0 < len(hole) < 30
