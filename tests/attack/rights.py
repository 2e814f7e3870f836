"""Who may do what: each kind of user with each route, each role with each table and function."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import requests

from app.routes.route import Access, Route
from app.routes.table import ROUTES
from store import db
from store.errors import CbmError, ConfigError
from store.kinds import KINDS
from tests.integration.small_api import SmallApi, ended, run
from tests.route_requests import examples, send

SECRETS = {aoi: f"a crop that {aoi}'s users alone may see" for aoi in ("nl", "be")}
_PASSWORD = "right-word"


@dataclass(frozen=True)
class Visitor:
    """Somebody who sends requests.

    Attributes:
        name: for messages.
        aois: that he has a right to; None: he is nobody at all.
        send: options of requests that authenticate him.
    """

    name: str
    aois: frozenset[str] | None
    send: Mapping[str, Any]


def prepare(conn: db.Connection) -> None:
    """Parcels whose crop is a secret of their aoi, and a user of each kind."""
    for aoi, srid in (("nl", 28992), ("be", 28992)):
        db.execute(
            conn,
            db.compose(
                "INSERT INTO {parcels} SELECT id, 90001, 1, 'hidden', %s, '1', ST_Multi("
                "ST_MakeEnvelope(150000, 450000, 150100, 450100, %s)), '' FROM campaign "
                "WHERE aoi = %s AND year = 2024 AND ptype = ''",
                parcels=(aoi, "parcels"),
            ),
            (SECRETS[aoi], srid, aoi),
        )
    stdin = f"{_PASSWORD}\n"
    run("users", "add", "of-nl", "--aoi", "nl", "--password-stdin", stdin=stdin)
    run("users", "add", "of-be", "--aoi", "be", "--password-stdin", stdin=stdin)
    run("users", "grant", "of-be", "be", "--role", "operator")
    run("users", "add", "of-none", "--password-stdin", stdin=stdin)


def visitors(api: SmallApi) -> list[Visitor]:
    """One of each kind."""

    def basic(name: str) -> dict[str, Any]:
        return {"auth": (name, _PASSWORD)}

    def bearer(text: str) -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {text}"}}

    token, revoked = (ended(run("tokens", "create", "of-nl").output) for _ in range(2))
    run("tokens", "revoke", revoked.split("_")[1])
    cookies = [_cookie(api, "of-nl") for _ in range(2)]
    over = {"cookies": {"cbm_session": cookies[1]}}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    requests.post(f"{api.url}/logout", headers=form, allow_redirects=False, timeout=60, **over)
    nl, be, none = frozenset({"nl"}), frozenset({"be"}), frozenset()
    return [
        Visitor("nobody", None, {}),
        Visitor("a revoked token", None, bearer(revoked)),
        Visitor("a session that ended", None, over),
        Visitor("a forged session", None, {"cookies": {"cbm_session": cookies[0][:-1] + "x"}}),
        Visitor("a user of no aoi", none, basic("of-none")),
        Visitor("a user of nl", nl, basic("of-nl")),
        Visitor("a token of a user of nl", nl, bearer(token)),
        Visitor("a session of a user of nl", nl, {"cookies": {"cbm_session": cookies[0]}}),
        Visitor("an operator of be", be, basic("of-be")),
    ]


def _cookie(api: SmallApi, name: str) -> str:
    form = {"name": name, "password": _PASSWORD}
    response = requests.post(f"{api.url}/login", form, allow_redirects=False, timeout=60)
    return response.cookies["cbm_session"]


def questions(api: SmallApi) -> Iterator[Callable[[], str | None]]:
    """Each visitor with each route about each aoi: calls that return what was wrong, or None."""
    for visitor, route, aoi in product(visitors(api), ROUTES, SECRETS):
        if route.path != "/logout":
            yield lambda v=visitor, r=route, a=aoi: _ask(api, v, r, a)


def _ask(api: SmallApi, visitor: Visitor, route: Route, aoi: str) -> str | None:
    given = examples(route)
    is_about = "aoi" in given
    if is_about:
        given |= {"aoi": aoi, **({"pid": "hidden"} if "pid" in given else {})}
    answer = send(api.url, route, given, **visitor.send)
    where = f"{visitor.name}: {route.method} {route.path} {aoi}: {answer.status_code}"
    for of, secret in SECRETS.items():
        if secret in answer.text and of not in (visitor.aois or ()):
            return f"{where} shows what is {of}'s"
    good = _good_statuses(visitor, route, aoi if is_about else None)
    return None if answer.status_code in good else where


def _good_statuses(visitor: Visitor, route: Route, aoi: str | None) -> set[int]:
    """The statuses that a request about an aoi, or about none, may end in."""
    if route.access is not Access.PUBLIC and visitor.aois is None:
        return {303, 429, 503} if route.access is Access.PAGE else {401, 429, 503}
    # Whether a parameter is good is looked at before whose aoi it is, and whether there is room
    # for the request at all.
    odd = {400, 415, 503}
    if route.access is Access.USER and aoi and aoi not in visitor.aois:
        return odd | {403}
    served = odd | {200, 204, 303, 404}
    return served | {401, 403} if route.access is Access.PUBLIC else served


# --- the database ------------------------------------------------------------------------------

_LEDGER = frozenset({"input_product", "listed_product", "sync_day", "making"})
_USERS = frozenset({"api_user", "api_grant", "api_token", "ended_session"})
_FIGURES = frozenset(f"figures_{name}" for name in (
    "work", "done", "decoding", "gaps", "sync", "making", "scratch",
))  # fmt: skip

_UNREAD = {
    "cbm_api": {"figures_scratch"},
    "cbm_worker": _USERS
    | {"cost_ledger"}
    | _FIGURES - {"figures_gaps", "figures_sync", "figures_making"},
    "cbm_analyst": _USERS | {"cost_ledger", "figures_work", "figures_done", "figures_decoding"},
}
"""What a role of programs may not read, of all that is in public, beside the access log."""

_WRITES = {
    "cbm_api": {("INSERT", "api_audit")},
    "cbm_worker": {
        ("INSERT", "scene"), ("UPDATE", "scene"), ("UPDATE", "work"), ("UPDATE", "campaign.units"),
        *product(("INSERT", "UPDATE"), _LEDGER),
    },
    "cbm_analyst": set(),
    "pg_monitor": set(),
}  # fmt: skip
ROLES = tuple(_WRITES)

_FORBIDDEN = (
    "CREATE TABLE public.mine ()", "CREATE TABLE nl.mine ()", "CREATE SCHEMA mine",
    "CREATE TEMPORARY TABLE mine ()", "SET ROLE cbm_owner", "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres", "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER SYSTEM SET fsync = off", "CREATE ROLE mine", "CREATE EXTENSION dblink",
    "COPY nl.parcels TO PROGRAM 'cat'", "COPY nl.parcels TO '/tmp/parcels'",
    "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')",
    "SET temp_file_limit = -1",
    "SET log_statement = 'none'", "SELECT pg_reload_conf()", "SELECT rolpassword FROM pg_authid",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DO LANGUAGE plpython3u 'pass'", "CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION x()",
    "ALTER TABLE nl.parcels DISABLE TRIGGER ALL", "DROP SCHEMA nl CASCADE",
    "DROP DATABASE postgres", "CREATE PUBLICATION mine FOR ALL TABLES",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' LIMIT 1",
)  # fmt: skip
"""What no role of programs or analysts may do."""

_RELATIONS = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('r', 'p') AS is_table,
           array(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
                 AND NOT attisdropped ORDER BY attnum LIMIT 20) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', 'nl', 'be')
      AND c.relname NOT IN ('geometry_columns', 'geography_columns', 'spatial_ref_sys')"""


