"""Cloud-init user data of a host: a login for Ansible on a bare image, and no secrets."""

import yaml

USER = "cbm"
"""The login of Ansible, on any image."""


def user_data(name: str, public_key: str) -> str:
    """User data of a host.

    Args:
        name: its host name.
        public_key: its owner may log in.
    """
    user = {
        "name": USER,
        "gecos": "CbM operator",
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
        "ssh_authorized_keys": [public_key],
    }
    config = {
        "hostname": name,
        "preserve_hostname": False,
        "manage_etc_hosts": True,
        "ssh_pwauth": False,
        "disable_root": True,
        "users": [user],
    }
    return "#cloud-config\n" + yaml.safe_dump(config, sort_keys=True)
