"""Write docs/verdicts.md from the list of kinds and the stored numbers of the fault benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.kinds import FAMILIES, FAULTS, KINDS
from tunebook.pages.markdown import escape, table

FAULT_LOGS = Path(__file__).resolve().parent.parent / "benchmarks" / "faults"
Found = Mapping[str, Any]

INTRO = """# Verdicts

<!-- Made by tools/make_docs.py from src/tunebook/kinds.py and benchmarks/faults: edit those. -->

A verdict says what happened to a run, since when and why. Verdicts come up in the terminal while a
run trains, stand on its page, and `tunebook verdicts RUN` gives them again for any run, also for an
imported one. They are computed from the log alone: the same log gives the same verdicts.

## How to read one

| part | what it tells |
|---|---|
| kind | what it is: one of the names below |
| step | since when; and until when, where it ended |
| cause | one sentence with the numbers that it rests on |
| confidence | how sure that is, see below |
| evidence | the numbers, and ids of rows where rows are to blame |
| next | what to do, and the same as settings for `tunebook new NAME --from RUN` |

- `certain`: facts of the log decide, such as a learning rate or a target on padding, or an
  experiment that `tunebook replay` made.
- `likely`: statistics decide; what they rest on stands in the tables, and how often they were wrong
  on healthy runs below.
- `undecided`: something happened, and the log cannot tell why; what is excluded is named.
- `amber`: seen while the run goes on, and not confirmed yet.

One incident gets one verdict: what follows from a cause is not reported beside it. Where the log
cannot decide, `tunebook replay RUN --step n` repeats the step with one thing changed and
establishes the cause by experiment. `no_fault_found` is a verdict too; it names what could not be
looked for.
"""

ABOUT = """
## How often they are right

