"""Scenes lie on web hosts that the operator names; no spelling of an address leads to others."""

import pytest

from app.chips.settings import ChipSettings
from app.chips.web_hosts import refuse_strange_host
from store.errors import ConfigError, SceneError

HOSTS = ChipSettings.from_env({"CBM_SCENE_HOSTS": "data.example, 10.0.0.7:9000 [fd00::7]"})


@pytest.mark.parametrize(
    "href",
    [
        "/eodata/B04.jp2",
        "s3://eodata/B04.jp2",
        "https://data.example/B04.tif",
        "http://data.example/B04.tif",
        "https://Data.Example:443/B04.tif",
        "http://10.0.0.7:9000/bucket/B04.tif?a=b@c",
        "https://[fd00::7]/B04.tif",
    ],
)
def test_files_and_named_hosts_pass(href):
    refuse_strange_host(href, HOSTS.scene_hosts)


@pytest.mark.parametrize(
    "href",
    [
        "http://10.0.0.8/B04.tif",
        "http://10.0.0.7/B04.tif",
        "http://10.0.0.7:90/B04.tif",
        "http://data.example:8080/B04.tif",
        "https://data.example:80/B04.tif",
        "https://data.example./B04.tif",
        "https://data.example.evil.example/B04.tif",
        "https://evil.example/data.example/B04.tif",
        "https://data.example@evil.example/B04.tif",
        "https://evil.example#@data.example/B04.tif",
        "https://evil.example?@data.example/B04.tif",
        "https://evil.example\\@data.example/B04.tif",
        "https://data.example\\@evil.example/B04.tif",
        "https://data.example:443@evil.example/B04.tif",
        "https://data.example",
        "https:///data.example/B04.tif",
        "https:/data.example/B04.tif",
        "https://data.example\r\nx/B04.tif",
        "http://[::ffff:10.0.0.7]:9000/B04.tif",
        "http://[::ffff:0a00:7]:9000/B04.tif",
        "http://0x0a000007:9000/B04.tif",
        "http://167772167:9000/B04.tif",
        "http://10.0.0.7:09000/B04.tif",
        "https://[fd00:0::7]/B04.tif",
        "https://[fd00::7%25lo]/B04.tif",
        "https://dat\u212a.example/B04.tif",
        "ftp://data.example/B04.tif",
        "file:///etc/passwd",
        "vrt:///eodata/B04.tif",
        "CSV:/etc/passwd",
        "",
    ],
)
def test_no_other_host_passes_however_it_is_spelled(href):
    with pytest.raises(SceneError):
        refuse_strange_host(href, HOSTS.scene_hosts)


def test_without_the_setting_no_web_host_passes_and_the_error_says_which_to_add():
    with pytest.raises(SceneError, match=r"CBM_SCENE_HOSTS .* add data\.example$"):
        refuse_strange_host("https://data.example/B04.tif", ChipSettings.from_env({}).scene_hosts)
    with pytest.raises(SceneError, match=r"add data\.example:8443$"):
        refuse_strange_host("https://data.example:8443/B04.tif", HOSTS.scene_hosts)


@pytest.mark.parametrize("host", ["https://data.example", "Data.example", "*", "a/b", "u@a", "a:x"])
def test_what_is_no_host_is_refused_at_the_start(host):
    with pytest.raises(ConfigError, match=r"CBM_SCENE_HOSTS=.*which is no host"):
        ChipSettings.from_env({"CBM_SCENE_HOSTS": f"data.example,{host}"})
