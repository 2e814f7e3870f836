"""The object store on a folder and on a real S3 server, and what it says when things go wrong."""

from collections.abc import Iterator

import pytest

from store import objects
from store.errors import CallerError, ConfigError, NotFoundError, ObjectStoreError
from store.objects import LocalStore, ObjectStore, open_store
from tests.beds.s3.server import Endpoint, S3Server


def use(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["local", "http", "https", "https prefix"])
def store(request, monkeypatch, tmp_path) -> ObjectStore:
    """An empty store of each sort."""
    door, _, prefix = request.param.partition(" ")
    if door == "local":
        return open_store(str(tmp_path / "store" / "new"))
    s3: S3Server = request.getfixturevalue("s3")
    use(s3.https if door == "https" else s3.http, monkeypatch)
    return open_store(f"s3://{s3.new_bucket()}/{prefix}")


@pytest.fixture
def s3_store(s3, monkeypatch) -> ObjectStore:
    use(s3.http, monkeypatch)
    return open_store(f"s3://{s3.new_bucket()}")


def test_what_is_put_is_got(store, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 40_000)  # above boto3's threshold for parts, 8 MiB

    store.put("a/b.txt", b"first")
    store.put("a/b.txt", b"second")
    store.put("a/big", big)
    store.put("empty", b"")

    assert store.get("a/b.txt") == b"second"
    assert store.get("a/big") == big.read_bytes()
    assert store.get("empty") == b""
    assert [store.size(key) for key in ("a/b.txt", "a/big", "empty")] == [6, 10_240_000, 0]


def test_keys_keep_their_characters(store):
    keys = sorted(["S2A MSIL2A.SAFE/B04+1.jp2", "größe/ü%20.tif", "a=b&c;d'e~f/{g}"])
    for key in keys:
        store.put(key, key.encode())
    assert list(store.list()) == keys
    assert [store.get(key).decode() for key in keys] == keys


def test_list_yields_every_page_in_the_order_of_whole_keys(store):
    keys = [f"2024/scene-{i:03}/B04" for i in range(45)]  # the server's pages hold 20
    for key in [*keys, "2024/scene-001.xml", "2024/scene", "2023/x"]:
        store.put(key, b"1")

    everything = list(store.list())

    assert everything == sorted([*keys, "2024/scene-001.xml", "2024/scene", "2023/x"])
    assert list(store.list("2024/scene-00")) == [k for k in everything if "scene-00" in k]
    assert list(store.list("2024/scene-044/")) == ["2024/scene-044/B04"]
    assert list(store.list("2025/")) == []


def test_a_range_is_cut_at_the_end_of_the_object(store):
    store.put("k", b"0123456789")
    assert store.get_range("k", 0, 4) == b"0123"
    assert store.get_range("k", 8, 100) == b"89"
    assert store.get_range("k", 10, 1) == b""
    with pytest.raises(CallerError):
        store.get_range("k", 0, 0)
    with pytest.raises(CallerError):
        store.get_range("k", -1, 2)


def test_a_missing_key_is_not_found_and_says_which(store):
    store.put("there/is", b"1")
    for read in (store.get, store.size, lambda key: store.get_range(key, 0, 1)):
        for key in ("there/is/not", "there", "nowhere/at/all"):
            with pytest.raises(NotFoundError, match=key):
                read(key)
    assert store.exists("there/is")
    assert not store.exists("there/is/not")
    assert not store.exists("there")


def test_delete_removes_one_object_and_may_be_repeated(store):
    store.put("a/1", b"1")
    store.put("a/2", b"2")
    store.delete("a/1")
    store.delete("a/1")
    assert list(store.list()) == ["a/2"]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../out", "a/../../out", "a//b", "a/.", "a/", "a\0b"]
)
def test_no_key_leads_out_of_the_store(store, key):
    for act in (
        store.get,
        store.size,
        store.exists,
        store.delete,
        store.uri,
        lambda k: store.put(k, b"1"),
        lambda k: store.get_range(k, 0, 1),
    ):
        with pytest.raises(CallerError, match="is no key"):
            act(key)
    store.put("inside", b"1")
    with pytest.raises(CallerError):
        list(store.list("../"))


def test_putting_a_file_that_is_not_there_names_it(store, tmp_path):
    with pytest.raises(NotFoundError, match="no-such-file"):
        store.put("k", tmp_path / "no-such-file")
    store.put("other", b"1")
    assert not store.exists("k")


# The folder


def test_a_put_that_breaks_off_leaves_the_old_object_and_no_rubbish(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.put("k", b"old")

    def full_disk(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ObjectStoreError, match="No space left"):
        store.put("k", b"new")
    assert store.get("k") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_put_under_way_is_not_listed(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    seen: list[list[str]] = []
    monkeypatch.setattr("os.fsync", lambda _fd: seen.append(list(store.list())))
    store.put("k", b"1")
    assert seen == [[]]


def test_a_linked_folder_is_listed_and_a_circle_of_links_ends(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "B04.tif").write_bytes(b"1")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "scene").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "self").symlink_to(tmp_path / "archive")
    store = LocalStore(tmp_path / "store")
    assert list(store.list()) == ["scene/B04.tif"]
    assert store.get("scene/B04.tif") == b"1"


