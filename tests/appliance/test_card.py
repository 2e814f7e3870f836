"""The search for scenes: by timer, from a STAC API, each scene once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.conftest import Appliance
from tests.beds.stac import StacServer, serving

pytestmark = pytest.mark.full

SCENES = 3
SOURCE = {"collection": "sentinel-2-l2a", "bbox": "9.0,47.3,9.1,47.5", "days": 3660}


@pytest.fixture
def stac(appliance: Appliance, tmp_path: Path) -> Iterator[StacServer]:
    """On this machine, as the hosts see it; its scenes leave the catalogue at the end."""
    operator, *_ = appliance.shared("common_ssh_from")
    with serving(tmp_path, SCENES, operator) as server:
        yield server
        references = ", ".join(f"'{one['id']}'" for one in server.items)
        appliance.sql(f"DELETE FROM public.scene WHERE reference IN ({references})")


def converge(appliance: Appliance, *sources: dict[str, object]) -> None:
    limit = f"{','.join(appliance.names('card'))},localhost"
    given = json.dumps({"card_sources": sources})
    appliance.play("site.yml", "--limit", limit, "--extra-vars", given)


def test_scenes_of_a_source_come_by_timer_and_each_once(
    appliance: Appliance, stac: StacServer
) -> None:
    manager, known = appliance.host("card"), "SELECT count(*) FROM public.scene"
    before = int(appliance.sql(known))
    converge(appliance, SOURCE | {"stac": stac.url})
    assert manager.service("cbm-card-sync.timer").is_running
    for _ in range(2):
        manager.check_output("systemctl start cbm-card-sync.service")
        assert int(appliance.sql(known)) == before + SCENES
    converge(appliance)
    assert not manager.service("cbm-card-sync.timer").is_running
