"""What a session, an address and an error give away after the user has gone."""

from collections.abc import Iterator

import pytest
import requests

from app.access import users
from app.chips.chip_request import BackgroundRequest
from app.chips.signed_urls import SignedUrls, UrlHolder
from store import db
from store.errors import ConfigError
from tests.benchmarks.api_server import UNLIMITED
from tests.integration.small_api import SmallApi, run, serving

KEY = "a key that only this test and its API know"


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    folder = tmp_path_factory.mktemp("api")
    with serving(cluster, template, folder, CBM_SECRET_KEY=KEY, **UNLIMITED) as made:
        yield made


def logged_in(api: SmallApi) -> requests.Session:
    session = requests.Session()
    form = {"name": "ann", "password": "right-word"}
    assert session.post(f"{api.url}/login", form, allow_redirects=False).status_code == 303
    return session


def log_out(api: SmallApi, session: requests.Session) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = session.post(f"{api.url}/logout", headers=headers, allow_redirects=False)
    assert answer.status_code == 303


def status(api: SmallApi, cookie: str) -> int:
    headers = {"Cookie": f"cbm_session={cookie}"}
    return requests.get(f"{api.url}/page/campaigns", headers=headers, timeout=30).status_code


def test_a_cookie_that_was_kept_opens_nothing_after_the_logout(api):
    mine, other = logged_in(api), logged_in(api)
    kept = mine.cookies["cbm_session"]
    assert status(api, kept) == 200
    log_out(api, mine)
    assert status(api, kept) == 401
    assert status(api, other.cookies["cbm_session"]) == 200


def test_a_logout_with_a_forged_cookie_ends_no_session(api):
    mine = logged_in(api).cookies["cbm_session"]
    forged = mine[:-1] + ("0" if mine[-1] != "0" else "1")
    with requests.Session() as session:
        session.cookies["cbm_session"] = forged
        log_out(api, session)
    assert status(api, mine) == 200


def test_ended_sessions_are_forgotten_once_they_have_expired(api):
    db.execute(api.conn, "INSERT INTO ended_session VALUES (md5('old'), now() - interval '1 s')")
    log_out(api, logged_in(api))
    rows = db.fetch_all(api.conn, "SELECT FROM ended_session WHERE expires_at < now()")
    assert rows == []


def test_the_role_of_the_api_ends_sessions_by_the_function_alone(api):
    db.execute(api.conn, "SET ROLE cbm_api")
    try:
        for statement in (
            "INSERT INTO ended_session VALUES (md5('x'), now())",
            "DELETE FROM ended_session",
        ):
            with pytest.raises(ConfigError, match="refuses this role"):
                db.execute(api.conn, statement)
    finally:
        db.execute(api.conn, "RESET ROLE")


def test_addresses_of_images_open_no_more_for_a_later_user_of_the_name(api):
    def key() -> int:
        return next(user.id for user in users.fetch_all(api.conn) if user.name == "eve")

    run("users", "add", "eve", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
    request = BackgroundRequest("none", 5.0, 52.0, 256, 256.0, "png", None, "none")
    address = SignedUrls(KEY, 3600).sign(UrlHolder(key(), "nl"), request)
    assert "eve" not in address
    before = requests.get(api.url + address, timeout=30).status_code
    first = key()
    run("users", "remove", "eve")
    run("users", "add", "eve", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
    assert key() != first
    after = requests.get(api.url + address, timeout=30).status_code
    assert (before, after) == (404, 403)  # no such source; no such user


@pytest.mark.parametrize(
    "path",
    [
        "/query/info?aoi={}",
        "/query/parcelByID?aoi={}&year=2024&pid=007",
        "/query/parcelsByPolygon?aoi={}&year=2024&polygon=5.3_52.0-5.4_52.0-5.4_52.1",
        "/query/chipsByParcelID?aoi={}&year=2024&pid=1&start_date=2024-01-01&end_date=2024-01-02",
        "/tiles/{}/2024/13/4218/2702",
    ],
)
def test_no_answer_tells_which_aois_exist(api, path):
    there, nowhere = (api.get(path.format(aoi)) for aoi in ("be", "zz"))
    assert there.status_code == nowhere.status_code == 403
    assert there.text.replace("be", "zz") == nowhere.text.replace("be", "zz")
