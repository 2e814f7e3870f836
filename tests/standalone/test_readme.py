"""README's commands of the demo, run as they are printed there, in a checkout of their own."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio import Affine

from tests.printed import ROOT, command

PRODUCT = "S2B_MSIL2A_2026{}T101559_N0510_R065_T32TMT_2026{}T132135"


def line(begins: str) -> str:
    return command("README.md", begins)


def write_inputs(checkout: Path) -> None:
    """Parcels lpis.gpkg and a folder scenes/, as README calls them."""
    boxes = [shapely.box(x, 5_199_800, x + 100, 5_199_900).wkb for x in (500_100, 500_300)]
    pyogrio.raw.write(
        checkout / "lpis.gpkg", np.array(boxes, object), [np.array(["007", "008"], object)],
        ["parcel_id"], geometry_type="Polygon", crs="EPSG:32632", driver="GPKG",
    )  # fmt: skip
    for day in ("0502", "0605", "0718"):
        for band, value in (("B04", 0.1), ("B08", 0.4)):
            path = checkout / "scenes" / PRODUCT.format(day, day) / f"{band}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.linspace(0.9 * value, value, 3600, dtype=np.float32).reshape(60, 60)
            with rasterio.open(
                path, "w", driver="GTiff", width=60, height=60, count=1, dtype="float32",
                crs="EPSG:32632", transform=Affine(10, 0, 500_000, 0, -10, 5_200_000),
            ) as out:  # fmt: skip
                out.write(pixels, 1)


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """The project's files by links, so that .demo is not a developer's own."""
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o711)
    for path in ROOT.iterdir():
        if path.name not in (".demo", ".git", "build"):
            (folder / path.name).symlink_to(path)
    write_inputs(folder)
    yield folder
    shell(folder, "make demo-clean")
    subprocess.run(["rm", "-r", folder], check=True)


def shell(checkout: Path, *commands: str) -> str:
    """Output of commands in one shell, as a user types them."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "CBM_", "MAKE"))}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)], cwd=checkout, env=env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{commands}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def test_the_demos_commands_do_what_readme_says(checkout: Path) -> None:
    assert "3 scenes, 2 parcels" in shell(checkout, line("make demo DATA="))
    env = line("set -a; . .demo/env")
    assert "(5 rows)" in shell(checkout, env, line("psql -c"))
    assert '"mean":[' in shell(checkout, env, line("curl -u"))
    readme = (ROOT / "README.md").read_text()
    owner = re.search(r"`(set -a; \. \.demo/owner\.env; set \+a)`", readme)
    assert owner
    shell(
        checkout, owner[1], line(".venv/bin/cbm-store campaign create"),
        line(".venv/bin/cbm-store parcels import"), line(".venv/bin/cbm-card register"),
    )  # fmt: skip
    own = 'psql -XtAc "SELECT count(DISTINCT obsid) || code FROM nl.sigs_2026 JOIN nl.parcels_2026'
    own += ' ON ogc_fid = pid GROUP BY code ORDER BY code"'
    assert shell(checkout, env, own).split() == ["3007", "3008"]
    assert "is stopped" in shell(checkout, line("make demo-stop"))
    assert (checkout / ".demo").exists()
    assert "is removed" in shell(checkout, line("make demo-clean"))
    assert not (checkout / ".demo").exists()
