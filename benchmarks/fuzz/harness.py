"""What every script here shares: cases drawn by hypothesis, run in a bounded process, classified.

A case is drawn, written down, and run in a forked worker with a limit on its memory. It may be
taken (nothing was raised) or end in one of tunebook's own errors, as one sentence. All else is a
crash: another exception, a signal, a worker that is silent for too long, a sentence that names no
file, or something valid that was lost. Each crash is kept with its seed as a file to try again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.metadata
import io
import json
import os
import platform
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BATCH = 200
MEMORY_BYTES = 6 << 30  # of addresses, most of which are the libraries' own
SECONDS = 60.0
DRAWING_SECONDS = 240.0
"""What hypothesis may take for the values of a batch, before the first case."""
MAX_SENTENCE = 4000
RESULTS = Path(__file__).resolve().parents[1] / "results"
_PACKAGES = ("hypothesis", "torch", "transformers", "safetensors", "tokenizers", "pyarrow")


class Lost(AssertionError):
    """Something that was valid is not there any more, or is not what it was."""


class Wordless(AssertionError):
    """An error that is not one sentence, or does not name what it is about."""


@dataclass
class Target:
    """What is fuzzed.

    `draw` makes a case of values from hypothesis and a generator, `run` tries it in a folder of
    its own and gives a word for what became of it; it raises whatever the code under test does.
    `case` values are `bytes`, `str` or what JSON knows, so that a crash can be kept.
    """

    name: str
    promise: str
    ids: Sequence[str]
    draw: Callable[[list[Any], random.Random], dict[str, Any]]
    run: Callable[[Path, dict[str, Any]], str]
    seconds: float = SECONDS
    memory_bytes: int = MEMORY_BYTES
    mended: Sequence[str] = field(default_factory=tuple)


def arguments(about: str, count: int, *flags: tuple[str, str]) -> argparse.Namespace:
    """Read `--count`, `--seed`, `--write` and `--keep`, and flags with what they mean."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--write", action="store_true", help="keep the counts in benchmarks/results"
    )
    parser.add_argument("--keep", type=Path, help="a folder for what crashed")
    for flag, meaning in flags:
        parser.add_argument(flag, action="store_true", help=meaning)
    return parser.parse_args()


def fuzz(target: Target, options: argparse.Namespace) -> int:
    """Run so many cases as asked; gives 1 when one crashed."""
    started = time.monotonic()
    counts: Counter[str] = Counter()
    crashes: list[str] = []
    peak = done = batch = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        asked_to_stop = _asked_to_stop()
        while done < options.count and not asked_to_stop:
            wanted = min(BATCH, options.count - done)
            found = _one_batch(target, options.seed * 100_003 + batch, wanted, Path(folder))
            batch += 1
            done += max(found["done"], 1)
            peak = max(peak, found["peak_bytes"])
            counts.update(found["counts"])
            for crash in found["crashes"]:
                print(f"  {crash['words'][:200]}", file=sys.stderr, flush=True)
                crashes.append(crash["words"])
                _keep(options.keep, target, crash, len(crashes))
    seconds = time.monotonic() - started
    for word, number in sorted(counts.items(), key=lambda one: -one[1]):
        print(f"{number:7,}  {word}")
    for words, number in Counter(crashes).most_common(40):
        print(f"CRASH x{number}: {words}")
    print(
        f"{target.name}: {done:,} cases, {len(crashes)} crashes, seed {options.seed}, "
        f"{seconds:,.0f} s, largest worker {peak / 2**20:,.0f} MiB",
        flush=True,
    )
    if options.write:
        record(target.name, target.promise, target.ids, done, len(crashes), options.seed,
               target.mended, {"outcomes": dict(counts), "seconds": round(seconds),
                               "largest_worker_bytes": peak,
                               "limit_seconds_a_case": target.seconds})  # fmt: skip
    return 1 if crashes else 0


