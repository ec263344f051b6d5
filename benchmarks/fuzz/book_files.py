"""Read a book of which any file is broken: events, seals, plans, evaluations, the index, pages.

    python benchmarks/fuzz/book_files.py --count 3000 --seed 0

A book with three runs, a sweep of two trials, what a judge said, and scores of rows is made once.
In each case one or two of its files are harmed, cut, emptied or replaced, and the verbs that read a
book are run on it, in a fork that has imported them. Nothing but the harmed files may change, and
the other runs of the book are listed as before. A sweep of which trials are left is not trained.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from harness import (
    Lost,
    Target,
    Wordless,
    arguments,
    command,
    fuzz,
    is_no_sentence,
    one_sentence,
)
from mutate import mutate_bytes, mutate_value

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

VERBS = (
    ("runs",),
    ("runs", "--json"),
    ("show", "second"),
    ("verdicts", "second"),
    ("lineage",),
    ("diff", "first", "second"),
    ("compare", "first", "second"),
    ("reindex",),
    ("notebook", "build"),
    ("plan", "--history"),
    ("note", "second", "a thought"),
    ("watch", "second"),
    ("sweep", "rates.yaml"),
    ("sweep", "rates.yaml", "--json"),
    ("clean", "second"),
    ("judge", "--scores", "answers.json"),
    ("show", "rates-001"),
    ("plan", "second"),
    ("JUDGE",),
    ("SCORES",),
)
"""The last two are no verbs: what `judge` and `data filter` read, without endpoint and rows."""
WRITING = ("notebook", "note", "reindex", "clean", "verdicts", "sweep")
JUDGE = """\
base_url: http://127.0.0.1:9/v1
model: judge
runs: 2
"""
RUN = """\
name: base
model: tunebook/tiny
data: [{path: rows.json}]
template: qa
train: {max_steps: 10}
"""
SWEEP = """\
name: rates
run: base.yaml
over: {train.learning_rate: [1.0e-3, 1.0e-5]}
"""


@cache
def whole_book() -> Path:
    """Make a book with a file of every kind."""
    from made_chess import even_grid, make_chess, make_grid
    from made_evaluations import make_answers
    from made_runs import make_plan, make_run
    from tunebook.book.places import create_book

    book = create_book(Path(tempfile.mkdtemp(prefix="fuzz-book-")) / "book")
    for name, parent in (("first", "null"), ("second", "first"), ("third", "null")):
        run = make_run(book, name, **({} if parent == "null" else {"extends": parent}))
        make_plan(run)
        make_chess(run, 0.8, 520)
        make_grid(run, even_grid())
        make_answers(run, ["one", "two"])
    make_sweep(book)
    make_judged(book)
    make_scores(book / "rows.scores.jsonl")
    command_in(book, "runs")
    command_in(book, "notebook", "build")
    return book


def make_sweep(book: Path) -> None:
    """Make a sweep whose two trials have ended, as `tunebook sweep` leaves it."""
    from made_runs import make_plan, make_run
    from tunebook.book.sweeps import SweepFolder, SweepTrial, add_trial

    (book / "rows.json").write_text('[{"question": "a?", "answer": "b"}]', encoding="utf-8")
    (book / "base.yaml").write_text(RUN, encoding="utf-8")
    (book / "rates.yaml").write_text(SWEEP, encoding="utf-8")
    folder = SweepFolder(book, "rates")
    folder.path.mkdir(parents=True)
    folder.sweep_yaml.write_text(SWEEP, encoding="utf-8")
    for point, rate in enumerate((1e-3, 1e-5), 1):
        make_plan(make_run(book, f"rates-00{point}", loss=2.0 + point / 9, learning_rate=rate))
        settings = {"train.learning_rate": rate}
        add_trial(folder, SweepTrial(f"rates-00{point}", point, None, settings))
    here = Path.cwd()
    os.chdir(book)
    try:
        code, _out, error = command("sweep", "rates.yaml")
    finally:
        os.chdir(here)
    assert code == 0, error
    keep_base_of(book)


def keep_base_of(book: Path) -> None:
    """Write down what was varied, as the beginning of a sweep does."""
    from tunebook.book.sweeps import SweepFolder
    from tunebook.recipe.sweep import load_sweep
    from tunebook.workflows.sweep_checks import check_points, keep_base, run_of

    found, _ = load_sweep(book / "rates.yaml")
    run = run_of(found, book / "rates.yaml")
    keep_base(SweepFolder(book, "rates"), check_points(found, run, book))


def make_judged(book: Path) -> None:
    """Write what runs share of a judge: scores paid for, frozen answers, sessions, settings."""
    from tunebook.book.judging import ScoreCache, add_anchor_session, freeze_anchor_answers
    from tunebook.book.places import RunFolder

    run = RunFolder(book, "second")
    cache = ScoreCache(run, "judge")
    for number in range(3):
        cache.add(f"k{number}", {"score": 50 + number, "said": "fine"})
    freeze_anchor_answers(run, [{"item_id": f"q#{n}", "text": "one"} for n in range(3)])
    add_anchor_session(run, {"judge": "judge", "mean": 51.0, "at": "2026-01-01T00:00:00Z"})
    (book / "judge.yaml").write_text(JUDGE, encoding="utf-8")
    scores = [{"id": f"q{n}", "score": 50 + n} for n in range(4)]
    (book / "answers.json").write_text(json.dumps(scores), encoding="utf-8")


def make_scores(path: Path) -> None:
    """Write scores of rows, as `tunebook data score` does."""
    from tunebook.data.scores import Score, ScoreWriter

    with ScoreWriter(path, {"model": "tunebook/tiny", "tokenizer": "t"}) as writer:
        writer.add([Score(f"rows#{n}", n + 1, 2.0 + n, 9) for n in range(4)])


def read_judged(book: Path) -> None:
    """Read all that is kept of a judge."""
    from tunebook.book.judging import ScoreCache, read_anchor_answers, read_anchor_sessions
    from tunebook.book.places import RunFolder
    from tunebook.evaluate.judge.settings import make_judge

    run = RunFolder(book, "second")
    ScoreCache(run, "judge").get("k1")
    quietly(lambda: read_anchor_answers(run))
    quietly(lambda: read_anchor_sessions(run, "judge"))
    quietly(lambda: make_judge(book / "judge.yaml", {}))


def quietly(read: Callable[[], object]) -> None:
    """Read, or be refused in one sentence."""
    from tunebook.errors import TunebookError

    try:
        read()
    except TunebookError as error:
        wrong = is_no_sentence(str(error))
        if wrong is not None:
            raise Wordless(f"{wrong}: {error}") from None


def command_in(book: Path, *argv: str) -> None:
    """Run a command in a book."""
    here = Path.cwd()
    os.chdir(book)
    try:
        command(*argv)
    finally:
        os.chdir(here)


@cache
def files() -> tuple[str, ...]:
    """List the files of the second run, of the index and of the book itself."""
    book = whole_book()
    found = [p for p in (book / "runs" / "second").rglob("*") if p.is_file()]
    found += [p for p in (book / "sweeps").rglob("*") if p.is_file() and p.name != ".lock"]
    found += [p for p in (book / "judge-anchor").iterdir() if p.suffix == ".jsonl"]
    found += (book / ".tunebook" / "judge").iterdir()
    found += [book / n for n in ("judge.yaml", "answers.json", "rows.scores.jsonl", "rates.yaml")]
    found += (book / ".tunebook").glob("*.db")
    found += [book / "notebook.md", book / "tunebook.yaml"]
    return tuple(sorted(str(path.relative_to(book)) for path in found))


def draw(pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Harm one or two files, and choose what reads them."""
    harmed = {}
    for name in rng.sample(files(), rng.choice((1, 1, 1, 2))):
        raw = (whole_book() / name).read_bytes()
        way = rng.random()
        if name.endswith(".json") and way < 0.5:
            tree = json.loads(raw)
            for _ in range(rng.choice((1, 1, 3))):
                tree = mutate_value(tree, rng.choice(pool), rng)
            harmed[name] = json.dumps(tree, default=str).encode("utf-8", "surrogatepass")
        elif name.endswith(".jsonl") and way < 0.6:
            lines = raw.splitlines(keepends=True)
            at = rng.randrange(len(lines))
            tree = mutate_value(json.loads(lines[at]), rng.choice(pool), rng)
            lines[at] = json.dumps(tree, default=str).encode("utf-8", "surrogatepass") + b"\n"
            if rng.random() < 0.2:
                rng.shuffle(lines)
            harmed[name] = b"".join(lines)
        else:
            harmed[name] = (
                rng.choice((b"", b"\0" * 50, b"[]", b"{}", b"null", b"3"))
                if (way > 0.95)
                else mutate_bytes(raw, rng)
            )
    return {"harmed": harmed, "verbs": rng.sample(range(len(VERBS)), 5)}


