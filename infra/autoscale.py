"""Number of worker hosts that a backlog is worth: one pure decision, from a sample to a count.

More hosts do not cost more than fewer that take longer, so the policy is: enough hosts to end
before the deadline, kept until nothing waits, and given back as soon as they hold no work.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from infra.backlog import BacklogSample
from infra.errors import InfraError


class ScaleAction(Enum):
    """What a decision does."""

    UP = "up"
    WAIT = "wait"
    DOWN = "down"


@dataclass(frozen=True)
class ScalePolicy:
    """The operator's wish.

    Attributes:
        least: worker hosts at any time.
        most: worker hosts at any time.
        deadline_h: hours from the start of a piece's waiting to its end.
        start_h: hours until a new host works.
        idle_h: hours without a waiting piece until hosts are given back.
        batch_h: host-hours that are worth a host before the deadline presses.
        margin: an up is more than this share of the present count, and so never a rounding.
    """

    least: int
    most: int
    deadline_h: float
    start_h: float = 0.15
    idle_h: float = 0.25
    batch_h: float = 0.5
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Refuse bounds that contradict each other.

        Raises:
            InfraError: they do.
        """
        if not 0 <= self.least <= self.most:
            raise InfraError(f"--min {self.least} --max {self.most}: give 0 <= min <= max")
        if self.deadline_h <= self.start_h:
            raise InfraError(
                f"a deadline of {self.deadline_h:g} h: a new host alone takes {self.start_h:g} h"
            )


@dataclass(frozen=True)
class ScaleInputs:
    """All that a decision depends on.

    Attributes:
        workers: worker hosts that there are, numbered from 1.
        busy: numbers of those that hold claimed work.
        unplaced: claims whose host is not known.
        pending: pieces that nobody holds.
        work_h: host-hours of all open work.
        oldest_h: hours for which the oldest pending piece has been waiting.
        idle_h: hours since a piece was last pending.
    """

    workers: int
    busy: frozenset[int]
    unplaced: int
    pending: int
    work_h: float
    oldest_h: float
    idle_h: float


@dataclass(frozen=True)
class ScaleDecision:
    """A number of worker hosts with its reason.

    Attributes:
        action: against the present count.
        workers: the new count.
        reason: a sentence.
        hours: for which the open work keeps them busy.
    """

    action: ScaleAction
    workers: int
    reason: str
    hours: float = 0.0


def decide(policy: ScalePolicy, inputs: ScaleInputs) -> ScaleDecision:
    """The number of worker hosts from now on.

    Goes up as soon as the deadline takes more hosts, never down while a piece waits, and down only
    by hosts at the end of the row that hold no work.
    """
    if inputs.pending:
        return _decide_waiting(policy, inputs)
    if inputs.workers < policy.least:
        return _up(policy.least, f"the stack is to have {policy.least} at least", inputs)
    return _decide_idle(policy, inputs)


def _decide_waiting(policy: ScalePolicy, inputs: ScaleInputs) -> ScaleDecision:
    """The decision while pieces wait."""
    left_h = policy.deadline_h - inputs.oldest_h
    need = needed_workers(policy, inputs)
    backlog = (
        f"{inputs.pending} pieces wait, the oldest {inputs.oldest_h:.1f} h; {inputs.work_h:.1f} "
        f"host-hours in the {left_h:.1f} h until the deadline are for {_hosts(need)}"
    )
    is_little = inputs.work_h < policy.batch_h and left_h > policy.deadline_h / 2
    if is_little and inputs.workers == policy.least == 0:
        return _wait(f"{backlog}: too little for a host while there is time", inputs)
    target = max(policy.least, min(need, policy.most))
    if target > inputs.workers * (1 + policy.margin) or policy.least > inputs.workers:
        limit = f", of which --max allows {policy.most}" if need > policy.most else ""
        return _up(target, backlog + limit, inputs)
    return _wait(f"{backlog}: there are {inputs.workers}", inputs)


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def needed_workers(policy: ScalePolicy, inputs: ScaleInputs) -> int:
    """Hosts that end the open work before its deadline; after that as many as have work."""
    useful_h = policy.deadline_h - inputs.oldest_h - policy.start_h
    by_deadline = inputs.work_h / useful_h if useful_h > 0 else math.inf
    by_batch = inputs.work_h / min(policy.batch_h, policy.deadline_h - policy.start_h)
    return max(1, math.ceil(min(by_deadline, max(by_batch, 1.0))))


def _decide_idle(policy: ScalePolicy, inputs: ScaleInputs) -> ScaleDecision:
    """The decision when nothing waits."""
    if inputs.workers <= policy.least:
        return _wait("nothing waits", inputs)
    if inputs.unplaced:
        return _wait(f"nothing waits; {inputs.unplaced} claims are of unknown hosts", inputs)
    last_busy = max((number for number in inputs.busy if number <= inputs.workers), default=0)
    keep = max(policy.least, last_busy)
    if keep == inputs.workers:
        return _wait(f"nothing waits; host {last_busy} is at work", inputs)
    if inputs.idle_h < policy.idle_h:
        return _wait(f"nothing waits, for {inputs.idle_h * 60:.0f} min so far", inputs)
    hosts = f"hosts {keep + 1} to {inputs.workers} hold" if keep else "no host holds"
    return ScaleDecision(ScaleAction.DOWN, keep, f"nothing waits, and {hosts} no work")


def _up(workers: int, reason: str, inputs: ScaleInputs) -> ScaleDecision:
    return ScaleDecision(ScaleAction.UP, workers, reason, inputs.work_h / workers)


def _wait(reason: str, inputs: ScaleInputs) -> ScaleDecision:
    hours = inputs.work_h / inputs.workers if inputs.workers else 0.0
    return ScaleDecision(ScaleAction.WAIT, inputs.workers, reason, hours)


def build_inputs(
    sample: BacklogSample, waited_at: datetime, rates: Mapping[str, float], pool: str
) -> ScaleInputs:
    """What a sample means for a decision.

    Args:
        sample: of the backlog, now.
        waited_at: when a piece was last pending, timezone-aware.
        rates: pieces that a host does in an hour, by queue.
        pool: what names of worker hosts begin with, their number left out.
    """
    work_h = sum(
        (figures.pending + figures.claimed) / rates[name]
        for name, figures in sample.queues.items()
        if figures.pending + figures.claimed
    )
    numbers = [re.fullmatch(re.escape(pool) + r"-(\d+)", host) for host in sample.busy]
    return ScaleInputs(
        sample.workers,
        frozenset(int(found[1]) for found in numbers if found),
        sample.unplaced,
        sample.pending,
        work_h,
        sample.oldest_s / 3600,
        (sample.at - waited_at).total_seconds() / 3600,
    )


def format_decision(decision: ScaleDecision, host_hour: float, currency: str) -> str:
    """A decision as a line of the log, with its cost."""
    hour = decision.workers * host_hour
    cost = f"{hour:.4f} {currency}/h"
    if decision.hours:
        cost += f", {hour * decision.hours:.2f} {currency} in {decision.hours:.1f} h"
    return f"{decision.action.value} to {decision.workers}: {decision.reason} ({cost})"