def _asked_to_stop() -> list[int]:
    """Give a list that SIGTERM puts something into: what was counted until then is kept."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    return asked


def record(
    name: str,
    promise: str,
    ids: Sequence[str],
    cases: int,
    failed: int,
    seed: int,
    mended: Sequence[str],
    more: Mapping[str, Any],
) -> None:
    """Keep what was measured for docs/safety.md: one file for each promise."""
    folder = RESULTS / "safety"
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(sys.argv[0]).name
    # A script that takes a whole list has no count of its own.
    whole = ("zoo", "paths", "containers", "torn-events", "special-tokens", "bounds")
    drawn = "" if name in whole else f" --count {cases}"
    if name.startswith("guided-"):
        drawn = f" {name.removeprefix('guided-')} --seconds {more['seconds']}"
    how = f"python benchmarks/fuzz/{script}{drawn} --seed {seed}"
    said = {
        "promise": promise,
        "id": ", ".join(ids),
        "cases": cases,
        "failed": failed,
        "mended": list(mended),
        "seed": seed,
        "how": how,
        "measured": {"date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": versions()},
        **more,
    }
    (folder / f"{name}.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Give the versions that a number depends on."""
    from tunebook import __version__

    found = {"tunebook": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {**found, "platform": platform.platform()}


def _one_batch(target: Target, seed: int, wanted: int, folder: Path) -> dict[str, Any]:
    """Run some cases in a fork that is watched; what it was at when it died is a crash."""
    found: dict[str, Any] = {"done": 0, "counts": Counter(), "crashes": [], "peak_bytes": 0}
    at = folder / "case.json"
    at.unlink(missing_ok=True)
    shutil.rmtree(folder / "place", ignore_errors=True)
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(target, seed, wanted, folder, at, writer)
    os.close(writer)
    words = None
    with os.fdopen(reader, "rb") as heard:
        rest = b""
        limit = target.seconds + DRAWING_SECONDS
        while True:
            if not select.select([heard], [], [], limit)[0]:
                where = _stack_of(pid, folder)
                os.kill(pid, signal.SIGKILL)
                words = f"no end after {limit:.0f} seconds{where}"
                break
            limit = target.seconds
            block = os.read(heard.fileno(), 1 << 16)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                said = json.loads(line)
                found["done"] += "word" in said
                found["counts"].update([said["word"]] if "word" in said else [])
                found["crashes"] += [said["crash"]] if "crash" in said else []
                found["peak_bytes"] = max(found["peak_bytes"], said.get("peak_bytes", 0))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if words is None and code != 0:
        words = f"the worker ended with {code}"
    if words is not None:
        case = json.loads(at.read_text()) if at.exists() else {}
        found["crashes"].append({"words": words, "seed": seed, "case": case})
        found["counts"]["crash"] += 1
        found["done"] += 1
    return found


def _stack_of(pid: int, folder: Path) -> str:
    """Let a worker that does not end say where it is."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(1)
        trace = (folder / "stack").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in trace.splitlines() if "line " in line][:12]
        return ": " + " < ".join(re.sub(r'File ".*/(\S+)", line', r"\1", one) for one in lines)
    return ""


def _work(target: Target, seed: int, wanted: int, folder: Path, at: Path, writer: int) -> None:
    """Be the worker; never returns."""
    code = 1
    try:
        faulthandler.register(signal.SIGUSR1, open(folder / "stack", "w"))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (target.memory_bytes, target.memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        cases = draw_cases(target, seed, wanted)
        os.write(writer, b"{}\n")  # what was drawn took time of its own
        for case in cases:
            at.write_text(json.dumps(case, default=_plain))
            place = folder / "place"
            place.mkdir()
            said = {**try_one(target, place, case, seed)}
            said["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            shutil.rmtree(place, ignore_errors=True)
            os.write(writer, json.dumps(said, default=_plain).encode() + b"\n")
        code = 0
    except BaseException:
        print(traceback.format_exc()[-2000:], file=sys.stderr)
    finally:
        shutil.rmtree(folder / "place", ignore_errors=True)
        os._exit(code)


def draw_cases(target: Target, seed: int, wanted: int) -> Iterator[dict[str, Any]]:
    """Draw cases around values that hypothesis makes, the same for the same seed and versions."""
    pool = draw_values(seed)
    return (target.draw(pool, random.Random(f"{seed}:{number}")) for number in range(wanted))


def draw_values(seed: int) -> list[Any]:
    """Let hypothesis make values of every kind: it knows which are apt to be trouble."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, given, settings
    from mutate import values

    drawn: list[Any] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def collect(value: Any) -> None:
        drawn.append(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return drawn


def try_one(target: Target, place: Path, case: dict[str, Any], seed: int) -> dict[str, Any]:
    """Run one case and say what became of it."""
    from tunebook.errors import TunebookError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"word": target.run(place, case)}
    except TunebookError as error:
        wrong = is_no_sentence(str(error))
        if wrong is None:
            return {"word": type(error).__name__}
        words, trace = f"{wrong}: {str(error)[:200]!r}", ""
    except (Lost, Wordless) as error:
        words, trace = f"{type(error).__name__}: {str(error)[:300]}", ""
    except BaseException as error:  # a panic in Rust is no Exception
        trace = traceback.format_exc()
        where = [line for line in trace.splitlines() if "/tunebook/" in line]
        last = re.sub(r'.*/tunebook/(\S+)", line (\d+).*', r"\1:\2", where[-1]) if where else ""
        words = f"{type(error).__name__} at {last}: {str(error)[:80]}"
    return {"word": "crash", "crash": {"words": words, "seed": seed, "case": case, "trace": trace}}


def is_no_sentence(said: str) -> str | None:
    """Say what keeps an error from being one sentence; None when it is one."""
    if not said.strip():
        return "an error without words"
    if len(said) > MAX_SENTENCE:
        return f"an error of {len(said):,} characters"
    if "Traceback (most recent" in said or "bug in tunebook" in said:
        return "a traceback"
    return None


def command(*argv: str) -> tuple[int, str, str]:
    """Run a command of tunebook in this process; gives exit code and what it printed."""
    from tunebook.cli.main import main

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(list(argv))
    return code, out.getvalue(), error.getvalue()


def one_sentence(*argv: str, seen: Callable[[int, str, str], None] | None = None) -> str:
    """Run a command that may fail, in one sentence only; Wordless where it says anything else."""
    code, out, error = command(*argv)
    told = [line for line in error.splitlines() if line.startswith("tunebook: ")]
    if "bug in tunebook" in error or "Traceback (most recent" in out + error:
        trace = command("--debug", *argv)[2] if "bug in tunebook" in error else error
        raise Wordless(f"{' '.join(argv)[:80]}: {_last_place(trace)} {told[-1:]}")
    if code not in (0, 1, 2, 3):
        raise Wordless(f"{' '.join(argv)[:80]}: exit code {code}: {error[-200:]}")
    if code != 0 and len(told) != 1:
        raise Wordless(f"{' '.join(argv)[:80]}: {len(told)} sentences: {error[-300:]!r}")
    if seen is not None:
        seen(code, out, error)
    return f"{argv[0]}: exit {code}"


def _last_place(trace: str) -> str:
    where = re.findall(r'/tunebook/(\S+)", line (\d+)', trace)
    return ":".join(where[-1]) if where else ""


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"latin1": value.decode("latin-1")}
    return repr(value)


def thaw(value: object) -> Any:
    """Give a value that was kept as JSON as it was drawn."""
    if isinstance(value, dict):
        if list(value) == ["latin1"]:
            return value["latin1"].encode("latin-1")
        return {key: thaw(item) for key, item in value.items()}
    return [thaw(item) for item in value] if isinstance(value, list) else value


def _keep(folder: Path | None, target: Target, crash: dict[str, Any], number: int) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{number}.json"
    path.write_text(json.dumps(crash, default=_plain, indent=1), encoding="utf-8")
