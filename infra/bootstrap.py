"""Cloud-init user data that brings a bare image to where Ansible can log in; no secrets in it."""

import yaml

USER = "cbm"
"""Who Ansible logs in as, on whatever image."""


def user_data(name: str, public_key: str) -> str:
    """User data of one host.

    Args:
        name: its host name.
        public_key: whose owner may log in.
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
