"""An archive that takes connections and never answers: all but its images are served."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.benchmarks.api_server import UNLIMITED
from tests.integration import hung_archive
from tests.integration.hung_archive import IMAGE
from tests.integration.small_api import ANN, SmallApi, run, serving

hung = hung_archive.hung
BOB = ("bob", "right-word")
PARCEL = "/query/parcelByID?aoi=nl&year=2024&pid=007"


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory, hung) -> Iterator[SmallApi]:
    folder: Path = tmp_path_factory.mktemp("api")
    sources = folder / "backgrounds.json"
    xyz = f"http://127.0.0.1:{hung}/{{z}}/{{x}}/{{y}}.png"
    sources.write_text(json.dumps({"default": "hung", "sources": {"hung": {"xyz": xyz}}}))
    settings = {"CBM_BACKGROUNDS": str(sources), "CBM_CHIP_CACHE_DIR": str(folder / "cache")}

    def before(_) -> None:
        run("users", "add", "bob", "--aoi", "nl", "--password-stdin", stdin="right-word\n")

    with serving(cluster, template, folder, before, **settings, **UNLIMITED) as made:
        yield made


def test_images_that_hang_hold_up_nothing_else_and_end_as_503(api):
    with ThreadPoolExecutor(36) as threads:
        answers = [threads.submit(api.get, IMAGE.format(256 + n), auth=ANN) for n in range(36)]
        time.sleep(2)
        for _ in range(5):
            for path, auth in (("/healthz", None), ("/login", None), (PARCEL, BOB)):
                began = time.monotonic()
                assert api.get(path, auth=auth).status_code == 200, path
                assert time.monotonic() - began < 5, path
            form = {"name": "ann", "password": "right-word"}
            login = requests.post(f"{api.url}/login", form, allow_redirects=False, timeout=5)
            assert login.status_code == 303
        statuses = [(a := one.result(120)).status_code for one in answers]
    assert set(statuses) == {503}
    assert int(a.headers["Retry-After"]) >= 1
