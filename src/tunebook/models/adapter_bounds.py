"""What a stranger's adapter asks for before its weights are read: ranks and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError
from tunebook.models.screen import ADAPTER_CONFIG, read_settings
from tunebook.models.tried import refuse_endless_expressions

_MOST_RANK = 4096
"""A rank that is no matter of memory for any model, however narrow."""
# peft reads each as an expression, and these by their keys.
_EXPRESSIONS = ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save")
_BY_KEY = ("rank_pattern", "alpha_pattern")


def refuse_boundless(folder: Path, causal: Any) -> None:
    """Raise ModelError for an adapter that would take memory or time without end on this model.

    peft makes its matrices of the rank it states, whatever its weights are, and goes through every
    module's name with its expressions. A rank above the widths of the model gives it nothing.
    """
    whose = f"the adapter in {folder}"
    settings = read_settings(folder / ADAPTER_CONFIG, whose)
    widths = (min(p.shape) for p in causal.parameters() if p.dim() > 1)
    most = max(_MOST_RANK, *widths, 1)
    by_name = settings.get("rank_pattern")
    ranks = [settings.get("r"), *(by_name.values() if isinstance(by_name, dict) else ())]
    for rank in ranks:
        if isinstance(rank, (int, float)) and rank > most:
            raise ModelError(
                f"{whose} states a rank of {str(rank)[:24]} in {ADAPTER_CONFIG}, and the model is "
                f"{most:,} wide at most; fetch it anew, or use another adapter"
            )
    paths = [path for path, _ in causal.named_modules()]
    for key, given in _expressions(settings):
        refuse_endless_expressions([given], paths, f"{whose}: {key} in {ADAPTER_CONFIG}")


def _expressions(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what peft reads as an expression, in the form in which it does, with its key."""
    for key in _EXPRESSIONS:
        given = settings.get(key)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, str):
                yield key, one
    for key in _BY_KEY:
        given = settings.get(key)
        yield from ((key, rf"(.*\.)?({one})") for one in (given if isinstance(given, dict) else ()))
