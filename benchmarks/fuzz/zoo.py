"""Open malicious models with every verb that opens a model (S).

    python benchmarks/fuzz/zoo.py --seed 0

Each trap of `zoo_models` is tried as the model of `plan`, `train`, `data stats` and `data show`, as
the base of a finished run by `evaluate`, `probe`, `chat`, `serve` and `release`, and as a folder by
`release --check`, `import` and `convert`; traps that are adapters stand where the run's own adapter
was. In each case nothing may be executed (a canary file is what that would leave), no line of a
file of the user's may be in what is made, the command must end within a minute and a half, and
where it fails, it says one sentence. A model that is served all the same is asked for an answer,
and the server stopped. `--count N` takes the first N traps.

What takes the time: `plan`, `train` and a server, a few seconds each, and templates and patterns
that never end, on each of which a verb spends all the processor time it allows. `plan` is tried
with the eight seconds of everyday, the other verbs with two. Without `--all` a trap meets a part of
the verbs that take long.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults_io"))

import forked
import toy
from harness import arguments, record
from zoo_models import ADAPTERS, NOTES, ZOO, Trap

SECONDS = 90  # a release is checked in a new process, and a loaded machine loads torch for long
EVERYDAY_SECONDS, TRIAL_SECONDS = 8, 2  # of processor time, of `plan` and of the others
AS_MODEL = (("plan", "FILE"), ("train", "FILE"), ("data", "stats", "ROWS", "--model", "TRAP"),
            ("data", "show", "ROWS", "--model", "TRAP"))  # fmt: skip
AS_BASE = (("evaluate", "done"), ("probe", "done", "--prompts", "2"), ("chat", "done"),
           ("serve", "done", "--port", "0"), ("release", "done", "OUT"),
           ("release", "done", "OUT", "--merged"))  # fmt: skip
AS_FOLDER = (("release", "--check", "TRAP"), ("import", "TRAP"), ("convert", "TRAP", "-o", "OUT"))
AS_ADAPTER = (("convert", "FINAL", "-o", "OUT"),)


def finished_run(book: Path) -> None:
    """Train a few steps of an adapter on the toy."""
    made = toy.write_run(
        book, "done", method="lora", lora={"rank": 2}, train={"max_steps": 3}, template="qa",
        evaluate={"every": 3},
    )  # fmt: skip
    done = forked.run(book, "train", str(made))
    assert done.returncode == 0, done.said()
    # As in a book of before base weights were written down: else all verbs would stop at these.
    resolved = book / "runs" / "done" / "resolved.yaml"
    text = resolved.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.strip().startswith("base_weights:")]
    resolved.write_text("\n".join(kept) + "\n", encoding="utf-8")


def try_verb(book: Path, argv: list[str], canary: Path) -> tuple[str | None, str]:
    """Run one command; gives what went wrong (None: nothing) and what it said."""
    import tunebook.models.tried as tried

    began = time.monotonic()
    tried.CPU_SECONDS = EVERYDAY_SECONDS if argv[0] == "plan" else TRIAL_SECONDS  # forks inherit it
    command = forked.Command(book, argv)
    try:
        if argv[0] == "serve" and ask_server(command):
            # What is served does no harm; a server ends when it is told to.
            os.kill(command.pid, signal.SIGINT)
        code = command.wait(SECONDS)
    except AssertionError:
        return f"no end in {SECONDS} s", command.said()
    said = command.said()
    told = [line for line in said.splitlines() if line.startswith("tunebook: ")]
    if canary.exists():
        canary.unlink()
        return "IT RAN", said
    if "Traceback (most recent" in said or "bug in tunebook" in said:
        return "a traceback", said
    if "SECRET" in said or "root:x:" in said:
        return "it told a secret", said
    if (made := made_with(book, NOTES)) is not None:
        return f"a line of the user's own file is in {made}", said
    if argv[0] == "serve" and code in (0, 130, -signal.SIGINT):
        return None, f"{time.monotonic() - began:4.1f} s, exit 0: served and stopped"
    if code != 0 and len(told) != 1:
        return f"{len(told)} sentences and exit code {code}", said
    seconds = time.monotonic() - began
    return None, f"{seconds:4.1f} s, exit {code}: {told[0] if told else 'done'}"


def made_with(book: Path, text: str) -> Path | None:
    """Find a file of a book that holds a text; None where none does."""
    files = (path for path in book.rglob("*") if path.is_file() and not path.is_symlink())
    return next((path for path in files if text.encode() in path.read_bytes()), None)


def ask_server(command: forked.Command) -> bool:
    """Wait until a server says where it listens and ask it; False when the command ended."""
    ends = time.monotonic() + SECONDS
    while command.poll() is None and time.monotonic() < ends:
        found = re.search(r"address\s+(http://\S+)", command.said())
        if found is None:
            time.sleep(0.05)
            continue
        asked = urllib.request.Request(
            found[1].rstrip("/") + "/completions",
            b'{"model": "done", "prompt": "Say 1", "max_tokens": 2}',
            {"Content-Type": "application/json"},
        )
        with contextlib.suppress(OSError):  # it is to do no harm, and not to answer
            urllib.request.urlopen(asked, timeout=20).read()
        return command.poll() is None
    return False


def put(book: Path, at: Path, trap: Trap, canary: Path, kept: Path) -> None:
    """Put a whole folder there and make a trap of it."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(kept, at)
    canary.unlink(missing_ok=True)
    trap(at, canary)


def seal_again(folder: Path) -> None:
    """Let a trap be what was trained: else every verb would stop at a changed file."""
    from tunebook.book.checkpoints import MANIFEST, _write_manifest

    (folder / MANIFEST).unlink(missing_ok=True)
    _write_manifest(folder)


