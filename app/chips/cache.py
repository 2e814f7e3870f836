"""Cache of images on disk, bounded in bytes, shared by the processes of a host.

The least recently used images go first. A file's name is a digest of its key, so nothing of a
request becomes part of a path.
"""

import fcntl
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.errors import ConfigError

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 4096
"""The least space of a file in a file system."""

_KEPT_SHARE = 0.9
"""Of the bound, after a clearing: so that not every image causes one."""

_TALLY = "tally"


class ImageCache:
    """A folder of images by key; safe to share between threads and processes.

    The bytes in the folder are tallied in a file under a lock: no process needs to count files to
    know how full it is. A tally that is too high, after a process was killed, is put right by the
    next clearing; it is never too low.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Make the folder if it is missing.

        Raises:
            ConfigError: it cannot be written to.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._tally():
                pass
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot keep images: {error.strerror}; set CBM_CHIP_CACHE_DIR"
            ) from error

    def get(self, key: str) -> bytes | None:
        """The image of a key, or None; marks it as the most recently used."""
        path = self._path(key)
        try:
            image = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return image

    def put(self, key: str, image: bytes) -> None:
        """Store an image; on a full or broken disk only log."""
        path, size = self._path(key), _disk_size(len(image))
        if size > self._max_bytes:
            return
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with self._tally() as tally:
                self._reserve(tally, size)
                partial.write_bytes(image)
                partial.replace(path)
        except OSError as error:
            _log.warning("an image was not kept in %s: %s", self._folder, error)
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _reserve(self, tally: int, size: int) -> None:
        """Add an image's size to the tally before it is written, after making room for it."""
        text = os.pread(tally, 32, 0)
        used = int(text) if text.isdigit() else self._clear(0)
        if used + size > self._max_bytes:
            used = self._clear(int(self._max_bytes * (1 - _KEPT_SHARE)) + size)
        digits = str(used + size).encode()
        os.pwrite(tally, digits, 0)
        os.ftruncate(tally, len(digits))

    def _clear(self, room: int) -> int:
        """Remove the least recently used images until there is room; the bytes that are left."""
        images = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                if entry.name != _TALLY:
                    size = _disk_size(entry.stat().st_size)
                    images.append((entry.stat().st_mtime_ns, entry.path, size))
        used = sum(size for _, _, size in images)
        for _, path, size in sorted(images):
            if used + room <= self._max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            used -= size
        return used

    @contextmanager
    def _tally(self) -> Iterator[int]:
        """The open tally, locked against all other threads and processes."""
        file = os.open(self._folder / _TALLY, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _disk_size(size: int) -> int:
    return max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES
