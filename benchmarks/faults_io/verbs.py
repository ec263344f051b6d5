"""Every verb, on a small book: how it is called and what it has to leave."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import forked
import toy
from visits import make_server, visit_health, visit_pages

SHORT = {"train": {"max_steps": 4}, "evaluate": {"every": 2}, "checkpoint": {"every": 2, "keep": 2}}
NEW = {"accept": ["random-base", "disk-too-small"]}
ASKED = ("--device", "cpu", "--max-new-tokens", "2")


@dataclass(frozen=True)
class Verb:
    """A command in the book, what it makes (patterns), and what must be there first.

    `slow` ones load a model in a process of their own, and are tried at fewer points. One that goes
    on until Ctrl-C gets that when it has said `until`, and after `visit` was called with all it
    said.
    """

    name: str
    args: tuple[str, ...]
    makes: tuple[str, ...] = ()
    before: Callable[[Path], object] = lambda _book: None
    stdin: str = ""
    slow: bool = False
    until: str = ""
    visit: Callable[[str], str] = visit_health


def _judged(args: tuple[str, ...], judge: str) -> tuple[str, ...]:
    return (*args, "--base-url", judge, "--judge-model", "m", "--concurrency", "2")


def _log(kind: str) -> tuple[str, ...]:
    """Name what an evaluation of run `done` leaves: its answers, and what it came to."""
    return (f"runs/done/evaluations/{kind}*.jsonl",)


def _left_over(book: Path) -> None:
    aside = book / "runs" / "done" / "checkpoints" / ".tmp-9-99999"
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"x" * 9000)


def verbs(judge: str) -> list[Verb]:
    """List them; `judge` is the base URL of an endpoint that answers."""
    rows = "rows.json"
    return [
        Verb("init", ("init", "inside"), ("inside/tunebook.yaml",)),
        Verb("new", ("new", "fresh", "--from", "done"), ("runs/fresh/run.yaml",)),
        Verb("plan", ("plan", "new.yaml", "--no-probe"), (".tunebook/cache/*",),
             before=_without_cache),
        Verb("train", ("train", "new.yaml"), ("runs/new/final/MANIFEST.json",)),
        Verb(
            "train, told to a tracker",
            ("train", "told.yaml"),
            ("runs/told/final/MANIFEST.json",),
            slow=True,
        ),
        Verb("resume", ("resume", "paused"), ("runs/paused/final/MANIFEST.json",)),
        Verb("sweep", ("sweep", "sweep.yaml", "--workers", "1"),
             ("sweeps/rates/*.md", "runs/rates-002/final/MANIFEST.json"), slow=True),
        Verb("replay", ("replay", "spiky", "--step", "6"),
             ("runs/spiky/evaluations/replay-step-6.json",)),
        Verb("stop", ("stop", "paused"), ("runs/paused/stop-requested",), before=_as_if_it_ran),
        Verb(
            "chat",
            ("chat", "done", *ASKED),
            stdin="Say 1\n/save\n/quit\n",
        ),
        Verb("judge", _judged(("judge", "done", "--n", "2", *ASKED), judge), _log("judge")),
        Verb("show --figure", ("show", "done", "--figure", "a.svg"), ("a.svg",)),
        Verb("show --curves", ("show", "done", "--curves", "a.csv"), ("a.csv",)),
        Verb("compare --blind",
             ("compare", "done", "lora", "--blind", "--ask", "questions.jsonl"), _log("votes"),
             stdin="1\n2\n"),
        Verb("note", ("note", "done", "a note", "--tag", "seen")),
        Verb("notebook build", ("notebook", "build", "--html"), ("notebook.html",)),
        Verb("evaluate", ("evaluate", "done", "--device", "cpu")),
        Verb("probe", ("probe", "done", "--prompts", "2", "--repeats", "1", *ASKED), _log("probe")),
        Verb(
            "grid",
            ("grid", "done", "--temperatures", "0,1", "--prompts", "2", "--repeats", "1", *ASKED),
            _log("grid"),
        ),
        Verb(
            "release",
            ("release", "lora", "out", "--merged"),
            ("out/model.safetensors", "out/README.md"),
            slow=True,
        ),
        Verb(
            "data filter",
            ("data", "filter", rows, "--filter", "exact_duplicate", "--out", "kept.jsonl",
             "--dropped", "dropped.jsonl"),
            ("kept.jsonl", "dropped.jsonl"),
        ),
        Verb("data split", ("data", "split", rows, "--fraction", "0.2", "--out", "sides"),
             ("sides",)),
        Verb("data prepare", ("data", "prepare", "new.yaml", "--workers", "1"),
             (".tunebook/cache/*",), before=_without_cache),
        Verb(
            "data score",
            ("data", "score", rows, "--model", "toy", "--template", "qa", "--out", "scores.jsonl",
             "--max-tokens", "128",
             "--device", "cpu"),
            ("scores.jsonl",),
        ),
        Verb("data mix", ("data", "mix", "new.yaml"), (".tunebook/cache/*",),
             before=_without_cache),
        Verb(
            "data chess",
            ("data", "chess", "games.jsonl", "--task", "next_move", "--out", "moves.jsonl",
             "--pgn", "games.pgn"),
            ("moves.jsonl", "games.pgn"),
        ),
        Verb("chess --games", ("chess", "--games", "played.pgn"), before=_games),
        Verb("chess of a run", ("chess", "done", "--device", "cpu", "--weights", "final", "--each",
             "0", "--header", "none", "--set", "positions=3"), _log("chess"), slow=True),
        Verb("clean", ("clean",), before=_left_over),
        Verb("import", ("import", "log.csv", "--name", "theirs"), ("runs/theirs",)),
        Verb("convert", ("convert", "trl.yaml", "-o", "converted.yaml"), ("converted.yaml",)),
        Verb("reindex", ("reindex",), (".tunebook/index.db",), before=_without_index),
        Verb("schema", ("schema", "--write"), (".tunebook/run.schema.json",)),
        Verb("demo", ("demo", "--book", "demo-book"), ("demo-book/notebook.md",), slow=True),
        Verb("recipes run", ("recipes", "run", "short", "--book", "recipe-book"),
             ("recipe-book/report.md",), slow=True),
        Verb("serve", ("serve", "lora", "--port", "0", "--engine", "vllm"), slow=True,
             until="Ctrl-C ends it"),
        Verb("ui", ("ui", "--port", "0"), until="http://", visit=visit_pages),
        *(Verb(f"{' '.join(args[:2])}, which only reads", args) for args, _ in READING),
    ]  # fmt: skip


READING: tuple[tuple[tuple[str, ...], str], ...] = (
    (("runs",), "lists runs; only the index, which is thrown away at any time, may be written"),
    (
        ("show", "done"),
        "shows a run; with --figure and --curves it writes, and is among the others",
    ),
    (("watch", "done"), "shows the events of a run"),
    (("verdicts", "done"), "judges a run anew, and prints it"),
    (("lineage",), "draws which run comes from which"),
    (("diff", "done", "lora"), "compares the settings of two runs"),
    (("compare", "done", "lora"), "compares stored scores; with --blind it writes"),
    (("doctor",), "prints versions, devices, memory and disk"),
    (
        ("data", "show", "rows.json", "--model", "toy", "--template", "qa"),
        "decodes rows as the model will see them",
    ),
    (
        ("data", "stats", "rows.json", "--model", "toy", "--template", "qa"),
        "counts rows, tokens and what is cut",
    ),
    (("recipes",), "lists what the package carries"),
    (("recipes", "show", "short"), "prints a file of the package"),
    (("schema",), "prints the schema; with --write it writes"),
)
"""What writes nothing of its own, and why; tried all the same: each has to work or say why not."""

RECIPE = """\
title: a recipe for the test
notebook: Four steps of a toy.
minutes: 0.1
steps:
  - run: plan short.yaml --no-probe --json
    keep: planned
  - run: train short.yaml
  - run: verdicts short --json
    keep: verdicts
