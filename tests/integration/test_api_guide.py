"""The guide below /guide: open, with a policy for its own scripts alone; 404 if not built."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.integration.small_api import SmallApi, serving

SCRIPT = "document.documentElement.dataset.mode = 'light';"
PAGE = f"""<!doctype html><html><head><title>Guide</title><script>{SCRIPT}</script>
<script src="_static/theme.js?digest=1"></script></head><body>Guide</body></html>"""


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    folder = tmp_path_factory.mktemp("api")
    guide = folder / "guide"
    (guide / "_static" / "a" / "b" / "c").mkdir(parents=True)
    (guide / "index.html").write_text(PAGE)
    (guide / "_static" / "theme.js").write_text("let theme;")
    (guide / "_static" / "a" / "b" / "c" / "font.woff2").write_bytes(b"font")
    (guide / ".doctrees").mkdir()
    (guide / ".doctrees" / "environment.pickle").write_text("secret")
    (guide / ".buildinfo").write_text("secret")
    (folder / "secret").write_text("secret")
    with serving(cluster, template, folder, CBM_GUIDE_DIR=str(guide)) as made:
        yield made


def test_the_guide_is_open_to_everybody_and_kept_by_browsers(api):
    answer = api.get("/guide", auth=None)
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.url.endswith("/guide/index.html")
    again = api.get("/guide/index.html", auth=None, headers={
        "If-None-Match": answer.headers["ETag"]})  # fmt: skip
    assert again.status_code == 304
    script = api.get("/guide/_static/theme.js?digest=75c7", auth=None)
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert api.get("/guide/_static/a/b/c/font.woff2", auth=None).content == b"font"
    assert api.get("/guide/index.html?q=parcel", auth=None).status_code == 200


def test_its_pages_run_their_own_scripts_and_no_other(api):
    policy = api.get("/guide/index.html", auth=None).headers["Content-Security-Policy"]
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)
    login = api.get("/login", auth=None).headers["Content-Security-Policy"]
    assert "unsafe" not in login
    assert "sha256" not in login


@pytest.mark.parametrize(
    "path",
    [
        "none.html",
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "a/b/c/d/e/f",
        ".buildinfo",
        ".doctrees/environment.pickle",
    ],
)
def test_nothing_else_is_served(api, path):
    answer = api.get(f"/guide/{path}", auth=None)
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_without_a_guide_the_address_says_how_to_build_it(cluster, template, tmp_path):
    with serving(cluster, template, tmp_path, CBM_GUIDE_DIR=str(tmp_path / "none")) as bare:
        assert "make guide" in bare.get("/guide/index.html", auth=None).json()["detail"]
