"""A comparison in words; imports no scipy, so that pages and the terminal may say it at once."""

from __future__ import annotations

from tunebook.records import Comparison


def verdict_text(found: Comparison) -> str:
    """Say the verdict in the three words, with how many items would decide where none is due."""
    if found.verdict != "cannot tell":
        return found.verdict
    if found.reason:
        return f"cannot tell: {found.reason}"
    if found.n_needed is None:
        return "cannot tell"
    return f"cannot tell, about {found.n_needed:,} items needed"
