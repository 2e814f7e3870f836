"""Pulumi resources of a stack: a component each for network, security, volumes and servers."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import pulumi
import pulumi_openstack as openstack
from pulumi import Input, Output, ResourceOptions

from infra.bootstrap import user_data
from infra.cloud import BUCKET_KEY, KEPT_KEY, STACK_KEY, stack_description
from infra.firewall import IngressRule, ingress_rules
from infra.layout import HostLayout, HostVolume
from infra.preflight import CloudLookup, ExistingVolume
from infra.settings import StackSettings


@dataclass(frozen=True)
class Labels:
    """Marks of a stack's resources: name, and tag, metadata or description."""

    settings: StackSettings

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
        return stack_description(self.settings.stack)


def _recreate_if_incomplete(
    parent: pulumi.Resource | None = None,
    depends_on: Sequence[pulumi.Resource] = (),
    deleted_with: pulumi.Resource | None = None,
) -> ResourceOptions:
    """Options of a resource that the provider cannot update: one that failed half-way is replaced.

    Without them each further up would try to update it, and fail.
    """
    return ResourceOptions(
        parent=parent,
        depends_on=depends_on,
        deleted_with=deleted_with,
        replace_on_changes=[_FAILED],
        delete_before_replace=True,
    )


_FAILED = "#initerror"
"""The property that the engine reports as changed of a resource whose creation failed."""


