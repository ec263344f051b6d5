"""Write docs/speed.md from the stored results of the speed benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.pages.markdown import escape, table

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "speed"
Found = Mapping[str, Any]

INTRO = """# Speed and memory

<!-- Made by tools/make_docs.py from benchmarks/results/speed: measure again to change it. -->

Every number is a file in `benchmarks/results/speed` with its command, settings, versions and
machine; `benchmarks/speed` holds the commands. A ratio is that of the seconds of all matched,
interleaved steps of contenders that train the same model on the same rows; its 95 % interval stands
behind it.
"""
NOTHING = "\nNothing has been measured yet.\n"
NOT_MEASURED = """
## Not measured

- Anything on a GPU: {gpu}
- Processors with bf16 or AMX instructions: {bf16}
"""


def speed_markdown(results: Path = RESULTS) -> str:
    """Write the page: goals first, then each case with its settings, then what is not measured."""
    found = [json.loads(path.read_bytes()) for path in sorted(results.glob("*.json"))]
    if not found:
        return INTRO + NOTHING
    parts = [INTRO, *_goals(found)]
    for one in found:
        parts += _case(one)
    on_gpu = [one["case"] for one in found if one["machine"]["gpu"]]
    with_bf16 = [one["case"] for one in found if "bf16" in one["machine"]["instruction_sets"]]
    parts.append(
        NOT_MEASURED.format(
            gpu=_only(on_gpu, "no result above is from one."),
            bf16=_only(with_bf16, "no result above is from one; there bf16 is not faster."),
        )
    )
    return "\n".join(parts)


def _only(cases: Sequence[str], nothing: str) -> str:
    return f"all cases but {', '.join(f'`{case}`' for case in cases)}." if cases else nothing


def _goals(found: Sequence[Found]) -> list[str]:
    goals = [(one["case"], goal) for one in found for goal in one["goals"]]
    if not goals:
        return []
    reached = sum(_reached(goal) for _, goal in goals)
    rows = [
        (
            escape(goal["name"]),
            ("at most " if goal["at_most"] else "") + f"{goal['wanted']:g} {goal['unit']}".strip(),
            _measured(goal),
            "reached" if _reached(goal) else "**missed**",
            f"`{case}`",
        )
        for case, goal in goals
    ]
    return [
        f"## Goals: {reached} of {len(goals)} reached\n",
        table(("goal", "wanted", "measured", "", "case"), rows) + "\n",
    ]


def _reached(goal: Found) -> bool:
    if goal["at_most"]:
        return bool(goal["measured"] <= goal["wanted"])
    return bool(goal["measured"] >= goal["wanted"])


def _measured(goal: Found) -> str:
    ends = "" if goal["low"] is None else f" [{goal['low']:.3g}, {goal['high']:.3g}]"
    return f"{goal['measured']:.3g}{ends}"


def _case(one: Found) -> list[str]:
    machine = one["machine"]
    sets = ", ".join(machine["instruction_sets"]) or "no wide instructions"
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    settings = "; ".join(f"{name}: {value}" for name, value in one["settings"].items())
    cells = [["" if cell is None else escape(_shown(cell)) for cell in row] for row in one["rows"]]
    return [
        f"## {one['title']} (`{one['case']}`)\n",
        table(one["columns"], cells) + "\n",
        *(f"- {note}" for note in one["notes"]),
        *([""] if one["notes"] else []),
        f"Settings: {settings}.\n" if settings else "",
        f"`{one['command']}`, {one['date']}, commit {one['commit']}; {machine['processor']}, "
        f"{machine['cores']} cores ({sets}), {machine['memory_gib']:g} GiB, "
        f"{machine['gpu'] or 'no GPU'}; {versions}.\n",
    ]


def _shown(cell: Any) -> str:
    if not isinstance(cell, (int, float)) or isinstance(cell, bool):
        return str(cell)
    return f"{cell:,.0f}" if isinstance(cell, int) or abs(cell) >= 100 else f"{cell:.3g}"
