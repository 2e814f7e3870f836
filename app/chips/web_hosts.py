"""The web hosts that scenes may lie on: those that the operator names, and no others.

The catalogue is written by workers' logins, and one of them that is lost must not make the API send
requests to the hosts of its network. Names are compared as they stand, never resolved: what a name
resolves to may change between a check and the request. A host that is named is trusted with its
redirects, too.
"""

import re
from collections.abc import Collection

from store.errors import SceneError

_PORTS = {"http": "80", "https": "443"}

_HOST = r"[a-z0-9.-]+|\[[0-9a-f:.]+\]"
HOST_PATTERN = rf"(?:{_HOST})(?::[0-9]{{1,5}})?"
"""A host in small letters, with a port unless it is that of its scheme."""

# Without a user, and with "/" right behind the host, all readers of addresses find the same host.
_ADDRESS = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?/", re.ASCII | re.IGNORECASE)


def refuse_strange_host(href: str, hosts: Collection[str]) -> None:
    """Refuse the address of a file that lies on another web host.

    Args:
        href: as in the catalogue; paths and s3:// always pass, as they name no host.
        hosts: as in `HOST_PATTERN`.

    Raises:
        SceneError: says which host, and where to allow it.
    """
    if href.startswith(("/", "s3://")):
        return
    address = _ADDRESS.match(href)
    if address is None:
        raise SceneError(f"{href[:200]!r} is no path, and no address that begins with s3 or https")
    usual, host = _PORTS[address[1].lower()], address[2].lower()
    port = address[3] or usual
    names = [host, f"{host}:{port}"] if port == usual else [f"{host}:{port}"]
    if not any(name in hosts for name in names):
        raise SceneError(
            f"{href[:200]} lies on a host that CBM_SCENE_HOSTS does not name: if you trust it with "
            f"what it sends the API on to, add {names[0]}"
        )
