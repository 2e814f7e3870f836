"""Where images are made: a bounded number at once, each once, none for users who ask too much."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock

from app.chips.addresses import Addresses
from app.chips.backgrounds import Sources
from app.chips.cache import ImageCache
from app.chips.pictures import Picture
from app.chips.settings import ChipSettings
from app.errors import TooManyError
from store import objects, raster
from store.errors import ObjectStoreError, SceneError

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 72
"""Images that one user may wait for in one process: two full batches."""

_WAIT_S = 120.0
"""JPEG 2000 takes some 0.1 to 0.5 s of a processor per band and chip; 24 composites have 72."""

# GDAL keeps tiles in the working folder unless told not to; ours keeps whole images, in bounds.
_OPTIONS = {"GDAL_ENABLE_WMS_CACHE": "NO"}


class Studio:
    """What a process keeps for images: makers, cache, secret and background sources.

    Attributes:
        addresses: of images.
        sources: of backgrounds.
    """

    def __init__(self, settings: ChipSettings) -> None:
        """Start no thread yet.

        Raises:
            ConfigError: a setting, or the file of background sources, cannot be used.
        """
        self.sources = Sources.read(settings.backgrounds)
        self._cache = ImageCache(settings.cache_dir, settings.cache_bytes)
        self.addresses = Addresses(settings.secret or self._cache.secret(), settings.expiry_s)
        self._makers = ThreadPoolExecutor(settings.threads, "image")
        self._waiting: Counter[str] = Counter()
        self._lock = Lock()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Studio":
        """A studio as the environment has it."""
        return cls(ChipSettings.from_env(env))

    def close(self) -> None:
        """Begin no more images."""
        self._makers.shutdown(wait=False, cancel_futures=True)

    def prepare(self, user_name: str, pictures: Sequence[Picture]) -> list[bool]:
        """Make images and keep them, side by side.

        Returns:
            For each, whether there is something to see. Where a scene cannot be read there is not;
            the log says why.

        Raises:
            TooManyError: the user waits for too many already.
            ObjectStoreError: the scenes cannot be reached, or not in time.
        """
        with self._counted(user_name, len(pictures)):
            jobs = [self._makers.submit(self._kept, picture) for picture in pictures]
            return [bool(image) for image in _results(jobs)]

    def image(self, picture: Picture) -> bytes | None:
        """An image, kept or made; None where there is nothing to see.

        Raises:
            ObjectStoreError: the scene cannot be reached, or not in time.
        """
        kept = self._cache.get(picture.key)
        if kept is not None:
            return kept or None
        return _results([self._makers.submit(self._kept, picture)])[0]

    def _kept(self, picture: Picture) -> bytes | None:
        """An image from the cache, or made and put there; nothing to see is kept as no bytes."""
        key = picture.key
        image = self._cache.get(key)
        if image is None:
            image = _made(picture)
            if image is not None:
                self._cache.put(key, image)
        return image or None

    @contextmanager
    def _counted(self, user_name: str, images: int) -> Iterator[None]:
        with self._lock:
            if self._waiting[user_name] + images > _MOST_AT_ONCE:
                raise TooManyError(
                    f"user {user_name} waits for {self._waiting[user_name]} images already, and "
                    f"may for {_MOST_AT_ONCE} at once: ask again when they have come",
                    retry_after_s=5,
                )
            self._waiting[user_name] += images
        try:
            yield
        finally:
            with self._lock:
                self._waiting[user_name] -= images
                if not self._waiting[user_name]:
                    del self._waiting[user_name]


def _made(picture: Picture) -> bytes | None:
    """The file of a picture, empty where there is nothing to see; None if a scene is broken."""
    try:
        with raster.gdal_env({**objects.gdal_options(), **_OPTIONS}):
            return picture.make() or b""
    except SceneError as error:
        _log.warning("an image is left out: %s", error)
        return None


def _results(jobs: Sequence[Future[bytes | None]]) -> list[bytes | None]:
    late = wait(jobs, _WAIT_S).not_done
    for job in late:
        job.cancel()
    if late:
        raise ObjectStoreError(
            f"{len(late)} of {len(jobs)} images were not made within {_WAIT_S:g} s; "
            "the others are kept: ask again"
        )
    return [job.result() for job in jobs]
