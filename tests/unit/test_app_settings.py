"""Settings of the API from the environment."""

from pathlib import Path

import pytest

from app.chips.settings import ChipSettings
from app.settings import ApiSettings
from store.errors import ConfigError


def test_unset_and_empty_variables_take_their_defaults():
    assert ApiSettings.from_env({"CBM_API_THREADS": ""}) == ApiSettings()
    assert ApiSettings().proxies == {"127.0.0.1", "::1"}
    assert ChipSettings.from_env({}).chip_cache_bytes == 2_000_000_000


def test_variables_are_read_as_what_they_are():
    settings = ApiSettings.from_env({"CBM_PROXIES": "10.0.0.1, 10.0.0.2", "CBM_RUN_DIR": "/run/x"})
    assert settings.proxies == {"10.0.0.1", "10.0.0.2"}
    assert settings.run_dir == Path("/run/x")
    chips = ChipSettings.from_env({"CBM_CHIP_CACHE_BYTES": "2.5e9", "CBM_CHIP_THREADS": "3"})
    assert (chips.chip_cache_bytes, chips.chip_threads) == (2_500_000_000, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CBM_API_THREADS", "2.7"),
        ("CBM_API_THREADS", "inf"),
        ("CBM_API_THREADS", "0"),
        ("CBM_API_THREADS", "many"),
        ("CBM_STATEMENT_TIMEOUT_S", "0"),
        ("CBM_RATE_PER_S", "inf"),
        ("CBM_RATE_PER_S", "nan"),
        ("CBM_AUDIT_DAYS", "29"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_by_name(name, text):
    with pytest.raises(ConfigError, match=f"^{name}={text} cannot be used: it "):
        ApiSettings.from_env({name: text})


def test_a_short_secret_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="CBM_SECRET_KEY cannot be used") as caught:
        ChipSettings.from_env({"CBM_SECRET_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "secret" not in repr(ChipSettings())
