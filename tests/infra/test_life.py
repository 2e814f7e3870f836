"""A small stack from nothing to nothing and up again, as the API lists it and not the program."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import cloud
from tests.beds.openstack.places import S3_URL
from tests.infra.project import Project
from tests.infra.stack import Stack

STACK = "mt"
BUCKET = "backups-of-malta"
STATES = "states"
KEPT = {"cbm-mt-database", "cbm-mt-backup"}


@pytest.fixture(scope="module")
def s3(project: Project) -> Any:
    """The object store by its S3 API, with a bucket for Pulumi's states."""
    key = project.new_s3_key()
    client = boto3.client(
        "s3",
        endpoint_url=S3_URL,
        aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
        region_name=key["AWS_REGION"],
    )
    client.create_bucket(Bucket=STATES)
    return client


@pytest.fixture(scope="module")
def stack(
    new_stack: Callable[..., Stack], small: dict[str, Any], project: Project, s3: Any
) -> Stack:
    """The documented small example with a bucket, its state in the object store, up."""
    address = f"s3://{STATES}?region=us-east-1&endpoint={S3_URL}&s3ForcePathStyle=true"
    backend = project.new_s3_key() | {"PULUMI_BACKEND_URL": address}
    stack = new_stack(STACK, small | {"bucket": BUCKET}, backend)
    stack.up()
    return stack


def test_up_makes_what_the_settings_say_as_the_api_lists_it(stack: Stack, project: Project):
    kinds = Counter(resource.kind for resource in project.resources())
    hosts = len(stack.settings["hosts"])
    assert kinds["Instance"] == hosts
    assert kinds["Port"] == hosts
    assert kinds["FloatingIp"] == 2
    assert project.ids("Volume").keys() == KEPT
    assert kinds["VolumeAttach"] == len(KEPT)
    assert (kinds["Network"], kinds["Subnet"], kinds["Router"]) == (1, 1, 1)
    servers = {server.name: server for server in project.cloud.compute.servers()}
    assert {server.status for server in servers.values()} == {"ACTIVE"}
    flavors = {name: server.flavor["original_name"] for name, server in servers.items()}
    assert flavors["cbm-mt-database"] == stack.settings["hosts"]["database"]["flavor"]


def test_a_second_up_and_a_preview_with_refresh_change_nothing(stack: Stack, project: Project):
    before = {(resource.kind, resource.id) for resource in project.resources()}
    output = stack.up().output
    assert "unchanged" in output
    assert not any(word in output for word in (" created", " updated", " replaced", " deleted"))
    stack.assert_unchanged()
    assert {(resource.kind, resource.id) for resource in project.resources()} == before


def test_the_outputs_give_an_inventory_that_ansible_reads(stack: Stack):
    ran = stack.run("python", "-m", "infra.inventory", STACK)
    assert ran.code == 0, ran.output
    listed = stack.run("ansible-inventory", "-i", f"inventory/{STACK}/hosts.yml", "--list")
    inventory = json.loads(listed.output[listed.output.index("{") :])
    assert inventory["postgis"]["hosts"] == ["cbm-mt-database"]
    assert inventory["swarm"]["hosts"] == ["cbm-mt-manager"]
    assert set(inventory["common"]["hosts"]) == {
        "cbm-mt-api",
        "cbm-mt-database",
        "cbm-mt-manager",
    }


def test_no_port_is_open_to_the_world_but_web_and_ssh_to_operators(stack: Stack, project: Project):
    groups = {group.id: group for group in project.cloud.network.security_groups()}
    used = {g for port in project.cloud.network.ports() for g in port.security_group_ids}
    assert "default" not in {groups[group].name for group in used}
    rules = [rule for group in used for rule in groups[group].security_group_rules]
    entering = [rule for rule in rules if rule["direction"] == "ingress"]
    from_networks = [rule for rule in entering if not rule["remote_group_id"]]
    operators = set(stack.settings["operators"])
    for rule in from_networks:
        ports = (rule["protocol"], rule["port_range_min"], rule["port_range_max"])
        if rule["remote_ip_prefix"] in operators:
            assert ports == ("tcp", 22, 22)
        else:
            assert ports in {("tcp", 80, 80), ("tcp", 443, 443)}
    assert {rule["remote_ip_prefix"] for rule in from_networks} == operators | {"0.0.0.0/0"}


def test_the_database_and_ssh_of_all_but_the_bastion_answer_to_members_only(
    stack: Stack, project: Project
):
    network = project.cloud.network
    groups = {group.id: group for group in network.security_groups()}
    for port in network.ports(device_owner="compute:nova"):
        rules = [r for g in port.security_group_ids for r in groups[g].security_group_rules]
        for rule in rules:
            if rule["direction"] == "ingress" and rule["port_range_min"] in {22, 5432}:
                bastion = port.name == "cbm-mt-manager" and rule["port_range_min"] == 22
                assert rule["remote_group_id"] in groups or bastion


