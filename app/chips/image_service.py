"""The image service: makes a bounded number of images at once, for all and for each user."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Lock

from app.chips.backgrounds import BackgroundSources
from app.chips.cache import ImageCache
from app.chips.image_jobs import ImageJob
from app.chips.settings import ChipSettings
from app.chips.signed_urls import SignedUrls
from app.chips.web_hosts import refuse_strange_host
from app.http.errors import TooManyError
from app.http.fair_threads import FairThreads
from store import objects, raster
from store.errors import ObjectStoreError, SceneError

_log = logging.getLogger(__name__)

_MAX_PER_USER = 72
"""Images that one user may wait for in one process: two full batches."""

_WAIT_S = 30.0
"""JPEG 2000 takes some 0.1 to 0.5 s of a processor per band and chip; 24 composites have 72."""

_OPTIONS = {
    # By default GDAL caches tiles in the working folder; our cache has whole images, in bounds.
    "GDAL_ENABLE_WMS_CACHE": "NO",
    # Somebody waits: an archive that hangs costs a thread for seconds, not minutes.
    "GDAL_HTTP_TIMEOUT": "10",
    "GDAL_HTTP_MAX_RETRY": "1",
}


class ImageService:
    """The threads, the cache, the signing key and the background sources of a process.

    Attributes:
        urls: signs addresses of images.
        sources: of backgrounds.
    """

    def __init__(self, settings: ChipSettings) -> None:
        """Start no thread yet.

        Raises:
            ConfigError: a setting, or the file of background sources, cannot be used.
        """
        self.sources = BackgroundSources.read(settings.backgrounds)
        self._cache = ImageCache(settings.chip_cache_dir, settings.chip_cache_bytes)
        self._scene_hosts = settings.scene_hosts
        self.urls = SignedUrls(settings.secret_key, settings.chip_expiry_s)
        threads = settings.chip_threads
        self._threads = FairThreads(
            "image",
            threads,
            per_user=max(1, threads - 1),
            max_waiting=_MAX_PER_USER,
            max_wait_s=_WAIT_S,
        )
        self._waiting: Counter[str] = Counter()
        self._lock = Lock()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "ImageService":
        """The service with the settings of the environment."""
        return cls(ChipSettings.from_env(env))

    def close(self) -> None:
        """Begin no more images."""
        self._threads.shutdown()

    def prepare(self, user_name: str, jobs: Sequence[ImageJob]) -> list[bool]:
        """Make images in parallel and keep them.

        Returns:
            For each, whether there is something to see. An image of a scene that cannot be read
            has nothing to see; the log says why.

        Raises:
            TooManyError: the user waits for too many already.
            ObjectStoreError: the scenes cannot be reached, or not in time.
        """
        with self._count(user_name, len(jobs)):
            futures = [self._submit(user_name, job) for job in jobs]
            return [bool(image) for image in _results(futures)]

    def get(self, user_name: str, job: ImageJob) -> bytes | None:
        """An image, from the cache or new; None where there is nothing to see.

        Raises:
            BusyError: the user waits for too many already.
            ObjectStoreError: the scene cannot be reached, or not in time.
        """
        cached = self._cache.get(job.key)
        if cached is not None:
            return cached or None
        return _results([self._submit(user_name, job)])[0]

    def _submit(self, user_name: str, job: ImageJob) -> "Future[bytes | None]":
        return self._threads.submit(user_name, lambda: self._get_or_make(job))

    def _get_or_make(self, job: ImageJob) -> bytes | None:
        """An image from the cache, or new and put there; nothing to see is kept as no bytes."""
        key = job.key
        image = self._cache.get(key)
        if image is None:
            image = self._make(job)
            if image is not None:
                self._cache.put(key, image)
        return image or None

    def _make(self, job: ImageJob) -> bytes | None:
        """The file of a job, empty where there is nothing to see; None if a scene is broken."""
        try:
            for address in job.addresses:
                refuse_strange_host(address, self._scene_hosts)
            with raster.gdal_env({**objects.gdal_options(), **_OPTIONS}):
                return job.make() or b""
        except SceneError as error:
            _log.warning("an image is left out: %s", error)
            return None

    @contextmanager
    def _count(self, user_name: str, images: int) -> Iterator[None]:
        with self._lock:
            if self._waiting[user_name] + images > _MAX_PER_USER:
                raise TooManyError(
                    f"user {user_name} waits for {self._waiting[user_name]} images already, and "
                    f"may wait for {_MAX_PER_USER} at once: try again when they are there",
                    retry_after_s=5,
                )
            self._waiting[user_name] += images
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= Counter({user_name: images})


def _results(futures: Sequence[Future[bytes | None]]) -> list[bytes | None]:
    late = wait(futures, _WAIT_S).not_done
    for future in late:
        future.cancel()
    if late:
        raise ObjectStoreError(
            f"{len(late)} of {len(futures)} images were not made within {_WAIT_S:g} s; "
            "the others are kept: try again"
        )
    return [future.result() for future in futures]
