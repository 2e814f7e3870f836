"""Write Swift's three rings, one device and one replica each; runs in the bed's own venv.

Arguments: the folder, then KIND=PORT for account, container and object.
"""

import sys
from pathlib import Path

from swift.common.ring import RingBuilder


def make_ring(folder: Path, kind: str, port: int) -> None:
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev(
        {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1}
    )
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


if __name__ == "__main__":
    for pair in sys.argv[2:]:
        kind, _, port = pair.partition("=")
        make_ring(Path(sys.argv[1]), kind, int(port))
