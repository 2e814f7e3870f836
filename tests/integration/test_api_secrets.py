"""After its start no process of the API has a secret in its environment."""

import os
from pathlib import Path

import pytest
import requests

from app import server
from store.config import read_variable
from store.errors import ConfigError
from tests.integration.small_api import ANN, serving

SECRETS = {
    "CBM_SECRET_KEY": "the key of the sessions 0123456789",
    "CBM_METRICS_TOKEN": "the token of the metrics",
    "AWS_ACCESS_KEY_ID": "the-id-of-the-key",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-key",
}


def test_no_process_of_the_api_has_a_secret_in_its_environment(cluster, template, tmp_path):
    with serving(cluster, template, tmp_path, **SECRETS) as api:
        assert api.get("/query/info", auth=ANN).status_code == 200
        headers = {"Authorization": f"Bearer {SECRETS['CBM_METRICS_TOKEN']}"}
        metrics = requests.get(f"{api.url}/metrics", headers=headers, timeout=30)
        assert metrics.status_code == 200
        processes = api.served._processes()
        assert len(processes) == 3
        for pid in processes:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            commands = Path(f"/proc/{pid}/cmdline").read_bytes()
            for secret in (*SECRETS.values(), os.environ["PGPASSWORD"]):
                assert secret.encode() not in environment + commands
        variables = dict(v.split("=", 1) for v in environment.decode().split("\0") if "=" in v)
        for name in ("CBM_SECRET_KEY_FILE", "PGPASSFILE", "AWS_SHARED_CREDENTIALS_FILE"):
            assert Path(variables[name]).stat().st_mode & 0o777 == 0o600
    assert not Path(variables["PGPASSFILE"]).exists()


def test_a_password_of_any_letters_is_written_as_libpq_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "the:pass\\word")
    monkeypatch.delenv("PGPASSFILE", raising=False)
    server._move_secrets(tmp_path)
    assert Path(os.environ.pop("PGPASSFILE")).read_text() == "*:*:*:*:the\\:pass\\\\word\n"


def test_a_secret_comes_from_a_file_and_a_file_that_is_missing_is_named(tmp_path):
    file = tmp_path / "key"
    file.write_text("a key\n")
    assert read_variable({"CBM_KEY_FILE": str(file)}, "CBM_KEY") == "a key"
    assert read_variable({"CBM_KEY": "mine", "CBM_KEY_FILE": str(file)}, "CBM_KEY") == "mine"
    assert read_variable({}, "CBM_KEY") == ""
    with pytest.raises(ConfigError, match="CBM_KEY_FILE cannot be used"):
        read_variable({"CBM_KEY_FILE": str(tmp_path / "none")}, "CBM_KEY")
