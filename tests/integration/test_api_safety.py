"""Safety of the API: hostile text everywhere, tokens, roles, rates, guesses, the audit, rights."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from app.http.parameters import json_pairs, param_names, param_schemas, read_params
from app.routes.openapi import example
from app.routes.table import ROUTES
from store import db
from store.errors import ConfigError
from tests.benchmarks.api_server import UNLIMITED
from tests.integration.filled_api import wait_for
from tests.integration.small_api import ANN, SmallApi, ended, run, serving
from tests.route_requests import GOOD, send

SECRET = "a crop that nobody but be's users may see"
INFO, PARCEL = "/query/info", "/query/parcelByID?aoi=nl&year=2024&pid=007"


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    folder = tmp_path_factory.mktemp("api")
    with serving(cluster, template, folder, CBM_PROXIES="10.9.9.9", **UNLIMITED) as made:
        db.execute(
            made.conn,
            "INSERT INTO be.parcels SELECT id, 1, 9, 'hidden', %s, '1', ST_Multi("
            "ST_MakeEnvelope(150000, 450000, 150100, 450100, 28992)), '' FROM campaign "
            "WHERE aoi = 'be'",
            (SECRET,),
        )
        yield made


# --- hostile text ----------------------------------------------------------------------------

SQL = [
    "'", '"', "\\", "';--", "' OR '1'='1", "007' OR 'a'='a", "007'; DROP TABLE nl.parcels; --",
    "' UNION SELECT password_hash FROM api_user --", "(SELECT password_hash FROM api_user LIMIT 1)",
    "1; SELECT pg_sleep(4)", "'||pg_sleep(4)||'", "007' AND pg_sleep(4) IS NULL --",
    "$$;RESET ROLE;$$", "'; COPY api_user TO '/tmp/x'; --", "nl.parcels", "be", '"be"."parcels"',
    "hidden", "hidden' AND '1'='1", "%s", "%(campaign)s", "{parcels}", "{0.__class__.__mro__}",
    "\u02bc OR 1=1", "0x31303030", "/**/", "E'\\x27'", "U&'\\0027'",
]  # fmt: skip
PATHS = [
    "../../../../etc/passwd", "..%2f..%2f..%2fetc/passwd", "....//....//etc/passwd", "/etc/passwd",
    "file:///etc/passwd", "..\\..\\..\\etc\\passwd", "/proc/self/environ", "%00/etc/passwd",
    "/vsicurl/http://127.0.0.1:1/x", "/vsizip//etc/passwd", "http://127.0.0.1:1/", "s3://bucket/key",
]  # fmt: skip
OTHERS = [
    "\0", "a\0b", "\r\nSet-Cookie: evil=1", "<script>alert(1)</script>", "${jndi:ldap://127.0.0.1}",
    "$(id)", "`id`", "{{7*7}}", "NaN", "-inf", "1e999", "9" * 400, "-1", "\U0001f600", "\u202e",
    "[]", "{}", "null", "true", "\ufeff",
]  # fmt: skip
CORPUS = (*SQL, *PATHS, *OTHERS)

LEAKS = re.compile(
    r"argon2|psycopg2|Traceback|root:.?:0:|PGPASSWORD|pg_catalog|syntax error|"
    rf"relation \"|{re.escape(SECRET)}|SELECT code|/site-packages/",
)

EVERY = [
    (route, param_names(name, field))
    for route in ROUTES
    for name, field in route.params.model_fields.items()
]
"""Each parameter of each route by its names."""


def stored(conn: db.Connection) -> list:
    """How much every table holds, but the audit; and who may what."""
    names = db.fetch_all(
        conn,
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('public', 'nl', 'be') AND tablename <> 'api_audit' ORDER BY 1",
    )
    counts = [
        (row.name, db.fetch_one(conn, f"SELECT count(*) FROM {row.name}").count) for row in names
    ]
    return counts + [tuple(row) for row in db.fetch_all(conn, "SELECT * FROM api_user, api_grant")]


def put(api: SmallApi, route, name: str, text: str) -> requests.Response:
    """Ask a route with one parameter hostile and the others as good as can be guessed."""
    given = {n: GOOD[n] for n in param_schemas(route.params) if n in GOOD} | {name: text}
    return send(api.url, route, given, auth=ANN, timeout=30)


@pytest.mark.parametrize(
    ("route", "names"), EVERY, ids=lambda each: each[0] if isinstance(each, tuple) else each.path
)
def test_hostile_text_in_any_parameter_of_any_route_leaks_and_breaks_nothing(api, route, names):
    before = stored(api.conn)

    def probe(pair: tuple[str, str]) -> tuple[tuple[str, str], float, requests.Response]:
        began = time.monotonic()
        answer = put(api, route, *pair)
        return pair, time.monotonic() - began, answer

    with ThreadPoolExecutor(4) as threads:
        for pair, took_s, answer in threads.map(probe, [(n, t) for n in names for t in CORPUS]):
            assert answer.status_code < 500, (pair, answer.text)
            assert not LEAKS.search(answer.text), (pair, answer.text)
            assert not LEAKS.search(str(answer.headers)), pair
            assert "evil" not in answer.cookies, pair
            assert took_s < 4, pair
    assert stored(api.conn) == before


def test_the_corpus_reaches_every_route(api):
    with_parameters = {route.path for route in ROUTES if route.params.model_fields}
    assert {route.path for route, _ in EVERY} == with_parameters
    for route in ROUTES:
        for name in param_schemas(route.params).keys() & GOOD.keys():
            values = {n: example(s) for n, s in param_schemas(route.params).items()}
            body = json.dumps(values | {name: GOOD[name]}).encode()
            assert read_params(route.params, json_pairs(body))


@pytest.mark.parametrize("text", PATHS)
def test_no_address_leads_out_of_what_is_served(api, text):
    for root in ("/", "/static/", "/docs/", "/query/", "/query/../", "/static/tmp/"):
        address = requests.Request("GET", api.url + "/x").prepare()
        address.url = api.url + root + text.replace("\r", "").replace("\n", "")
        with requests.Session() as session:
            session.auth = ANN
            answer = session.send(address, timeout=30, allow_redirects=False)
        assert answer.status_code in (303, 400, 401, 404), (root, answer.status_code)
        assert not LEAKS.search(answer.text), (root, text)


def test_hostile_headers_are_just_text(api):
    for text in SQL[:12]:
        for name in (
            "Authorization",
            "X-Forwarded-For",
            "Cookie",
            "Accept",
            "If-None-Match",
            "Host",
        ):
            answer = requests.get(api.url + PARCEL, headers={name: text}, timeout=30)
            assert answer.status_code in (400, 401, 429), (name, text, answer.status_code)
            assert not LEAKS.search(answer.text)


# --- sizes -----------------------------------------------------------------------------------


def test_what_is_too_long_is_refused_before_it_is_read(api):
    assert api.get(f"/query/info?aoi={'a' * 9000}").status_code in (400, 414)
    assert api.get(INFO, headers={"X-Long": "a" * 9000}).status_code in (400, 431)
    many = {f"X-{n}": "a" for n in range(100)}
    assert api.get(INFO, headers=many).status_code in (400, 431)
    for route in ROUTES:
        if route.method == "POST":
            body = b'{"a": "' + b"a" * (route.max_body_bytes + 10) + b'"}'
            answer = requests.post(api.url + route.path, data=body, auth=ANN, timeout=30,
                                   headers={"Content-Type": route.consumes})  # fmt: skip
            assert answer.status_code == 413, route.path


def test_every_route_sends_the_safety_headers_whatever_the_status(api):
    for route in ROUTES:
        path = re.sub(r"\{\w+\}", "x", route.path)
        for auth in (ANN, None):
            answer = requests.request(route.method, api.url + path, auth=auth, timeout=30,
                                      allow_redirects=False)  # fmt: skip
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin"), path
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], path
            assert "unsafe-eval" not in answer.headers["Content-Security-Policy"], path


# --- tokens ----------------------------------------------------------------------------------


def token(*options: str) -> str:
    made = run("tokens", "create", "ann", *options)
    assert made.exit_code == 0, made.output
    return ended(made.output)


def test_a_token_has_its_users_rights_and_no_more(api):
    text = token("--note", "the nightly script")
    assert api.by_token(PARCEL, text).status_code == 200
    assert api.by_token(PARCEL.replace("nl", "be"), text).status_code == 403
    listed = run("tokens", "list", "ann").output
    assert "the nightly script" in listed
    assert text not in listed
    assert text.split("_")[1] in listed


def test_the_database_holds_no_token_that_could_be_used(api):
    text = token()
    secret = text.split("_", 2)[2]
    rows = db.fetch_all(api.conn, "SELECT t::text AS line FROM api_token t")
    assert rows
    assert all(secret not in row.line for row in rows)


def test_a_token_ends_by_revocation_expiry_and_with_its_user(api):
    for end in (
        lambda id_: run("tokens", "revoke", id_),
        lambda id_: db.execute(api.conn, "UPDATE api_token SET expires_at = now() WHERE id = %s",
                               (id_,)),
    ):  # fmt: skip
        text = token()
        assert api.by_token(INFO, text).status_code == 200
        end(text.split("_")[1])
        assert api.by_token(INFO, text).status_code == 401
    run("users", "add", "eve", "--password-stdin", stdin="right-word\n")
    text = ended(run("tokens", "create", "eve").output)
    assert api.by_token(INFO, text).status_code == 200
    run("users", "remove", "eve")
    assert api.by_token(INFO, text).status_code == 401


def test_a_wrong_token_is_refused_whatever_is_wrong(api):
    text = token()
    for wrong in (text[:-1] + ("A" if text[-1] != "A" else "B"), text + "A", text[4:], "cbm_", "x",
                  f"cbm_00000000_{text.split('_', 2)[2]}", "' OR 1=1"):  # fmt: skip
        answer = api.by_token(INFO, wrong)
        assert answer.status_code == 401
        assert answer.json()["detail"] == "the token is unknown, revoked or expired"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "nobody"], "there is no user nobody"),
        (["create", "ann", "--expires", "soon"], "neither a number of days such as 90d nor never"),
        (["create", "ann", "--expires", "0d"], "neither a number of days"),
        (["create", "ann", "--note", "n" * 101], "not up to 100 printable"),
        (["revoke", "00000000"], "there is no token 00000000"),
    ],
)
def test_what_cannot_be_done_with_tokens_is_said_in_a_sentence(api, arguments, sentence):
    result = run("tokens", *arguments)
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_token_may_never_expire_and_says_so(api):
    text = token("--expires", "never")
    assert f"{text.split('_')[1]}\tann\tnever expires" in run("tokens", "list").output


# --- the audit -------------------------------------------------------------------------------


def test_the_audit_tells_who_from_where_and_by_which_token(api):
    text = token()
    api.by_token("/query/info?aoi=nl&by=token", text)
    noted = "SELECT * FROM api_audit WHERE query LIKE '%by=token'"
    wait_for(lambda: db.fetch_all(api.conn, noted))
    row = db.fetch_one(api.conn, noted)
    assert (row.user_name, row.token_id, row.address) == ("ann", text.split("_")[1], "127.0.0.1")
    shown = run("audit", "show", "--user", "ann", "--status", "400").output
    assert f"ann\t{row.token_id}\t127.0.0.1\t400" in shown
    assert "GET /query/info?aoi=nl&by=token" in shown
    assert text not in shown


def test_what_strangers_sent_does_not_steer_the_operators_terminal(api):
    db.execute(api.conn, "INSERT INTO api_audit (method, path, query, status, took_ms) "
                         "VALUES ('GET', E'/\\x1b[2J', '', 404, 1)")  # fmt: skip
    shown = run("audit", "show", "--most", "100000").output
    assert "/?[2J" in shown
    assert "\x1b" not in shown


def aged(conn: db.Connection, *days: int) -> None:
    for age in days:
        db.execute(conn, "INSERT INTO api_audit (at, method, path, query, status, took_ms) VALUES "
                         "(now() - make_interval(days => %s), 'GET', '/aged', %s, 200, 1)",
                   (age, str(age)))  # fmt: skip


def ages(conn: db.Connection) -> list[str]:
    found = db.fetch_all(conn, "SELECT query FROM api_audit WHERE path = '/aged' ORDER BY at")
    return [row.query for row in found]


def test_audit_rows_are_forgotten_after_the_setting_and_never_before_30_days(api, monkeypatch):
    aged(api.conn, 100, 89, 29)
    assert "deleted 1 rows older than 90 days" in run("audit", "prune").output
    assert ages(api.conn) == ["89", "29"]
    monkeypatch.setenv("CBM_AUDIT_DAYS", "40")
    assert "deleted 1 rows older than 40 days" in run("audit", "prune").output
    assert run("audit", "prune", "--days", "29").exit_code == 2
    monkeypatch.setenv("CBM_AUDIT_DAYS", "1")
    assert "greater than or equal to 30" in run("audit", "prune").output
    with pytest.raises(Exception, match="kept for 30 days at least"):
        db.fetch_one(api.conn, "SELECT cbm_prune_audit(29)")
    assert ages(api.conn) == ["29"]


def test_the_api_forgets_old_audit_rows_by_itself(cluster, template, tmp_path):
    def before(conn: db.Connection) -> None:
        aged(conn, 100, 91, 89)

    with serving(cluster, template, tmp_path, before) as made:
        wait_for(lambda: ages(made.conn) == ["89"])


# --- rights of the API -----------------------------------------------------------------------


def test_the_role_of_the_api_can_write_nothing_but_audit_rows(api):
    every = (
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('public', 'nl', 'be')"
    )
    names = db.fetch_all(api.conn, every)
    assert len(names) > 20
    db.execute(api.conn, "SET ROLE cbm_api")
    try:
        for row in names:
            for statement in ("DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"):
                with pytest.raises(ConfigError, match="refuses this role"):
                    db.execute(api.conn, statement.format(row.name))
    finally:
        db.execute(api.conn, "RESET ROLE")


def test_users_are_operators_only_where_they_are_made_so(api):
    assert "ann\tnl" in run("users", "list").output
    assert run("users", "grant", "ann", "be", "--role", "operator").exit_code == 0
    assert "ann\tbe* nl" in run("users", "list").output
    assert run("users", "grant", "ann", "be").exit_code == 0
    assert "ann\tbe nl" in run("users", "list").output
    assert run("users", "ungrant", "ann", "be").exit_code == 0
    assert api.get(PARCEL.replace("nl", "be")).status_code == 403
    assert "has no right to aoi be" in run("users", "ungrant", "ann", "be").output


# --- how often -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    settings = {"CBM_RATE_PER_S": "2", "CBM_RATE_BURST": "5"}
    with serving(cluster, template, tmp_path_factory.mktemp("slow"), **settings) as made:
        run("users", "add", "bob", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
        yield made


def asked_from(api: SmallApi, address: str, auth=("ann", "wrong-word")) -> requests.Response:
    return api.get(INFO, auth=auth, headers={"X-Forwarded-For": f"1.1.1.1, {address}"})


def test_a_user_has_the_rate_of_the_setting_over_all_processes_and_others_are_unharmed(slow):
    time.sleep(3)
    statuses = [slow.get(INFO).status_code for _ in range(12)]
    assert statuses[:5] == [200] * 5
    assert 4 <= statuses.count(429) <= 7
    refused = slow.get(INFO)
    assert refused.status_code == 429
    assert refused.json()["detail"].startswith("user ann may send 2 requests a second")
    assert slow.get(INFO, auth=("bob", "right-word")).status_code == 200
    time.sleep(int(refused.headers["Retry-After"]))
    assert slow.get(INFO).status_code == 200


def test_who_guesses_is_slowed_down_by_name_and_address_and_others_are_unharmed(slow):
    statuses = [asked_from(slow, "10.0.0.1").status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = asked_from(slow, "10.0.0.1", ("ann", "right-word"))
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 10
    assert asked_from(slow, "10.0.0.1", ("bob", "right-word")).status_code == 200
    time.sleep(1)
    assert asked_from(slow, "10.0.0.2", ("ann", "right-word")).status_code == 200


def test_requests_without_credentials_are_no_guesses(slow):
    for _ in range(15):
        assert asked_from(slow, "10.0.0.3", None).status_code == 401
    assert asked_from(slow, "10.0.0.3").status_code == 401


def test_wrong_tokens_slow_down_no_right_one_from_the_same_address(slow):
    time.sleep(3)
    right = token()
    for _ in range(12):
        wrong = slow.by_token(INFO, "cbm_00000000_" + "A" * 43)
    assert wrong.status_code == 429
    assert slow.by_token(INFO, right).status_code == 200


def test_an_address_has_a_rate_where_no_user_is_known_and_others_are_unharmed(
    cluster, template, tmp_path
):
    def ask(path: str, address: str, auth=None, **options) -> int:
        headers = {"X-Forwarded-For": address}
        answer = api.get(path, auth=auth, headers=headers, allow_redirects=False, **options)
        if answer.status_code == 429:
            refusal = f"address {address} may send 1 requests a second"
            assert answer.json()["detail"].startswith(refusal)
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status_code

    chip = "/chips/00/ann/c_1/x.B04.tif"
    settings = {"CBM_OPEN_RATE_PER_S": "1", "CBM_OPEN_RATE_BURST": "4"}
    with serving(cluster, template, tmp_path, **settings) as api:
        opens = {chip: 404, "/login": 200, "/docs": 303, "/openapi.json": 200, INFO: 401}
        for n, (path, status) in enumerate(opens.items()):
            statuses = [ask(path, f"10.0.2.{n}") for _ in range(8)]
            assert statuses[:4] == [status] * 4, path
            assert 429 in statuses[4:], path
        # Of the address that just was refused: users, and those who watch over the service.
        assert [ask(INFO, "10.0.2.0", ANN) for _ in range(8)] == [200] * 8
        assert [ask("/healthz", "10.0.2.0") for _ in range(8)] == [200] * 8


def test_a_header_that_no_proxy_of_ours_wrote_changes_no_address(api):
    for n in range(11):
        answer = api.get(INFO, auth=("eve", "guess"), headers={"X-Forwarded-For": f"10.0.1.{n}"})
    assert answer.status_code == 429