class PrivateNetwork(pulumi.ComponentResource):
    """The private network, its subnet with name servers, and the router to the outside."""

    def __init__(self, labels: Labels, cloud: CloudLookup) -> None:
        """Create it.

        Args:
            labels: of the stack.
            cloud: has the external network.
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
            external_network_id=cloud.external_id,
            tags=labels.tags,
            opts=within,
        )
        self.interface = openstack.networking.RouterInterface(
            "router-interface",
            router_id=router.id,
            subnet_id=self.subnet.id,
            opts=_recreate_if_incomplete(self),
        )
        self.register_outputs({})

    def _subnet(self, labels: Labels, within: ResourceOptions) -> openstack.networking.Subnet:
        """The subnet; DHCP servers take addresses below those of hosts, out of their way."""
        cidr = labels.settings.network.cidr
        return openstack.networking.Subnet(
            "subnet",
            name=labels.name("subnet"),
            description=labels.description,
            network_id=self.network.id,
            cidr=str(cidr),
            gateway_ip=str(cidr[1]),
            allocation_pools=[{"start": str(cidr[2]), "end": str(cidr[9])}],
            dns_nameservers=[str(server) for server in labels.settings.network.dns],
            tags=labels.tags,
            opts=within,
        )


class SecurityGroups(pulumi.ComponentResource):
    """The security groups and their rules, from the table in `infra.firewall`."""

    def __init__(self, labels: Labels) -> None:
        """Create them."""
        super().__init__("cbm:infra:Security", "security")
        table = ingress_rules(labels.settings)
        within = ResourceOptions(parent=self)
        self.groups = {
            name: openstack.networking.SecGroup(
                name,
                name=labels.name(name),
                description=labels.description,
                tags=labels.tags,
                opts=within,
            )
            for name in dict.fromkeys(rule.group for rule in table)
        }
        for rule in table:
            self._rule(rule, labels)
        self.register_outputs({})

    def _rule(self, rule: IngressRule, labels: Labels) -> None:
        openstack.networking.SecGroupRule(
            rule.name,
            description=f"{labels.description}: {rule.purpose}",
            direction="ingress",
            ethertype="IPv4",
            protocol=rule.protocol,
            port_range_min=rule.port,
            port_range_max=rule.port,
            remote_ip_prefix=rule.source if rule.from_network else None,
            remote_group_id=None if rule.from_network else self.groups[rule.source].id,
            security_group_id=self.groups[rule.group].id,
            opts=_recreate_if_incomplete(self.groups[rule.group]),
        )


class DataVolumes(pulumi.ComponentResource):
    """The volumes of all hosts.

    Kept volumes stay in the cloud at destroy; the next up finds them by name and imports them.
    These are the engine's own means (retain_on_delete, import), so plain `pulumi up` and
    `pulumi destroy` are all that a user types.
    """

    def __init__(
        self, labels: Labels, hosts: tuple[HostLayout, ...], existing: Mapping[str, ExistingVolume]
    ) -> None:
        """Create them.

        Args:
            labels: of the stack.
            hosts: that carry them.
            existing: those that are in the cloud already, by name.
        """
        super().__init__("cbm:infra:Volumes", "volumes")
        self.labels = labels
        self.by_name = {
            volume.name: self._volume(volume, existing.get(labels.name(volume.name)))
            for host in hosts
            for volume in host.volumes
        }
        self.register_outputs({})

    def _volume(
        self, volume: HostVolume, existing: ExistingVolume | None
    ) -> openstack.blockstorage.Volume:
        metadata = self.labels.metadata | ({KEPT_KEY: "true"} if volume.kept else {})
        if existing and not existing.recorded and existing.size_gb != volume.spec.size_gb:
            pulumi.log.warn(
                f"volume {volume.name} is imported with its {existing.size_gb} GB; "
                f"the next `pulumi up` makes it {volume.spec.size_gb} GB"
            )
        return openstack.blockstorage.Volume(
            f"{volume.name}-volume",
            name=self.labels.name(volume.name),
            description=self.labels.description,
            size=volume.spec.size_gb,
            volume_type=volume.spec.type,
            availability_zone=self.labels.settings.volume_zone,
            enable_online_resize=True,
            metadata=metadata,
            opts=self._options(volume, existing),
        )

    def _options(self, volume: HostVolume, existing: ExistingVolume | None) -> ResourceOptions:
        """An imported volume must equal its declaration, but for what the next up can change.

        `enableOnlineResize` is an option of the provider that the cloud does not keep: it counts
        when a volume is created or grows, or each imported volume would show as changed.
        """
        ignored = ["availabilityZone", "volumeType"]
        if existing and not existing.recorded:
            ignored += ["size", "description", "metadata"]
        if existing and (not existing.recorded or existing.size_gb == volume.spec.size_gb):
            ignored.append("enableOnlineResize")
        return ResourceOptions(
            parent=self,
            retain_on_delete=volume.kept,
            import_=existing.id if existing and not existing.recorded else None,
            ignore_changes=ignored,
        )


@dataclass(frozen=True)
class ServerContext:
    """Resources of the stack that a server refers to."""

    network: PrivateNetwork
    security: SecurityGroups
    volumes: DataVolumes
    eodata_id: str | None
    image_id: str
    key_pair: openstack.compute.Keypair
    apart: Mapping[int, openstack.compute.ServerGroup]
    failed: Set[str]


class Server(pulumi.ComponentResource):
    """A host: its ports, the server, its volumes in order, and a floating IP if it is public."""

    def __init__(self, host: HostLayout, labels: Labels, context: ServerContext) -> None:
        """Create it.

        Args:
            host: its layout.
            labels: of the stack.
            context: what it refers to.
        """
        super().__init__("cbm:infra:Server", host.name)
        self.host, self.labels, self.context = host, labels, context
        self.within = ResourceOptions(parent=self)
        self.port = self._private_port()
        self.server = self._server([self.port, *self._eodata_ports()])
        self._attach()
        self.public_address: Output[str] | None = self._floating_ip() if host.public else None
        self.register_outputs({})

    def _groups(self) -> list[Output[str]]:
        return [self.context.security.groups[name].id for name in self.host.security]

    def _private_port(self) -> openstack.networking.Port:
        address = openstack.networking.PortFixedIpArgs(
            subnet_id=self.context.network.subnet.id, ip_address=self.host.address
        )
        return openstack.networking.Port(
            f"{self.host.name}-port",
            name=self.labels.name(self.host.name),
            description=self.labels.description,
            network_id=self.context.network.network.id,
            fixed_ips=[address],
            security_group_ids=self._groups(),
            tags=self.labels.tags,
            opts=self.within,
        )

    def _eodata_ports(self) -> list[openstack.networking.Port]:
        """The port in the provider's network, which gives the address; nobody there may log in."""
        if not self.host.eodata or self.context.eodata_id is None:
            return []
        port = openstack.networking.Port(
            f"{self.host.name}-eodata-port",
            name=self.labels.name(f"{self.host.name}-eodata"),
            description=self.labels.description,
            network_id=self.context.eodata_id,
            security_group_ids=[self.context.security.groups["member"].id],
            tags=self.labels.tags,
            opts=self.within,
        )
        return [port]

    def _server(self, ports: list[openstack.networking.Port]) -> openstack.compute.Instance:
        """The server.

        What only its first boot reads is not compared: a new image, key or user data is for new
        hosts, and must not replace a database. A server that never started is replaced.
        """
        name = self.labels.name(self.host.name)
        first_boot = ["imageId", "imageName", "userData", "keyPair", "schedulerHints"]
        return openstack.compute.Instance(
            f"{self.host.name}-server",
            name=name,
            flavor_name=self.host.flavor,
            image_id=self.context.image_id,
            key_pair=self.context.key_pair.name,
            networks=[{"port": port.id} for port in ports],
            user_data=user_data(name, self.labels.settings.public_key),
            config_drive=True,
            stop_before_destroy=True,
            availability_zone=self.labels.settings.availability_zone,
            scheduler_hints=[{"group": self.context.apart[self.host.apart].id}]
            if self.host.apart
            else None,
            metadata=self.labels.metadata | {"cbm_kinds": ",".join(self.host.kinds)},
            opts=ResourceOptions(
                parent=self,
                ignore_changes=first_boot,
                depends_on=[
                    self.context.network.interface,
                    *(self.context.volumes.by_name[volume.name] for volume in self.host.volumes),
                ],
                replace_on_changes=[_FAILED] if name in self.context.failed else None,
                delete_before_replace=True,
            ),
        )

    def _attach(self) -> None:
        """Attach the volumes one after the other, so that their order on the host is the list's.

        They are detached by deleting the server, once it has shut down: no host releases a volume
        that it uses.
        """
        before: list[pulumi.Resource] = []
        for volume in self.host.volumes:
            attachment = openstack.compute.VolumeAttach(
                f"{volume.name}-attachment",
                instance_id=self.server.id,
                volume_id=self.context.volumes.by_name[volume.name].id,
                opts=_recreate_if_incomplete(self, before, deleted_with=self.server),
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
                parent=self, depends_on=[self.context.network.interface, self.server]
            ),
        )
        return floating.address


