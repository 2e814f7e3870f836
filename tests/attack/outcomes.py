"""What came of the attacks: a row each, kept in build/attack.json from run to run."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parents[2] / "build" / "attack.json"

ALONE = (
    "slow readers of large answers",
    "slow senders",
    "images of an archive that hangs",
    "streams whose reader stops",
    "false tokens",
    "images of scenes that lead elsewhere",
    "requests beyond one's rights",
)
"""Attacks on an API that serves others meanwhile."""

AT_ONCE = "all of them at once"

ROWS = (
    *ALONE,
    "transactions of stopped streams",
    AT_ONCE,
    "scene files that lead elsewhere",
    "addresses of bands",
    "addresses in STAC Items",
    "parcel files that lead elsewhere",
    "damaged STAC Items",
    "damaged SAFE products",
    "damaged BEAM-DIMAP products",
    "statements beyond a role's rights",
    "functions of the owner",
)
"""All rows of the table."""


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    Attributes:
        attack: its name, one of ROWS.
        tried: hostile requests, files, statements.
        bad: of them those that reached what they should not; and of the probes of others those
            that were refused, wrong or late.
        probes: requests of other users and of health checks meanwhile.
        slowest_s: the slowest answer to a probe of health or login, seconds.
        memory_mb: most of all processes of the API together, meanwhile.
        at: when it was, UTC.
    """

    attack: str
    tried: int
    bad: int
    probes: int = 0
    slowest_s: float | None = None
    memory_mb: float | None = None
    at: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M}")

    def __post_init__(self) -> None:
        """Refuse a name that the table does not have."""
        assert self.attack in ROWS, self.attack

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of `HEAD`."""
        slowest = "" if self.slowest_s is None else f"{self.slowest_s:.2f} s"
        memory = "" if self.memory_mb is None else f"{self.memory_mb:.0f} MB"
        probes = f"{self.probes:,}" if self.probes else ""
        return (self.attack, f"{self.tried:,}", f"{self.bad:,}", probes, slowest, memory)


HEAD = ("attack", "tried", "bad", "others' requests", "slowest health or login", "memory")

_outcomes: dict[str, Outcome] = {}


def report(outcome: Outcome, wrong: Sequence[object] = ()) -> None:
    """Put an outcome into the table; fail if anything was bad.

    Args:
        outcome: of an attack.
        wrong: what was bad, for the failure's message.
    """
    _outcomes[outcome.attack] = outcome
    assert outcome.bad == 0, list(wrong)[:20]


def of_this_run() -> list[Outcome]:
    """The outcomes in the table's order."""
    return [_outcomes[name] for name in ROWS if name in _outcomes]


def load(file: Path = FILE) -> list[Outcome]:
    """The outcomes in a file, in the table's order; none if there is no file."""
    if not file.exists():
        return []
    kept = {row["attack"]: Outcome(**row) for row in json.loads(file.read_text())}
    return [kept[name] for name in ROWS if name in kept]


def save(outcomes: Sequence[Outcome], file: Path = FILE) -> None:
    """Keep outcomes in a file, beside those of other attacks that it has."""
    every = {each.attack: each for each in (*load(file), *outcomes)}
    file.parent.mkdir(exist_ok=True)
    rows = [asdict(every[name]) for name in ROWS if name in every]
    file.write_text(json.dumps(rows, indent=2) + "\n")