def run(place: Path, case: dict[str, Any]) -> str:
    """Read the harmed book."""
    book = place / "book"
    shutil.copytree(whole_book(), book, symlinks=True)
    for name, raw in case["harmed"].items():
        (book / name).write_bytes(raw)
    before = {name: (book / name).read_bytes() for name in files() if name not in case["harmed"]}
    os.chdir(book)
    writes = False
    for number in case["verbs"]:
        verb = VERBS[number]
        if verb == ("JUDGE",):
            read_judged(book)
        elif verb == ("SCORES",):
            from tunebook.data.scores import read_scores

            quietly(lambda: read_scores(str(book / "rows.scores.jsonl")))
        else:
            one_sentence(*verb)
        writes |= verb[0] in WRITING
    if "tunebook.yaml" not in case["harmed"]:
        code, out, error = command("runs")
        for name in ("first", "third"):
            if code or name not in out:
                raise Lost(f"runs ({code}) does not list {name}: {error[-200:]}")
    for name, raw in before.items():
        # The index and what is generated may be written anew; what was measured may not.
        kept = not name.endswith((".db", ".md", ".svg"))
        if kept and not writes and (book / name).read_bytes() != raw:
            raise Lost(f"{name} was changed by reading")
        if "events" in name and not (book / name).read_bytes().startswith(raw):
            raise Lost(f"{name} lost events")
    os.chdir(ROOT)
    return "read"


