"""`make demo` as its user meets it: what it prints, leaves behind, refuses and cleans up."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standalone.demo import PARCELS, ROOT, Demo, new_demo


def curl_line(demo: Demo) -> str:
    return next(line for line in demo.printed.splitlines() if "curl" in line)


def series(demo: Demo, band: str) -> dict[str, float]:
    """Date -> mean of the plotted parcel, fetched with the printed curl line."""
    ran = demo.shell(curl_line(demo).replace("band=B04", f"band={band}"))
    assert ran.returncode == 0, ran.stderr
    table = json.loads(ran.stdout)
    dates = demo.sql("SELECT string_agg(obstime::date::text, ' ' ORDER BY obstime) FROM scene")
    assert len(dates.split()) == len(table["mean"])
    return {d: m for d, m in zip(dates.split(), table["mean"], strict=True) if m is not None}


def test_synthetic_demo_fills_every_stage_and_says_so(synthetic: Demo) -> None:
    scenes, parcels, signatures = synthetic.counts
    assert scenes >= 30
    assert parcels == PARCELS
    assert signatures > 5 * parcels  # most parcels are seen by several scenes
    for stage in (
        "Database",
        "Synthetic data",
        "CARD",
        "Scenes",
        "Parcels",
        "Signatures",
        "API",
    ):
        assert re.search(rf"^  {stage} +\d+\.\d s$", synthetic.printed, re.MULTILINE)
    for picture in ("ndvi.png", "backscatter.png"):
        assert (synthetic.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_card_of_two_level1_products_is_made_and_extracted_beside_delivered_card(
    synthetic: Demo,
) -> None:
    grds = [path.stem for path in (synthetic.folder / "data" / "level1").glob("*_GRDH_*.SAFE")]
    assert len(grds) == 2
    made = ", ".join(f"'{name}_CARD_BS'" for name in grds)
    scenes = f"FROM scene WHERE kind = 'bs' AND reference {{}} IN ({made})"
    levels = []
    for which in ("", "NOT"):
        assert synthetic.sql(f"SELECT DISTINCT unit {scenes.format(which)}") == (
            "gamma0_terrain_linear"
        )
        levels.append(float(synthetic.sql(
            "SELECT avg(10 * log(vh_mean)) FROM demo.bs JOIN scene USING (obsid) "
            f"WHERE vh_mean > 0 AND obsid IN (SELECT obsid {scenes.format(which)}) "
            "AND extract(month FROM obstime) BETWEEN 4 AND 7"
        )))  # fmt: skip
    assert abs(levels[0] - levels[1]) < 3


def test_coherence_of_a_pair_is_made_and_extracted_beside_them(synthetic: Demo) -> None:
    assert "_CARD-COH12" in synthetic.printed
    scenes = "SELECT count(*) FROM scene WHERE kind = 'c12' AND unit = 'coherence'"
    assert synthetic.sql(scenes) == "1"
    seen = "FROM demo.c12 WHERE vv_count > 0"
    assert int(synthetic.sql(f"SELECT count(*) {seen}")) > 0
    assert 0.2 < float(synthetic.sql(f"SELECT avg(vv_mean) {seen}")) < 0.95
    assert "and coherence of parcel" in synthetic.printed


def test_second_run_gives_the_same_numbers_and_the_same_login(synthetic: Demo) -> None:
    before = synthetic.env
    checksum = "SELECT count(*), sum(hashtext(s::text)::bigint) FROM demo.s2 s"
    signatures = synthetic.sql(checksum)
    again = synthetic.up(f"--synthetic-parcels={PARCELS}")
    assert again.counts == synthetic.counts
    assert again.env == before
    assert again.sql(checksum) == signatures


def test_printed_curl_line_works_as_it_stands(synthetic: Demo) -> None:
    ran = synthetic.shell(curl_line(synthetic))
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert set(answer["band"]) == {"B04"}
    assert len(answer["mean"]) == len(answer["date_part"]) > 5


def test_env_file_is_private_and_holds_the_api_and_a_reading_login(synthetic: Demo) -> None:
    assert stat.S_IMODE((synthetic.folder / "env").stat().st_mode) == 0o600
    assert set(synthetic.env) == {
        "CBM_URL", "CBM_USER", "CBM_PASSWORD", "CBM_AOI", "CBM_YEAR", "CBM_PID",
        "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE",
    }  # fmt: skip
    assert synthetic.sql("SELECT count(*) FROM demo.parcels") == str(PARCELS)
    assert "permission denied" in synthetic.sql("DELETE FROM demo.parcels")
    assert "permission denied" in synthetic.sql("SELECT * FROM api_user")


def test_no_password_is_readable_by_others(synthetic: Demo) -> None:
    secrets = {synthetic.env["CBM_PASSWORD"], synthetic.env["PGPASSWORD"]}
    for path in synthetic.folder.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".log", ".pid", ""}:
            private = stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            text = path.read_bytes().decode(errors="replace")
            assert private or not any(secret in text for secret in secrets), path


def test_another_source_is_refused_while_this_demo_stands(synthetic: Demo) -> None:
    ran = synthetic.make("up", f"--data={ROOT}", f"--parcels={ROOT / 'pyproject.toml'}")
    assert ran.returncode != 0
    assert ran.stderr.startswith("Error: ")
    assert "demo-clean" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_demo_comes_back_after_its_server_and_api_were_killed_and_stopped(synthetic: Demo) -> None:
    server = synthetic.folder / "cluster" / "server" / "data" / "postmaster.pid"
    os.kill(int(server.read_text().splitlines()[0]), signal.SIGKILL)
    os.kill(int((synthetic.folder / "api.pid").read_text()), signal.SIGKILL)
    assert synthetic.make("stop").returncode == 0
    assert synthetic.up(f"--synthetic-parcels={PARCELS}").counts == synthetic.counts


def test_stop_ends_api_and_server_and_keeps_the_data(synthetic: Demo) -> None:
    assert synthetic.make("stop").returncode == 0
    for address in (synthetic.env["CBM_URL"].rpartition(":")[2], synthetic.env["PGPORT"]):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(address))) != 0
    assert (synthetic.folder / "cluster" / "cluster.json").exists()


def test_clean_leaves_nothing() -> None:
    for demo in new_demo():
        demo.folder.mkdir()
        (demo.folder / "anything").touch()
        assert demo.make("clean").returncode == 0
        assert not demo.folder.exists()
        assert "no demo" in demo.make("clean").stdout


def test_port_in_use_is_one_sentence() -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        for demo in new_demo():
            ran = demo.make("up", f"--port={port}")
            assert ran.returncode != 0
            assert ran.stderr == (f"Error: port {port} is in use: name another (PORT=) or none\n")


def test_folder_without_scenes_is_one_sentence(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no scene")
    parcels = shared_data / "ch_strickhof_s2_2022" / "parcels" / "Bramenwies.shp"
    for demo in new_demo():
        ran = demo.make("up", f"--data={tmp_path}", f"--parcels={parcels}")
        assert ran.returncode != 0
        assert ran.stderr.count("\n") == 1
        assert str(tmp_path) in ran.stderr


def test_real_scenes_and_parcels_become_signatures(strickhof: Demo) -> None:
    scenes, parcels, signatures = strickhof.counts
    assert (scenes, parcels) == (29, 281)
    assert signatures == 29 * 82  # 82 parcels have a pixel on the raster
    assert "failed" not in strickhof.printed


def test_plotted_real_parcel_has_red_and_near_infrared_and_ripens(strickhof: Demo) -> None:
    red, near = series(strickhof, "B04"), series(strickhof, "B8A")
    both = sorted(red.keys() & near.keys())
    assert len(both) >= 20
    ndvi = {d: (near[d] - red[d]) / (near[d] + red[d]) for d in both}
    # A field of winter wheat, as its like in the data's description: 0.26, 0.89, 0.27.
    assert 0.2 < ndvi["2022-03-05"] < 0.4
    assert 0.8 < ndvi["2022-05-14"] < 0.95
    assert 0.2 < ndvi["2022-07-25"] < 0.4


@pytest.fixture
def place_without_sudo() -> Iterator[Path]:
    """Programs of a machine that lacks psql and sudo, where an account without rights can reach."""
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o755)
    for name in ("python", "curl", "apt-get"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "id").symlink_to("/usr/bin/id")
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_missing_packages_without_sudo_are_one_sentence(place_without_sudo: Path) -> None:
    with (ROOT / "standalone/packages.sh").open() as script:
        ran = subprocess.run(
            ["/bin/bash", "-s", "python"],
            stdin=script,
            env={"PATH": str(place_without_sudo)},
            user="nobody" if os.geteuid() == 0 else None,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode != 0
    assert ran.stderr.startswith("Missing: ")
    assert "have root run 'apt-get install" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.fixture
def place_with_sudo(tmp_path: Path) -> Path:
    """Programs of a machine whose apt is in use at first, as its apt-get says in a file's words."""
    programs = {
        "python": "exit 0",
        "id": "echo 1000",
        "sleep": "exit 0",
        "sudo": '[ "$1" = true ] || exec "$@"',
        "apt-get": (
            f'echo "$@" >>{tmp_path}/calls\n'
            f'{{ read -r words && [ -n "$words" ]; }} <{tmp_path}/refusals || exit 0\n'
            f"sed -i 1d {tmp_path}/refusals\n"
            'echo "$words" >&2; exit 100'
        ),
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def install(place: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{place}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/bash", ROOT / "standalone/packages.sh", place / "python", "no-such-program"],
        env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_apts_lock_is_waited_for_and_said(place_with_sudo: Path) -> None:
    held = "E: Could not get lock /var/lib/{}. It is held by process 812 (unattended-upgr)"
    refusals = [held.format("apt/lists/lock"), held.format("dpkg/lock-frontend")]
    (place_with_sudo / "refusals").write_text("\n".join([*refusals, ""]))
    ran = install(place_with_sudo)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("apt is in use by another program: waiting") == 1
    calls = (place_with_sudo / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["update", "update", "update", "install"]


def test_what_apt_cannot_do_is_its_own_message(place_with_sudo: Path) -> None:
    (place_with_sudo / "refusals").write_text("E: Unable to locate package no-such-program\n")
    ran = install(place_with_sudo)
    assert ran.returncode != 0
    assert ran.stderr == "E: Unable to locate package no-such-program\n"
