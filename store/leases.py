"""Statements that the queues share: tables of work with state, lease, fence and reason.

A queue's table has the columns state (pending, claimed, done, dead), fence, holder, lease_until,
not_before, failures, lost_leases, reason and changed_at. `ours` is the condition that a row is
still under a claim.
"""

STATES = ("pending", "claimed", "done", "dead")
"""Of work, in the order of tables for people."""


def bury_sql(table: str) -> str:
    """Dead letter for what was under a lease too often; parameter `max`."""
    return f"""
    UPDATE {table} SET state = 'dead', changed_at = now(), lease_until = NULL,
           reason = format('the lease was lost %%s times, last by %%s: '
                           'the worker dies on it, or the lease is too short',
                           lost_leases + 1, holder)
    WHERE state = 'claimed' AND lease_until < now() AND lost_leases + 1 >= %(max)s"""


def release_sql(table: str, ours: str) -> str:
    """Back to pending without blame; parameters `reason` and `delay_s`."""
    return f"""
    UPDATE {table} SET
        state = 'pending', fence = fence + 1, lease_until = NULL, reason = %(reason)s,
        not_before = now() + make_interval(secs => %(delay_s)s), changed_at = now()
    WHERE {ours}"""


def postpone_sql(table: str, ours: str) -> str:
    """Back to pending after a fault of the world, with doubling pauses; also `max`."""
    return f"""
    UPDATE {table} SET
        state = CASE WHEN lost_leases + 1 >= %(max)s THEN 'dead' ELSE 'pending' END,
        lost_leases = lost_leases + 1, fence = fence + 1, lease_until = NULL,
        reason = %(reason)s, changed_at = now(),
        not_before = now() + make_interval(secs => %(delay_s)s * 2 ^ least(lost_leases, 7))
    WHERE {ours}"""


def fail_sql(table: str, ours: str) -> str:
    """Count a failure: back to pending, or dead after `max`; also `reason` and `delay_s`."""
    return f"""
    UPDATE {table} SET
        state = CASE WHEN failures + 1 >= %(max)s THEN 'dead' ELSE 'pending' END,
        failures = failures + 1, fence = fence + 1, lease_until = NULL,
        reason = %(reason)s, changed_at = now(),
        not_before = now() + make_interval(secs => %(delay_s)s)
    WHERE {ours}"""