def statements(conn: db.Connection) -> Iterator[tuple[str, str, bool]]:
    """(role, statement, whether it may): everything on every table, and what nobody may."""
    for role, row in product(ROLES, db.fetch_all(conn, _RELATIONS)):
        relation = row.schema, row.name
        may = _may(role, *relation)

        def sql(text: str, column: str = "x", relation: tuple[str, str] = relation) -> str:
            return db.compose(text, t=relation, c=column).as_string(conn)

        yield role, sql("SELECT FROM {t} LIMIT 0"), may("SELECT")
        if row.is_table:
            yield role, sql("DELETE FROM {t} WHERE false"), may("DELETE")
            yield role, sql("INSERT INTO {t} DEFAULT VALUES"), may("INSERT")
            for column in row.columns:
                text = sql("UPDATE {t} SET {c} = DEFAULT WHERE false", column)
                yield role, text, may("UPDATE", column)
            for text in ("TRUNCATE {t}", "DROP TABLE {t} CASCADE", "ALTER TABLE {t} ADD z int"):
                yield role, sql(text), False
    for role, text in product(ROLES, _FORBIDDEN):
        yield role, text, False


def _may(role: str, schema: str, name: str) -> Callable[..., bool]:
    """Whether a role may do something with a relation, by verb and column."""
    is_leaf = bool(re.search(r"_c[0-9]+_[0-9]+$", name))
    # A campaign's part is reached through the table that it belongs to.
    is_part = bool(re.fullmatch(rf"(parcels|hists|{'|'.join(KINDS)})_c[0-9]+", name))

    def may(verb: str, column: str = "") -> bool:
        if is_part:
            return False
        if verb == "SELECT":
            if role == "pg_monitor":
                return name in _FIGURES
            private = _UNREAD[role] | {"api_audit", "cbm_migration"}
            return schema != "public" or name not in private
        if is_leaf:
            return role == "cbm_worker" and verb in ("INSERT", "DELETE")
        return schema == "public" and bool(
            {(verb, name), (verb, f"{name}.{column}")} & _WRITES[role]
        )

    return may


