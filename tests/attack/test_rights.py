"""What each role of the database may do is tried, statement by statement."""

import pytest

from store import db
from tests.attack import rights
from tests.attack.outcomes import Outcome, report
from tests.integration.filled_api import fill


@pytest.fixture
def filled(database) -> db.Connection:
    fill(database)
    return database


def test_no_role_does_more_on_any_table_than_it_may(filled):
    every = list(rights.statements(filled))
    with rights.logins(filled) as conns:
        wrong = [
            (role, text, "may" if may else "may not")
            for role, text, may in every
            if rights.is_permitted(conns[role], text) != may
        ]
    report(Outcome("statements beyond a role's rights", len(every), len(wrong)), wrong)


def test_no_role_calls_a_function_of_the_owner_that_it_may_not(filled):
    every = list(rights.calls(filled))
    wrong = [(role, name) for role, name, can, may in every if can != may]
    report(Outcome("functions of the owner", len(every), len(wrong)), wrong)