`benchmarks/faults` trains small models with exactly one injected fault or none, and keeps the full
log with a label: kind, first and last step, ids, strength. A verdict of level fault is **right**
when its kind is the label's and its step lies in the label's window; there is no tolerance beyond
the window. A second verdict, another kind or another step is **false**. A faulty run without a
right verdict is missed; it is **detected** when any fault is reported in the window. Delay is
counted from the first step of the window. `python benchmarks/faults/score.py --errors` prints all
of this from the committed logs, with the name of every run that is missed or has a false alarm.
"""

MEASURED = ("first scoring", "scoring", "confirming")
TARGETS = (
    ("recall, clear and gross faults", 0.95),
    ("precision, clear and gross faults", 0.95),
    ("macro-F1, just visible ones included", 0.85),
    ("healthy runs without a false alarm", 0.98),
    ("cause of a spike right, where a verdict decides", 0.90),
    ("exactly the bad example named", 0.80),
    ("the same, clear and gross ones", 0.80),
)
NUMBERS = ("runs", "right", "false", "precision", "recall", "95 % of recall", "F1")
NUMBERS += ("median delay", "exact step")


def verdicts_markdown() -> str:
    """Write the page; numbers that are not stored yet are said to be missing."""
    scores, rivals = _stored("scores.json"), _stored("rivals.json")
    split = "scoring" if "scoring" in scores else "tuning"
    parts = [INTRO, *_kinds(), ABOUT]
    if split not in scores:
        return _page([*parts, "It has not been scored yet."])
    found = scores[split]
    parts += [
        _which(split, found),
        _targets(scores),
        *_per_kind(split, found),
        *(_per_kind("confirming", scores["confirming"]) if "confirming" in scores else ()),
        *_shares(found),
        *_compared(scores, rivals),
        *_splits(scores),
        *_weak(found),
    ]
    return _page(parts)


def _page(parts: Sequence[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip("\n") + "\n"


def _stored(name: str) -> Found:
    path = FAULT_LOGS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _kinds() -> list[str]:
    lines = ["## Kinds"]
    about = {
        "fault": "A **fault** of a run without one is a false alarm.",
        "notice": "A **notice** is worth knowing and no fault.",
        "fine": "And where there is nothing of the above:",
    }
    for level, sentence in about.items():
        rows = [
            (f"`{name}`", escape(k.meaning), escape(k.ground), escape(k.needs))
            for name, k in KINDS.items()
            if k.level == level
        ]
        lines += ["", sentence, "", table(("kind", "it means", "it rests on", "it needs"), rows)]
    lines.append("Predictions and `stop_on` may name one kind or a family of them:\n")
    lines += [f"- `{word}`: {_names(kinds)}" for word, kinds in FAMILIES.items()]
    return lines


def _which(split: str, found: Found) -> str:
    runs = f"{found['faulty']} runs with a fault, {found['healthy']} healthy ones"
    if split == "scoring":
        return (
            f"The scoring split has {runs}. Its *first scoring* was by detectors that had been "
            "tuned on the other split alone. They were changed after that, knowing what it found "
            "(docs/LOG.md), so what they reach on it now, *scoring*, is no blind number. The "
            "*confirming* split, where it is shown, has the same models and data and new seeds, "
            "and was made after those changes.\n"
        )
    return (
        f"**These are numbers of the tuning split** ({runs}), on which thresholds were chosen: "
        "they flatter. The scoring split has not been scored yet.\n"
    )


def _targets(scores: Found) -> str:
    """Hold each target against what every scoring measured, the first one first."""
    shown = {name: scores[name] for name in MEASURED if name in scores}
    measured = {name: _measured(found) for name, found in shown.items()}
    cells = [
        (what, f"{target:.2f}", *(_held(values[i], target) for values in measured.values()))
        for i, (what, target) in enumerate(TARGETS)
    ]
    return table(("what", "target", *measured), cells)


def _measured(found: Found) -> list[tuple[float, str]]:
    strong, spikes, alarmed = found["strong"], found["causes_of_spikes"], found["false_alarms"]
    (exact, labelled), (exact_strong, strong_ones) = found["exact_ids"], found["exact_ids_strong"]
    right, decided, healthy = spikes["decided_right"], spikes["decided"], found["healthy"]
    low, high = found["false_alarm_interval"]
    return [
        (strong["recall"], ""),
        (strong["precision"], ""),
        (found["macro_f1"], ""),
        (1 - alarmed / healthy, f" (alarms in {alarmed} of {healthy}: {low:.1%} to {high:.1%})"),
        (right / max(decided, 1), f" ({right} of {decided})"),
        (exact / max(labelled, 1), f" ({exact} of {labelled})"),
        (exact_strong / max(strong_ones, 1), f" ({exact_strong} of {strong_ones})"),
    ]


def _held(measured: tuple[float, str], target: float) -> str:
    value, note = measured
    return f"{_share(value)}{note}{'' if value >= target else ', **missed**'}"


def _per_kind(split: str, found: Found) -> list[str]:
    rows = [(f"`{kind}`", *_numbers(row)) for kind, row in found["kinds"].items()]
    rows += [("all", *_numbers(found["all"]))]
    names = {"just_visible": "just visible", "clear": "clear", "gross": "gross"}
    rows += [(f"all, {names[s]}", *_numbers(row)) for s, row in found["strengths"].items()]
    said = found["never_injected"]
    others = f" ({', '.join(f'`{k}` {n}' for k, n in said.items())})" if said else ""
    return [
        f"### Per kind, {split} split",
        "",
        table(("kind", *NUMBERS), rows, right=NUMBERS),
        f"False verdicts of kinds that were never injected count in the lower rows: "
        f"{sum(said.values())}{others}. Healthy runs count for precision everywhere.",
        "",
    ]


def _shares(found: Found) -> list[str]:
    false = found["false_by_substrate"]
    substrates = [
        (name, *map(str, found["by_substrate"].get(name, (0, 0, 0))), f"{n} of {runs}")
        for name, (n, runs) in false.items()
    ]
    faults = [(name, *map(str, counts)) for name, counts in found["by_fault"].items()]
    head = ("runs", "cause named", "detected")
    return [
        "### Per injected fault, and per model and data",
        "",
        table(("fault", *head), faults, right=head),
        table(("model and data", *head, "healthy runs with an alarm"), substrates, right=head),
    ]


def _compared(scores: Found, rivals: Found) -> list[str]:
    """Show other tools' rules on the newest split that they ran on."""
    split = next(s for s in ("confirming", "scoring", "tuning") if s in rivals and s in scores)
    return _rivals(split, scores[split], rivals[split])