def is_permitted(conn: db.Connection, statement: str) -> bool:
    """Whether the role of a connection may run a statement, which is undone."""
    permitted = True
    with suppress(_UndoError), db.transaction(conn):
        try:
            db.execute(conn, statement)
        except ConfigError:
            permitted = False
        except Exception as error:
            # Only who may write learns that a value is missing.
            permitted = "violates" in str(error) or "no partition" in str(error)
        raise _UndoError
    return permitted


class _UndoError(CbmError):
    """Ends a transaction without a trace."""


@contextmanager
def logins(superuser: db.Connection) -> Iterator[dict[str, db.Connection]]:
    """A login's connection by role."""
    try:
        with ExitStack() as stack:
            conns = {}
            for role in ROLES:
                sql = "CREATE ROLE {n} LOGIN PASSWORD 'attack' IN ROLE {r}"
                db.execute(superuser, db.compose(sql, n=f"attack_{role}", r=role))
                login = f"user=attack_{role} password=attack"
                conns[role] = stack.enter_context(closing(db.connect("test", login)))
            yield conns
    finally:
        for role in ROLES:
            db.execute(superuser, db.compose("DROP ROLE IF EXISTS {n}", n=f"attack_{role}"))


_FUNCTIONS = """
    SELECT p.oid, p.proname AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prosecdef AND p.proname LIKE 'cbm%%'"""

_CALLS = {
    "cbm_api": {"cbm_end_session", "cbm_prune_audit", "cbm_expected", "cbm_gap_counts"},
    "cbm_worker": {"cbm_enqueue", "cbm_leaf", "cbm_expected", "cbm_gap_counts"},
    "cbm_analyst": {"cbm_expected", "cbm_gap_counts"},
    "pg_monitor": {"cbm_gap_counts"},
}


def calls(conn: db.Connection) -> Iterator[tuple[str, str, bool, bool]]:
    """(role, function, whether it can call it, whether it may) of all with their owner's rights."""
    for role, row in product(ROLES, db.fetch_all(conn, _FUNCTIONS)):
        can = "SELECT has_function_privilege(%s, %s::oid, 'EXECUTE') AS can"
        yield role, row.name, db.fetch_one(conn, can, (role, row.oid)).can, row.name in _CALLS[role]
