"""Score tunebook's verdicts on the fault benchmark's logs.

    python benchmarks/faults/score.py --split tuning --errors
    python benchmarks/faults/score.py --split scoring --write-docs

What counts as right is defined at the top of scoring.py. `--write-docs` keeps the numbers in
scores.json, from which tools/make_docs.py writes docs/verdicts.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from logs import FOLDER, LoggedRun, read_split
from scoring import (
    STRENGTHS,
    Alarm,
    KindScore,
    Label,
    Outcome,
    causes,
    clopper_pearson,
    confusion,
    exact_ids,
    false_alarms,
    is_faulty,
    score,
    shares,
)

from tunebook.kinds import FAULTS
from tunebook.pages.markdown import table
from tunebook.records import Verdict
from tunebook.watch.diagnose import diagnose

SCORES = Path(__file__).with_name("scores.json")
STRONG = STRENGTHS[1:]
SPLITS = ("tuning", "scoring", "confirming")


def label_of(run: LoggedRun) -> Label:
    """Take what was done to a run."""
    if run.kind is None:
        return Label(run.name, run.substrate, seed=run.seed, steps=len(run.log))
    return Label(
        run.name,
        run.substrate,
        run.fault,
        run.kind,
        run.strength,
        run.first_step,
        run.last_step,
        tuple(run.ids),
        run.seed,
        len(run.log),
    )


def alarm_of(verdict: Verdict) -> Alarm:
    """Take what is scored of a verdict."""
    ids = verdict.evidence.get("examples", ())
    named = tuple(map(str, ids)) if isinstance(ids, Iterable) else ()
    return Alarm(verdict.step or 0, verdict.kind, verdict.confidence, named)


def judged(runs: Iterable[LoggedRun]) -> list[Outcome]:
    """Diagnose every run; notices and `no_fault_found` are no alarms."""
    return [
        Outcome(label_of(r), tuple(alarm_of(v) for v in diagnose(r.log) if v.kind in FAULTS))
        for r in runs
    ]


def report(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Collect all numbers of one split as plain values; None is unknown."""
    alarmed, healthy = false_alarms(outcomes)
    everything, strong = score(outcomes), score(outcomes, STRONG)
    spikes, every = causes(outcomes), causes(outcomes, FAULTS)
    substrates = sorted({outcome.label.substrate for outcome in outcomes})
    return {
        "seeds": len({outcome.label.seed for outcome in outcomes}),
        "longest_run": max(outcome.label.steps for outcome in outcomes),
        "faulty": everything.faulty,
        "healthy": healthy,
        "false_alarms": alarmed,
        "false_alarm_interval": clopper_pearson(alarmed, healthy) if healthy else None,
        "macro_f1": everything.macro_f1,
        "macro_f1_strong": strong.macro_f1,
        "all": _row(everything.pooled),
        "strong": _row(strong.pooled),
        "strengths": {s: _row(score(outcomes, (s,)).pooled) for s in STRENGTHS},
        "kinds": {kind: _row(found) for kind, found in everything.kinds.items()},
        "kinds_strong": {kind: _row(found) for kind, found in strong.kinds.items()},
        "never_injected": everything.unlabelled,
        "by_fault": shares(outcomes, lambda label: label.fault),
        "by_substrate": shares(outcomes, lambda label: label.substrate),
        "false_by_substrate": {
            name: false_alarms(o for o in outcomes if o.label.substrate == name)
            for name in substrates
        },
        "causes_of_spikes": vars(spikes),
        "causes_of_all": vars(every),
        "exact_ids": exact_ids(outcomes),
        "exact_ids_strong": exact_ids(o for o in outcomes if o.label.strength in STRONG),
        "confusion": {kind: dict(said) for kind, said in confusion(outcomes).items()},
    }


def _row(found: KindScore) -> dict[str, object]:
    return {
        "runs": found.runs,
        "right": found.right,
        "false": found.false,
        "detected": found.detected,
        "precision": found.precision,
        "recall": found.recall,
        "recall_interval": found.recall_interval if found.runs else None,
        "f1": found.f1,
        "median_delay": found.median_delay,
        "exact_step": found.exact_step,
    }


