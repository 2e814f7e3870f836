"""The resources of a stack: one component per room of it, each with what it is made from."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import pulumi
import pulumi_openstack as openstack
from pulumi import Input, Output, ResourceOptions

from infra.bootstrap import user_data
from infra.cloud import KEPT_KEY, STACK_KEY, described
from infra.layout import Host, Volume
from infra.openings import Opening, openings
from infra.preflight import Found, VolumeThere
from infra.settings import Settings


@dataclass(frozen=True)
class Labels:
    """How a stack's resources are told from others: by name, and by tag, metadata, description."""

    settings: Settings

    def name(self, name: str) -> str:
        """The name in the cloud; without the random suffix the engine would give."""
        return f"{self.settings.prefix}-{name}"

    @property
    def tags(self) -> list[str]:
        """Tags, where the API has them."""
        return [f"{STACK_KEY}={self.settings.stack}"]

    @property
    def metadata(self) -> dict[str, Input[str]]:
        """Metadata, where the API has that."""
        return {STACK_KEY: self.settings.stack}

    @property
    def description(self) -> str:
        """Where the API has neither."""
        return described(self.settings.stack)


def _made_whole(
    parent: pulumi.Resource | None = None,
    depends_on: Sequence[pulumi.Resource] = (),
    deleted_with: pulumi.Resource | None = None,
) -> ResourceOptions:
    """Options of what the provider cannot update: if its making failed half-way, it is made anew.

    Without, each further up would try to update it, and fail.
    """
    return ResourceOptions(
        parent=parent,
        depends_on=depends_on,
        deleted_with=deleted_with,
        replace_on_changes=[_FAILED],
        delete_before_replace=True,
    )


_FAILED = "#initerror"
"""What the engine says has changed of a resource that was not made to its end."""


class Network(pulumi.ComponentResource):
    """The private network, its subnet with name servers, and the router to the outside."""

    def __init__(self, labels: Labels, found: Found) -> None:
        """Make it.

        Args:
            labels: of the stack.
            found: has the external network.
        """
        super().__init__("cbm:infra:Network", "network")
        within = ResourceOptions(parent=self)
        self.network = openstack.networking.Network(
            "network",
            name=labels.name("network"),
            description=labels.description,
            tags=labels.tags,
            opts=within,
        )
        self.subnet = self._subnet(labels, within)
        router = openstack.networking.Router(
            "router",
            name=labels.name("router"),
            description=labels.description,
            external_network_id=found.external_id,
            tags=labels.tags,
            opts=within,
        )
        self.interface = openstack.networking.RouterInterface(
            "router-interface",
            router_id=router.id,
            subnet_id=self.subnet.id,
            opts=_made_whole(self),
        )
        self.register_outputs({})

    def _subnet(self, labels: Labels, within: ResourceOptions) -> openstack.networking.Subnet:
        """The subnet; DHCP servers take addresses below those of hosts, in no one's way."""
        cidr = labels.settings.network.cidr
        return openstack.networking.Subnet(
            "subnet",
            name=labels.name("subnet"),
            description=labels.description,
            network_id=self.network.id,
            cidr=str(cidr),
            gateway_ip=str(cidr[1]),
            allocation_pools=[{"start": str(cidr[2]), "end": str(cidr[9])}],
            dns_nameservers=list(labels.settings.network.dns),
            tags=labels.tags,
            opts=within,
        )


class Security(pulumi.ComponentResource):
    """The security groups and their rules, from the table of openings."""

    def __init__(self, labels: Labels) -> None:
        """Make them."""
        super().__init__("cbm:infra:Security", "security")
        table = openings(labels.settings)
        within = ResourceOptions(parent=self)
        self.groups = {
            name: openstack.networking.SecGroup(
                name,
                name=labels.name(name),
                description=labels.description,
                tags=labels.tags,
                opts=within,
            )
            for name in dict.fromkeys(opening.group for opening in table)
        }
        for opening in table:
            self._rule(opening, labels)
        self.register_outputs({})

    def _rule(self, opening: Opening, labels: Labels) -> None:
        openstack.networking.SecGroupRule(
            opening.name,
            description=f"{labels.description}: {opening.why}",
            direction="ingress",
            ethertype="IPv4",
            protocol=opening.protocol,
            port_range_min=opening.port,
            port_range_max=opening.port,
            remote_ip_prefix=opening.source if opening.from_network else None,
            remote_group_id=None if opening.from_network else self.groups[opening.source].id,
            security_group_id=self.groups[opening.group].id,
            opts=_made_whole(self.groups[opening.group]),
        )


