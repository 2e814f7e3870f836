"""Ingress rules: the table that all security group rules are created from.

This table is complete: nothing else reaches a host. Hosts may reach what they want.
"""

from dataclasses import dataclass

from infra.kinds import MEMBER
from infra.settings import StackSettings

WORLD = "0.0.0.0/0"


@dataclass(frozen=True)
class IngressRule:
    """A port that is open to a source.

    Attributes:
        group: the security group whose hosts are reached.
        protocol: tcp or udp.
        port: its number.
        source: a network (CIDR), or the name of a security group of the stack.
        purpose: what listens there.
    """

    group: str
    protocol: str
    port: int
    source: str
    purpose: str

    @property
    def from_network(self) -> bool:
        """Whether the source is a network."""
        return "/" in self.source

    @property
    def name(self) -> str:
        """Unique within the stack, and lasting."""
        return f"{self.group}-{self.protocol}-{self.port}-from-{self.source.replace('/', '_')}"


def ingress_rules(settings: StackSettings) -> tuple[IngressRule, ...]:
    """All rules of a stack."""
    operators = [
        IngressRule("bastion", "tcp", 22, str(network), "ssh of operators")
        for network in settings.operators
    ]
    return (*operators, *_FIXED)


_FIXED = (
    IngressRule(MEMBER, "tcp", 22, "bastion", "ssh"),
    IngressRule("web", "tcp", 80, WORLD, "http, redirected to https"),
    IngressRule("web", "tcp", 443, WORLD, "https"),
    IngressRule(MEMBER, "tcp", 9100, "manager", "metrics of the host"),
    IngressRule("database", "tcp", 5432, MEMBER, "PostgreSQL"),
    IngressRule("database", "tcp", 6432, MEMBER, "PostgreSQL, pooled"),
    IngressRule("database", "tcp", 9187, "manager", "metrics of PostgreSQL"),
    IngressRule("manager", "tcp", 5000, MEMBER, "registry"),
    IngressRule("manager", "tcp", 2377, "swarm", "swarm management"),
    IngressRule("swarm", "tcp", 7946, "swarm", "swarm membership"),
    IngressRule("swarm", "udp", 7946, "swarm", "swarm membership"),
    IngressRule("swarm", "udp", 4789, "swarm", "overlay networks"),
)
