"""The checks before step 1, one file each: a name, and a function from the run to what it found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tunebook.errors import TunebookError
from tunebook.plan.checks import (
    answer_in_prompt,
    answer_not_trained,
    context_lost,
    disk_too_small,
    eos_never_trained,
    evaluation_dominates,
    filter_without_effect,
    first_token_untrained,
    idle_section,
    illegal_label,
    input_equals_output,
    literal_special_token,
    out_of_memory,
    padding_in_loss,
    padding_waste,
    prompt_variant,
    random_base,
    rank_above_width,
    rewrite_unused,
    row_count_mismatch,
    slow_precision,
    split_leak,
    stale_cache,
    token_id_out_of_range,
    truncation,
    unsupported_precision,
    weights_frozen_by_precision,
    weights_not_checked,
)
from tunebook.plan.subject import Subject
from tunebook.records import Finding

Check = Callable[[Subject], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "answer-in-prompt": answer_in_prompt.check,
    "answer-not-trained": answer_not_trained.check,
    "context-lost": context_lost.check,
    "disk-too-small": disk_too_small.check,
    "eos-never-trained": eos_never_trained.check,
    "evaluation-dominates": evaluation_dominates.check,
    "filter-without-effect": filter_without_effect.check,
    "first-token-untrained": first_token_untrained.check,
    "idle-section": idle_section.check,
    "illegal-label": illegal_label.check,
    "input-equals-output": input_equals_output.check,
    "literal-special-token": literal_special_token.check,
    "out-of-memory": out_of_memory.check,
    "padding-in-loss": padding_in_loss.check,
    "padding-waste": padding_waste.check,
    "prompt-variant": prompt_variant.check,
    "random-base": random_base.check,
    "rank-above-width": rank_above_width.check,
    "rewrite-unused": rewrite_unused.check,
    "row-count-mismatch": row_count_mismatch.check,
    "slow-precision": slow_precision.check,
    "split-leak": split_leak.check,
    "stale-cache": stale_cache.check,
    "token-id-out-of-range": token_id_out_of_range.check,
    "truncation": truncation.check,
    "unsupported-precision": unsupported_precision.check,
    "weights-frozen-by-precision": weights_frozen_by_precision.check,
    "weights-not-checked": weights_not_checked.check,
}
"""Every check by the name of what it finds; one that finds several things stands once."""


_OF_MORE_THAN_DATA: dict[str, Callable[[Subject], object | None]] = {
    "disk-too-small": lambda subject: subject.disk,
    "evaluation-dominates": lambda subject: subject.seconds or None,
    "idle-section": lambda subject: subject.recipe,
    "out-of-memory": lambda subject: subject.memory and subject.memory.device_bytes,
    "random-base": lambda subject: subject.probe,
    "rank-above-width": lambda subject: subject.adapted_width,
    "slow-precision": slow_precision.in_half_on_cpu,
    "token-id-out-of-range": lambda subject: subject.codec,
    "unsupported-precision": lambda subject: subject.device,
    "weights-frozen-by-precision": lambda subject: subject.probe,
    "weights-not-checked": lambda subject: subject.probe,
}
"""What these checks look at; all others look at the data."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What all checks said, and how many of them had what they look at and found nothing."""

    findings: tuple[Finding, ...]
    n_passed: int


def run_checks(subject: Subject) -> Checked:
    """Ask every check in turn."""
    findings: list[Finding] = []
    n_passed = 0
    for name, check in CHECKS.items():
        found = _ask(name, check, subject)
        findings += found
        n_passed += not found and _had_its_subject(name, subject)
    return Checked(tuple(findings), n_passed)


def _ask(name: str, check: Check, subject: Subject) -> list[Finding]:
    """Ask one check; its own fault is said, and takes neither the plan nor the run with it."""
    try:
        return list(check(subject))
    except TunebookError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        return [
            Finding(
                "check-failed",
                "warn",
                f"the check {name} broke off with {type(error).__name__}, so nobody looked for "
                "what it finds",
                {"check": name, "error": str(error), "at": f"{Path(at.filename).name}:{at.lineno}"},
                "look for it yourself, and report this with `tunebook plan --json`",
            )
        ]


def _had_its_subject(name: str, subject: Subject) -> bool:
    look = _OF_MORE_THAN_DATA.get(name)
    return (subject.prepared if look is None else look(subject)) is not None
