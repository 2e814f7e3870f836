"""Backlog of a stack: samples of its queues, read from the database's host over ssh.

A sample is a line of JSON in `inventory/<stack>/backlog.jsonl`; the lines of a season are what
`fab autoscale --replay` takes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from infra.database import query_json
from infra.errors import InfraError
from infra.status import read_task_nodes

QUEUES = ("extraction", "making")
"""Scenes to extract, each once per parcel set; CARD products to make."""
FILE = "backlog.jsonl"

# A claim whose lease has run out is work that waits again.
_FIGURES = """
SELECT json_build_object(
    'pending', count(*) FILTER (WHERE state = 'pending' OR lapsed),
    'claimed', count(*) FILTER (WHERE state = 'claimed' AND NOT lapsed),
    'done', count(*) FILTER (WHERE state = 'done'),
    'oldest_s', coalesce(extract(epoch FROM now() - min(changed_at)
        FILTER (WHERE state = 'pending' OR lapsed)), 0)::float8)
FROM (SELECT state, changed_at, state = 'claimed' AND lease_until < now() AS lapsed
      FROM public.{table}) AS work"""

_STATEMENT = f"""
SELECT json_build_object(
    'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
    'queues', json_build_object(
        'extraction', ({_FIGURES.format(table="work")}),
        'making', ({_FIGURES.format(table="making")})),
    'holders', coalesce((SELECT json_agg(holder) FROM (
        SELECT holder FROM public.work WHERE state = 'claimed' AND lease_until >= now()
        UNION SELECT holder FROM public.making WHERE state = 'claimed' AND lease_until >= now()
        ) AS holders), '[]'))"""


@dataclass(frozen=True)
class QueueFigures:
    """Figures of one queue.

    Attributes:
        pending: pieces that no worker holds.
        claimed: pieces that a worker holds under a lease.
        done: pieces done since the queue was made.
        oldest_s: seconds for which the oldest pending piece has been waiting.
    """

    pending: int
    claimed: int
    done: int
    oldest_s: float = 0.0


@dataclass(frozen=True)
class BacklogSample:
    """The queues of a stack at a moment.

    Attributes:
        at: timezone-aware.
        queues: by name, see `QUEUES`.
        busy: names of the worker hosts that hold claimed work.
        unplaced: claims whose host is not known: the container has gone, or is not the swarm's.
        workers: worker hosts that the stack has.
    """

    at: datetime
    queues: Mapping[str, QueueFigures]
    busy: tuple[str, ...] = ()
    unplaced: int = 0
    workers: int = 0

    @property
    def pending(self) -> int:
        """Pieces that no worker holds, of all queues."""
        return sum(figures.pending for figures in self.queues.values())

    @property
    def oldest_s(self) -> float:
        """Seconds for which the oldest pending piece has been waiting."""
        return max((figures.oldest_s for figures in self.queues.values()), default=0.0)


def read_sample(folder: Path, workers: int) -> BacklogSample:
    """The queues now, and the hosts that hold claimed work.

    Args:
        folder: of a converged stack's inventory, such as inventory/nl.
        workers: worker hosts that it has.

    Raises:
        InfraError: a host or its database does not answer.
    """
    figures = query_json(folder, _STATEMENT)
    busy, unplaced = place_holders(figures["holders"], read_task_nodes(folder))
    queues = {name: QueueFigures(**figures["queues"][name]) for name in QUEUES}
    return BacklogSample(datetime.fromisoformat(figures["at"]), queues, busy, unplaced, workers)


def place_holders(holders: Iterable[str], nodes: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The nodes of the containers that hold work, and how many holders are on none.

    Args:
        holders: CONTAINER:PID, the container by the start of its id.
        nodes: by the container's id.
    """
    containers = [holder.rpartition(":")[0] for holder in holders]
    short = {container[:12]: node for container, node in nodes.items()}
    placed = {short[container] for container in containers if container in short}
    return tuple(sorted(placed)), sum(container not in short for container in containers)


def append_sample(folder: Path, sample: BacklogSample) -> None:
    """Add a sample to the record in a stack's inventory."""
    with (folder / FILE).open("a") as record:
        record.write(format_sample(sample) + "\n")


def format_sample(sample: BacklogSample) -> str:
    """A sample as a line of JSON."""
    return json.dumps(asdict(sample) | {"at": sample.at.isoformat()})


def read_record(path: Path) -> list[BacklogSample]:
    """The samples of a record, in the order of their times; none if there is no record.

    Args:
        path: of the file, a sample a line.

    Raises:
        InfraError: a line is no sample.
    """
    if not path.exists():
        return []
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            samples.append(parse_sample(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise InfraError(
                f"{path}:{number}: not a sample of the backlog ({error!r}); a line is such as "
                f"{format_sample(_EXAMPLE)}"
            ) from error
    return sorted(samples, key=lambda sample: sample.at)


def parse_sample(fields: Mapping[str, Any]) -> BacklogSample:
    """A sample from the object of its line.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    at = datetime.fromisoformat(fields["at"])
    if at.tzinfo is None:
        raise ValueError(f"{fields['at']} has no time zone")
    return BacklogSample(
        at,
        {name: QueueFigures(**figures) for name, figures in fields["queues"].items()},
        tuple(fields.get("busy", ())),
        int(fields.get("unplaced", 0)),
        int(fields.get("workers", 0)),
    )


_EXAMPLE = BacklogSample(
    datetime.fromisoformat("2026-05-01T10:00:00+00:00"),
    {"extraction": QueueFigures(120, 4, 3000, 900.0)},
    ("cbm-nl-worker-1",),
    workers=1,
)


def measure_rates(samples: Sequence[BacklogSample]) -> dict[str, float]:
    """Pieces that one worker host does in an hour, by queue, where the samples show it.

    Counted are the times in which a queue had work for every worker at both ends, since at the
    end of a queue workers are idle.
    """
    done: dict[str, float] = {}
    hours: dict[str, float] = {}
    for earlier, later in pairwise(samples):
        workers = min(earlier.workers, later.workers)
        worker_h = workers * (later.at - earlier.at).total_seconds() / 3600
        for name in earlier.queues.keys() & later.queues.keys():
            before, after = earlier.queues[name], later.queues[name]
            if worker_h > 0 and before.pending and after.pending and after.done >= before.done:
                done[name] = done.get(name, 0) + after.done - before.done
                hours[name] = hours.get(name, 0) + worker_h
    return {name: done[name] / hours[name] for name in done if done[name]}


def last_waited(samples: Sequence[BacklogSample]) -> datetime:
    """When a piece was last pending; the first sample's time if none was, one sample at least."""
    waited = (sample.at for sample in reversed(samples) if sample.pending)
    return next(waited, samples[0].at)


def tail(samples: Sequence[BacklogSample], hours: float) -> list[BacklogSample]:
    """The samples of the last hours, the newest one's counted back from."""
    return [sample for sample in samples if sample.at >= samples[-1].at - timedelta(hours=hours)]
