"""A filter that was written to do something, and did nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Warn of every filter and rewrite that left all rows of its source as they were."""
    if subject.prepared is None:
        return
    for built in subject.prepared.built:
        n_rows = built.store.facts["rows_in"]
        for name in built.store.facts["idle_filters"]:
            yield Finding(
                "filter-without-effect",
                "warn",
                f"filter {name} of {built.located.path} dropped or changed 0 of {n_rows} rows",
                {"source": built.name, "filter": name, "rows": n_rows, "changed": 0},
                "correct its settings (try them with `tunebook data filter`), or leave it out",
            )