def rounded(value: object) -> object:
    """Make values that JSON holds and that read the same on every machine."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def text(found: dict, outcomes: Sequence[Outcome]) -> str:
    """Write the numbers as tables."""
    head = ("kind", "runs", "right", "false", "precision", "recall", "95 %", "F1", "detected")
    head += ("delay", "exact step")
    rows = [(kind, *_cells(row)) for kind, row in found["kinds"].items()]
    rows += [("all", *_cells(found["all"])), ("clear + gross", *_cells(found["strong"]))]
    rows += [(strength, *_cells(row)) for strength, row in found["strengths"].items()]
    low, high = found["false_alarm_interval"] or (math.nan, math.nan)
    spikes, every = found["causes_of_spikes"], found["causes_of_all"]
    lines = [
        table(head, rows, right=head[1:]),
        f"macro-F1 {_share(found['macro_f1'])}, without just_visible "
        f"{_share(found['macro_f1_strong'])}",
        f"false alarms in {found['false_alarms']} of {found['healthy']} healthy runs "
        f"({_share(low)} to {_share(high)})",
        *(
            f"cause of {what}: right in {c['decided_right']} of {c['decided']} where decided, "
            f"undecided or right in {c['open_undecided']} of {c['open']} elsewhere"
            for what, c in (("spikes", spikes), ("all faults", every))
        ),
        "exact ids of bad examples: {} of {}".format(*found["exact_ids"])
        + "; clear and gross {} of {}".format(*found["exact_ids_strong"]),
        f"reported but never injected: {found['never_injected'] or 'nothing'}",
        "",
        "label: first verdict in the window, else the first",
    ]
    for kind, said in found["confusion"].items():
        lines.append(f"  {kind}: {', '.join(f'{word} {n}' for word, n in said.items())}")
    for what in ("by_fault", "by_substrate"):
        rows = [(key, *map(str, counts)) for key, counts in found[what].items()]
        lines += ["", table((what[3:], "runs", "named", "detected"), rows)]
    said = (f"{name} {n} of {runs}" for name, (n, runs) in found["false_by_substrate"].items())
    lines.append(f"healthy runs with an alarm: {', '.join(said)}")
    return "\n".join(lines)


def _cells(row: dict) -> tuple[str, ...]:
    low, high = row["recall_interval"] or (math.nan, math.nan)
    return (
        *(str(row[name]) for name in ("runs", "right", "false")),
        _share(row["precision"]),
        _share(row["recall"]),
        f"{_share(low)}-{_share(high)}",
        _share(row["f1"]),
        str(row["detected"]),
        "" if row["median_delay"] is None else f"{row['median_delay']:g}",
        _share(row["exact_step"]),
    )


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def errors(outcomes: Iterable[Outcome]) -> list[str]:
    """Name every run that is missed or has a false alarm, with what was said of it."""
    lines = []
    for o in outcomes:
        missed = is_faulty(o) and o.right is None
        if not missed and not o.false:
            continue
        label = o.label
        what = f"{label.kind} {label.strength} at {label.first_step}..{label.last_step}"
        if label.kind is None:
            what = "healthy"
        said = [f"{a.kind}@{a.step} ({a.confidence})" for a in o.alarms]
        word = "missed" if missed else "false"
        lines.append(f"{word:6}  {label.name}: {what}; said {', '.join(said) or 'nothing'}")
    return sorted(lines)


def main() -> None:
    """Score one split and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="scoring")
    parser.add_argument("--logs", type=Path, default=FOLDER, help="folder of packed logs")
    parser.add_argument("--errors", action="store_true", help="name every miss and false alarm")
    parser.add_argument("--kind", help="only runs of this label, and healthy ones")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--write-docs", action="store_true", help=f"keep them in {SCORES.name}")
    options = parser.parse_args()
    started = time.monotonic()
    runs = read_split(options.split, options.logs)
    if not runs:
        sys.exit(f"there are no logs in {options.logs / options.split}")
    if options.kind:
        runs = [run for run in runs if run.kind in (None, options.kind)]
    read = time.monotonic()
    outcomes = judged(runs)
    done = time.monotonic()
    found = rounded(report(outcomes))
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(text(found, outcomes))
        print(f"{len(runs)} runs: read in {read - started:.1f} s, judged in {done - read:.1f} s")
    if options.errors:
        print("\n".join(errors(outcomes)))
    if options.write_docs:
        kept = json.loads(SCORES.read_text()) if SCORES.exists() else {}
        SCORES.write_text(json.dumps(kept | {options.split: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