class Volumes(pulumi.ComponentResource):
    """The volumes of all hosts.

    Kept ones are let go of at destroy, not deleted; the next up finds them by name and takes them
    in again. That is the engine's own means (retain_on_delete, import), so plain `pulumi up` and
    `pulumi destroy` are all that a user types.
    """

    def __init__(
        self, labels: Labels, hosts: tuple[Host, ...], there: Mapping[str, VolumeThere]
    ) -> None:
        """Make them.

        Args:
            labels: of the stack.
            hosts: that carry them.
            there: those that are in the cloud already, by name.
        """
        super().__init__("cbm:infra:Volumes", "volumes")
        self.labels = labels
        self.by_name = {
            volume.name: self._volume(volume, there.get(labels.name(volume.name)))
            for host in hosts
            for volume in host.volumes
        }
        self.register_outputs({})

    def _volume(self, volume: Volume, there: VolumeThere | None) -> openstack.blockstorage.Volume:
        metadata = self.labels.metadata | ({KEPT_KEY: "true"} if volume.kept else {})
        if there and not there.known and there.size_gb != volume.disk.size_gb:
            pulumi.log.warn(
                f"volume {volume.name} is taken in again with its {there.size_gb} GB; "
                f"the next `pulumi up` makes it {volume.disk.size_gb} GB"
            )
        return openstack.blockstorage.Volume(
            f"{volume.name}-volume",
            name=self.labels.name(volume.name),
            description=self.labels.description,
            size=volume.disk.size_gb,
            volume_type=volume.disk.type,
            availability_zone=self.labels.settings.volume_zone,
            enable_online_resize=True,
            metadata=metadata,
            opts=self._options(volume, there),
        )

    def _options(self, volume: Volume, there: VolumeThere | None) -> ResourceOptions:
        """What is taken in must equal what is asked for, but for what the next up can change.

        `enableOnlineResize` is a word to the provider which the cloud does not keep: it is said
        when a volume is made or grows, or each one taken in again would be changed for it.
        """
        ignored = ["availabilityZone", "volumeType"]
        if there and not there.known:
            ignored += ["size", "description", "metadata"]
        if there and (not there.known or there.size_gb == volume.disk.size_gb):
            ignored.append("enableOnlineResize")
        return ResourceOptions(
            parent=self,
            retain_on_delete=volume.kept,
            import_=there.id if there and not there.known else None,
            ignore_changes=ignored,
        )


@dataclass(frozen=True)
class Place:
    """What a server is put into."""

    network: Network
    security: Security
    volumes: Volumes
    eodata_id: str | None
    key_pair: openstack.compute.Keypair
    apart: Mapping[int, openstack.compute.ServerGroup]
    failed: Set[str]


class Server(pulumi.ComponentResource):
    """A host: its ports, the server, its volumes in order, and a floating IP if it is public."""

    def __init__(self, host: Host, labels: Labels, place: Place) -> None:
        """Make it.

        Args:
            host: what it is to be.
            labels: of the stack.
            place: what it is put into.
        """
        super().__init__("cbm:infra:Server", host.name)
        self.host, self.labels, self.place = host, labels, place
        self.within = ResourceOptions(parent=self)
        self.port = self._private_port()
        self.server = self._server([self.port, *self._eodata_ports()])
        self._attach()
        self.public_address: Output[str] | None = self._floating_ip() if host.public else None
        self.register_outputs({})

    def _groups(self) -> list[Output[str]]:
        return [self.place.security.groups[name].id for name in self.host.security]

    def _private_port(self) -> openstack.networking.Port:
        address = openstack.networking.PortFixedIpArgs(
            subnet_id=self.place.network.subnet.id, ip_address=self.host.address
        )
        return openstack.networking.Port(
            f"{self.host.name}-port",
            name=self.labels.name(self.host.name),
            description=self.labels.description,
            network_id=self.place.network.network.id,
            fixed_ips=[address],
            security_group_ids=self._groups(),
            tags=self.labels.tags,
            opts=self.within,
        )

    def _eodata_ports(self) -> list[openstack.networking.Port]:
        """The port in the provider's network, which gives the address; nobody there may log in."""
        if not self.host.eodata or self.place.eodata_id is None:
            return []
        port = openstack.networking.Port(
            f"{self.host.name}-eodata-port",
            name=self.labels.name(f"{self.host.name}-eodata"),
            description=self.labels.description,
            network_id=self.place.eodata_id,
            security_group_ids=[self.place.security.groups["member"].id],
            tags=self.labels.tags,
            opts=self.within,
        )
        return [port]

    def _server(self, ports: list[openstack.networking.Port]) -> openstack.compute.Instance:
        """The server.

        What only its first boot reads is not compared: a new image, key or user data is for new
        hosts, and must not replace a database. One that never started is made anew.
        """
        name = self.labels.name(self.host.name)
        first_boot = ["imageId", "imageName", "userData", "keyPair", "schedulerHints"]
        return openstack.compute.Instance(
            f"{self.host.name}-server",
            name=name,
            flavor_name=self.host.flavor,
            image_name=self.labels.settings.image,
            key_pair=self.place.key_pair.name,
            networks=[{"port": port.id} for port in ports],
            user_data=user_data(name, self.labels.settings.public_key),
            config_drive=True,
            stop_before_destroy=True,
            availability_zone=self.labels.settings.zone,
            scheduler_hints=[{"group": self.place.apart[self.host.apart].id}]
            if self.host.apart
            else None,
            metadata=self.labels.metadata | {"cbm_kinds": ",".join(self.host.kinds)},
            opts=ResourceOptions(
                parent=self,
                ignore_changes=first_boot,
                depends_on=[
                    self.place.network.interface,
                    *(self.place.volumes.by_name[one.name] for one in self.host.volumes),
                ],
                replace_on_changes=[_FAILED] if name in self.place.failed else None,
                delete_before_replace=True,
            ),
        )

    def _attach(self) -> None:
        """Attach the volumes one after the other, so that their order on the host is the list's.

        They are detached by deleting the server, once it has shut down: no host lets go of a volume
        that it uses.
        """
        before: list[pulumi.Resource] = []
        for volume in self.host.volumes:
            attachment = openstack.compute.VolumeAttach(
                f"{volume.name}-attachment",
                instance_id=self.server.id,
                volume_id=self.place.volumes.by_name[volume.name].id,
                opts=_made_whole(self, before, deleted_with=self.server),
            )
            before = [attachment]

    def _floating_ip(self) -> Output[str]:
        """The floating IP; neutron refuses one for a network that has no way out yet."""
        floating = openstack.networking.FloatingIp(
            f"{self.host.name}-address",
            description=self.labels.name(self.host.name),
            pool=self.labels.settings.network.external,
            port_id=self.port.id,
            tags=self.labels.tags,
            opts=ResourceOptions(
                parent=self, depends_on=[self.place.network.interface, self.server]
            ),
        )
        return floating.address


