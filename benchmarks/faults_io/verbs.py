"""Every verb that writes, on a small book: how it is called and what it has to leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import forked
import toy

SHORT = {"train": {"max_steps": 4}, "evaluate": {"every": 2}, "checkpoint": {"every": 2, "keep": 2}}
NEW = {"accept": ["random-base", "disk-too-small"]}
ASKED = ("--device", "cpu", "--max-new-tokens", "2")


@dataclass(frozen=True)
class Verb:
    """A command in the book, what it makes, and what must be there first.

    `slow` ones load a model in a process of their own, and are tried at fewer points.
    """

    name: str
    args: tuple[str, ...]
    makes: tuple[str, ...] = ()
    before: Callable[[Path], object] = lambda _book: None
    stdin: str = ""
    slow: bool = False


def _judged(args: tuple[str, ...], judge: str) -> tuple[str, ...]:
    return (*args, "--base-url", judge, "--judge-model", "m", "--concurrency", "2")


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
        Verb("plan", ("plan", "new.yaml", "--no-probe"), before=_without_cache),
        Verb("train", ("train", "new.yaml"), ("runs/new/final/MANIFEST.json",)),
        Verb(
            "train, told to a tracker",
            ("train", "told.yaml"),
            ("runs/told/final/MANIFEST.json",),
            slow=True,
        ),
        Verb("resume", ("resume", "paused"), ("runs/paused/final/MANIFEST.json",)),
        Verb("sweep", ("sweep", "sweep.yaml", "--workers", "1"), ("sweeps/rates",), slow=True),
        Verb("replay", ("replay", "done", "--step", "3"), slow=True),
        Verb(
            "chat",
            ("chat", "done", *ASKED),
            stdin="Say 1\n/save\n/quit\n",
        ),
        Verb("judge", _judged(("judge", "done", "--n", "2", *ASKED), judge)),
        Verb("show --figure", ("show", "done", "--figure", "a.svg"), ("a.svg",)),
        Verb("show --curves", ("show", "done", "--curves", "a.csv"), ("a.csv",)),
        Verb("compare --blind",
             ("compare", "done", "lora", "--blind", "--ask", "questions.jsonl"), stdin="1\n2\n"),
        Verb("note", ("note", "done", "a note", "--tag", "seen")),
        Verb("notebook build", ("notebook", "build", "--html"), ("notebook.html",)),
        Verb("evaluate", ("evaluate", "done", "--device", "cpu")),
        Verb("probe", ("probe", "done", "--prompts", "2", "--repeats", "1", *ASKED)),
        Verb(
            "grid",
            ("grid", "done", "--temperatures", "0,1", "--prompts", "2", "--repeats", "1", *ASKED),
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
             before=_without_cache),
        Verb(
            "data score",
            ("data", "score", rows, "--model", "toy", "--template", "qa", "--out", "scores.jsonl",
             "--max-tokens", "128",
             "--device", "cpu"),
            ("scores.jsonl",),
        ),
        Verb("data stats", ("data", "stats", rows, "--model", "toy", "--template", "qa")),
        Verb("data mix", ("data", "mix", "new.yaml"), before=_without_cache),
        Verb(
            "data chess",
            ("data", "chess", "games.jsonl", "--task", "next_move", "--out", "moves.jsonl",
             "--pgn", "games.pgn"),
            ("moves.jsonl", "games.pgn"),
        ),
        Verb("chess", ("chess", "--games", "played.pgn"), before=_games),
        Verb("clean", ("clean",), before=_left_over),
        Verb("import", ("import", "log.csv", "--name", "theirs"), ("runs/theirs",)),
        Verb("convert", ("convert", "trl.yaml", "-o", "converted.yaml"), ("converted.yaml",)),
        Verb("reindex", ("reindex",), before=_without_index),
        Verb("schema", ("schema", "--write"), (".tunebook/run.schema.json",)),
        Verb("demo", ("demo", "--book", "demo-book"), ("demo-book/notebook.md",), slow=True),
        Verb("recipes run", ("recipes", "run", "alpaca-9k", "--book", "recipe-book"), slow=True),
        Verb("serve", ("serve", "lora", "--port", "0", "--device", "cpu"), slow=True),
        *(Verb(f"{name}, which only reads", args) for name, args in _READING),
    ]  # fmt: skip


_READING = (
    ("runs", ("runs",)),
    ("show", ("show", "done")),
    ("verdicts", ("verdicts", "done")),
    ("lineage", ("lineage",)),
    ("diff", ("diff", "done", "lora")),
    ("compare", ("compare", "done", "lora")),
    ("doctor", ("doctor",)),
    ("data show", ("data", "show", "rows.json", "--model", "toy", "--template", "qa")),
)


def _without_cache(book: Path) -> None:
    import shutil

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
    paused_run(book, "paused", 2, **SHORT, **NEW)
    import shutil

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
