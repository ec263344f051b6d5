"""Write docs/safety.md: its prose from a template, every count from benchmarks/results/safety."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "safety"
TEMPLATE = Path(__file__).with_name("safety_template.md")
KEYS = {
    "promise": str,
    "id": str,
    "cases": int,
    "failed": int,
    "mended": list,
    "seed": int,
    "how": str,
    "measured": dict,
}
"""What a file of counts holds: `id` names one row or several, `measured` has a date and versions;
`note` may say why a goal was not reached."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is tested (shown until it is counted), the goal, and tests that would show a break."""

    number: str
    what: str
    goal: str
    tests: tuple[str, ...]


GOALS = (
    Row("R1", "kill -9 of launcher or trainer at random, resumed until done",
        "1,000 kills, 400 of them inside a save",
        ("tests/flows/test_short_faults.py", "tests/flows/test_train_flow.py")),
    Row("R2", "a kill at every call of a save", "each of them",
        ("tests/unit/book/test_kill_points.py", "tests/flows/test_short_faults.py")),
    Row("R3", "stopped anywhere, resumed: full, LoRA, ReLoRA", "bit-identical",
        ("tests/flows/test_train_flow.py", "tests/flows/test_methods.py")),
    Row("R4", "damaged checkpoints", "2,000 named, the newest good one taken",
        ("tests/flows/test_short_faults.py", "tests/unit/book/test_checkpoints.py")),
    Row("R5", "no space at each write", "a sentence, nothing lost, the same bits afterwards",
        ("tests/flows/test_disk_at_every_verb.py", "tests/flows/test_disk_room.py")),
    Row("R6", "read-only, vanished and oddly named folders", "30 cases, one sentence",
        ("tests/flows/test_disk_at_every_verb.py", "tests/flows/test_faults_in_steps.py")),
    Row("R7", "NaN in weights, gradient, batch, optimizer, loss", "noticed at that step",
        ("tests/flows/test_faults_in_steps.py",)),
    Row("R8", "signals and a closed output", "saved and paused, 130 or 143",
        ("tests/flows/test_short_faults.py", "tests/flows/test_train_flow.py")),
    Row("R9", "settings changed before a resume", "25 listed and refused; `--fork` works",
        ("tests/unit/workflows/test_changes.py", "tests/flows/test_fork.py")),
    Row("R10", "eight writers, pages and an indexer on one book, killed",
        "200 kills, no acknowledged row lost", ("tests/flows/test_shared_book.py",)),
    Row("D1", "rows and run files changed at random", "10,000, each with file, line and reason",
        ("tests/unit/data/test_bad_files.py",)),
    Row("D2", "malformed encodings and containers", "50 named rightly",
        ("tests/unit/data/test_bad_files.py",)),
    Row("G1", "several processes compute what one does", "within 1e-5",
        ("tests/parity/test_team_parity.py", "tests/flows/test_several_devices.py")),
    Row("G2", "a rank killed or frozen", "20, the same bits, named within twice the wait",
        ("tests/flows/test_several_devices.py", "tests/flows/test_team_faults.py")),
    Row("G3", "a sweep on Ray loses workers and a host", "10 workers and a host, none lost",
        ("tests/flows/test_sweep_on_ray.py",)),
    Row("W1", "pages beside training", "training slowed by less than 10 %",
        ("tests/flows/test_web_at_work.py",)),
    Row("W2", "hostile requests over a socket", "5,000, no 5xx, nothing outside of the book",
        ("tests/flows/test_hostile_web.py", "tests/unit/web/test_every_page.py")),
    Row("W3", "payloads in every text, in a real browser", "100, no dialog, no request elsewhere",
        ("tests/browser/test_every_page_in_browser.py",)),
    Row("S", "keys of the environment; malicious models", "in no file; nothing runs",
        ("tests/flows/test_secrets_stay_secret.py",)),
    Row("J", "a judge that fails three times in ten", "1,000 questions, none lost or asked twice",
        ("tests/flows/test_judge_resume.py", "tests/unit/evaluate/test_judge_asking.py")),
    Row("L", "a long run", "10,000 steps, memory grows by less than 5 %",
        ("tests/flows/test_short_faults.py",)),
)  # fmt: skip

