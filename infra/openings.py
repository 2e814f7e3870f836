"""What may reach which host: one table, of which all security group rules are made.

What stands here is all: nothing else reaches a host. Hosts may reach what they want.
"""

from dataclasses import dataclass

from infra.kinds import MEMBER
from infra.settings import Settings

WORLD = "0.0.0.0/0"


@dataclass(frozen=True)
class Opening:
    """A port that is open, to somebody.

    Attributes:
        group: the security group whose hosts are reached.
        protocol: tcp or udp.
        port: its number.
        source: a network (CIDR), or the name of a security group of the stack.
        why: what listens there.
    """

    group: str
    protocol: str
    port: int
    source: str
    why: str

    @property
    def from_network(self) -> bool:
        """Whether the source is a network."""
        return "/" in self.source

    @property
    def name(self) -> str:
        """Unique within the stack, and lasting."""
        return f"{self.group}-{self.protocol}-{self.port}-from-{self.source.replace('/', '_')}"


def openings(settings: Settings) -> tuple[Opening, ...]:
    """All that is open in a stack."""
    operators = [
        Opening("bastion", "tcp", 22, network, "ssh of operators") for network in settings.operators
    ]
    return (*operators, *_ALWAYS)


_ALWAYS = (
    Opening(MEMBER, "tcp", 22, "bastion", "ssh"),
    Opening("web", "tcp", 80, WORLD, "http, which leads to https"),
    Opening("web", "tcp", 443, WORLD, "https"),
    Opening(MEMBER, "tcp", 9100, "manager", "figures of the host"),
    Opening("database", "tcp", 5432, MEMBER, "PostgreSQL"),
    Opening("database", "tcp", 6432, MEMBER, "PostgreSQL, pooled"),
    Opening("database", "tcp", 9187, "manager", "figures of PostgreSQL"),
    Opening("manager", "tcp", 5000, MEMBER, "registry"),
    Opening("manager", "tcp", 2377, "swarm", "swarm management"),
    Opening("swarm", "tcp", 7946, "swarm", "swarm membership"),
    Opening("swarm", "udp", 7946, "swarm", "swarm membership"),
    Opening("swarm", "udp", 4789, "swarm", "overlay networks"),
)
