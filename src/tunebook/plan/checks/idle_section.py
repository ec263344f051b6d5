"""idle-section: settings of another method than the run's, which nothing reads."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.recipe.methods import Lora, Quantization, Relora
from tunebook.records import Finding

_METHODS_OF = {
    "lora": (Lora(), ("lora", "qlora", "relora")),
    "quantization": (Quantization(), ("qlora",)),
    "relora": (Relora(), ("relora",)),
}


def check(subject: Subject) -> Iterator[Finding]:
    """Hold every section that the run's method does not read against its defaults."""
    method = subject.recipe.method
    for section, (default, methods) in _METHODS_OF.items():
        stated = getattr(subject.recipe, section)
        if method not in methods and stated != default:
            yield Finding(
                "idle-section",
                "warn",
                f"`{section}` is set, and method {method} does not read it",
                {"section": section, "method": method},
                f"say method: {' or '.join(methods)}, or leave `{section}` out",
            )