MUSTS = (
    Row("1", "no pickle is opened but by `convert`, in a process that is shut in", "",
        ("tests/test_house_rules.py", "tests/flows/test_convert_weights.py",
         "tests/unit/models/test_shut_in.py")),
    Row("2", "no code that comes with a model or a book runs, and no setting makes it", "",
        ("tests/test_house_rules.py", "tests/flows/test_no_code_of_a_book.py",
         "tests/flows/test_run_files_start_no_program.py")),
    Row("3", "a chat template is rendered in a sandbox, and tried within limits before", "",
        ("tests/test_house_rules.py", "tests/unit/fuzz/test_mended_by_fuzzing.py")),
    Row("4", "special tokens in somebody's text are text, and counted", "",
        ("tests/defects/test_special_tokens.py", "tests/unit/data/test_chat_masks.py")),
    Row("5", "no path or link leads out of the folder it belongs to", "",
        ("tests/properties/test_paths_stay_in_a_book.py", "tests/unit/web/test_every_page.py")),
    Row("6", "who may ask for a page, and what a page may do", "",
        ("tests/unit/web/test_guard.py", "tests/unit/web/test_start_token.py",
         "tests/unit/web/test_every_page.py")),
    Row("7", "YAML and JSON are bounded in size, depth and aliases", "",
        ("tests/unit/data/test_bad_files.py", "tests/unit/data/test_tables.py",
         "tests/unit/recipe/test_run_file_errors.py")),
    Row("8", "a judge is its user's own, and its key goes to no other host", "",
        ("tests/unit/evaluate/test_judge_hostile_endpoint.py",)),
    Row("9", "an imported run or recipe is data: no code, no path, no address followed", "",
        ("tests/flows/test_import.py",)),
    Row("10", "a Ray cluster of one host lets nobody in", "",
        ("tests/flows/test_local_ray_cluster.py",)),
)  # fmt: skip


def read_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Read all counts; ValueError for a file that is not of the form."""
    found = []
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        for key, kind in KEYS.items():
            if type(one.get(key)) is not kind:
                raise ValueError(f"{path.name}: `{key}` is to be {kind.__name__}")
        if not all(isinstance(sentence, str) for sentence in one["mended"]):
            raise ValueError(f"{path.name}: `mended` is to be a list of sentences")
        if not set(one["id"].split(", ")) <= {row.number for row in (*GOALS, *MUSTS)}:
            raise ValueError(f"{path.name}: nothing is promised as {one['id']!r}")
        if not {"date", "versions"} <= one["measured"].keys():
            raise ValueError(f"{path.name}: `measured` is to have a date and versions")
        found.append(one)
    return found


def safety_markdown(folder: Path = RESULTS) -> str:
    """Put the counts into the template."""
    results = read_results(folder)
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, lines in (
        ("goals", _table(GOALS, results)),
        ("musts", _table(MUSTS, results)),
        ("mended", _mended(results)),
        ("how", _how(results)),
    ):
        text = text.replace(f"<!-- {mark} -->", "\n".join(lines))
    return text


def _table(rows: tuple[Row, ...], results: list[dict[str, Any]]) -> list[str]:
    lines = ["| | what | goal | cases | failed | shown by |", "|---|---|---|---:|---:|---|"]
    if rows is MUSTS:
        lines = [
            "| | must hold | counted | cases | failed | shown by |",
            "|---|---|---|---:|---:|---|",
        ]
    for row in rows:
        tests = ", ".join(f"`{test}`" for test in row.tests)
        missing = [test for test in row.tests if not (ROOT / test).is_file()]
        if missing:
            raise ValueError(f"{row.number}: there is no {', '.join(missing)}")
        mine = [one for one in results if row.number in one["id"].split(", ")]
        goal = f" {row.goal} |" if row.goal else ""
        must = f" {row.what} |" if rows is MUSTS else ""
        if not mine and must:
            lines.append(f"| {row.number} |{must} not counted | | | {tests} |")
        elif not mine:
            lines.append(f"| {row.number} | {row.what} |{goal} not counted | | {tests} |")
        for place, one in enumerate(mine):
            number, shown = (row.number, tests) if place == 0 else ("", "")
            goal = goal if place == 0 else goal and " |"
            must = must if place == 0 else must and " |"
            said = one["promise"] + (f"; {one['note']}" if one.get("note") else "")
            counts = f"{one['cases']:,} | {one['failed']:,}"
            lines.append(f"| {number} |{must} {said} |{goal} {counts} | {shown} |")
    return lines


def _mended(results: list[dict[str, Any]]) -> list[str]:
    return [f"- {sentence} ({one['id']})" for one in results for sentence in one["mended"]]


def _how(results: list[dict[str, Any]]) -> list[str]:
    lines = ["| | command | seed | measured |", "|---|---|---:|---|"]
    for one in results:
        versions = ", ".join(f"{k} {v}" for k, v in one["measured"]["versions"].items())
        when = f"{one['measured']['date']}: {versions}"
        lines.append(f"| {one['id']} | `{one['how']}` | {one['seed']} | {when} |")
    return lines
