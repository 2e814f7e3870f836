"""Stages of a drill: named functions in order, each timed once, so that a drill can go on."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]
"""What a stage learned, as what JSON is made of."""


@dataclass(frozen=True)
class DrillStage:
    """A stage: its name, what it is for in a sentence, and the function that returns its facts."""

    name: str
    purpose: str
    run: Callable[[], Facts | None]


@dataclass(frozen=True)
class StageResult:
    """A stage that is done.

    Attributes:
        name: of the stage.
        purpose: of it.
        ended_at: ISO 8601, UTC.
        seconds: that it took.
        facts: what it learned.
    """

    name: str
    purpose: str
    ended_at: str
    seconds: float
    facts: Facts = field(default_factory=dict)


class DrillJournal:
    """The results of a drill's stages, kept on disk after each."""

    def __init__(self, path: Path) -> None:
        """Go on with the journal at a path, if there is one."""
        self._path = path
        known = json.loads(path.read_text()) if path.exists() else []
        self.results = [StageResult(**result) for result in known]

    def facts(self, name: str) -> Facts:
        """What a stage that is done learned.

        Raises:
            LookupError: it is not done.
        """
        for result in self.results:
            if result.name == name:
                return result.facts
        raise LookupError(f"stage {name} is not done")

    def add(self, result: StageResult) -> None:
        """Keep a result."""
        self.results.append(result)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps([asdict(one) for one in self.results], indent=2) + "\n")
        new.replace(self._path)


def run_stages(
    stages: Sequence[DrillStage], journal: DrillJournal, say: Callable[[str], None]
) -> None:
    """Run the stages that the journal does not have, in order; a failure ends it.

    Args:
        stages: of the drill, names unique.
        journal: of this drill.
        say: receives a line before and after each stage.
    """
    done = {result.name for result in journal.results}
    for stage in stages:
        if stage.name in done:
            say(f"{stage.name}: done before")
            continue
        say(f"{stage.name}: {stage.purpose} ...")
        began = time.monotonic()
        facts = stage.run() or {}
        seconds = round(time.monotonic() - began, 1)
        ended_at = datetime.now(UTC).isoformat(timespec="seconds")
        journal.add(StageResult(stage.name, stage.purpose, ended_at, seconds, facts))
        say(f"{stage.name}: {seconds:.0f} s")
