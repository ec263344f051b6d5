"""A book in which every text is an attempt to become markup, and the same again as a query."""

from __future__ import annotations

import json
from pathlib import Path

from made_evaluations import make_answers, make_evaluation
from made_runs import make_plan, make_run
from tunebook.book.atomic import write_text
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.book.seal import seal
from tunebook.records import Diagnosis, Sample, Verdict

SCRIPT = "<script>window.fooled = 1</script>"
IMAGE = '"\'><img src=x onerror="window.fooled=2">'
LINK = "[click](javascript:window.fooled=3) <a href='javascript:window.fooled=4'>here</a>"
PICTURE = "![p](http://evil.example/p.png) [far](https://evil.example/)"
TEMPLATE = "{{ 7 * 191 }} ${7*191} {% raw %}"
HOSTILE = f"{SCRIPT} {IMAGE} {LINK} {PICTURE} {TEMPLATE} </textarea></title></script>"


def make_hostile_book(book: Path) -> Path:
    """Fill a book with runs `first`, `second` (its child), `waits` and folders that are none."""
    first = make_run(book, "first", predict=(HOSTILE, "val_loss < second.val_loss"))
    second = make_run(book, "second", model="run:first", extends="first", loss=1.5)
    for run in (first, second):
        _poison(run)
    waits = RunFolder(book, "waits")
    waits.path.mkdir()
    told = json.dumps(HOSTILE)  # JSON is YAML
    write_text(
        waits.run_yaml,
        f"name: waits\nmodel: {told}\nextends: {told}\n"
        f"notebook: {{hypothesis: {told}, predict: [{told}], tags: [{told}]}}\n",
    )
    for name in ("<script>window.fooled=5<", '"onmouseover="window.fooled=6', "..x\n"):
        (book / "runs" / name.replace("/", "")).mkdir()
    imported = make_run(book, "imported", model="other")
    text = imported.resolved_yaml.read_text()
    far = json.dumps({"file": HOSTILE, "from": HOSTILE, "format": HOSTILE, "notes": [HOSTILE]})
    write_text(imported.resolved_yaml, f"{text}  imported:\n    {far}\n")
    write_text(book / "notebook.md", f"# Book\n\n- try {HOSTILE}\n\n{HOSTILE}\n")
    return book


def _poison(run: RunFolder) -> None:
    text = run.resolved_yaml.read_text()
    write_text(run.resolved_yaml, text.replace("[first-light]", json.dumps([HOSTILE, "a b"])))
    data = json.loads(run.data_json.read_text())
    data["sources"][0] |= {"path": HOSTILE, "format": HOSTILE, "notes": [HOSTILE]}
    data["sources"][0]["dropped"] = {HOSTILE: 3}
    write_text(run.data_json, json.dumps(data | {"notes": [HOSTILE]}))
    make_plan(run)
    plan = json.loads(run.plan_json.read_text())
    plan["checks"][0]["message"] = HOSTILE
    write_text(run.plan_json, json.dumps(plan | {"accepted": [HOSTILE]}))
    seal(run, HOSTILE, [HOSTILE])
    bad = Verdict("bad_batch", 4, 5, HOSTILE, "likely", {HOSTILE: HOSTILE}, HOSTILE, (HOSTILE,))
    with EventWriter(run, 1) as events:
        events.write(
            "facts",
            {
                "device": HOSTILE,
                "base": HOSTILE,
                "first_batch": [{"example": HOSTILE, "text": f"{HOSTILE} ⟦{HOSTILE}⟧"}],
            },
        )
        events.write("sample", Sample(10, HOSTILE, HOSTILE, HOSTILE, HOSTILE))
        events.write("note", {"text": HOSTILE})
        events.write("verdicts", Diagnosis(10, (bad,), ("bad_batch",), {"spike": HOSTILE}, True))
        events.write("state", {"state": "failed", "reason": HOSTILE, "step": 10})
    words = f"# {HOSTILE}\n\n- 2026-11-21: {HOSTILE} #tag\n- 2026-11-22: {LINK}\n\n{PICTURE}\n"
    write_text(run.notebook_md, f"---\nrun: {run.name}\nbase: {HOSTILE}\n---\n\n{words}")
    write_text(run.train_log, HOSTILE)
    lines = [{"question": HOSTILE, "reference": HOSTILE, "prompt": HOSTILE} for _ in range(3)]
    answers = make_answers(run, [HOSTILE, "yes", ""], lines=lines, unusual=HOSTILE)
    make_answers(run, ["base", HOSTILE, ""], "base", lines=lines, unusual=HOSTILE)
    reasons = [{"reason": HOSTILE, "text": HOSTILE, "raw": HOSTILE} for _ in range(3)]
    make_evaluation(run, [50.0, 60.0, None], "judge", lines=reasons, answers=answers, judge=HOSTILE)
    make_evaluation(run, [1.0, 2.0, 3.0], "loss", prompt=HOSTILE)