def _rivals(split: str, found: Found, rivals: Sequence[Found]) -> list[str]:
    if not rivals:
        return []
    every, strong, healthy = found["all"], found["strong"], found["healthy"]
    head = ("tool", "setting", "detected", "cause named", "clear and gross", "false alarms")
    rows = [
        (
            "**tunebook**",
            "mended after the first scoring" if split == "confirming" else "as now",
            f"{every['detected']} of {every['runs']}",
            str(every["right"]),
            f"{strong['detected']} of {strong['runs']}",
            f"{found['false_alarms']} of {healthy}",
        )
    ]
    for rival in rivals:
        settings = [(row, "default") for row in rival["defaults"]]
        if rival["best_on_tuning"]:
            settings.append((rival["best_on_tuning"], "best on tuning"))
        for row, which in settings:
            pairs = zip(rival["settings"], row["values"], strict=True)
            value = ", ".join([*(f"{name} {value:g}" for name, value in pairs), which])
            rows.append(
                (
                    rival["name"],
                    escape(value),
                    f"{row['detected']} of {row['runs']}",
                    str(row["named"]),
                    f"{row['detected_strong']} of {row['runs_strong']}",
                    f"{row['false_alarms']} of {row['healthy']}",
                )
            )
    origins = [f"- {rival['name']}: {rival['origin']}" for rival in rivals]
    return [
        "## Rules of other tools on the same runs",
        "",
        "In favour of every rule: nothing stops at its first alarm, an alarm anywhere in the "
        "window counts, further ones cost nothing, and a finding about the whole run lies in "
        "every window. Each runs at its defaults and at the setting that was best on the tuning "
        "split: most faults detected with alarms in at most 2 % of its healthy runs. Windows of "
        f"100 and 128 steps hardly fill in runs of at most {found['longest_run']} steps, so "
        "narrower ones are among the settings tried. Most of these rules read losses and gradient "
        "norms alone; a fault that shows in neither is none of theirs to find.",
        f"\nNumbers of the {split} split.\n",
        table(head, rows),
        "Where the rules come from:\n",
        *origins,
        "",
    ]


def _splits(scores: Found) -> list[str]:
    lines = [
        "## How tuning and scoring are kept apart",
        "",
        "Thresholds are chosen on the tuning split, and the detectors of the first scoring were "
        "committed before the logs of the scoring split were. The two share no base model, no "
        "seed and no row of training data, which a test checks. Confirming runs have the "
        "models and data of scoring runs and seeds of their own; nothing that was changed since "
        "they were looked at moved a number of theirs.",
        "",
        "What the logs cannot tell: a run that was to be healthy and was not (held-out loss more "
        "than 1 % above its best, or above the base's, or a rising training loss) was made again, "
        "and so was a run whose planted learning rate or tiny set had no visible effect, with a "
        "higher learning rate. Rows that the base itself finds alone in how hard they are were "
        "left out of all data. So rates of false alarms are those of clean data and healthy "
        "ends, of batches of 4 to 16 rows and 64 to 100 steps.",
        "",
    ]
    rows = [
        (
            name,
            f"{found['faulty']} + {found['healthy']}",
            str(found["seeds"]),
            _names(found["false_by_substrate"]),
        )
        for name, found in scores.items()
        if name != "first scoring"
    ]
    return [*lines, table(("split", "faulty + healthy runs", "seeds", "models and data"), rows)]


def _weak(found: Found) -> list[str]:
    kinds = found["kinds"]
    missed = [k for k, row in kinds.items() if (row["recall"] or 0) < 0.9]
    false = [k for k, row in kinds.items() if (row["precision"] or 0) < 0.9]
    unmeasured = [k for k in KINDS if k in FAULTS and k not in kinds]
    few = [k for k, row in kinds.items() if row["runs"] < 10]
    lines = ["## What is weak", ""]
    lines += [f"- Found in less than 90 % of their runs: {_names(missed)}."] if missed else []
    lines += [f"- False in more than 10 % of their verdicts: {_names(false)}."] if false else []
    lines += [f"- Fewer than ten runs, so a wide interval: {_names(few)}."] if few else []
    lines += [
        f"- Not in this benchmark, so without a number here: {_names(unmeasured)}.",
        "- The models are tiny (0.03 to 0.15 million weights) and the runs short (at most "
        f"{found['longest_run']} steps). How far this carries over to large models and long runs "
        "was not measured.",
        "- Healthy runs have a healthy set-up and turned out well: held-out loss near its best at "
        "the end, no rising training loss. Those that did not were set up again, so alarms on runs "
        "between healthy and faulty are not counted.",
        "- One fault per run: how verdicts read where several come together was not measured.",
        "",
    ]
    return lines


def _numbers(row: Found) -> tuple[str, ...]:
    low, high = row["recall_interval"] or (None, None)
    delay = row["median_delay"]
    return (
        *(str(row[name]) for name in ("runs", "right", "false")),
        _share(row["precision"]),
        _share(row["recall"]),
        f"{_share(low)} to {_share(high)}",
        _share(row["f1"]),
        "" if delay is None else f"{delay:g}",
        _share(row["exact_step"]),
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names)