class Appliance:
    """All of a stack."""

    def __init__(
        self,
        settings: StackSettings,
        hosts: tuple[HostLayout, ...],
        cloud: CloudLookup,
    ) -> None:
        """Create it.

        Args:
            settings: of the stack.
            hosts: of the stack.
            cloud: resources that the settings name.
        """
        labels = Labels(settings)
        self.volumes = DataVolumes(labels, hosts, cloud.volumes)
        context = ServerContext(
            network=PrivateNetwork(labels, cloud),
            security=SecurityGroups(labels),
            volumes=self.volumes,
            eodata_id=cloud.eodata_id,
            image_id=cloud.image_id,
            key_pair=openstack.compute.Keypair(
                "operators",
                name=settings.prefix,
                public_key=settings.public_key,
                opts=_recreate_if_incomplete(),
            ),
            apart=_server_groups(labels, hosts),
            failed=cloud.failed,
        )
        self.servers = [Server(host, labels, context) for host in hosts]
        if settings.bucket:
            _bucket(settings.bucket, labels)

    def outputs(self, settings: StackSettings) -> dict[str, object]:
        """The stack's output `appliance`; `infra.inventory.StackOutput` reads it."""
        return {
            "stack": settings.stack,
            "domain": settings.domain,
            "bucket": settings.bucket,
            "zone": settings.availability_zone,
            "hosts": [self._host_output(server) for server in self.servers],
        }

    def _host_output(self, server: Server) -> dict[str, object]:
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
                    "size_gb": volume.spec.size_gb,
                    "kept": volume.kept,
                }
                for volume in server.host.volumes
            },
        }


def _server_groups(
    labels: Labels, hosts: tuple[HostLayout, ...]
) -> dict[int, openstack.compute.ServerGroup]:
    """The groups of workers that are kept apart where the cloud can, by number."""
    return {
        number: openstack.compute.ServerGroup(
            f"workers-{number}",
            name=labels.name(f"workers-{number}"),
            policies="soft-anti-affinity",
            opts=_recreate_if_incomplete(),
        )
        for number in sorted({host.apart for host in hosts if host.apart})
    }


def _bucket(name: str, labels: Labels) -> None:
    """The container of backups, in Swift and so in its S3 API; it outlives the stack."""
    openstack.objectstorage.Container(
        "bucket",
        name=name,
        metadata={BUCKET_KEY: labels.settings.stack},
        opts=ResourceOptions(retain_on_delete=True),
    )
