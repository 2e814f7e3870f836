"""A stack's configuration: what is read, and that all that is wrong is reported at once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import firewall, layout, settings
from infra.errors import RefusedError
from tests.unit.infra_examples import ROOT, changed, example


def refused(values: dict[str, Any], stack: str = "nl") -> tuple[str, ...]:
    with pytest.raises(RefusedError) as error:
        settings.validate(stack, values)
    return error.value.problems


def test_both_examples_lack_nothing_but_the_users_own_key() -> None:
    for name in ("small", "nl"):
        with pytest.raises(RefusedError) as error:
            settings.read(name, ROOT)
        assert [problem.split(":")[0] for problem in error.value.problems] == ["public_key"]
        assert settings.validate(name, example(name)).prefix == f"cbm-{name}"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("image", None, "image: is missing; give the name of an image, such as 'Debian 12'"),
        ("image", 12, "image: 12 is wrong"),
        ("imgae", "Debian 12", "imgae: no such key; there are availability_zone, base_image"),
        ("public_key", "-----BEGIN OPENSSH PRIVATE KEY-----", "public_key: '-----BEGIN"),
        ("operators", ["0.0.0.0/0"], "operators: ['0.0.0.0/0'] is wrong"),
        ("operators", [], "operators: [] is wrong"),
        ("operators", ["192.0.2.1/24"], "operators: ['192.0.2.1/24'] is wrong"),
        ("network.cidr", "8.8.8.0/24", "network.cidr: '8.8.8.0/24' is wrong; give a private"),
        ("network.cidr", "10.0.0.0/28", "network.cidr: '10.0.0.0/28' is wrong"),
        ("network.cidr", "172.21.0.0/24", "network.cidr: 172.21.0.0/24 overlaps 172.20.0.0/14"),
        ("network.dns", ["one.example"], "network.dns: ['one.example'] is wrong"),
        ("hosts.worker.count", -1, "hosts.worker.count: -1 is wrong; give a whole number"),
        ("hosts.worker.count", "8", "hosts.worker.count: '8' is wrong"),
        ("hosts.worker.count", True, "hosts.worker.count: True is wrong"),
        ("hosts.worker.count", 156, "hosts.worker.count: 156 do not fit into network.cidr"),
        ("hosts.worker.flavour", "x", "hosts.worker.flavour: no such key; there are count"),
        ("hosts.database.count", 2, "hosts.database.count: 2 of kind database; there must be 1"),
        ("hosts.database", None, "hosts: none has kind database; add it to a pool's kinds"),
        ("hosts.hub.kinds", ["hub", "api"], "hosts.api, hosts.hub: api is in each"),
        ("hosts.hub.kinds", ["jupyter"], "hosts.hub.kinds: ['jupyter'] is wrong; give a list of"),
        ("hosts", ["database"], "hosts: ['database'] is wrong; give pools of hosts"),
        ("hosts.db_1", {}, "hosts.db_1: name a pool with a-z and 0-9"),
        ("hosts.db", "x", "hosts.db: 'x' is wrong; give keys and values"),
        ("volumes.database.size_gb", 0, "volumes.database.size_gb: 0 is wrong; give whole"),
        ("volumes.backup", None, "volumes.backup: is missing; give size_gb"),
        ("volumes.scratch", {"size_gb": 1}, "volumes.scratch: no such key"),
        ("domain", "not a name", "domain: 'not a name' is wrong"),
        ("bucket", "UPPER", "bucket: 'UPPER' is wrong"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(path: str, value: Any, says: str) -> None:
    problems = refused(changed(path, value))
    assert any(problem.startswith(says) for problem in problems), problems


def test_a_stack_name_from_which_names_would_be_ambiguous_is_refused() -> None:
    assert "stack: 'nl-test' is wrong; give 2 to 16" in refused(example("nl"), "nl-test")[0]


def test_all_problems_are_told_at_once() -> None:
    values = example("nl") | {"image": "", "operators": "all", "domain": 7}
    assert len(refused(values)) == 3


def test_the_engines_text_gives_the_settings_of_the_file() -> None:
    engine = {"openstack:maxRetries": "10"}
    for key, value in example("small").items():
        engine[f"cbm:{key}"] = value if isinstance(value, str) else json.dumps(value)
    assert settings.from_engine("small", engine) == settings.validate("small", example("small"))


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"xx\.yaml is missing"):
        settings.read("xx", tmp_path)
    (tmp_path / "Pulumi.xx.yaml").write_text("- config: [")
    with pytest.raises(RefusedError, match="not a stack's YAML file"):
        settings.read("xx", tmp_path)


def test_names_and_addresses_of_hosts_stay_when_others_come_or_go() -> None:
    def places(values: dict[str, Any]) -> dict[str, str]:
        hosts = layout.hosts(settings.validate("nl", values))
        return {host.name: host.address for host in hosts}

    before = places(example("nl"))
    assert before["database"] == "10.21.0.10"
    assert [before[f"worker-{n}"] for n in (1, 2)] == ["10.21.0.100", "10.21.0.101"]
    assert places(changed("hosts.worker.count", 3)) == before | {"worker-3": "10.21.0.102"}
    assert places(changed("hosts.hub", None)).items() <= before.items()


def test_one_machine_may_be_everything() -> None:
    values = example("small")
    kinds = ["worker", "hub", "api", "manager", "database"]
    values["hosts"] = {"all": {"kinds": kinds, "flavor": "hm.large"}}
    (host,) = layout.hosts(settings.validate("lu", values))
    assert (host.name, host.public, host.bastion, host.apart) == ("all", True, True, None)
    assert [volume.name for volume in host.volumes] == ["database", "backup"]
    assert host.security == ("member", "database", "bastion", "swarm", "manager", "web")


def test_a_cache_volume_is_each_workers_own_and_is_not_kept() -> None:
    hosts = layout.hosts(settings.validate("nl", example("nl")))
    volumes = {volume.name: volume.kept for host in hosts for volume in host.volumes}
    assert volumes == {
        "database": True,
        "backup": True,
        "worker-1-cache": False,
        "worker-2-cache": False,
    }


def test_workers_are_kept_apart_in_groups_as_large_as_clouds_allow() -> None:
    values = example("nl")
    values["hosts"]["worker"]["count"] = 21
    hosts = layout.hosts(settings.validate("nl", values))
    groups = Counter(host.apart for host in hosts if host.apart)
    assert groups == {1: 10, 2: 10, 3: 1}


def test_no_network_overlaps_dockers_as_the_roles_set_them() -> None:
    pools = [
        yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())[key]
        for role, key in (("docker", "docker_address_pool"), ("swarm", "swarm_address_pool"))
    ]
    assert [str(pool) for pool in settings.DOCKER_POOLS] == pools


def test_an_operators_network_in_two_spellings_is_the_same_network() -> None:
    values = example("nl") | {"operators": ["192.0.2.7", "192.0.2.7/32", "198.51.100.0/24"]}
    configured = settings.validate("nl", values)
    assert [str(network) for network in configured.operators] == ["192.0.2.7/32", "198.51.100.0/24"]
    names = [rule.name for rule in firewall.ingress_rules(configured)]
    assert len(names) == len(set(names))


def test_the_operators_of_a_field_report_are_a_single_rule(shared_data: Path) -> None:
    text = (shared_data / "field_reports/other/operators_twice.yaml").read_text()
    reported = yaml.safe_load(text)["config"]["cbm:operators"]
    configured = settings.validate("nl", example("nl") | {"operators": reported})
    assert [str(network) for network in configured.operators] == ["192.0.2.7/32"]


def test_another_number_of_workers_is_checked_before_it_is_written() -> None:
    configured = settings.validate("nl", example("nl"))
    assert len(layout.hosts(settings.with_count(configured, "worker", 5))) == 4 + 5
    with pytest.raises(RefusedError, match=r"do not fit into network\.cidr"):
        settings.with_count(configured, "worker", 156)
    with pytest.raises(RefusedError, match="count: -1 is wrong"):
        settings.with_count(configured, "worker", -1)


def test_the_schema_has_every_key_with_its_description() -> None:
    schema = settings.StackSettings.model_json_schema()
    assert (
        "a private IPv4 network"
        in schema["$defs"]["NetworkSettings"]["properties"]["cidr"]["description"]
    )
    assert {"image", "public_key", "operators", "hosts", "volumes", "network"} <= {
        *schema["required"]
    }