def test_a_folder_that_is_not_there_is_not_an_empty_one(tmp_path):
    with pytest.raises(NotFoundError, match="typo"):
        list(open_store(str(tmp_path / "typo")).list())


@pytest.mark.parametrize("uri", ["http://host/x", "s3://", "s3:///key", "file://host/x", ""])
def test_an_address_that_is_no_store_is_refused(uri):
    with pytest.raises(ConfigError):
        open_store(uri)


def test_paths_and_file_addresses_mean_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = LocalStore(tmp_path / "a b")
    assert open_store("a b") == open_store(str(tmp_path / "a b")) == expected
    assert open_store(f"file://{tmp_path}/a%20b") == expected
    assert expected.uri("k/l") == f"{tmp_path}/a b/k/l"


# S3


def test_an_uri_leads_back_to_the_object(s3_store):
    s3_store.put("a/b", b"1")
    bucket, _, key = s3_store.uri("a/b").removeprefix("s3://").partition("/")
    assert open_store(f"s3://{bucket}").get(key) == b"1"
    assert open_store(f"s3://{bucket}/a/").get("b") == b"1"
    assert open_store(f"s3://{bucket}/a").uri("b") == s3_store.uri("a/b")


def test_folder_placeholders_are_no_objects(s3_store):
    s3_store.client.put_object(Bucket=s3_store.bucket, Key="folder/", Body=b"")
    s3_store.put("folder/k", b"1")
    assert list(s3_store.list()) == ["folder/k"]


def test_a_missing_bucket_is_not_found(s3, monkeypatch):
    use(s3.http, monkeypatch)
    store = open_store("s3://no-such-bucket")
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        list(store.list())
    with pytest.raises(NotFoundError):
        store.put("k", b"1")


def test_wrong_credentials_are_refused_and_the_message_says_what_to_check(s3, monkeypatch):
    use(s3.http, monkeypatch)
    bucket = s3.new_bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(f"s3://{bucket}")
    for act in (store.get, store.exists, store.delete, lambda key: store.put(key, b"1")):
        with pytest.raises(ObjectStoreError, match="AWS_SECRET_ACCESS_KEY"):
            act("k")


def test_no_credentials_at_all_are_an_error_of_the_store(s3, monkeypatch, tmp_path):
    use(s3.http, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ObjectStoreError, match="credentials"):
        open_store("s3://bucket").get("k")


def test_an_endpoint_that_is_no_address_is_a_setting_to_correct(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(ConfigError, match="not an address"):
        open_store("s3://bucket")


def test_an_authority_that_is_not_ours_is_not_trusted(s3, monkeypatch):
    use(s3.https, monkeypatch)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(ObjectStoreError, match="AWS_CA_BUNDLE"):
        open_store("s3://bucket").get("k")


def all_acts(store: ObjectStore) -> Iterator[tuple[str, object]]:
    yield "list", lambda: list(store.list())
    yield "get", lambda: store.get("k")
    yield "range", lambda: store.get_range("k", 0, 1)
    yield "put", lambda: store.put("k", b"1")
    yield "size", lambda: store.size("k")
    yield "exists", lambda: store.exists("k")
    yield "delete", lambda: store.delete("k")


def test_a_store_that_is_away_is_an_error_and_serves_again_afterwards(s3, s3_store, monkeypatch):
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01
    )
    s3_store.put("k", b"1")
    with s3.without("http"):
        for _, act in all_acts(s3_store):
            with pytest.raises(ObjectStoreError, match="no answer"):
                act()
    with s3.without("object", "container"):
        for name, act in all_acts(s3_store):
            with pytest.raises(ObjectStoreError):
                print(name, act())
    assert s3_store.get("k") == b"1"


def test_a_store_that_never_answers_is_given_up(s3, monkeypatch):
    monkeypatch.setattr(objects, "_READ_S", 0.3)
    use(s3.http, monkeypatch)
    store = open_store(f"s3://{s3.new_bucket()}")
    with s3.frozen("http"), pytest.raises(ObjectStoreError, match=r"[Tt]imed? ?out"):
        store.get("k")


# What GDAL is told


def test_gdal_is_told_where_the_store_is():
    assert objects.gdal_path("s3://bucket/a/b.jp2") == "/vsis3/bucket/a/b.jp2"
    assert objects.gdal_path("/data/b.jp2") == "/data/b.jp2"
    for bad in ("b.jp2", "ftp://host/b.jp2", "s3://", "", "vrt://b.jp2"):
        with pytest.raises(ConfigError):
            objects.gdal_path(bad)


def test_gdal_is_told_the_same_as_boto3():
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


def test_without_settings_gdal_keeps_its_own_ways():
    assert not {"AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_REGION", "GDAL_CURL_CA_BUNDLE"} & set(
        objects.gdal_options({})
    )
