"""Objects in a folder and on a real S3 server, and the errors when things go wrong."""

import pytest

from store import objects
from store.errors import CallerError, ConfigError, NotFoundError, ObjectStoreError
from store.objects import get_range, list_objects, put_object, read_object
from tests.beds.s3.server import Endpoint, S3Server
from tests.hostile_files import ADDRESSES_OF_GDAL


def use(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["local", "http", "https", "https prefix"])
def place(request, monkeypatch, tmp_path) -> str:
    """The address of an empty folder or bucket of each sort."""
    door, _, prefix = request.param.partition(" ")
    if door == "local":
        (tmp_path / "store").mkdir()
        return str(tmp_path / "store")
    s3: S3Server = request.getfixturevalue("s3")
    use(s3.https if door == "https" else s3.http, monkeypatch)
    return f"s3://{s3.new_bucket()}/{prefix}".rstrip("/")


@pytest.fixture
def bucket(s3, monkeypatch) -> str:
    use(s3.http, monkeypatch)
    return f"s3://{s3.new_bucket()}"


def keys(place: str, below: str = "") -> list[str]:
    hrefs = [each.href for each in list_objects(f"{place}/{below}" if below else place)]
    return [href.removeprefix(f"{place}/") for href in hrefs]


def test_an_object_is_read_as_it_was_written(place, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 40_000)  # above boto3's threshold for parts, 8 MiB

    put_object(f"{place}/a/b.txt", b"first")
    put_object(f"{place}/a/b.txt", b"second")
    put_object(f"{place}/a/big", big)
    put_object(f"{place}/empty", b"")

    assert read_object(f"{place}/a/b.txt") == b"second"
    assert read_object(f"{place}/a/big") == big.read_bytes()
    assert read_object(f"{place}/empty") == b""
    assert [each.size_bytes for each in list_objects(place)] == [6, 10_240_000, 0]


def test_keys_keep_their_characters(place):
    odd = sorted(["S2A MSIL2A.SAFE/B04+1.jp2", "größe/ü%20.tif", "a=b&c;d'e~f/{g}"])
    for key in odd:
        put_object(f"{place}/{key}", key.encode())
    assert keys(place) == odd
    assert [read_object(f"{place}/{key}").decode() for key in odd] == odd


def test_a_listing_has_every_page_in_the_order_of_whole_keys(place):
    scenes = [f"2024/scene-{i:03}/B04" for i in range(45)]  # the server's pages hold 20
    for key in [*scenes, "2024/scene-001.xml", "2024/scene", "2023/x"]:
        put_object(f"{place}/{key}", b"1")

    assert keys(place) == sorted([*scenes, "2024/scene-001.xml", "2024/scene", "2023/x"])
    assert keys(place, "2024/scene-044") == ["2024/scene-044/B04"]
    assert keys(place, "2023/") == ["2023/x"]


def test_a_range_is_cut_at_the_end_of_the_object(place):
    href = f"{place}/k"
    put_object(href, b"0123456789")
    assert get_range(href, 0, 4) == b"0123"
    assert get_range(href, 8, 100) == b"89"
    assert get_range(href, 10, 1) == b""
    with pytest.raises(CallerError):
        get_range(href, 0, 0)
    with pytest.raises(CallerError):
        get_range(href, -1, 2)


def test_a_missing_object_is_named(place):
    put_object(f"{place}/there/is", b"1")
    for read in (read_object, lambda href: get_range(href, 0, 1)):
        for key in ("there/is/not", "there", "nowhere/at/all"):
            with pytest.raises(NotFoundError, match=key):
                read(f"{place}/{key}")


def test_writing_a_file_that_is_missing_names_it(place, tmp_path):
    with pytest.raises(NotFoundError, match="no-such-file"):
        put_object(f"{place}/k", tmp_path / "no-such-file")
    assert keys(place) == []


# Folders


def test_a_write_that_breaks_off_leaves_the_old_object_and_no_rubbish(tmp_path, monkeypatch):
    put_object(f"{tmp_path}/k", b"old")

    def full_disk(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ObjectStoreError, match="No space left"):
        put_object(f"{tmp_path}/k", b"new")
    assert read_object(f"{tmp_path}/k") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_write_under_way_is_not_listed(tmp_path, monkeypatch):
    seen: list[list[str]] = []
    monkeypatch.setattr("os.fsync", lambda _fd: seen.append(keys(str(tmp_path))))
    put_object(f"{tmp_path}/k", b"1")
    assert seen == [[]]


def test_a_linked_folder_is_listed_and_a_circle_of_links_ends(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "B04.tif").write_bytes(b"1")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "scene").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "self").symlink_to(tmp_path / "archive")
    assert keys(f"{tmp_path}/store") == ["scene/B04.tif"]
    assert read_object(f"{tmp_path}/store/scene/B04.tif") == b"1"


