"""Error that an operator can act on."""


class BackupError(Exception):
    """What happened, why, and what to do."""
