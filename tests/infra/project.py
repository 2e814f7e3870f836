"""An OpenStack project of its own for one test, and what is in it by the API."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openstack
import openstack.config
import yaml
from openstack.connection import Connection

from infra.cloud import CloudResource, list_resources, remove
from tests.beds.openstack.places import CLOUDS

DEFAULT_GROUP = "default"
"""The security group that neutron gives every project."""


@dataclass(frozen=True)
class Project:
    """A project: its user's clouds.yaml, a connection of the user and one of the administrator."""

    name: str
    password: str
    clouds: Path
    cloud: Connection
    admin: Connection

    @property
    def env(self) -> dict[str, str]:
        """What OpenStack's clients and Pulumi's provider read."""
        return {"OS_CLIENT_CONFIG_FILE": str(self.clouds), "OS_CLOUD": self.name}

    @property
    def id(self) -> str:
        return self.cloud.current_project_id

    def new_s3_key(self) -> dict[str, str]:
        """An EC2 credential of the user, as what S3 clients read from the environment."""
        session = self.cloud.identity
        credential = session.post(
            f"/users/{self.cloud.current_user_id}/credentials/OS-EC2", json={"tenant_id": self.id}
        ).json()["credential"]
        return {
            "AWS_ACCESS_KEY_ID": credential["access"],
            "AWS_SECRET_ACCESS_KEY": credential["secret"],
            "AWS_REGION": "us-east-1",
        }

    def resources(self) -> list[CloudResource]:
        """Everything in the project but what every project has from the start."""
        return [
            resource for resource in list_resources(self.cloud) if resource.name != DEFAULT_GROUP
        ]

    def left(self) -> list[str]:
        """What must not be there once a stack is destroyed, as text: all but kept volumes."""
        return [f"{one.kind} {one.name} {one.id}" for one in self.resources() if not one.kept]

    def ids(self, kind: str) -> dict[str, str]:
        """Name -> id of everything of a kind."""
        return {
            resource.name: resource.id for resource in self.resources() if resource.kind == kind
        }


@contextmanager
def new_project(folder: Path) -> Iterator[Project]:
    """A project and a user that may work in it; emptied and deleted at the end."""
    admin = openstack.config.OpenStackConfig(load_envvars=False, config_files=[str(CLOUDS)])
    administrator = openstack.connection.Connection(config=admin.get_one("admin"))
    name, password = f"test-{secrets.token_hex(4)}", secrets.token_hex(16)
    identity = administrator.identity
    project = identity.create_project(name=name, domain_id="default")
    user = identity.create_user(name=name, password=password, domain_id="default")
    identity.assign_project_role_to_user(project, user, identity.find_role("member"))
    clouds = folder / "clouds.yaml"
    _write_clouds(clouds, name, password, admin.get_one("admin").get_auth_args())
    own = openstack.config.OpenStackConfig(load_envvars=False, config_files=[str(clouds)]).get_one(
        name
    )
    made = Project(
        name, password, clouds, openstack.connection.Connection(config=own), administrator
    )
    try:
        yield made
    finally:
        remove(made.cloud, made.resources())
        identity.delete_user(user)
        identity.delete_project(project)


def _write_clouds(path: Path, name: str, password: str, administrator: dict) -> None:
    auth = {
        "auth_url": administrator["auth_url"],
        "project_name": name,
        "username": name,
        "password": password,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    cloud = {"region_name": "RegionOne", "identity_api_version": 3, "auth": auth}
    path.write_text(yaml.safe_dump({"clouds": {name: cloud}}))
