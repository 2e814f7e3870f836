"""A bounded number of images at once, for all and for each user."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from app.chips.image_service import ImageService
from app.chips.settings import ChipSettings
from app.http.errors import TooManyError
from store.errors import ConfigError, SceneError


@dataclass
class Blocking:
    """A job that ends at an event."""

    key: str
    go: threading.Event = field(default_factory=threading.Event)
    at_work: list = field(default_factory=list)
    addresses: tuple = ()

    def make(self):
        self.at_work.append(self.key)
        self.go.wait(20)
        return b"image"


@dataclass(frozen=True)
class Broken:
    key: str = "broken"
    addresses: tuple = ()

    def make(self):
        raise SceneError("it is broken")


@dataclass(frozen=True)
class Empty:
    made: list
    key: str = "empty"
    addresses: tuple = ()

    def make(self):
        self.made.append(1)


@pytest.fixture
def service(tmp_path):
    cache = {"chip_cache_dir": tmp_path / "cache", "chip_cache_bytes": 10**6}
    made = ImageService(ChipSettings(chip_threads=2, **cache))
    yield made
    made.close()


def test_a_user_who_waits_for_72_images_is_refused_more_and_others_are_not(service):
    go, at_work = threading.Event(), []
    jobs = [Blocking(str(n), go, at_work) for n in range(72)]
    with ThreadPoolExecutor(1) as other:
        first = other.submit(service.prepare, "ann", jobs)
        while not at_work:
            time.sleep(0.01)
        with pytest.raises(TooManyError, match="72 at once") as refused:
            service.prepare("ann", [Broken()])
        assert refused.value.retry_after_s > 0
        assert len(at_work) == 1  # of two threads: the other one is for others
        assert service.prepare("bob", [Broken()]) == [False]
        go.set()
        assert first.result(20) == [True] * 72
    assert service.prepare("ann", [jobs[0]]) == [True]


def test_an_image_of_nothing_is_made_once(service):
    made = []
    assert service.prepare("ann", [Empty(made)]) == [False]
    assert service.get("ann", Empty(made)) is None
    assert made == [1]


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "[]",
        '{"sources": {}}',
        '{"sources": {"Upper": {"raster": "/a.tif"}}}',
        '{"sources": {"a": {}}}',
        '{"sources": {"a": {"xyz": "file:///etc/{z}/{x}/{y}"}}}',
        '{"sources": {"a": {"xyz": "http://a/{z}/{x}"}}}',
        '{"sources": {"a": {"wmts": "http://a"}}}',
        '{"default": "b", "sources": {"a": {"raster": "/a.tif"}}}',
    ],
)
def test_background_sources_that_cannot_be_are_refused_at_the_start(tmp_path, content):
    file = tmp_path / "sources.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match="CBM_BACKGROUNDS"):
        ImageService(ChipSettings(chip_cache_dir=tmp_path, chip_cache_bytes=0, backgrounds=file))
