"""Errors of infra/, each a sentence that an operator can act on."""

from collections.abc import Sequence


class InfraError(Exception):
    """The base of all errors of infra/; the message says what, why, and what to do."""


class CloudError(InfraError):
    """OpenStack does not answer, or there are no valid credentials."""


class RefusedError(InfraError):
    """Nothing was created, because of these problems.

    Attributes:
        problems: a sentence each, with what would be right.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        """The subject, and all that is wrong with it."""
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"{subject}: {many}\n" + "\n".join(f"  - {problem}" for problem in problems)
        )
        self.problems = tuple(problems)
