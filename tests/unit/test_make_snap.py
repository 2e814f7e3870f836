"""SNAP's engine against a stand-in `gpt` that holds graph and arguments against one another."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from card.make import snap
from card.make.backscatter import BackscatterSettings
from card.make.products import Level1
from store.errors import CallerError, ConfigError, SceneError

NAME = "S1A_IW_GRDH_1SDV_20240402T053012_20240402T053037_053256_06746C_AB12"

STAND_IN = """#!{python}
import re, sys
from pathlib import Path
graph = Path(sys.argv[1]).read_text()
given = dict(word[2:].split("=", 1) for word in sys.argv[2:] if word.startswith("-P"))
wanted = set(re.findall(r"\\$\\{{(\\w+)\\}}", graph))
if set(given) != wanted:
    sys.exit(f"graph wants {{sorted(wanted)}}, given are {{sorted(given)}}")
if not Path(given["input"]).is_file():
    sys.exit("Error: no such file " + given["input"])
output = Path(given["output"])
output.write_text(str(sorted(given.items())))
(output.with_suffix(".data")).mkdir()
"""


@pytest.fixture
def product(tmp_path) -> Level1:
    folder = tmp_path / f"{NAME}.SAFE"
    folder.mkdir()
    (folder / "manifest.safe").write_text("<xml/>")
    return Level1(folder, NAME, "GRD", (3, 71), 22, ("VV", "VH"), ())


@pytest.fixture
def gpt(tmp_path, monkeypatch) -> Path:
    program = tmp_path / "gpt"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("CBM_GPT", str(program))
    return program


@pytest.fixture
def dem(tmp_path) -> Path:
    path = tmp_path / "dem.tif"
    path.touch()
    return path


def plan(product, dem, into, geoid="ellipsoid", **settings):
    return snap.plan(product, dem, geoid, BackscatterSettings(**settings), into)


@pytest.mark.parametrize("radiometry", ["gamma0", "gamma0_ellipsoid"])
def test_graph_and_arguments_fit(product, gpt, dem, tmp_path, radiometry):
    planned = plan(product, dem, tmp_path, radiometry=radiometry, epsg=3035, res_m=20.0)
    snap.run(planned, lambda: None)
    assert planned.output == tmp_path / f"{NAME}_CARD_BS.dim"
    given = dict(eval(planned.output.read_text()))
    assert given == {
        "input": str(product.folder / "manifest.safe"),
        "output": str(planned.output),
        "dem": str(dem),
        "egm": "false",
        "crs": "EPSG:3035",
        "spacing": "20",
    }
    assert not planned.output.with_suffix(".log").exists()


@pytest.mark.parametrize(
    ("radiometry", "operators", "band"),
    [
        ("gamma0", ["Read", "Apply-Orbit-File", "Remove-GRD-Border-Noise", "ThermalNoiseRemoval",
                    "Calibration", "Terrain-Flattening", "Terrain-Correction", "Write"],
         "outputBetaBand"),
        ("gamma0_ellipsoid", ["Read", "Apply-Orbit-File", "Remove-GRD-Border-Noise",
                              "ThermalNoiseRemoval", "Calibration", "Terrain-Correction", "Write"],
         "outputGammaBand"),
    ],
)  # fmt: skip
def test_a_graph_is_one_chain_of_operators_without_a_speckle_filter(radiometry, operators, band):
    graph = ElementTree.parse(snap.GRAPHS / f"card_bs_{radiometry}.xml").getroot()
    nodes = graph.findall("node")
    assert [node.findtext("operator") for node in nodes] == operators
    sources = [node.find("sources/sourceProduct") for node in nodes]
    assert sources[0] is None
    assert [one.get("refid") for one in sources[1:]] == [node.get("id") for node in nodes[:-1]]
    calibration = next(n for n in nodes if n.findtext("operator") == "Calibration")
    on = [each.tag for each in calibration.find("parameters") if each.text == "true"]
    assert on == [band]
    assert nodes[-1].findtext("parameters/formatName") == "BEAM-DIMAP"


@pytest.mark.parametrize(("geoid", "egm"), [("ellipsoid", "false"), ("/x/egm96_15.gtx", "true")])
def test_the_vertical_datum_is_passed_on(product, gpt, dem, tmp_path, geoid, egm):
    assert f"-Pegm={egm}" in plan(product, dem, tmp_path, geoid).command


@pytest.mark.parametrize("geoid", [None, "egm2008.tif"])
def test_a_datum_that_snap_does_not_know_is_refused(product, gpt, dem, tmp_path, geoid):
    with pytest.raises(CallerError, match="EGM96"):
        plan(product, dem, tmp_path, geoid)


def test_what_snaps_chain_has_no_setting_for_is_refused(product, gpt, dem, tmp_path):
    with pytest.raises(CallerError, match="radiometry, pixel size and CRS alone"):
        plan(product, dem, tmp_path, clip=True)
    with pytest.raises(CallerError, match="one raster"):
        plan(product, tmp_path, tmp_path)


def test_a_machine_without_snap_is_told_what_to_do(product, dem, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_GPT", "/nowhere/gpt")
    with pytest.raises(ConfigError, match=r"no program /nowhere/gpt: install SNAP"):
        plan(product, dem, tmp_path)


def test_gpts_last_words_are_the_reason(product, gpt, dem, tmp_path):
    planned = plan(product, dem, tmp_path)
    (product.folder / "manifest.safe").unlink()
    with pytest.raises(SceneError, match=r"status 1: Error: no such file .*manifest.safe"):
        snap.run(planned, lambda: None)


def test_gpt_ends_when_the_processor_has_to_stop(product, gpt, dem, tmp_path):
    gpt.write_text("#!/bin/sh\nexec sleep 60\n")

    def stop():
        raise SceneError("stop")

    with pytest.raises(SceneError, match="stop"):
        snap.run(plan(product, dem, tmp_path), stop)
