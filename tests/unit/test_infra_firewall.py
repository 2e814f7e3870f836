"""What may reach which host: the issue's rules, read off the table of openings."""

from infra import firewall, settings
from infra.kinds import KINDS
from tests.unit.infra_examples import example

RULES = firewall.ingress_rules(
    settings.validate("nl", example("nl") | {"operators": ["192.0.2.0/24", "198.51.100.0/25"]})
)


def test_the_world_reaches_web_ports_only() -> None:
    world = {(one.group, one.protocol, one.port) for one in RULES if one.source == "0.0.0.0/0"}
    assert world == {("web", "tcp", 80), ("web", "tcp", 443)}


def test_ssh_comes_from_operators_to_the_bastion_and_from_there_to_members() -> None:
    ssh = {(one.group, one.source) for one in RULES if one.port == 22}
    assert ssh == {
        ("bastion", "192.0.2.0/24"),
        ("bastion", "198.51.100.0/25"),
        ("member", "bastion"),
    }
    assert [name for name, kind in KINDS.items() if "bastion" in kind.security] == ["manager"]


def test_database_registry_and_swarm_are_reached_by_members_only() -> None:
    inner = [one for one in RULES if one.port not in (22, 80, 443, 9100, 9187)]
    assert {(one.protocol, one.port) for one in inner} == {
        ("tcp", 5432),
        ("tcp", 6432),
        ("tcp", 5000),
        ("tcp", 2377),
        ("tcp", 7946),
        ("udp", 7946),
        ("udp", 4789),
    }
    assert {one.source for one in inner} == {"member", "swarm"}


def test_figures_are_read_by_the_manager_alone() -> None:
    figures = {(one.group, one.port, one.source) for one in RULES if one.port in (9100, 9187)}
    assert figures == {("member", 9100, "manager"), ("database", 9187, "manager")}
    assert [name for name, kind in KINDS.items() if "manager" in kind.security] == ["manager"]


def test_names_of_rules_are_unique() -> None:
    assert len({one.name for one in RULES}) == len(RULES)
