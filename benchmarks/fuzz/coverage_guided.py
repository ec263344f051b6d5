"""Let atheris search for broken files by what code they reach (D1).

    pip install atheris
    python benchmarks/fuzz/coverage_guided.py run-files --seconds 300
    python benchmarks/fuzz/coverage_guided.py data-rows --seconds 300

The readers are instrumented, and libFuzzer changes valid files so that they reach new lines of
them; what each case has to come to is judged as `run_files.py` and `data_rows.py` do. A first byte
says which reader a file is for. What went wrong is counted once for each place and the search goes
on; `--keep` is a folder for such files. atheris has wheels for Linux and some releases of Python
only, so that no extra of the package asks for it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import is_no_sentence, record

INSTRUMENTED = ["tunebook", "ruamel"]
MEMORY_MIB = 4096
SECONDS_A_CASE = 60


def run_file_case(data: bytes) -> dict[str, Any]:
    """Take a first byte for the reader, the rest for the file."""
    kinds = ("run", "sweep", "convert")
    return {"kind": kinds[data[0] % 3], "raw": data[1:], "overrides": []}


def run_file_seeds() -> list[bytes]:
    """Give valid files and small bombs, for each reader."""
    from run_files import AXOLOTL, BOMBS, SWEEP, VALID

    small = [bomb for bomb in BOMBS if len(bomb) < 2_000]
    texts = [(0, VALID), (1, SWEEP), (2, AXOLOTL), *((0, bomb) for bomb in small)]
    return [bytes([kind]) + text.encode("utf-8", "surrogatepass") for kind, text in texts]


def data_row_case(data: bytes) -> dict[str, Any]:
    """Take a first byte for the kind of file, the rest for its content."""
    from data_rows import KINDS

    return {"name": f"rows.{KINDS[data[0] % len(KINDS)]}", "raw": data[1:], "format": "auto"}


def data_row_seeds() -> list[bytes]:
    """Give valid files of every kind and format."""
    from data_rows import KINDS, PGN, PROSE, ROWS, pack

    found = []
    for number, kind in enumerate(KINDS):
        if kind in ("txt", "md", "pgn"):
            contents = [(PGN if kind == "pgn" else PROSE).encode()]
        else:
            contents = [pack(rows[:3], kind) for rows in ROWS.values()]
        found += [bytes([number]) + content for content in contents]
    return found


def judge(run: Callable[[Path, dict[str, Any]], str], place: Path, case: dict[str, Any]) -> str:
    """Run a case; gives what is wrong with it in words that name the place, "" when nothing is."""
    from tunebook.errors import TunebookError

    try:
        run(place, case)
    except TunebookError as error:
        return is_no_sentence(str(error)) or ""
    except Exception as error:
        trace = error.__traceback__
        where = ""
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            where = f"{Path(name).name}:{trace.tb_lineno}" if "/tunebook/" in name else where
            trace = trace.tb_next
        return f"{type(error).__name__} at {where}: {str(error)[:120]}"
    return ""


def search(name: str, seconds: int, seed: int, folder: Path, keep: Path | None) -> None:
    """Search until the time is over, then write down what was found and end this process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        if name == "run-files":
            from run_files import run

            import tunebook.workflows.convert
        else:
            import pyarrow.parquet  # noqa: F401
            from data_rows import codec, run

            import tunebook.data.show
            import tunebook.workflows.data_show  # noqa: F401

            codec()
    made = run_file_case if name == "run-files" else data_row_case
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(run_file_seeds() if name == "run-files" else data_row_seeds()):
        (corpus / str(number)).write_bytes(content)
    ends, n_done = time.monotonic() + seconds, 0
    wrong: dict[str, int] = {}
    place = folder / "place"

    def one(data: bytes) -> None:
        nonlocal n_done
        if time.monotonic() > ends:
            said = {"done": n_done, "wrong": wrong, "corpus": len(list(corpus.iterdir()))}
            (folder / "found.json").write_text(json.dumps(said), encoding="utf-8")
            os._exit(0)
        if not data:
            return
        place.mkdir()
        said = judge(run, place, made(data))
        shutil.rmtree(place, ignore_errors=True)
        n_done += 1
        if said:
            if keep is not None and said not in wrong:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{len(wrong)}").write_bytes(data)
                print(f"  {said}", file=sys.stderr, flush=True)
            wrong[said] = wrong.get(said, 0) + 1

    # Of libFuzzer's own words only those of a crash are of use.
    bounds = [f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={SECONDS_A_CASE}", "-max_len=8192"]
    options = [f"-seed={seed + 1}", *bounds, "-verbosity=0", f"-artifact_prefix={folder}/"]
    options.append(str(corpus))
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def main() -> int:
    """Search in a fork: libFuzzer ends its process by itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=("run-files", "data-rows"))
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the counts")
    parser.add_argument("--keep", type=Path, help="a folder for what went wrong")
    options = parser.parse_args()
    try:
        version = importlib.metadata.version("atheris")
    except importlib.metadata.PackageNotFoundError:
        print("atheris is not installed; `pip install atheris`", file=sys.stderr)
        return 2
    keep = options.keep.resolve() if options.keep else None
    with tempfile.TemporaryDirectory(prefix="guided-") as name:
        folder = Path(name)
        pid = os.fork()
        if pid == 0:
            search(options.target, options.seconds, options.seed, folder, keep)
            os._exit(3)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        path = folder / "found.json"
        found = json.loads(path.read_text()) if path.exists() else {"done": 0, "wrong": {}}
        if code != 0:
            found["wrong"][f"the search ended with {code}"] = 1
            for left in [*folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*")]:
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(left, keep / left.name)
    for words, number in found["wrong"].items():
        print(f"CRASH x{number}: {words}")
    print(
        f"guided-{options.target}: {found['done']:,} cases in {options.seconds} s, "
        f"{len(found['wrong'])} kinds of crashes, {found.get('corpus', 0)} files in the corpus"
    )
    if options.write:
        record(f"guided-{options.target}", PROMISE.format(options.target), ("D1",), found["done"],
               len(found["wrong"]), options.seed, MENDED,
               {"seconds": options.seconds, "corpus": found.get("corpus", 0),
                "atheris": version})  # fmt: skip
    return 1 if found["wrong"] else 0


PROMISE = (
    "Files that atheris finds by the code they reach ({}) are read or refused in one sentence; "
    "failures are counted by kind"
)
MENDED: tuple[str, ...] = ()

if __name__ == "__main__":
    sys.exit(main())
