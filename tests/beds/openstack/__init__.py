"""A real OpenStack control plane on this machine's loopback; see README.md."""