def test_a_missing_folder_is_not_an_empty_one(tmp_path):
    with pytest.raises(NotFoundError, match="typo"):
        list(list_objects(str(tmp_path / "typo")))


# S3


@pytest.mark.parametrize(
    "href", ["s3://", "s3:///k", "s3://b", "s3://b/", "s3://b/a//b", "s3://b/../b", "s3://b/a\0b"]
)
def test_an_address_of_no_object_is_refused(href):
    for act in (read_object, lambda h: put_object(h, b"1"), lambda h: get_range(h, 0, 1)):
        with pytest.raises(CallerError, match="no address of an object"):
            act(href)


def test_folder_placeholders_are_no_objects(bucket):
    name = bucket.removeprefix("s3://")
    objects._client().put_object(Bucket=name, Key="folder/", Body=b"")
    put_object(f"{bucket}/folder/k", b"1")
    assert keys(bucket) == ["folder/k"]


def test_a_missing_bucket_is_not_found(s3, monkeypatch):
    use(s3.http, monkeypatch)
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        list(list_objects("s3://no-such-bucket"))
    with pytest.raises(NotFoundError):
        put_object("s3://no-such-bucket/k", b"1")


def test_wrong_credentials_are_refused_and_the_message_names_the_settings(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for act in acts(bucket).values():
        with pytest.raises(ObjectStoreError, match="AWS_SECRET_ACCESS_KEY"):
            act()


def test_no_credentials_at_all_are_an_error_of_the_store(s3, monkeypatch, tmp_path):
    use(s3.http, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ObjectStoreError, match="credentials"):
        read_object("s3://bucket/k")


def test_an_endpoint_that_is_no_address_is_a_setting_to_correct(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(ConfigError, match="not an address"):
        read_object("s3://bucket/k")


def test_an_authority_that_is_not_ours_is_not_trusted(s3, monkeypatch):
    use(s3.https, monkeypatch)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(ObjectStoreError, match="AWS_CA_BUNDLE"):
        read_object("s3://bucket/k")


def acts(bucket: str):
    return {
        "list": lambda: list(list_objects(bucket)),
        "read": lambda: read_object(f"{bucket}/k"),
        "range": lambda: get_range(f"{bucket}/k", 0, 1),
        "put": lambda: put_object(f"{bucket}/k", b"1"),
    }


def test_a_store_that_is_away_is_an_error_and_serves_again_afterwards(s3, bucket, monkeypatch):
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01
    )
    put_object(f"{bucket}/k", b"1")
    with s3.without("http"):
        for act in acts(bucket).values():
            with pytest.raises(ObjectStoreError, match="no answer"):
                act()
    with s3.without("object", "container"):
        for name, act in acts(bucket).items():
            with pytest.raises(ObjectStoreError):
                print(name, act())
    assert read_object(f"{bucket}/k") == b"1"


def test_a_store_that_never_answers_is_given_up(s3, bucket, monkeypatch):
    monkeypatch.setattr(objects, "_READ_S", 0.3)
    objects._client_of.cache_clear()
    with s3.frozen("http"), pytest.raises(ObjectStoreError, match=r"[Tt]imed? ?out"):
        read_object(f"{bucket}/k")
    objects._client_of.cache_clear()


# GDAL


def test_gdal_has_names_of_its_own_for_addresses():
    assert objects.gdal_path("s3://bucket/a/b.jp2") == "/vsis3/bucket/a/b.jp2"
    assert objects.gdal_path("/data/b.jp2") == "/data/b.jp2"
    for bad in ADDRESSES_OF_GDAL:
        with pytest.raises(ConfigError):
            objects.gdal_path(bad)


def test_gdal_gets_the_settings_of_boto3():
    env = {
        "AWS_ENDPOINT_URL": "https://other:1",
        "AWS_ENDPOINT_URL_S3": "http://host:8080/s3/",
        "AWS_DEFAULT_REGION": "waw",
        "AWS_CA_BUNDLE": "/ca.pem",
        "AWS_SHARED_CREDENTIALS_FILE": "/run/secrets/aws",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    options = objects.gdal_options(env)
    assert options["AWS_S3_ENDPOINT"] == "host:8080/s3"
    assert options["AWS_HTTPS"] == "NO"
    assert options["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert options["AWS_REGION"] == "waw"
    assert options["GDAL_CURL_CA_BUNDLE"] == "/ca.pem"
    assert options["CPL_AWS_CREDENTIALS_FILE"] == "/run/secrets/aws"
    assert "secret" not in options.values()


def test_without_settings_gdal_keeps_its_defaults():
    assert not {"AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_REGION", "GDAL_CURL_CA_BUNDLE"} & set(
        objects.gdal_options({})
    )
