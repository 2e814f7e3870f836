"""The object store: one small interface over a local folder and S3. Nobody else imports boto3.

S3 is addressed by boto3's own settings (AWS_ENDPOINT_URL, AWS_CA_BUNDLE, AWS_REGION, credentials
or a role), always with the bucket in the path, as not every store resolves bucket names as host
names. `gdal_options` says the same to GDAL, which reads rasters straight from the store.
"""

import io
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from store.errors import CallerError, CbmError, ConfigError, NotFoundError, ObjectStoreError

__all__ = ["LocalStore", "ObjectStore", "S3Store", "gdal_options", "gdal_path", "open_store"]

_CONNECT_S = 5
_READ_S = 30
_ATTEMPTS = 3

_MISSING = {"404", "NoSuchBucket", "NoSuchKey", "NotFound"}
_REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_PARTIAL = ".partial-"


class ObjectStore(Protocol):
    """Objects by key. Keys use forward slashes and are relative to the store.

    Every method raises NotFoundError for what does not exist, CallerError for a key that names
    no place below the store, and ObjectStoreError when the store is away or refuses us.
    """

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with prefix, in the order of their characters."""

    def get(self, key: str) -> bytes:
        """Read a whole object."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read up to length (>= 1) bytes from start; fewer, or none, where the object ends."""

    def put(self, key: str, source: Path | bytes) -> None:
        """Write an object, replacing what was there; nobody ever sees half of it."""

    def size(self, key: str) -> int:
        """Size of an object in bytes."""

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def uri(self, key: str) -> str:
        """Where the object lies: an absolute path or s3://bucket/key, as BandSource.href."""


@dataclass(frozen=True)
class LocalStore:
    """A folder as an object store; links that its owner laid inside are followed.

    Attributes:
        root: the folder, absolute.
    """

    root: Path

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with prefix, in the order of their characters."""
        with _local_errors(self.root):
            if not self.root.is_dir():
                raise NotFoundError(f"{self.root} is not a folder")
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self.root
        if start.is_dir():
            yield from (key for key in self._walk(start, ()) if key.startswith(prefix))

    def _walk(self, folder: Path, above: tuple[Path, ...]) -> Iterator[str]:
        with _local_errors(folder):
            here = folder.resolve()
            entries = [] if here in above else [(e, e.is_dir()) for e in folder.iterdir()]
        # S3's order compares whole keys, where "/" follows "-" and ".".
        for entry, is_dir in sorted(entries, key=lambda pair: pair[0].name + "/" * pair[1]):
            if is_dir:
                yield from self._walk(entry, (*above, here))
            elif entry.is_file() and not entry.name.startswith(_PARTIAL):
                yield entry.relative_to(self.root).as_posix()

    def get(self, key: str) -> bytes:
        """Read a whole object."""
        path = self._path(key)
        with _local_errors(path):
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read up to length (>= 1) bytes from start; fewer, or none, where the object ends."""
        _check_range(start, length)
        path = self._path(key)
        with _local_errors(path), path.open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    def put(self, key: str, source: Path | bytes) -> None:
        """Write an object, replacing what was there; nobody ever sees half of it."""
        path = self._path(key)
        partial = path.with_name(_PARTIAL + secrets.token_hex(8))
        with _local_errors(path), _reading(source) as stream:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_through(partial, stream)
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def size(self, key: str) -> int:
        """Size of an object in bytes."""
        path = self._path(key)
        with _local_errors(path):
            if path.is_dir():
                raise NotFoundError(f"{path} is a folder")
            return path.stat().st_size

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return _exists(self, key)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        path = self._path(key)
        with suppress(NotFoundError), _local_errors(path):
            path.unlink()

    def uri(self, key: str) -> str:
        """Absolute path of the object."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)


@dataclass(frozen=True)
class S3Store:
    """A bucket, or the part of it below a prefix; safe to share between threads.

    Attributes:
        client: boto3's S3 client.
        bucket: its name.
        prefix: put before every key; empty or ending with a slash.
    """

    client: Any
    bucket: str
    prefix: str = ""

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with prefix, in the order of their characters."""
        folder = prefix.rpartition("/")[0]
        full = self.prefix + (_checked(folder) + prefix[len(folder) :] if folder else prefix)
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=full
        )
        with _s3_errors(f"s3://{self.bucket}/{full}"):
            for page in pages:
                keys = (item["Key"] for item in page.get("Contents", ()))
                # Some tools leave empty objects named like folders.
                yield from (key[len(self.prefix) :] for key in keys if not key.endswith("/"))

    def get(self, key: str) -> bytes:
        """Read a whole object."""
        return self._read(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read up to length (>= 1) bytes from start; fewer, or none, where the object ends."""
        _check_range(start, length)
        return self._read(key, Range=f"bytes={start}-{start + length - 1}")

    def _read(self, key: str, **options: str) -> bytes:
        with _s3_errors(self.uri(key)):
            try:
                answer = self.client.get_object(**self._address(key), **options)
            except ClientError as error:
                if error.response["Error"]["Code"] in {"InvalidRange", "416"}:
                    return b""
                raise
            body: bytes = answer["Body"].read()
            return body

    def put(self, key: str, source: Path | bytes) -> None:
        """Write an object, replacing what was there; nobody ever sees half of it."""
        transfer = TransferConfig(use_threads=False)
        with _s3_errors(self.uri(key)), _local_errors(source), _reading(source) as stream:
            self.client.upload_fileobj(stream, **self._address(key), Config=transfer)

    def size(self, key: str) -> int:
        """Size of an object in bytes."""
        with _s3_errors(self.uri(key)):
            return int(self.client.head_object(**self._address(key))["ContentLength"])

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return _exists(self, key)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with _s3_errors(self.uri(key)):
            self.client.delete_object(**self._address(key))

    def uri(self, key: str) -> str:
        """Address of the object as s3://bucket/key."""
        return f"s3://{self.bucket}/{self.prefix}{_checked(key)}"

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + _checked(key)}


