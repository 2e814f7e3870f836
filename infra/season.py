"""Replay of a season: what autoscaling would have done with a recorded backlog, and its cost.

What arrives is the record's; how it is worked off is simulated, by the rates and the policy given.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infra.autoscale import (
    ScaleAction,
    ScaleDecision,
    ScalePolicy,
    build_inputs,
    decide,
    format_decision,
)
from infra.backlog import BacklogSample, QueueFigures

STEP_H = 1 / 12
POOL = "worker"


@dataclass(frozen=True)
class SeasonReport:
    """A replayed season.

    Attributes:
        changes: moments at which the count changes, with the decision.
        pieces: that arrived, of all queues.
        worker_h: host-hours paid for.
        peak: most hosts at once.
        longest_h: hours between a piece's arrival and its end, the longest.
        late: pieces that ended after the deadline.
    """

    changes: tuple[tuple[datetime, ScaleDecision], ...]
    pieces: int
    worker_h: float
    peak: int
    longest_h: float
    late: int


@dataclass
class _Queue:
    """Pieces that wait or are at work, oldest first: [arrival, pieces]."""

    batches: deque[list[float]] = field(default_factory=deque)
    done: float = 0.0
    longest_h: float = 0.0
    late: float = 0.0

    @property
    def open(self) -> float:
        return sum(pieces for _, pieces in self.batches)

    def work(self, pieces: float, now_h: float, deadline_h: float) -> None:
        """Do so many pieces, oldest first."""
        while pieces > 1e-9 and self.batches:
            batch = self.batches[0]
            part = min(batch[1], pieces)
            took_h = now_h - batch[0]
            self.longest_h = max(self.longest_h, took_h)
            self.late += part if took_h > deadline_h else 0
            self.done += part
            batch[1] -= part
            pieces -= part
            if batch[1] <= 1e-9:
                self.batches.popleft()


def list_arrivals(record: Sequence[BacklogSample]) -> list[tuple[datetime, dict[str, int]]]:
    """Pieces that arrived before each sample of a record, by queue."""
    arrivals: list[tuple[datetime, dict[str, int]]] = []
    known: dict[str, int] = {}
    for sample in record:
        totals = {name: q.pending + q.claimed + q.done for name, q in sample.queues.items()}
        before = known or {name: q.done for name, q in sample.queues.items()}
        new = {name: max(0, total - before.get(name, 0)) for name, total in totals.items()}
        arrivals.append((sample.at, new))
        known |= totals
    return arrivals


def replay(
    record: Sequence[BacklogSample], policy: ScalePolicy, rates: Mapping[str, float]
) -> SeasonReport:
    """Work a recorded season off under a policy.

    Args:
        record: samples in the order of their times, one at least.
        policy: the operator's wish.
        rates: pieces that a host does in an hour, by queue.
    """
    simulation = _Simulation(policy, rates, list_arrivals(record))
    changes = tuple(simulation.run())
    queues = simulation.queues.values()
    return SeasonReport(
        changes,
        round(sum(queue.done for queue in queues)),
        simulation.worker_h,
        simulation.peak,
        max((queue.longest_h for queue in queues), default=0.0),
        round(sum(queue.late for queue in queues)),
    )


class _Simulation:
    """The state of a replay."""

    def __init__(
        self,
        policy: ScalePolicy,
        rates: Mapping[str, float],
        arrivals: Sequence[tuple[datetime, Mapping[str, int]]],
    ) -> None:
        self.policy, self.rates = policy, rates
        self.begin = arrivals[0][0]
        self.arrivals = deque(arrivals)
        self.queues = {name: _Queue() for name in rates}
        self.ready_h: list[float] = []  # of each host: when it began to work
        self.waited_at = self.begin
        self.worker_h, self.peak = 0.0, 0

    def run(self) -> Iterator[tuple[datetime, ScaleDecision]]:
        """The changes of the count, until all is done and the hosts are given back."""
        step = 0
        while (
            self.arrivals
            or any(queue.batches for queue in self.queues.values())
            or (len(self.ready_h) > self.policy.least)
        ):
            now_h = step * STEP_H
            self._arrive(now_h)
            sample = self._sample(now_h)
            self.waited_at = sample.at if sample.pending else self.waited_at
            inputs = build_inputs(sample, self.waited_at, self.rates, POOL)
            decision = decide(self.policy, inputs)
            if decision.action is not ScaleAction.WAIT:
                self._resize(decision.workers, now_h)
                yield sample.at, decision
            self._work(now_h)
            step += 1

    def _arrive(self, now_h: float) -> None:
        now = self.begin + timedelta(hours=now_h)
        while self.arrivals and self.arrivals[0][0] <= now:
            at, new = self.arrivals.popleft()
            at_h = (at - self.begin).total_seconds() / 3600
            for name, pieces in new.items():
                if pieces:
                    self.queues[name].batches.append([at_h, float(pieces)])

    def _sample(self, now_h: float) -> BacklogSample:
        ready = sum(at_h <= now_h for at_h in self.ready_h)
        figures, busy = {}, 0
        for name, queue in self.queues.items():
            waiting = -int(-queue.open // 1)  # a piece that is half done is still one
            claimed = min(ready, waiting)
            busy = max(busy, claimed)
            oldest_s = (now_h - queue.batches[0][0]) * 3600 if waiting > claimed else 0.0
            figures[name] = QueueFigures(waiting - claimed, claimed, int(queue.done), oldest_s)
        hosts = tuple(f"{POOL}-{number}" for number in range(1, busy + 1))
        at = self.begin + timedelta(hours=now_h)
        return BacklogSample(at, figures, hosts, workers=len(self.ready_h))

    def _resize(self, workers: int, now_h: float) -> None:
        new = workers - len(self.ready_h)
        self.ready_h = [*self.ready_h, *[now_h + self.policy.start_h] * new][:workers]
        self.peak = max(self.peak, workers)

    def _work(self, now_h: float) -> None:
        end_h = now_h + STEP_H
        useful_h = sum(max(0.0, end_h - max(now_h, at_h)) for at_h in self.ready_h)
        for name, queue in self.queues.items():
            queue.work(useful_h * self.rates[name], end_h, self.policy.deadline_h)
        self.worker_h += len(self.ready_h) * STEP_H


def format_season(
    report: SeasonReport, policy: ScalePolicy, host_hour: float, currency: str
) -> str:
    """A report as text: its decisions, then the sums."""
    lines = [
        f"{at:%Y-%m-%d %H:%M} {format_decision(decision, host_hour, currency)}"
        for at, decision in report.changes
    ]
    cost = report.worker_h * host_hour
    sums = (
        f"{report.pieces} pieces; at most {report.peak} hosts, {report.worker_h:.1f} host-hours: "
        f"{cost:.2f} {currency}\n"
        f"the longest took {report.longest_h:.1f} h, with a deadline of {policy.deadline_h:g} h; "
        f"{report.late} pieces were late"
    )
    return "\n".join([*lines, sums])
