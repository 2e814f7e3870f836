"""What can go wrong in infra/, said in one sentence an operator can act on."""

from collections.abc import Sequence


class InfraError(Exception):
    """The base of all errors of infra/; the message says what, why, and what to do."""


class CloudError(InfraError):
    """OpenStack cannot be asked: no credentials, refused ones, or no answer."""


class RefusedError(InfraError):
    """Nothing was made, because of these problems.

    Attributes:
        problems: one sentence each, with what would be right.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        """What is refused, and all that is wrong with it."""
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{subject}: {many}\n" + "\n".join(f"  - {one}" for one in problems))
        self.problems = tuple(problems)
