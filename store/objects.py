"""Objects in S3 and files in folders by their address; nobody else imports boto3 or botocore.

An address is s3://bucket/key or a path. S3 is reached by boto3's own settings (AWS_ENDPOINT_URL,
AWS_CA_BUNDLE, AWS_REGION, credentials or a role), always with the bucket in the path, as not every
store resolves bucket names as host names. `gdal_options` gives GDAL the same settings, as it reads
rasters straight from the store.

Every function on objects raises NotFoundError for what does not exist, CallerError for an address
that cannot be one, and ObjectStoreError when the store is away or refuses us.
"""

import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from store.errors import CallerError, CbmError, ConfigError, NotFoundError, ObjectStoreError

_CONNECT_S = 5
_READ_S = 30
_ATTEMPTS = 3

_GDALS_OWN = re.compile(r"/+vsi", re.IGNORECASE)
"""How GDAL's names of files begin that are none: archives' members, web addresses ..."""

_MISSING = {"404", "NoSuchBucket", "NoSuchKey", "NotFound"}
_REFUSED = {
    "401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "InvalidToken", "TokenRefreshRequired",
}  # fmt: skip
_PARTIAL = ".partial-"
_S3 = "s3://"


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing.

    Attributes:
        href: s3://bucket/key or an absolute path.
        size_bytes: its size.
    """

    href: str
    size_bytes: int


def list_objects(place: str) -> Iterator[StoredObject]:
    """Yield all objects below a place, in the order of their keys.

    Args:
        place: s3://bucket, s3://bucket/prefix (a whole folder: a/b does not list a/bc), or the
            path of a folder; links in it are followed.
    """
    if not place.startswith(_S3):
        yield from _list_folder(Path(place).absolute())
        return
    bucket, prefix = _split(place.rstrip("/"), key_needed=False)
    pages = _client().get_paginator("list_objects_v2")
    with _s3_errors(place):
        for page in pages.paginate(Bucket=bucket, Prefix=prefix and f"{prefix}/"):
            for entry in page.get("Contents", ()):
                # Some tools leave empty objects named like folders.
                if not entry["Key"].endswith("/"):
                    yield StoredObject(f"{_S3}{bucket}/{entry['Key']}", int(entry["Size"]))


def list_folders(place: str) -> list[str]:
    """Names of the folders directly in a place (as in `list_objects`), in their order."""
    if not place.startswith(_S3):
        with _local_errors(place):
            return sorted(entry.name for entry in Path(place).iterdir() if entry.is_dir())
    bucket, key = _split(place.rstrip("/"), key_needed=False)
    prefix = key and f"{key}/"
    pages = _client().get_paginator("list_objects_v2")
    with _s3_errors(place):
        found = [
            entry["Prefix"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        ]
    return sorted(name.removeprefix(prefix).rstrip("/") for name in found)


def object_exists(href: str) -> bool:
    """Whether there is such an object."""
    try:
        get_range(href, 0, 1)
    except NotFoundError:
        return False
    return True


def read_object(href: str) -> bytes:
    """The content of an object."""
    if href.startswith(_S3):
        return _read_s3(href)
    with _local_errors(href):
        return Path(href).read_bytes()


def get_range(href: str, start: int, length: int) -> bytes:
    """Up to length (>= 1) bytes of an object from start; fewer, or none, where it ends."""
    return get_version_range(href, start, length)[0]


def get_version_range(href: str, start: int, length: int) -> tuple[bytes, str]:
    """The bytes of `get_range`, and which version of the object they are of.

    The version is '' where there are no bytes.

    Raises:
        ObjectStoreError: the store answers with other bytes.
    """
    if start < 0 or length < 1:
        raise CallerError(f"no bytes can be read from {start} for a length of {length}")
    if href.startswith(_S3):
        return _read_s3_range(href, start, length)
    with _local_errors(href), Path(href).open("rb") as stream:
        state = os.fstat(stream.fileno())
        stream.seek(start)
        return stream.read(length), f"{state.st_ino} {state.st_mtime_ns} {state.st_size}"


def check_range(href: str, start: int, length: int, content_range: str | None) -> str:
    """The size that a Content-Range tells; refuse an answer that is not of the bytes requested.

    Stores and caches may ignore a range, or answer with another one (RFC 9110, 15.3.7).

    Raises:
        ObjectStoreError: it is not, or there is none.
    """
    found = re.match(r"bytes (\d+)-(\d+)/(.+)", content_range or "")
    if found is None or int(found[1]) != start or int(found[2]) >= start + length:
        raise ObjectStoreError(
            f"{href}: bytes {start}-{start + length - 1} were requested, and the answer has "
            f"{content_range or 'the whole'}: its server or a cache before it ignores ranges"
        )
    return found[3]


def put_object(href: str, source: Path | bytes) -> None:
    """Write an object, replacing what was there; no reader ever sees half of it.

    Args:
        href: s3://bucket/key or a path; missing folders are made.
        source: a file, or the content.
    """
    if not href.startswith(_S3):
        _put_file(Path(href), source)
        return
    bucket, key = _split(href)
    transfer = TransferConfig(use_threads=False)
    with _s3_errors(href), _local_errors(source), _open_source(source) as stream:
        _client().upload_fileobj(stream, Bucket=bucket, Key=key, Config=transfer)


def fetch_object(href: str, path: Path) -> None:
    """Copy an object to a file, in pieces; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not href.startswith(_S3):
        with _local_errors(href):
            shutil.copyfile(href, path)
        return
    bucket, key = _split(href)
    transfer = TransferConfig(use_threads=False)
    with _s3_errors(href), _local_errors(path), path.open("wb") as out:
        _client().download_fileobj(Bucket=bucket, Key=key, Fileobj=out, Config=transfer)


