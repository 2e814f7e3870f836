"""From parcels and scenes to a series over TLS: the numbers of a machine that stands alone."""

import json
import shlex
from typing import Any

import pytest

from standalone.synthetic.level1 import GRD_SCENES
from tests.appliance.conftest import DEMO_PARCELS, Appliance
from tests.standalone.demo import Demo

KINDS = ("s2", "bs")
QUESTION = "aoi=demo&year=2024&pid={code}&tstype=s2&band=B08"

LEVEL1_DAYS = ",".join(f"{scene.start:%Y-%m-%d}" for scene in GRD_SCENES)
"""Days on which a machine that stands alone makes its CARD-BS itself, of simulated Level-1."""

# Rows as parcel and scene know them outside this database, so that two databases can be compared.
DIGEST = """
    SELECT count(*) || ' ' || md5(string_agg(line, '|' ORDER BY line)) FROM (
        SELECT p.code || c.reference
            || (to_jsonb(s) - 'pid' - 'obsid' - 'campaign_id')::text AS line
        FROM demo.{kind} s JOIN public.scene c USING (obsid)
        JOIN demo.parcels p ON p.campaign_id = s.campaign_id AND p.pid = s.pid
        WHERE '{kind}' <> 'bs' OR (c.obstime AT TIME ZONE 'UTC')::date <> ALL ('{{{days}}}')) t"""


def fetch(appliance: Appliance, path: str) -> Any:
    """The answer to a question over TLS, by the name of the API's host, from another host."""
    address = shlex.quote(f"https://{appliance.names('api')[0]}{path}")
    curl = f"curl --silent --fail-with-body --user admin:$(cat) {address}"
    secret = appliance.secret("api_first_user")
    ran = appliance.host("registry").run(f"printf %s {secret} | sh -c {shlex.quote(curl)}")
    assert ran.rc == 0, ran.stdout
    return json.loads(ran.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_swarm_writes_the_signatures_that_a_machine_alone_writes(
    demo: Appliance, standalone: Demo, kind: str
) -> None:
    statement = DIGEST.format(kind=kind, days=LEVEL1_DAYS)
    alone = standalone.sql(statement)
    assert int(alone.split()[0]) > DEMO_PARCELS
    assert demo.sql(statement) == alone


def test_series_over_tls_are_those_of_a_machine_alone(demo: Appliance, standalone: Demo) -> None:
    seen = 0
    for code in standalone.sql("SELECT code FROM demo.parcels ORDER BY code LIMIT 5").split():
        path = f"/query/parcelTimeSeries?{QUESTION.format(code=code)}"
        ran = standalone.shell(
            f'set -a; . {standalone.folder}/env; curl -s -u "$CBM_USER:$CBM_PASSWORD" '
            f'"$CBM_URL{path}"'
        )
        alone, here = json.loads(ran.stdout), fetch(demo, path)
        seen += len(alone["mean"]) > 0
        for name in ("date_part", "count", "mean", "std", "min", "max", "p25", "p50", "p75"):
            assert here.get(name) == alone.get(name), (code, name)
    assert seen >= 3


def test_second_import_of_the_demo_extracts_nothing_anew(demo: Appliance) -> None:
    fences = "SELECT string_agg(fence::text, ',' ORDER BY obsid, set_id) FROM public.work"
    before = demo.sql(fences)
    demo.play("demo.yml", "--extra-vars", f"demo_parcels={DEMO_PARCELS}")
    assert demo.sql(fences) == before
