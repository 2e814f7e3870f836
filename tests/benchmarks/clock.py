"""CPU seconds of this process, its ended children and a PostgreSQL server; rounds in turns."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NS_PER_S = 1e9


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        client_s: CPU seconds of this process (all threads) and its ended children.
        server_s: CPU seconds of every process of the PostgreSQL server.
        wall_s: seconds by the wall clock.
    """

    client_s: float
    server_s: float
    wall_s: float

    @property
    def cpu_s(self) -> float:
        """CPU seconds of client and server."""
        return self.client_s + self.server_s

    def times(self, factor: float) -> "Cost":
        """What that many times the work would have taken."""
        return Cost(self.client_s * factor, self.server_s * factor, self.wall_s * factor)

    def as_details(self) -> dict[str, float]:
        """The same for bench.json, rounded."""
        return {
            "cpu_s": round(self.cpu_s, 4),
            "server_cpu_s": round(self.server_s, 4),
            "wall_s": round(self.wall_s, 4),
        }


@dataclass(frozen=True)
class Way:
    """One way to do the work: an untimed preparation, and the timed run that gets its result.

    Where the server has no part in it, what the server does meanwhile is not counted.
    """

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None
    uses_server: bool = True


def interleaved(
    ways: Mapping[str, Way],
    rounds: int,
    postmaster: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Cost]:
    """Run all ways in turns, several rounds, and keep the cheapest run of each.

    The minimum is the run that the other users of the machine disturbed least; turns spread slow
    spells of the machine over all ways alike.

    Args:
        ways: by name.
        rounds: how often each one runs.
        postmaster: pid of the PostgreSQL server whose work counts too.
        say: receives a line after each run.
    """
    best: dict[str, Cost] = {}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            cost = measured(way, postmaster)
            best[name] = min(cost, best.get(name, cost), key=lambda each: each.cpu_s)
            say(f"round {number}/{rounds} {name}: {cost.cpu_s:.3f} CPU s, {cost.wall_s:.3f} s")
    return best


def measured(way: Way, postmaster: int | None = None) -> Cost:
    """Prepare and run one way once."""
    prepared = way.prepare()
    postmaster = postmaster if way.uses_server else None
    client, server, wall = _client_s(), server_cpu_s(postmaster), time.perf_counter()
    way.run(prepared)
    wall = time.perf_counter() - wall
    return Cost(_client_s() - client, server_cpu_s(postmaster) - server, wall)


def server_cpu_s(postmaster: int | None) -> float:
    """CPU seconds a PostgreSQL server has used so far, its ended processes included."""
    if postmaster is None:
        return 0.0
    alive = sum(_process_s(pid) for pid in (postmaster, *_children(postmaster)))
    return alive + sum(_stat_s(postmaster)[2:4])


def _client_s() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _process_s(pid: int) -> float:
    """CPU seconds of a process of one thread, to the nanosecond where the kernel counts them."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / _NS_PER_S
    with suppress(FileNotFoundError, ProcessLookupError):
        return sum(_stat_s(pid)[:2])
    return 0.0  # ended meanwhile


def _stat_s(pid: int) -> list[float]:
    """User and system seconds of a process, then those of its ended children (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) / _TICKS_PER_S for field in fields[11:15]]