class Appliance:
    """All of a stack."""

    def __init__(
        self,
        settings: Settings,
        hosts: tuple[Host, ...],
        found: Found,
    ) -> None:
        """Make it.

        Args:
            settings: of the stack.
            hosts: of the stack.
            found: what the cloud has of what the settings name.
        """
        labels = Labels(settings)
        self.volumes = Volumes(labels, hosts, found.volumes)
        place = Place(
            network=Network(labels, found),
            security=Security(labels),
            volumes=self.volumes,
            eodata_id=found.eodata_id,
            key_pair=openstack.compute.Keypair(
                "operators",
                name=settings.prefix,
                public_key=settings.public_key,
                opts=_made_whole(),
            ),
            apart=_server_groups(labels, hosts),
            failed=found.failed,
        )
        self.servers = [Server(host, labels, place) for host in hosts]
        if settings.bucket:
            _bucket(settings.bucket, labels)

    def outputs(self, settings: Settings) -> dict[str, object]:
        """What the inventory is made of, see `infra.inventory`."""
        return {
            "stack": settings.stack,
            "domain": settings.domain,
            "bucket": settings.bucket,
            "zone": settings.zone,
            "hosts": [self._described(server) for server in self.servers],
        }

    def _described(self, server: Server) -> dict[str, object]:
        return {
            "name": server.labels.name(server.host.name),
            "id": server.server.id,
            "kinds": list(server.host.kinds),
            "flavor": server.host.flavor,
            "address": server.host.address,
            "public_address": server.public_address,
            "bastion": server.host.bastion,
            "volumes": {
                volume.duty: {
                    "id": self.volumes.by_name[volume.name].id,
                    "size_gb": volume.disk.size_gb,
                    "kept": volume.kept,
                }
                for volume in server.host.volumes
            },
        }


def _server_groups(
    labels: Labels, hosts: tuple[Host, ...]
) -> dict[int, openstack.compute.ServerGroup]:
    """The groups of workers that are kept apart where the cloud can, by number."""
    return {
        number: openstack.compute.ServerGroup(
            f"workers-{number}",
            name=labels.name(f"workers-{number}"),
            policies="soft-anti-affinity",
            opts=_made_whole(),
        )
        for number in sorted({host.apart for host in hosts if host.apart})
    }


def _bucket(name: str, labels: Labels) -> None:
    """The container of backups, in Swift and so in its S3 API; it outlives the stack."""
    openstack.objectstorage.Container(
        "bucket",
        name=name,
        metadata=labels.metadata,
        opts=ResourceOptions(retain_on_delete=True),
    )
