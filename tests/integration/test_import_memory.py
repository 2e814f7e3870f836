"""What an import needs of memory does not grow with its file."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from store.parcels import campaigns

PROGRAM = """
import resource, sys
from store import db
from store.parcels import campaigns
from store.parcels.importing import import_parcels
conn = db.connect("test")
campaign = campaigns.find(conn, "fr", 2024)
report = import_parcels(conn, campaign, sys.argv[1], id_column="id", kept=None, dry_run=True)
assert report.imported == int(sys.argv[2]), report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_zip(path: Path, parcels: int) -> Path:
    """A zipped GeoJSON of so many parcels, each of 0.6 kB."""
    side = [(k * 1e-5, 0) for k in range(10)] + [(1e-4, k * 1e-5) for k in range(10)]
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("p.json", "w") as out,
    ):
        out.write(b'{"type": "FeatureCollection", "features": [')
        for number in range(parcels):
            x, y = 9 + number % 300 * 1e-3, 47 + number // 300 * 1e-3
            ring = [(round(x + dx, 5), round(y + dy, 5)) for dx, dy in [*side, (0, 1e-4), (0, 0)]]
            feature = {
                "type": "Feature", "properties": {"id": f"P{number}", "note": "x" * 50},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }  # fmt: skip
            out.write((", " if number else "").encode() + json.dumps(feature).encode())
        out.write(b"]}")
    return path


@pytest.fixture
def peak_kb(database, tmp_path):
    """The peak memory of an import of so many parcels, in a process of its own."""
    campaigns.create(database, "fr", 2024)

    def peak(parcels: int) -> int:
        path = write_zip(tmp_path / f"{parcels}.zip", parcels)
        command = [sys.executable, "-c", PROGRAM, path, str(parcels)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return peak


@pytest.mark.full
def test_a_zipped_geojson_of_ten_times_as_many_parcels_needs_no_more_memory(peak_kb):
    few, many = peak_kb(6_000), peak_kb(60_000)
    assert many - few < 25_000, (few, many)  # the features alone would take 54,000 x 0.6 kB
