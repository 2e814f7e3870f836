"""A bounded number of images at once, for all and for each user."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from app.chips.addresses import Addresses, Holder, Name
from app.chips.settings import ChipSettings
from app.chips.studio import Studio
from app.errors import TooManyError
from store.errors import ConfigError, NotFoundError, SceneError


@dataclass
class Blocking:
    """A picture that is made when let go."""

    key: str
    go: threading.Event = field(default_factory=threading.Event)
    at_work: list = field(default_factory=list)

    def make(self):
        self.at_work.append(self.key)
        self.go.wait(20)
        return b"image"


@dataclass(frozen=True)
class Broken:
    key: str = "broken"

    def make(self):
        raise SceneError("it is broken")


@dataclass(frozen=True)
class Empty:
    made: list
    key: str = "empty"

    def make(self):
        self.made.append(1)


@pytest.fixture
def studio(tmp_path):
    made = Studio(ChipSettings(2, tmp_path / "cache", 10**6, 60, "", None))
    yield made
    made.close()


def test_a_user_who_waits_for_72_images_is_refused_more_and_others_are_not(studio):
    go, at_work = threading.Event(), []
    pictures = [Blocking(str(n), go, at_work) for n in range(72)]
    with ThreadPoolExecutor(1) as other:
        first = other.submit(studio.prepare, "ann", pictures)
        while len(at_work) < 2:
            time.sleep(0.01)
        with pytest.raises(TooManyError, match="72 at once") as refused:
            studio.prepare("ann", [Broken()])
        assert refused.value.retry_after_s > 0
        assert len(at_work) == 2  # as many as there are threads
        go.set()
        assert studio.prepare("bob", [Broken()]) == [False]
        assert first.result(20) == [True] * 72
    assert studio.prepare("ann", [pictures[0]]) == [True]


def test_an_image_of_nothing_is_made_once(studio):
    made = []
    assert studio.prepare("ann", [Empty(made)]) == [False]
    assert studio.image(Empty(made)) is None
    assert made == [1]


ANN = Holder("ann", "nl")


def test_addresses_hold_as_long_as_said_and_never_longer():
    now = [1_000_000.5]
    addresses = Addresses("s" * 32, 7200, clock=lambda: now[0])
    name = Name("ref", "B04", "tif")
    address = addresses.of(ANN, "c_1_2.0_3.0_400.0", name)
    proof, holder, subject, text = address.split("/")[2:]
    assert (Holder.read(holder), Name.read(text)) == (ANN, name)
    assert 7200 < addresses.check(proof, ANN, subject, name) <= 7200 + 3600
    now[0] += 7200
    assert addresses.check(proof, ANN, subject, name) > 0
    now[0] += 3600
    with pytest.raises(NotFoundError, match="expired"):
        addresses.check(proof, ANN, subject, name)


@pytest.mark.parametrize("other", [Holder("bob", "nl"), Holder("ann"), Holder("ann", "be")])
def test_an_address_is_good_for_its_own_holder_only(other):
    addresses, name = Addresses("a" * 32, 60), Name("ref", "B04", "tif")
    proof = addresses.of(ANN, "c_1", name).split("/")[2]
    with pytest.raises(NotFoundError):
        addresses.check(proof, other, "c_1", name)


def test_other_secrets_make_other_addresses():
    name = Name("ref", "B04", "tif")
    one, other = Addresses("a" * 32, 60), Addresses("b" * 32, 60)
    proof = one.of(ANN, "c_1", name).split("/")[2]
    with pytest.raises(NotFoundError):
        other.check(proof, ANN, "c_1", name)


def test_a_short_secret_is_refused():
    with pytest.raises(ConfigError, match="CBM_SECRET_KEY"):
        ChipSettings.from_env({"CBM_SECRET_KEY": "short", "HOME": "/nowhere"})


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
        Studio(ChipSettings(1, tmp_path, 0, 60, "", file))