def open_store(uri: str) -> ObjectStore:
    """Open a folder (a path or file://) or a bucket (s3://bucket or s3://bucket/prefix).

    Nothing is asked of S3 yet: a store that is away shows at the first use.

    Raises:
        ConfigError: the address has another scheme or names no bucket.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator and uri:
        return LocalStore(Path(uri).absolute())
    if scheme == "file" and rest.startswith("/"):
        return LocalStore(Path(url2pathname(rest)).absolute())
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"{uri!r} is neither a path, file:///path nor s3://bucket/prefix")
    prefix = prefix.strip("/")
    return S3Store(_client(), bucket, prefix and f"{_checked(prefix)}/")


def gdal_path(href: str) -> str:
    """Say in GDAL's words where a raster lies.

    Args:
        href: absolute local path, s3://bucket/key, http(s)://host/path, or GDAL's own vrt:// for
            a file that others say the place of.

    Raises:
        ConfigError: it is something else.
    """
    if href.startswith(("/", "vrt:///")):
        return href
    scheme, _, rest = href.partition("://")
    if scheme == "s3" and rest:
        return f"/vsis3/{rest}"
    if scheme in {"http", "https"} and rest:
        # Web servers list no folders: GDAL would ask for each sidecar file there might be.
        return f"/vsicurl?empty_dir=yes&url={quote(href, safe='')}"
    raise ConfigError(f"{href!r} is neither an absolute path nor an s3:// or https:// address")


def gdal_options(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Say in GDAL's words where S3 is and how long to wait for it.

    From the environment alone: an endpoint in AWS_PROFILE's file is boto3's to know, not GDAL's.

    Credentials are left out: GDAL looks for them in the same places as boto3 (environment,
    AWS_PROFILE and its files, the instance's role), and rasterio refuses them as options. Only
    the files' name it has to be told.
    """
    options = {
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "GDAL_HTTP_CONNECTTIMEOUT": str(_CONNECT_S),
        "GDAL_HTTP_TIMEOUT": str(_READ_S),
        "GDAL_HTTP_MAX_RETRY": str(_ATTEMPTS - 1),
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        # A long-lived worker must see what came, went or changed since it last looked.
        "CPL_VSIL_CURL_NON_CACHED": "/vsis3:/vsicurl",
    }
    if endpoint := env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL"):
        url = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = url.netloc + url.path.rstrip("/")
        options["AWS_HTTPS"] = "NO" if url.scheme == "http" else "YES"
    if region := _region(env):
        options["AWS_REGION"] = region
    if ca_bundle := env.get("AWS_CA_BUNDLE"):
        options["GDAL_CURL_CA_BUNDLE"] = ca_bundle
    if credentials := env.get("AWS_SHARED_CREDENTIALS_FILE"):
        options["CPL_AWS_CREDENTIALS_FILE"] = credentials
    return options


def _client() -> Any:
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        s3={"addressing_style": "path"},
        # Few stores besides AWS know the checksums that boto3 adds unasked since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.session.Session(region_name=_region(os.environ))
        return session.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"the AWS_* settings cannot be used: {error}") from error


def _region(env: Mapping[str, str]) -> str | None:
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None


def _checked(key: str) -> str:
    if "\0" in key or any(part in {"", ".", ".."} for part in key.split("/")):
        raise CallerError(f"{key!r} is no key: it has empty, '.' or '..' parts")
    return key


def _check_range(start: int, length: int) -> None:
    if start < 0 or length < 1:
        raise CallerError(f"no bytes can be read from {start} for a length of {length}")


def _exists(store: ObjectStore, key: str) -> bool:
    try:
        store.size(key)
    except NotFoundError:
        return False
    return True


@contextmanager
def _reading(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        with source.open("rb") as stream:
            yield stream


def _write_through(path: Path, stream: BinaryIO) -> None:
    with path.open("xb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def _local_errors(path: Path | bytes) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {error.filename or path!r}") from error
    except OSError as error:
        raise ObjectStoreError(f"{error.filename or path!r}: {error.strerror}") from error


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _translated(uri, error) from error
    except BotoCoreError as error:
        raise ObjectStoreError(
            f"{uri}: no answer from the object store: {error}; check AWS_ENDPOINT_URL, "
            "AWS_CA_BUNDLE, the credentials and the network"
        ) from error


def _translated(uri: str, error: ClientError) -> CbmError:
    code = error.response["Error"]["Code"]
    if code in _MISSING:
        return NotFoundError(f"{uri} does not exist ({code})")
    if code in _REFUSED:
        return ObjectStoreError(
            f"{uri}: the object store refuses us ({code}); check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and the rights on the bucket"
        )
    return ObjectStoreError(f"{uri}: the object store failed: {error}")
