"""Backups in the bed's object store: keys, buckets, and the way there for hosts, which is TLS."""

import functools
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.appliance import s3_door
from tests.beds.openstack.desk import OperatorDesk
from tests.beds.openstack.places import LOOPBACK, S3_URL, SWIFT, proxy_address

PORT = 8871
ENDPOINT = f"{proxy_address()}:{PORT}"
REGION = "us-east-1"


@dataclass(frozen=True)
class BackupStore:
    """A project's object store, by a key for S3.

    Attributes:
        key_id: of the key.
        secret: of the key.
    """

    key_id: str
    secret: str

    @classmethod
    def of(cls, desk: OperatorDesk) -> "BackupStore":
        """The key of a desk's project, made where there is none."""
        cloud = desk.connect()
        path = f"/users/{cloud.current_user_id}/credentials/OS-EC2"
        known = cloud.identity.get(path).json()["credentials"]
        project = {"tenant_id": cloud.current_project_id}
        key = known[0] if known else cloud.identity.post(path, json=project).json()["credential"]
        return cls(key["access"], key["secret"])

    @functools.cached_property
    def client(self) -> Any:
        """A client of the object store."""
        return boto3.client(
            "s3",
            endpoint_url=S3_URL,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            region_name=REGION,
        )

    def names(self, bucket: str) -> list[str]:
        """The objects of a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def count(self, bucket: str) -> int:
        """How many objects a bucket has."""
        return len(self.names(bucket))

    def copy(self, bucket: str, there: "BackupStore") -> None:
        """Copy a bucket's objects into another project's bucket of its name."""
        for name in self.names(bucket):
            body = self.client.get_object(Bucket=bucket, Key=name)["Body"].read()
            there.client.put_object(Bucket=bucket, Key=name, Body=body)


@functools.cache
def open_way(secrets: Path, folder: Path) -> None:
    """Let hosts reach the object store by TLS until this program ends; once.

    Args:
        secrets: folder with the appliance's authority, which hosts trust.
        folder: for the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*s3_door.certificate(proxy_address(), secrets, folder))
    way = socket.create_server((proxy_address(), PORT), backlog=50)
    behind = (LOOPBACK, SWIFT["proxy"])
    threading.Thread(target=s3_door.serve, args=(way, context, behind), daemon=True).start()
