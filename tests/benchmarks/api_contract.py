"""A4: Schemathesis asks what the OpenAPI document allows, and what it does not, many times over."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from store import db
from tests.benchmarks.api_server import PASSWORD, UNLIMITED, USER, Api
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, YEAR, State

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance",
)  # fmt: skip

_REQUESTS = 20_000
_ROUNDS = 12
_ROUND_S = 300.0
_EXAMPLES = 100
_ENDING_S = 120.0


@dataclass(frozen=True)
class Findings:
    """What a run found.

    Attributes:
        requests: answered while it ran.
        server_errors: of them, with a status of 500 and more.
        failed: Schemathesis's own words on what was not as documented; '' if all was.
    """

    requests: int
    server_errors: int
    failed: str


def explore(
    url: str, auth: tuple[str, str], folder: Path, *, examples: int, seed: int, max_s: float
) -> Findings:
    """Run Schemathesis against a running API.

    Args:
        url: of the API, on loopback.
        auth: name and password.
        folder: where it may leave what it writes.
        examples: tries of each operation in a pass of its fuzzing.
        seed: of what it makes up.
        max_s: how long it takes: it passes again and again until then, seconds.
    """
    before = _answered(url)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
            "--auth", ":".join(auth), "--checks", ",".join(CHECKS), "--phases",
            "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", str(seed),
            "--max-time", str(int(max_s)), "--no-color", "--continue-on-failure", "--no-shrink",
            "--generation-database", "none", "--warnings", "off", "--workers", "1",
        ],
        cwd=folder, capture_output=True, text=True, check=False, timeout=max_s + _ENDING_S,
    )  # fmt: skip
    after = _answered(url)
    (folder / "schemathesis.log").write_text(done.stdout + done.stderr)
    return Findings(
        sum(after.values()) - sum(before.values()),
        sum(n - before.get(status, 0) for status, n in after.items() if status >= "500"),
        (done.stdout + done.stderr) if done.returncode else "",
    )


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Ask a small state, round after round with other seeds, until there were enough requests."""
    state = State.fresh(bench.server, "bench_contract")
    _one_parcel(state)
    api = Api(state.env | UNLIMITED, bench.folder / "api.log")
    requests = errors = undocumented = rounds = 0
    try:
        api.command("users", "add", USER, "--aoi", AOI, "--password-stdin", stdin=PASSWORD)
        url = f"http://127.0.0.1:{api.port}"
        while requests < _REQUESTS and rounds < _ROUNDS:
            rounds += 1
            found = explore(
                url, (USER, PASSWORD), bench.folder, examples=_EXAMPLES, seed=rounds, max_s=_ROUND_S
            )
            requests, errors = requests + found.requests, errors + found.server_errors
            undocumented += bool(found.failed)
            bench.say(f"A4: {requests} requests, {errors} server errors, {undocumented} failed")
    finally:
        api.stop()
    bench.server.drop(state.name)
    yield Result.of(
        "A4",
        "Schemathesis against the OpenAPI document: requests ; server errors ; undocumented",
        [
            Figure(requests, _REQUESTS, at_least=True, unit=""),
            Figure(errors, 0, at_least=False, unit=""),
            Figure(undocumented, 0, at_least=False, unit=" rounds"),
        ],
        {"rounds": rounds, "checks": list(CHECKS)},
    )


PART = Part(frozenset({"A4"}), run)


def _one_parcel(state: State) -> None:
    with closing(state.connect()) as conn:
        db.execute(
            conn,
            "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
            "VALUES (%s, 'x', 1, ST_MakeEnvelope(5, 51, 6, 53, 4326))",
            (state.campaign.id,),
        )
        db.execute(
            conn,
            f"INSERT INTO {AOI}.parcels VALUES (%s, 1, 1, '007', 'Maize', '1', "
            "ST_Multi(ST_MakeEnvelope(150000, 450000, 150100, 450100, 28992)), '')",
            (state.campaign.id,),
        )
        db.execute(
            conn, "UPDATE campaign SET srid = 28992 WHERE aoi = %s AND year = %s", (AOI, YEAR)
        )


def _answered(url: str) -> dict[str, int]:
    """Requests answered so far, by status, as the API itself counts them."""
    with closing(urlopen(f"{url}/metrics")) as reply:
        text = reply.read().decode()
    counted: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "cbm_api_requests_total":
                status = sample.labels["status"]
                counted[status] = counted.get(status, 0) + int(sample.value)
    return counted
