"""A headless Chromium of the distribution, and the API that it looks at."""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Error, Page, sync_playwright

from app.cli import main
from store import db
from tests.beds.postgis.fixture import _database
from tests.browser.state import fill
from tests.integration.filled_api import answers, wait_for

NAME, STRANGER, PASSWORD = "ann", "bob", "right-word"
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

_ROOT = Path(__file__).resolve().parents[2]
_SHOTS = _ROOT / "build" / "screenshots"
_SHOT_ATTEMPTS = 5
"""Chromium without a graphics card now and then has no frame to capture (CDP answers
"Unable to capture screenshot"); the next one is there. It says nothing of the page."""
_FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebGL without a graphics card.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


@dataclass(frozen=True)
class Site:
    """The running pages: their address, and a superuser's connection."""

    url: str
    conn: db.Connection


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium here (make test-browser installs it)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def guide(tmp_path_factory) -> Path:
    """The folder of the built guide."""
    folder = tmp_path_factory.mktemp("guide")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(folder)]
    subprocess.run(command, check=True, cwd=_ROOT)
    return folder


@pytest.fixture(scope="session")
def site(cluster, template, guide, tmp_path_factory) -> Iterator[Site]:
    if not (_ROOT / "app" / "static" / "parcel.html").exists():
        pytest.skip("the pages are not built (make web)")
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        for conn in _database(cluster, template, patch):
            patch.setenv("CBM_CHIP_CACHE_DIR", str(folder / "chips"))
            patch.setenv("CBM_GUIDE_DIR", str(guide))
            fill(conn, folder / "scenes")
            _admit()
            process, url = _serve(folder / "log")
            try:
                yield Site(url, conn)
            finally:
                process.terminate()
                process.wait(30)


def _admit() -> None:
    for words in (
        ["users", "add", NAME, "--aoi", "tt", "--password-stdin"],
        ["users", "add", STRANGER, "--password-stdin"],
        ["users", "grant", NAME, "tt", "--role", "operator"],
    ):
        done = CliRunner().invoke(main, words, input=f"{PASSWORD}\n")
        assert done.exit_code == 0, done.output


def _serve(log: Path) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--bind", bind]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    wait_for(lambda: answers(f"http://{bind}/readyz"), seconds=60)
    return process, f"http://{bind}"


class Visitor:
    """Somebody who looks at the pages, and whatever went wrong before their eyes."""

    def __init__(self, page: Page, site: Site, label: str) -> None:
        self.page = page
        self.site = site
        self.label = label
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def open(self, address: str = "/") -> None:
        self.page.goto(self.site.url + address)

    def log_in(self, address: str = "/", password: str = PASSWORD) -> None:
        """Ask for a page, and go through the login that comes instead."""
        self.open(address)
        self.page.get_by_label("Name").fill(NAME)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def search(self, code: str) -> None:
        """Ask for a parcel by its id."""
        self.page.get_by_label("Parcel id").fill(code)
        self.page.get_by_role("button", name="Find").click()

    def see_map(self) -> None:
        self.page.locator("#map[aria-busy=false]").wait_for(timeout=30_000)

    def keep(self, name: str) -> None:
        """Keep a picture of what is seen."""
        _SHOTS.mkdir(parents=True, exist_ok=True)
        path = _SHOTS / f"{self.label}-{name}.png"
        for _ in range(_SHOT_ATTEMPTS - 1):
            with contextlib.suppress(Error):
                self.page.screenshot(path=path)
                return
        self.page.screenshot(path=path)


def _visit(browser: Browser, site: Site, label: str, **options) -> Iterator[Visitor]:
    context = browser.new_context(accept_downloads=True, **options)
    context.set_default_timeout(15_000)
    visitor = Visitor(context.new_page(), site, label)
    yield visitor
    context.close()
    assert visitor.complaints == []


@pytest.fixture
def visitor(browser, site) -> Iterator[Visitor]:
    """At a desk; the end of the test checks that no script complained."""
    yield from _visit(browser, site, "desktop", viewport=DESKTOP)


@pytest.fixture
def walker(browser, site) -> Iterator[Visitor]:
    """With a phone."""
    yield from _visit(
        browser, site, "phone", viewport=PHONE, is_mobile=True, has_touch=True,
        device_scale_factor=2,
    )  # fmt: skip
