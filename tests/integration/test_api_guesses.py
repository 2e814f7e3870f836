"""Guesses and floods of false credentials: bounded, also all at once, and no harm to others."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.small_api import ANN, SmallApi, ended, run, serving

INFO = "/query/info"
BOB = ("bob", "right-word")


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    def before(_) -> None:
        run("users", "add", "bob", "--aoi", "nl", "--password-stdin", stdin="right-word\n")

    with serving(cluster, template, tmp_path_factory.mktemp("api"), before) as made:
        yield made


def from_there(api: SmallApi, address: str, auth) -> int:
    return api.get(INFO, auth=auth, headers={"X-Forwarded-For": address}).status_code


def by_token(api: SmallApi, address: str, token: str) -> int:
    headers = {"X-Forwarded-For": address, "Authorization": f"Bearer {token}"}
    return api.get(INFO, auth=None, headers=headers).status_code


def test_a_flood_of_false_tokens_locks_no_valid_login_or_token_out(api):
    right = ended(run("tokens", "create", "ann").output)
    with ThreadPoolExecutor(16) as threads:
        false = [f"cbm_{n:08x}_{'A' * 43}" for n in range(250)]
        statuses = Counter(threads.map(lambda token: by_token(api, "10.1.0.1", token), false))
    assert set(statuses) == {401, 429}
    assert statuses[401] < 150
    assert by_token(api, "10.1.0.1", right) == 200
    assert from_there(api, "10.1.0.1", ANN) == 200
    assert from_there(api, "10.1.0.1", BOB) == 200


def test_of_40_guesses_at_once_no_more_than_10_are_checked(api):
    with ThreadPoolExecutor(40) as threads:
        guesses = [("ann", f"guess-{n}") for n in range(40)]
        statuses = Counter(threads.map(lambda auth: from_there(api, "10.1.0.2", auth), guesses))
    assert set(statuses) == {401, 429}
    assert statuses[401] <= 11  # one more may come back meanwhile
    assert from_there(api, "10.1.0.2", BOB) == 200


def test_many_connections_with_one_right_password_are_no_guesses(api):
    run("users", "add", "eve", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
    with ThreadPoolExecutor(40) as threads:
        right = [("eve", "right-word")] * 40
        statuses = list(threads.map(lambda auth: from_there(api, "10.1.0.3", auth), right))
    assert statuses == [200] * 40


def test_a_user_who_logged_in_from_an_address_is_not_locked_out_by_what_others_guess_there(api):
    assert from_there(api, "10.1.0.4", ANN) == 200
    with ThreadPoolExecutor(16) as threads:
        guesses = [(f"user{n}", "guess-word") for n in range(130)]
        statuses = Counter(threads.map(lambda auth: from_there(api, "10.1.0.4", auth), guesses))
    assert statuses[429] > 0
    run("users", "password", "ann", "--password-stdin", stdin="other-word\n")
    assert from_there(api, "10.1.0.4", ("ann", "other-word")) == 200
    run("users", "password", "ann", "--password-stdin", stdin="right-word\n")
