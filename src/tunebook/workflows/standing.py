"""What `tunebook compare --standing` does: rank runs by which answers a judge preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.evaluations import read_log, read_results, scores_of, settings_hash
from tunebook.book.places import RunFolder, open_run
from tunebook.errors import BookError, UsageError
from tunebook.records import Evaluation
from tunebook.statistics.bradley_terry import Standing, bradley_terry
from tunebook.statistics.pairwise import PairScore
from tunebook.workflows.weights import BASE


@dataclass(frozen=True, slots=True)
class Ranked:
    """Runs, and what they started from, from the strongest down; `left_out` counts judgings.

    Left out are those of other judges, prompts or eras of a judge than the newest.
    """

    standing: Standing
    judgings: int
    left_out: int


def rank(names: Sequence[str], book: Path) -> Ranked:
    """Rank runs by every pairwise judging among them and their bases (Bradley and Terry, 1952).

    Raises BookError for a run that is not there, or when nothing was judged in pairs; UsageError
    where some were never compared with the others.
    """
    if not names:
        raise UsageError("name the runs to rank, such as `tunebook compare run_1 run_2 --standing`")
    runs = [open_run(book, name) for name in dict.fromkeys(names)]
    found = [(run, one) for run in runs for one in read_results(run, "pairs")]
    known = [run.name for run in runs]
    among = [(run, one) for run, one in found if _against(one)["name"] in (BASE, *known)]
    if not among:
        rival = f" --against {known[1]}" if len(known) > 1 else ""
        raise BookError(
            f"nothing was judged in pairs among {', '.join(known)}; `tunebook judge {known[0]} "
            f"--pairwise{rival}` does it"
        )
    newest = _judge(max((one for _, one in among), key=lambda one: one.finished))
    used = [(run, one) for run, one in among if _judge(one) == newest]
    bases = {_against(one)["weights"] for _, one in used if _against(one)["name"] == BASE}
    rows = [row for run, one in used for row in _pairs(run, one, same_base=len(bases) == 1)]
    return Ranked(bradley_terry(rows), len(used), len(among) - len(used))


def _against(one: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = dict[str, Any](one.settings)["against"]
    return found


def _judge(one: Evaluation) -> str:
    return settings_hash({key: one.settings.get(key) for key in ("judge", "prompt", "era")})


def _pairs(run: RunFolder, one: Evaluation, *, same_base: bool) -> list[PairScore]:
    own = run.name if one.subject == "final" else f"{run.name}/{one.subject}"
    other = str(_against(one)["name"])
    if other == BASE and not same_base:
        other = f"{run.name}/{BASE}"
    return [
        PairScore(
            row.item_id,
            row.item_hash,
            own,
            other,
            a_first=row.repeat % 2 == 1,
            outcome=row.value,
            repeat=row.repeat // 2,
            cluster=row.cluster,
        )
        for row in scores_of(read_log(run.evaluations / one.log), own)
    ]
