"""Turns: credentials that were proved wait in their user's."""

import pytest

from app.http import turns
from app.http.turns import UserTurn


def proved(claim: str, user_name: str) -> UserTurn:
    with pytest.raises(UserTurn) as onward:
        turns.run(claim, turns.find_sender(claim), lambda: turns.go_on_as(user_name))
    return onward.value


def test_claims_of_one_user_have_one_turn_once_they_are_proved():
    assert turns.find_sender("cookie") == "cookie"
    assert proved("cookie", "ann").sender == proved("token", "ann").sender == "user ann"
    assert turns.find_sender("cookie") == turns.find_sender("token") == "user ann"
    assert turns.run("cookie", "user ann", lambda: turns.go_on_as("ann") or "served") == "served"


def test_a_claim_that_proves_another_user_goes_on_as_that_one():
    proved("shared", "ann")
    assert proved("shared", "bob").sender == "user bob"


def test_where_there_are_no_turns_a_request_goes_on():
    turns.go_on_as("ann")
    proved("again", "ann")
    turns.go_on_as("bob")  # after the turn


def test_claims_are_known_in_a_bounded_number(monkeypatch):
    monkeypatch.setattr(turns, "_MAX_KNOWN", 3)
    for n in range(5):
        proved(f"claim {n}", "ann")
    assert [turns.find_sender(f"claim {n}") for n in (0, 4)] == ["claim 0", "user ann"]
