"""The checks before step 1, one file each: a name, and a function from the run to what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunebook.plan.subject import Subject
from tunebook.records import Finding

Check = Callable[[Subject], Iterable[Finding]]

CHECKS: dict[str, Check] = {}
"""Every check by the name of what it finds; one that finds several things stands once."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What all checks said; `accepted` are names that the author takes on himself."""

    findings: tuple[Finding, ...]
    accepted: tuple[str, ...]
    n_passed: int

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that a run is refused for."""
        return tuple(
            f for f in self.findings if f.level == "refuse" and f.name not in self.accepted
        )


def run_checks(subject: Subject, accepted: Sequence[str]) -> Checked:
    """Ask every check in turn."""
    findings: list[Finding] = []
    n_passed = 0
    for check in CHECKS.values():
        found = list(check(subject))
        findings += found
        n_passed += not found
    return Checked(tuple(findings), tuple(accepted), n_passed)