def gdal_path(href: str) -> str:
    """GDAL's name of a raster.

    Args:
        href: absolute local path, s3://bucket/key or http(s)://host/path.

    Raises:
        ConfigError: it is something else.
    """
    if href.startswith("/") and not _GDALS_OWN.match(href):
        return href
    scheme, _, rest = href.partition("://")
    if scheme == "s3" and rest:
        return f"/vsis3/{rest}"
    if scheme in {"http", "https"} and rest:
        # Web servers list no folders: GDAL would probe for each sidecar file there might be.
        return f"/vsicurl?empty_dir=yes&url={quote(href, safe='')}"
    raise ConfigError(f"{href!r} is neither an absolute path nor an s3:// or https:// address")


def gdal_options(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """GDAL's settings for S3: endpoint, region, certificates, timeouts.

    They come from the environment alone: GDAL does not read an endpoint in AWS_PROFILE's file, as
    boto3 does. Credentials are left out: GDAL looks for them in the same places as boto3
    (environment, AWS_PROFILE and its files, the instance's role), and rasterio refuses them as
    options. It needs only the name of the files.
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


def _split(href: str, *, key_needed: bool = True) -> tuple[str, str]:
    """Bucket and key of an s3:// address."""
    bucket, _, key = href.removeprefix(_S3).partition("/")
    odd = "\0" in key or any(part in {"", ".", ".."} for part in key.split("/"))
    if not bucket or (odd if key else key_needed):
        raise CallerError(
            f"{href!r} is no address of an object: s3://bucket/key without empty, '.' or '..' parts"
        )
    return bucket, key


def _read_s3(href: str) -> bytes:
    bucket, key = _split(href)
    with _s3_errors(href):
        body: bytes = _client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return body


def _read_s3_range(href: str, start: int, length: int) -> tuple[bytes, str]:
    bucket, key = _split(href)
    span = f"bytes={start}-{start + length - 1}"
    with _s3_errors(href):
        try:
            response = _client().get_object(Bucket=bucket, Key=key, Range=span)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"InvalidRange", "416"}:
                return b"", ""
            raise
        with closing(response["Body"]) as body:  # of a whole file, never read
            size = check_range(href, start, length, response.get("ContentRange"))
            return body.read(), f"{response.get('ETag', '')} {size}"


def _list_folder(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[StoredObject]:
    """Files below a folder; a circle of links ends."""
    with _local_errors(folder):
        here = folder.resolve()
        entries = [] if here in above else [(e, e.is_dir()) for e in folder.iterdir()]
    # S3's order compares whole keys, where "/" follows "-" and ".".
    for entry, is_dir in sorted(entries, key=lambda pair: pair[0].name + "/" * pair[1]):
        if is_dir:
            yield from _list_folder(entry, (*above, here))
        elif entry.is_file() and not entry.name.startswith(_PARTIAL):
            yield StoredObject(str(entry), entry.stat().st_size)


def _put_file(path: Path, source: Path | bytes) -> None:
    partial = path.with_name(_PARTIAL + secrets.token_hex(8))
    with _local_errors(path), _open_source(source) as stream:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _open_source(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        with source.open("rb") as stream:
            yield stream


def _client() -> Any:
    """boto3's client for the settings as they are now; safe to share between threads."""
    return _client_of(tuple(sorted(i for i in os.environ.items() if i[0].startswith("AWS_"))))


@lru_cache(maxsize=4)
def _client_of(settings: tuple[tuple[str, str], ...]) -> Any:
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        s3={"addressing_style": "path"},
        # Few stores besides AWS know the checksums that boto3 adds by itself since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.session.Session(region_name=_region(dict(settings)))
        return session.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"the AWS_* settings cannot be used: {error}") from error


def _region(env: Mapping[str, str]) -> str | None:
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None


@contextmanager
def _local_errors(path: Path | str | bytes) -> Iterator[None]:
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
