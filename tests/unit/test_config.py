"""Settings from the environment: defaults, and one sentence for a value that cannot be used."""

import pytest

from store.config import WorkerSettings
from store.errors import ConfigError


def test_an_unset_or_empty_variable_leaves_the_default(tmp_path):
    settings = WorkerSettings.from_env({"CBM_LEASE_S": "", "CBM_CACHE_DIR": str(tmp_path)})
    assert settings.lease_s == 120.0
    assert settings.threads == 1
    assert settings.cache_dir == tmp_path
    assert settings.cache_bytes == 20_000_000_000


def test_numbers_are_read_as_people_write_them():
    env = {"CBM_LEASE_S": "0.5e2", "CBM_THREADS": "4", "CBM_CACHE_BYTES": "20e9"}
    settings = WorkerSettings.from_env(env)
    assert (settings.lease_s, settings.threads, settings.cache_bytes) == (50.0, 4, 20_000_000_000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CBM_THREADS", "2.7"),
        ("CBM_THREADS", "inf"),
        ("CBM_THREADS", "nan"),
        ("CBM_THREADS", "-1"),
        ("CBM_THREADS", "0"),
        ("CBM_THREADS", "two"),
        ("CBM_LEASE_S", "inf"),
        ("CBM_LEASE_S", "nan"),
        ("CBM_LEASE_S", "-5"),
        ("CBM_LEASE_S", "2 min"),
        ("CBM_CACHE_BYTES", "1e999"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_sentence_with_its_name(name, text):
    with pytest.raises(ConfigError) as error:
        WorkerSettings.from_env({name: text})
    message = str(error.value)
    assert message.startswith(f"{name}={text} cannot be used: it ")
    assert "\n" not in message