def test_everything_carries_the_name_of_its_stack(stack: Stack, project: Project):
    cloud, network = project.cloud, project.cloud.network
    own = {"project_id": project.id}
    for resource in (*cloud.compute.servers(), *cloud.block_storage.volumes()):
        assert resource.metadata["cbm_stack"] == STACK
    tagged = (network.networks, network.subnets, network.routers, network.ips)
    for resource in (one for listing in tagged for one in listing(**own)):
        assert f"cbm_stack={STACK}" in resource.tags
    servers_ports = network.ports(device_owner="compute:nova", **own)
    own_groups = (g for g in network.security_groups(**own) if g.name != "default")
    for resource in (*servers_ports, *own_groups):
        assert f"cbm_stack={STACK}" in resource.tags


def test_the_volumes_of_data_are_marked_as_kept(stack: Stack, project: Project):
    volumes = {one.name: one.metadata for one in project.cloud.block_storage.volumes()}
    assert {name for name, labels in volumes.items() if labels.get("cbm_kept") == "true"} == KEPT


def test_the_bucket_is_the_stacks_and_answers_to_s3(project: Project, s3: Any):
    bucket = next(one for one in project.resources() if one.name == BUCKET)
    assert (bucket.kind, bucket.kept, bucket.belongs_to(STACK)) == ("Container", True, True)
    s3.put_object(Bucket=BUCKET, Key="backup/latest", Body=b"a backup")
    assert [one.name for one in project.cloud.object_store.objects(BUCKET)] == ["backup/latest"]


def test_no_secret_stands_in_state_outputs_or_user_data(stack: Stack, project: Project, s3: Any):
    listed = s3.list_objects_v2(Bucket=STATES)["Contents"]
    assert any(one["Key"].endswith(f"/{STACK}.json") for one in listed)
    assert not list((stack.folder / "state").iterdir())
    for one in listed:
        body = s3.get_object(Bucket=STATES, Key=one["Key"])["Body"].read()
        text = body.decode(errors="replace")
        assert project.password not in text
        assert "PRIVATE KEY" not in text
    for server in project.cloud.compute.servers():
        assert "PRIVATE" not in (server.user_data or "")


def test_the_clouds_usage_records_have_every_server_of_the_stack(stack: Stack, project: Project):
    usage = cloud.list_usage(project.cloud, STACK, datetime.now(UTC) - timedelta(days=365))
    assert {server.name for server in usage} == project.ids("Instance").keys()
    flavors = {server.name: server.flavor for server in usage}
    assert flavors["cbm-mt-database"] == stack.settings["hosts"]["database"]["flavor"]
    assert all(0 < server.hours < 1 for server in usage)


def test_destroy_leaves_data_alone_and_a_second_operators_up_takes_it_in_again(
    stack: Stack, project: Project, s3: Any, tmp_path: Path
):
    volumes = project.ids("Volume")
    servers = set(project.ids("Instance"))
    stack.destroy()
    usage = cloud.list_usage(project.cloud, STACK, datetime.now(UTC) - timedelta(days=365))
    assert {server.name for server in usage} == servers, "what is gone was paid for all the same"
    assert project.left() == []
    assert "kept after destroy: 3\n" in stack.printed("infra/README.md", "fab drift").output
    assert project.ids("Volume") == volumes
    assert {v.status for v in project.cloud.block_storage.volumes()} == {"available"}
    stack = stack.at_another_desk(tmp_path / "work")
    stack.up()
    assert project.ids("Volume") == volumes
    assert s3.get_object(Bucket=BUCKET, Key="backup/latest")["Body"].read() == b"a backup"
    attached = {
        volume.id: volume.attachments[0]["server_id"]
        for volume in project.cloud.block_storage.volumes()
    }
    server = project.ids("Instance")["cbm-mt-database"]
    assert attached == dict.fromkeys(volumes.values(), server)
    stack.assert_unchanged()
    stack.destroy()
    assert project.left() == []
    assert project.ids("Volume") == volumes


@pytest.mark.full
def test_a_volume_grows_and_keeps_its_data_and_is_left_by_destroy(stack: Stack, project: Project):
    stack.up()
    volumes = project.ids("Volume")
    larger = stack.settings["volumes"]["database"] | {"size_gb": 21}
    stack.configure(volumes=stack.settings["volumes"] | {"database": larger})
    stack.up()
    sizes = {one.name: one.size for one in project.cloud.block_storage.volumes()}
    assert sizes["cbm-mt-database"] == 21
    assert project.ids("Volume") == volumes
    stack.assert_unchanged()
    stack.destroy()
    assert project.left() == []
    assert project.ids("Volume") == volumes