def main() -> int:
    """Open every trap."""
    options = arguments(
        __doc__,
        len(ZOO) + len(ADAPTERS),
        ("--all", "every verb for every trap"),
        ("--adapters", "the traps that are adapters only"),
    )
    # A model's words are tried by what users have, not by what this process has imported.
    forked.prepare()
    began = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[str] = []
    refused: Counter[str] = Counter()
    every = [*({} if options.adapters else ZOO).items(), *ADAPTERS.items()][: options.count]
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        book = toy.make_book(Path(folder))
        canary = Path(folder) / "canary"
        kept, base = Path(folder) / "kept", book / "toy"
        shutil.copytree(base, kept)
        finished_run(book)
        final = (book / "runs" / "done" / "final").resolve()
        adapter = Path(folder) / "adapter"
        shutil.copytree(final, adapter)
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        for number, (name, trap) in enumerate(every):
            cases: list[tuple[str, ...]] = []
            at = final if name in ADAPTERS else book / "trap"
            put(book, at, trap, canary, adapter if name in ADAPTERS else kept)
            if name in ADAPTERS:
                seal_again(final)
            if name not in ADAPTERS:
                cases += [*AS_MODEL, *AS_FOLDER]
            else:
                cases += AS_ADAPTER
            if name not in ADAPTERS:
                put(book, base, trap, canary, kept)
            cases += AS_BASE
            # A tokenizer that grows is written anew, with all its words.
            grows = {"add_tokens": ["<new>"]} if name.startswith("users-file") else {}
            model = str(book / "trap")
            toy.write_run(book, f"t{number}", model=model, train={"max_steps": 2}, **grows)
            if not options.all:
                # Of the verbs that take half a minute each trap meets some, and each verb many.
                cases = [
                    case
                    for n, case in enumerate(cases)
                    if n < 3 or (n + number) % 4 == 0 or (case[0] == "convert" and "pickle" in name)
                ]
            for case in cases:
                words = {"FILE": str(book / f"t{number}.yaml"), "ROWS": str(book / "rows.json"),
                         "TRAP": str(book / "trap"), "OUT": f"out-{number}",
                         "FINAL": str(final)}  # fmt: skip
                argv = [words.get(word, word) for word in case]
                wrong, said = try_verb(book, argv, canary)
                counts["cases"] += 1
                shutil.rmtree(book / f"out-{number}", ignore_errors=True)
                line = f"{name}, {' '.join(case)}: {wrong or 'fine'}: {said[-400:]}"
                if wrong is not None:
                    failed.append(line)
                refused[name] += "exit 0" not in said
                print(" ".join(line.split())[:420], flush=True)
            shutil.rmtree(base, ignore_errors=True)
            shutil.copytree(kept, base)
            shutil.rmtree(final, ignore_errors=True)
            shutil.copytree(adapter, final)
    harmless = [name for name, _ in every if not refused[name]]
    for line in failed:
        print("FAILED", " ".join(line.split())[:600])
    seconds = time.monotonic() - began
    print(f"{len(every)} traps, {counts['cases']} cases, {len(failed)} failed, {seconds:,.0f} s; "
          f"refused by no verb: {', '.join(harmless) or 'none'}")  # fmt: skip
    if options.write and not options.adapters:
        record("zoo", "Nothing that comes with a model is executed: each of the traps ends in one "
               "sentence, or does no harm", ("S", "1", "2", "3"), counts["cases"], len(failed),
               options.seed, MENDED, {"traps": len(every), "harmless": harmless,
                                        "seconds": round(seconds)})  # fmt: skip
    return 1 if failed else 0


MENDED: tuple[str, ...] = (
    "An adapter whose weights were pickle was opened by peft; only safetensors are now.",
    "Merging and checking a release would have taken pickled weights where no model.safetensors "
    "was; safetensors alone are asked for now.",
    "The process that checks a release could ask at the terminal whether to run a model's code; it "
    "never does now.",
    "A chat template could compute for ever or fill the memory; each is tried in a bounded process "
    "first.",
    "A tokenizer's pattern that goes back and forth for ever ended in a panic; it is tried first.",
    "A chat template in a list, in a file of its own or among the special tokens was not tried, "
    "nor a pattern under an escaped key; all that transformers may hold are tried now.",
    "An index of weights could lead out of the model's folder, and a licence or a template be a "
    "link to somebody's key; both are refused.",
    "A config's wish for flash attention could fetch a kernel; transformers' own is taken always.",
    "A tokenizer's settings could name any file of the user's, whose lines then became words of "
    "the tokenizer that is released; such settings are refused.",
    "Python that lay in the folder of a command, a stranger's book, was run by the processes that "
    "train and by workers on Ray, with the user's keys; they import from where tunebook is "
    "installed now.",
    "A run file could name any program as its chess engine, and a plan started it.",
    "An adapter beside a model was applied unseen; it is refused.",
    "A config could name another one, which nobody had looked at.",
    "The files that an index of weights named were opened before they were looked at: a pipe held "
    "a plan up for ever.",
    "The refusal of a pickle repeated torch's advice to load it without care.",
    "A tokenizer's steps that each make a text longer, an adapter's rank and its patterns of "
    "names could fill the memory or never end; they are refused.",
    "A release kept the name of a model's own code, which a converter of others might look for "
    "and run; it names none.",
    "A part of a model could name weights that timm opens as pickle; such a model is refused.",
    "A config nested a hundred thousand levels deep ended in a RecursionError.",
)

if __name__ == "__main__":
    sys.exit(main())