def train_nothing() -> None:
    """End a sweep where it would plan and train the trials that are left."""
    from tunebook.errors import BookError
    from tunebook.workflows import sweep

    def refuse(*_given: object) -> None:
        raise BookError("trials are left to be trained")

    sweep.plan_sweep = refuse  # type: ignore[assignment]


TARGET = Target(
    "book-files",
    "A book with a broken file is read all the same: one sentence names the run or the file, the "
    "other runs are listed, and nothing else is changed",
    ("R10",),
    draw,
    run,
    seconds=60.0,
    mended=(
        "`diff` of a run whose data.json lacks its sources ended in a KeyError.",
        "A step with a word where a number belongs ended `show` in a TypeError; it is named now.",
        "What a sweep began with (base.json), once broken, ended `sweep` in a JSONDecodeError.",
        "A line of a judge's scores or sessions without its key ended `judge` in a KeyError.",
        "Stored settings that are no UTF-8 ended `plan` and others in a UnicodeDecodeError.",
    ),
)

if __name__ == "__main__":
    options = arguments(__doc__, 3000)
    for verb in {verb[0] for verb in VERBS if verb[0].islower()}:
        __import__(f"tunebook.cli.{verb}")
    train_nothing()
    files()
    code = fuzz(TARGET, options)
    shutil.rmtree(whole_book().parent, ignore_errors=True)
    sys.exit(code)