"""


def make_short(folder: Path) -> None:
    """Let `demo` and `recipes run` take seconds, and put a stand-in server in front of PATH.

    Both train a toy for four steps; a recipe made for the test stands in place of the package's.
    """
    import os

    import tunebook.workflows.demo
    import tunebook.workflows.recipes

    demo = tunebook.workflows.demo
    toy_model = json.dumps(str(folder / "toy"))
    for said, instead in (
        ("epochs: 4", "max_steps: 4"),
        ("model: tunebook/tiny", f"model: {toy_model}\naccept: [random-base, disk-too-small]"),
        ("max_seq_len: 128", "device: cpu\nmax_seq_len: 128"),
    ):
        assert said in demo.RUN_FILE
        demo.RUN_FILE = demo.RUN_FILE.replace(said, instead)
    recipe = folder / "recipes" / "short"
    (recipe / "twin").mkdir(parents=True)
    (recipe / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (recipe / "report.md").write_text("{{ verdicts | length }} verdicts\n", encoding="utf-8")
    shutil.copy(folder / "whole" / "rows.json", recipe / "twin" / "rows.json")
    run = json.loads(toy.write_run(folder, "short", **SHORT, **NEW).read_text(encoding="utf-8"))
    run["data"] = [{"path": "rows.json"}]
    (recipe / "twin" / "short.yaml").write_text(json.dumps(run), encoding="utf-8")
    tunebook.workflows.recipes.FOLDER = recipe.parent
    servers = make_server(folder / "bin", sys.executable)
    os.environ["PATH"] = f"{servers}{os.pathsep}{os.environ['PATH']}"


def _as_if_it_ran(book: Path) -> None:
    """Write the heartbeat of a process that lives: this one."""
    import os
    import socket

    from tunebook.book.liveness import _identity

    beat = {"host": socket.gethostname(), "pid": os.getpid(), "process": _identity(os.getpid())}
    path = book / "runs" / "paused" / "heartbeat.json"
    path.write_text(json.dumps({**beat, "time": 1e9}), encoding="utf-8")


def _without_cache(book: Path) -> None:
    shutil.rmtree(book / ".tunebook" / "cache", ignore_errors=True)


def _without_index(book: Path) -> None:
    for path in (book / ".tunebook").glob("index.db*"):
        path.unlink()


_PGN = '[White "a"]\n[Black "b"]\n[Result "1-0"]\n\n1. e4 e5 2. Qh5 Nc6 3. Bc4 Nf6 4. Qxf7# 1-0\n\n'


def _games(book: Path) -> None:
    (book / "played.pgn").write_text(_PGN, encoding="utf-8")


def make_book(folder: Path) -> Path:
    """Make a book with runs `done`, `lora` and `paused`, and every input that a verb takes."""
    from kept import paused_run

    book = toy.make_book(folder)
    for name, more in (("done", {}), ("lora", {"method": "lora", "lora": {"rank": 2}})):
        path = toy.write_run(book, name, **SHORT, **NEW, **more)
        made = forked.run(book, "train", str(path))
        assert made.returncode == 0, made.said()
        scored = forked.run(book, "evaluate", name, "--device", "cpu")
        assert scored.returncode == 0, scored.said()
    high = {**SHORT["train"], "max_steps": 8, "warmup_steps": 5, "learning_rate": 0.3}
    path = toy.write_run(book, "spiky", **{**SHORT, **NEW, "train": high, "stop_on": []})
    spiky = forked.run(book, "train", str(path))
    assert spiky.returncode == 0, spiky.said()
    paused_run(book, "paused", 2, **SHORT, **NEW)
    shutil.rmtree(book / "aside")
    toy.write_run(book, "new", **SHORT, **NEW, seed=7)
    toy.write_run(book, "told", **SHORT, **NEW, report_to=["tensorboard"])
    values = {"name": "rates", "run": "new.yaml", "over": {"train.learning_rate": [1e-3, 2e-3]}}
    (book / "sweep.yaml").write_text(json.dumps(values), encoding="utf-8")
    asked = [json.dumps({"prompt": f"Say {n}"}) + "\n" for n in range(2)]
    (book / "questions.jsonl").write_text("".join(asked), encoding="utf-8")
    log = "step,loss,lr\n" + "".join(f"{n},{3 / n:.3f},0.001\n" for n in range(1, 30))
    (book / "log.csv").write_text(log, encoding="utf-8")
    trl = {
        "model_name_or_path": "toy", "dataset_name": "rows.json", "max_steps": 4,
        "learning_rate": 1e-3, "per_device_train_batch_size": 4, "output_dir": "out-of-trl",
    }  # fmt: skip
    (book / "trl.yaml").write_text(json.dumps(trl), encoding="utf-8")
    moves = json.dumps({"Moves": "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7"}) + "\n"
    (book / "games.jsonl").write_text(moves * 3, encoding="utf-8")
    (book / "runs" / "done" / "notebook.md").open("a").write("\nWords of my own.\n")
    return book
