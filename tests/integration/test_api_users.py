"""cbm-api users: the operator's side of accounts and rights."""

import socket

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from store import db


@pytest.fixture
def aois(database) -> db.Connection:
    for aoi in ("nl", "be"):
        db.fetch_one(database, "SELECT cbm_make_campaign(%s, 2024, '', '2023-10-01', '2024-12-31', "
                         "0::real)", (aoi,))  # fmt: skip
    return database


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def add(name: str, *arguments: str, password: str = "right-word") -> Result:
    return run("users", "add", name, "--password-stdin", *arguments, stdin=password + "\n")


def hashes(conn: db.Connection) -> dict[str, str]:
    rows = db.fetch_all(conn, "SELECT name, password_hash FROM api_user")
    return {row.name: row.password_hash for row in rows}


def test_a_user_is_added_granted_listed_and_removed(aois):
    assert add("ann", "--aoi", "nl").exit_code == 0
    assert add("bob").exit_code == 0
    assert run("users", "grant", "ann", "be").exit_code == 0
    assert run("users", "grant", "ann", "be").exit_code == 0
    assert run("users", "list").output == "ann\tbe nl\nbob\t\n"
    assert run("users", "remove", "ann").exit_code == 0
    assert run("users", "list").output == "bob\t\n"
    assert db.fetch_all(aois, "SELECT * FROM api_grant") == []


def test_passwords_are_stored_as_argon2id_and_never_alike(aois):
    add("ann")
    add("bob")
    stored = hashes(aois)
    assert all(text.startswith("$argon2id$") for text in stored.values())
    assert stored["ann"] != stored["bob"]


def test_a_prompted_password_is_asked_for_twice_and_not_shown(aois):
    result = run("users", "add", "ann", stdin="right-word\nright-word\n")
    assert result.exit_code == 0
    assert "right-word" not in result.output


def test_a_password_can_be_changed(aois):
    add("ann")
    before = hashes(aois)
    assert run("users", "password", "ann", "--password-stdin", stdin="other-word").exit_code == 0
    assert hashes(aois) != before


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (["add", "ann", "--password-stdin"], "right-word", "user ann exists"),
        (["add", "eve", "--password-stdin"], "short", "shorter than 8 characters"),
        (["add", "eve", "--password-stdin"], "", "shorter than 8 characters"),
        (["add", "e v e", "--password-stdin"], "right-word", "cannot be a user's name"),
        (["add", "eve", "--aoi", "zz", "--password-stdin"], "right-word", "no aoi zz"),
        (["grant", "eve", "nl"], "", "no user eve"),
        (["grant", "ann", "zz"], "", "no aoi zz"),
        (["password", "eve", "--password-stdin"], "right-word", "no user eve"),
        (["remove", "eve"], "", "no user eve"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_changes_nothing(
    aois, arguments, stdin, sentence
):
    add("ann")
    before = hashes(aois)
    result = run("users", *arguments, stdin=stdin)
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert hashes(aois) == before


def test_a_password_is_never_an_argument(aois):
    assert run("users", "add", "ann", "right-word").exit_code == 2
    assert hashes(aois) == {}


def test_serve_refuses_an_address_that_is_taken_or_none():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_address = f"127.0.0.1:{taken.getsockname()[1]}"
        for bind, sentence in ((taken_address, "cannot listen on"), ("8000", "is not HOST:PORT")):
            result = run("serve", "--bind", bind)
            assert result.exit_code != 0
            assert sentence in result.output


def test_serve_refuses_a_setting_that_is_no_number(monkeypatch):
    monkeypatch.setenv("CBM_STATEMENT_TIMEOUT_S", "soon")
    result = run("serve")
    assert result.exit_code != 0
    assert "CBM_STATEMENT_TIMEOUT_S=soon cannot be used: it should be" in result.output
