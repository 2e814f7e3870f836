"""Made images on disk, bounded in bytes, shared by the processes of a host.

What was not used for longest goes first. A file's name is a digest, so nothing of a request becomes
part of one; whoever knows no key finds nothing.
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
"""What a file system gives at least to a file."""

_KEPT_SHARE = 0.9
"""Of the bound, after a clearing: so that not every image clears for itself."""

_TALLY = "tally"
_SECRET = "secret"  # noqa: S105 - a file's name
_OURS = frozenset({_TALLY, _SECRET})


class ImageCache:
    """A folder of images by key; safe to share between threads and processes.

    The bytes in the folder are tallied in a file under a lock: no process needs to count files to
    know how full it is. A tally that is too high, after a process was killed, is put right by the
    next clearing; it is never too low.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Make the folder if it is missing.

        Raises:
            ConfigError: it cannot be written to.
        """
        self._folder = folder
        self._most_bytes = most_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._tally():
                pass
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot keep images: {error.strerror}; set CBM_CHIP_CACHE_DIR"
            ) from error

    def get(self, key: str) -> bytes | None:
        """The image of a key, which now was used last; None if it is not kept."""
        path = self._path(key)
        try:
            image = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return image

    def put(self, key: str, image: bytes) -> None:
        """Keep an image; a disk that is full or broken is no reason to fail."""
        path, room = self._path(key), _room(len(image))
        if room > self._most_bytes:
            return
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with self._tally() as tally:
                self._count_in(tally, room)
                partial.write_bytes(image)
                partial.replace(path)
        except OSError as error:
            _log.warning("an image was not kept in %s: %s", self._folder, error)
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def secret(self) -> str:
        """A secret of this folder, made by whoever asks first."""
        path = self._folder / _SECRET
        with self._tally():
            if not path.exists():
                partial = path.with_name(f"{_SECRET}.new")
                partial.touch(mode=0o600)
                partial.write_text(secrets.token_hex(32))
                partial.replace(path)
        return path.read_text()

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _count_in(self, tally: int, room: int) -> None:
        """Count an image in before it is written, after making room for it."""
        text = os.pread(tally, 32, 0)
        used = int(text) if text.isdigit() else self._clear(0)
        if used + room > self._most_bytes:
            used = self._clear(int(self._most_bytes * (1 - _KEPT_SHARE)) + room)
        digits = str(used + room).encode()
        os.pwrite(tally, digits, 0)
        os.ftruncate(tally, len(digits))

    def _clear(self, room: int) -> int:
        """Remove what was not used for longest until there is room; the bytes that are left."""
        found = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                if entry.name not in _OURS:
                    found.append(
                        (entry.stat().st_mtime_ns, entry.path, _room(entry.stat().st_size))
                    )
        used = sum(size for _, _, size in found)
        for _, path, size in sorted(found):
            if used + room <= self._most_bytes:
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


def _room(size: int) -> int:
    return max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES
