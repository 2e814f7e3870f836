"""Ports on loopback are for some of a host's users: the rules that roles write."""

import re

import jinja2
import pytest
import yaml

from tests.unit.infra_examples import ROOT

SHARED = yaml.safe_load((ROOT / "playbooks/group_vars/all.yml").read_text())
PUSH = yaml.safe_load((ROOT / "roles/registry/vars/main.yml").read_text())


def rendered(template: str, **variables: object) -> str:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    env.filters["split"] = lambda text, at: text.split(at)
    text = (ROOT / "roles" / template).read_text()
    return env.from_string(text).render(ansible_managed="x", **SHARED | variables)


def admitted(rules: str) -> list[tuple[int, int]]:
    """The ranges of uids that a rule accepts, ends included."""
    words = re.search(r"meta skuid \{ (.*) \} accept", rules)
    assert words, rules
    ranges = (word.split("-") for word in words[1].split(", ") if word[0].isdigit())
    return [(int(first), int(last)) for first, last in ranges]


@pytest.mark.parametrize(
    ("uid", "may"),
    [
        (1000, True),
        (9999, True),
        (10000, True),
        (10002, True),
        (60000, True),
        (1_234_001_103, True),  # of a directory
        (33, False),  # a program of the host
        (SHARED["cbm_uid"], False),  # containers, the API's on the host's network
        (61184, False),  # a hub user's server: systemd gives such uids from here
        (65519, False),  # to here
        (65534, False),  # nobody
    ],
)
def test_people_reach_monitoring_and_programs_do_not(uid: int, may: bool) -> None:
    rules = rendered("monitoring/templates/output.nft.j2", __monitoring_local=[9090, 9093])
    assert any(first <= uid <= last for first, last in admitted(rules)) is may
    assert rules.rstrip().endswith("tcp dport { 9090, 9093 } reject with tcp reset")


def test_the_way_in_of_images_is_closed_by_the_service_that_opens_it() -> None:
    unit = rendered("registry/templates/cbm-registry-push.service.j2", **PUSH)
    steps = re.findall(r"^(Exec\w+)=\W*(\S.*?)(?: \\)?$", unit, re.MULTILINE)
    load = ("ExecStartPre", "usr/sbin/nft --file /etc/docker/registry/push.nft")
    serve = ("ExecStart", "usr/bin/docker-registry serve /etc/docker/registry/push.yml")
    assert steps.index(load) < steps.index(serve)
    rules = rendered("registry/templates/push.nft.j2", **PUSH)
    assert "tcp dport 5001 meta skuid != root reject with tcp reset" in rules
    table = re.search(r"^delete table (.*)$", rules, re.MULTILINE)
    assert table
    assert ("ExecStopPost", f"usr/sbin/nft delete table {table[1]}") in steps
    names = {path.name for path in (ROOT / "roles/registry").rglob("*") if path.is_file()}
    tasks = (ROOT / "roles/registry/tasks/install.yml").read_text()
    assert "push.nft.j2" in names
    assert 'dest: "/etc/docker/registry/{{ item }}"' in tasks
    assert "loop: [push.yml, push.nft]" in tasks
