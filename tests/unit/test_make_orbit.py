"""Orbit files: chosen by precision and coverage, read in ESA's form, refused by their fault."""

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from card.make import orbit
from store.errors import NotFoundError, SceneError

EPOCH = datetime(2023, 9, 4, 6, 37, 31, 72288, UTC)
LAST_S = 25.0
RADIUS_M, SPIN = 7_071_000.0, 0.00106
PRECISE = "S1A_OPER_AUX_POEORB_OPOD_20230924T080000_V20230903T225942_20230905T005942.EOF"
RESTITUTED = "S1A_OPER_AUX_RESORB_OPOD_20230904T093000_V20230904T053000_20230904T083000.EOF"


def circle(t_s):
    """Positions and velocities on a circle."""
    t_s = np.asarray(t_s, float)
    turn = SPIN * t_s
    zero = 0 * t_s
    position = RADIUS_M * np.stack([np.cos(turn), np.sin(turn) * 0.2, np.sin(turn)], -1)
    velocity = RADIUS_M * SPIN * np.stack([-np.sin(turn), np.cos(turn) * 0.2, np.cos(turn)], -1)
    return position + zero[..., None], velocity


def vectors(t_s, source="annotation"):
    position, velocity = circle(t_s)
    return orbit.StateVectors(np.asarray(t_s, float), position, velocity, source)


def write_eof(path: Path, frame="EARTH_FIXED", step_s=10, around_s=120) -> Path:
    whole = EPOCH.replace(microsecond=0)
    seconds = range(-around_s, around_s + 1, step_s)
    times = [whole + timedelta(seconds=after) for after in seconds]
    rows = ""
    for time in times:
        (position,), (velocity,) = (part[None] for part in circle((time - EPOCH).total_seconds()))
        values = zip(("X", "Y", "Z", "VX", "VY", "VZ"), [*position, *velocity], strict=True)
        axes = "".join(f'<{axis} unit="m">{value:+.6f}</{axis}>' for axis, value in values)
        rows += f"<OSV><UTC>UTC={time:%Y-%m-%dT%H:%M:%S.%f}</UTC>{axes}</OSV>"
    path.write_text(
        '<?xml version="1.0" ?><Earth_Explorer_File xmlns="http://eop-cfi.esa.int/CFI">'
        f"<Earth_Explorer_Header><Variable_Header><Ref_Frame>{frame}</Ref_Frame>"
        "<Time_Reference>UTC</Time_Reference></Variable_Header></Earth_Explorer_Header>"
        f'<Data_Block type="xml"><List_of_OSVs count="{len(times)}">{rows}</List_of_OSVs>'
        "</Data_Block></Earth_Explorer_File>"
    )
    return path


def test_the_polynomial_follows_the_true_orbit_between_vectors():
    fitted = orbit.fit(vectors(np.arange(-60, 100, 10)), 0, LAST_S)
    t_s = np.linspace(0, LAST_S, 97)
    position, velocity = circle(t_s)
    assert fitted.residual_m < 1e-3
    assert fitted.position_m(t_s) == pytest.approx(position, abs=1e-3)
    assert fitted.velocity_m_s(t_s) == pytest.approx(velocity, abs=1e-4)
    assert fitted.acceleration_m_s2(t_s) == pytest.approx(-(SPIN**2) * position, abs=1e-4)


def test_vectors_that_do_not_reach_over_the_lines_are_refused():
    with pytest.raises(SceneError, match=r"do not reach over the product's lines, 0\.0 to 25\.0 s"):
        orbit.fit(vectors(np.arange(-60, 20, 10)), 0, LAST_S)


def test_vectors_that_are_no_smooth_orbit_are_refused():
    broken = vectors(np.arange(-60, 100, 10))
    broken.position_m[6] += 50
    with pytest.raises(SceneError, match=r"its vectors are \d+.* m from a smooth orbit"):
        orbit.fit(broken, 0, LAST_S)


@pytest.mark.parametrize("packed", [False, True])
def test_an_orbit_file_gives_the_vectors_around_the_product(tmp_path, packed):
    path = write_eof(tmp_path / PRECISE)
    if packed:
        with zipfile.ZipFile(tmp_path / f"{PRECISE}.zip", "w") as archive:
            archive.write(path, PRECISE)
        path = tmp_path / f"{PRECISE}.zip"
    read = orbit.read_file(path, EPOCH, LAST_S)
    assert read.source == PRECISE
    assert (read.t_s[0], read.t_s[-1]) == pytest.approx((-30.072288, 59.927712))
    fitted = orbit.fit(read, 0, LAST_S)
    assert fitted.position_m(np.array([12.0])) == pytest.approx(circle([12.0])[0], abs=0.01)


def test_a_file_in_an_inertial_frame_is_refused(tmp_path):
    path = write_eof(tmp_path / PRECISE, frame="TRUE_OF_DATE")
    with pytest.raises(SceneError, match="Ref_Frame is 'TRUE_OF_DATE', not EARTH_FIXED"):
        orbit.read_file(path, EPOCH, LAST_S)


def test_a_broken_archive_is_refused(tmp_path):
    (tmp_path / "x.EOF.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(SceneError, match="not a readable archive"):
        orbit.read_file(tmp_path / "x.EOF.zip", EPOCH, LAST_S)


def choose(folder):
    return orbit.choose(folder, "S1A", EPOCH, EPOCH + timedelta(seconds=LAST_S))


def test_precise_orbits_win_and_then_the_latest_made(tmp_path):
    (tmp_path / "2023").mkdir()
    later = PRECISE.replace("20230924T08", "20230925T08")
    for name in (PRECISE, later, RESTITUTED, PRECISE.replace("S1A", "S1B"), "S1A_OPER_AUX_x.EOF"):
        (tmp_path / "2023" / name).touch()
    assert choose(tmp_path) == tmp_path / "2023" / later
    (tmp_path / "2023" / later).unlink()
    (tmp_path / "2023" / PRECISE).unlink()
    assert choose(tmp_path) == tmp_path / "2023" / RESTITUTED


def test_a_file_that_ends_with_the_product_is_not_chosen(tmp_path):
    (tmp_path / PRECISE.replace("20230905T005942", "20230904T063810")).touch()
    assert choose(tmp_path) is None


def test_a_folder_of_orbits_that_is_missing_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"orbits: .*none is not a folder"):
        choose(tmp_path / "none")
