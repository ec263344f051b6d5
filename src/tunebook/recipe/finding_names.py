"""What the plan can find, by the names that `accept` takes; the checks stand in plan/checks."""

from __future__ import annotations

import difflib

FINDING_NAMES = (
    "answer-in-prompt",
    "answer-not-trained",
    "check-failed",
    "context-lost",
    "disk-too-small",
    "eos-never-trained",
    "evaluation-dominates",
    "filter-without-effect",
    "first-token-untrained",
    "idle-section",
    "illegal-label",
    "input-equals-output",
    "literal-special-token",
    "little-free-space",
    "out-of-memory",
    "padding-in-loss",
    "padding-waste",
    "prompt-trained",
    "prompt-variant",
    "random-base",
    "rank-above-width",
    "rewrite-unused",
    "row-count-mismatch",
    "sign-flip",
    "slow-precision",
    "split-leak",
    "stale-cache",
    "template-not-prefix-preserving",
    "token-id-out-of-range",
    "truncation",
    "unsupported-precision",
    "weights-frozen-by-precision",
    "weights-not-checked",
)


_SHOWN = 3


def finding_name(text: str) -> str:
    """Give the name of a finding; ValueError with the nearest one for any other."""
    if text in FINDING_NAMES:
        return text
    near = difflib.get_close_matches(text, FINDING_NAMES, n=1)
    nearest = difflib.get_close_matches(text, FINDING_NAMES, n=_SHOWN, cutoff=0.0)
    all_of_them = "all stand in docs/plan.md, and `tunebook plan` names what it finds"
    hint = f"the nearest are {', '.join(nearest)}; {all_of_them}"
    if near:
        hint = f"did you mean {near[0]}?"
    raise ValueError(f"must be the name of something that a plan finds; {hint}")
