"""Hold YAML and JSON against their bounds: aliases, depth, size, keys, numbers (must 7).

    python benchmarks/fuzz/bounds.py --seed 0 --write

Each bomb is a run file, a sweep file, another tool's run file or a judge file, or a file of rows,
in several sizes: below its bound, at it, beyond it, far beyond. It must be read or refused in one
sentence that names the file, within two seconds of processor time (rows within 64 MiB: eight) and a
gigabyte of memory, and what is beyond its bound must be refused. Rows of megabytes are read and not
tokenized. `--count N` takes the first N, `--rows` the files of rows alone.
"""

from __future__ import annotations

import gzip
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import arguments, is_no_sentence, record

MIB = 1 << 20
SECONDS, IN_BOUND_SECONDS = 2.0, 8.0
MEMORY_BYTES, LARGE = 1 << 30, 8 * MIB
Case = tuple[str, str, bytes, bool | None]
"""A name, a file's name, its content, and whether it must be refused (None: either will do)."""


def aliases(width: int, layers: int) -> bytes:
    """Let each layer repeat the one before it."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, layers)]
    return "\n".join(lines).encode()


def yaml_bombs() -> Iterator[tuple[str, bytes, bool | None]]:
    """Make texts of YAML around each bound."""
    for width, layers in ((2, 40), (9, 4), (9, 5), (9, 12), (99, 3), (3000, 2), (1, 200)):
        yield f"aliases {width} wide, {layers} deep", aliases(width, layers), layers > 5 or None
    yield "an alias of itself", b"a: &a [*a]\n", True
    yield "an alias of itself in a mapping", b"a: &a {b: *a}\n", True
    yield "an alias of nothing", b"a: *b\n", True
    for depth in (10, 49, 51, 500, 5_000, 100_000):
        deep = depth > 50
        yield f"{depth} lists", b"a: " + b"[" * depth + b"]" * depth, deep or None
        yield f"{depth} open lists", b"[" * depth, True
        yield f"{depth} mappings", b"a: " + b"{b: " * depth + b"1" + b"}" * depth, deep or None
        yield f"{depth} dashes", b"- " * depth + b"x", True
    for n in (100, 4_000, 6_000, 60_000, 90_000):
        many = n > 5_000
        yield f"{n} keys", b"".join(b"k%d: %d\n" % (i, i) for i in range(n)), many or None
        yield f"{n} items", b"a:\n" + b"- 1\n" * n, n > 10_000 or None
        yield f"{n} items in a row", b"a: [" + b"1," * n + b"1]", n > 10_000 or None
        yield f"{n} anchors", b"a:\n" + b"".join(b"- &b%d 1\n" % i for i in range(n)), many or None
    for size in (1_000, MIB - 10, MIB, MIB + 1, 3 * MIB):
        over = size >= MIB
        yield f"a text of {size}", b"x: " + b"y" * size, over or None
        yield f"a comment of {size}", b"#" * size, over or None
        yield f"quotes of {size}", b"'" * size, over or None
        yield f"a key of {size}", b"x" * size + b": 1", True
        yield f"a block of {size}", b"k: |\n" + b"  line of a text\n" * (size // 17), over or None
        yield f"blanks of {size}", b"a: 1\n" + b" " * size, over or None
        yield f"lines of {size}", b"\n" * size, over or None
        yield f"escapes of {size}", b'a: "' + b"\\n" * (size // 2) + b'"', over or None
        yield f"anchors of {size}", b"&a " * (size // 3), True
        yield f"questions of {size}", b"? " * (size // 2), True
        yield f"tags of {size}", b"!!str " * (size // 6), True
    for twice in (b"name: x\nname: y\n", b"a: {b: 1, b: 2}\n", b'name: x\n"name": y\n',
                  b"? a\n: 1\na: 2\n", b"a: 1\n'a': 2\n"):  # fmt: skip
        yield f"a key twice: {twice!r}", twice, True
    for n in (10, 300, 400, 5_000, 500_000):
        big = n > 310
        yield f"{n} digits", b"seed: " + b"9" * n, big or None
        yield f"{n} hex digits", b"seed: 0x" + b"f" * n, big or None
        yield f"{n} octal digits", b"seed: 0o" + b"7" * n, big or None
        yield f"an exponent of {n} digits", b"train: {learning_rate: 1e" + b"9" * n + b"}", True
        yield f"{n} digits behind the point", b"train: {learning_rate: 0." + b"3" * n + b"}", None
        yield f"{n} underscores", b"seed: 1" + b"_" * n + b"1", None
    for tag in (b"!!python/object/apply:os.system [id]", b"!!python/name:os.system", b"!x y",
                b"!!binary aGVsbG8=", b"!!set {a, b}", b"!!timestamp 2026-01-01"):  # fmt: skip
        yield f"a tag {tag!r}", b"seed: " + tag, True


def row_bombs() -> Iterator[Case]:
    """Make files of rows around each bound."""
    for mib in (1, 60, 66, 90):
        long = b'{"text": "' + b"a" * (mib * MIB) + b'"}'
        over = mib >= 64
        yield f"a line of {mib} MiB", "rows.jsonl", long + b"\n", over
        yield f"a row of {mib} MiB in a list", "rows.json", b"[" + long + b"]", over
        yield f"a row of {mib} MiB by id", "rows.json", b'{"a": ' + long + b"}", over
        quoted = b'text\n"' + b"a" * (mib * MIB) + b'"\n'
        yield f"a cell of {mib} MiB", "rows.csv", quoted, over
        game = b'[Event "x"]\n\n' + b"e4 " * (mib * MIB // 3)
        yield f"a game of {mib} MiB", "rows.pgn", game, None
        yield f"a packed line of {mib} MiB", "rows.jsonl.gz", gzip.compress(long + b"\n", 1), over
        yield f"blanks of {mib} MiB", "rows.json", b" " * (mib * MIB), True
        yield (
            f"a name of {mib} MiB",
            "rows.jsonl",
            b'{"' + b"a" * (mib * MIB) + b'": 1}\n',
            over or None,
        )
    for depth in (10, 900, 1_100, 5_000, 200_000):
        over = depth > 1_024
        lists, maps = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
        yield f"{depth} lists in a line", "rows.jsonl", b'{"text": ' + lists + b"}\n", over or None
        yield f"{depth} objects in a line", "rows.jsonl", b'{"text": ' + maps + b"}\n", over or None
        yield f"{depth} lists in a list", "rows.json", b"[" + lists + b"]", True
        yield f"{depth} open lists", "rows.json", b"[" * depth, True
    for n in (20, 400, 5_000, 300_000):
        yield f"{n} digits", "rows.jsonl", b'{"text": ' + b"9" * n + b"}\n", True
        yield f"an exponent of {n}", "rows.jsonl", b'{"text": 1e' + b"9" * n + b"}\n", True
        yield f"{n} keys", "rows.jsonl", b'{"text": {' + b",".join(
            b'"k%d": 1' % i for i in range(n)) + b"}}\n", True  # fmt: skip
        yield f"{n} columns", "rows.csv", b"a," * n + b"\n" + b"1," * n, None
        yield f"{n} rows of nothing", "rows.jsonl", b"{}\n" * n, True
        yield f"a key {n} times", "rows.jsonl", b"{" + b'"text": "a",' * n + b'"text": "b"}\n', None
    for word in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"'a'", b"// a\n1", b"01", b".5"):
        yield f"the word {word!r}", "rows.jsonl", b'{"text": ' + word + b"}\n", True


def yaml_cases() -> Iterator[Case]:
    """Give the large ones to one reader, for all parse alike, the others to each."""
    for name, content, refused in yaml_bombs():
        for reader in ("run", "sweep", "convert", "judge")[: 1 if len(content) > 50_000 else 4]:
            yield f"{reader}: {name}", f"{reader}.yaml", content, refused


def cases(rows_only: bool) -> Iterator[Case]:
    """List every bomb."""
    if not rows_only:
        yield from yaml_cases()
    yield from row_bombs()


def read(path: Path) -> None:
    """Read a file as the command that takes it does."""
    from data_rows import run as tokenize_rows

    from tunebook.data.rows import read_rows
    from tunebook.data.sources import locate
    from tunebook.evaluate.judge.settings import make_judge
    from tunebook.recipe.load import load_run_file
    from tunebook.recipe.sweep import load_sweep
    from tunebook.workflows.convert import convert

    readers: dict[str, Callable[[Path], Any]] = {
        "run.yaml": load_run_file,
        "sweep.yaml": load_sweep,
        "convert.yaml": convert,
        "judge.yaml": lambda it: make_judge(it, {"base_url": "http://127.0.0.1:9", "model": "m"}),
    }
    if path.name in readers:
        readers[path.name](path)
    elif path.stat().st_size > LARGE or path.suffix == ".gz":
        (file,) = locate(str(path)).files
        for _ in read_rows(file):
            pass
    else:
        raw = path.read_bytes()
        tokenize_rows(path.parent, {"name": path.name, "raw": raw, "format": "auto"})


def try_one(path: Path, refused: bool | None, most_seconds: float) -> str | None:
    """Read a file in a fork with limits; gives what is wrong, None when nothing is."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_work(path, refused, most_seconds, reader, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as heard:
        said = heard.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"no end in {most_seconds:.0f} s of processor time"
    return said or (f"it ended with {code}" if code else None)


def _work(path: Path, refused: bool | None, seconds: float, reader: int, writer: int) -> int:
    from tunebook.errors import TunebookError

    os.close(reader)
    began = time.process_time()
    most = int(began + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    wrong = None
    try:
        read(path)
        wrong = "it was taken" if refused else None
    except TunebookError as error:
        wrong = is_no_sentence(str(error))
        if wrong is None and path.name not in str(error):
            wrong = f"no file is named: {str(error)[:200]}"
    except BaseException as error:
        wrong = f"{type(error).__name__}: {str(error)[:200]}"
    took = time.process_time() - began
    if wrong is None and took > seconds:
        wrong = f"{took:.1f} s of processor time"
    os.write(writer, (wrong or "").encode())
    return 0


def main() -> int:
    """Try every bomb."""
    options = arguments(__doc__, 1 << 30, ("--rows", "files of rows alone"))
    import data_rows

    # Once, and not in each fork.
    import tunebook.data.show
    import tunebook.data.stats
    import tunebook.evaluate.judge.settings
    import tunebook.recipe.sweep
    import tunebook.workflows.convert
    import tunebook.workflows.data_show  # noqa: F401

    data_rows.codec()
    began = time.monotonic()
    n_tried, failed = 0, []
    for name, file, content, refused in cases(options.rows):
        if n_tried == options.count:
            break
        n_tried += 1
        in_bound = not file.endswith(".yaml") and not refused
        most = IN_BOUND_SECONDS if in_bound else SECONDS
        with tempfile.TemporaryDirectory(prefix="bounds-") as folder:
            path = Path(folder) / file
            path.write_bytes(content)
            wrong = try_one(path, refused, most)
        if wrong is not None:
            failed.append(f"{name}: {wrong}")
            print(f"FAILED {failed[-1]}", flush=True)
    seconds = time.monotonic() - began
    print(f"bounds: {n_tried:,} cases, {len(failed)} failed, {seconds:.0f} s")
    if options.write and not options.rows:
        record("bounds", PROMISE, ("7",), n_tried, len(failed), options.seed, MENDED,
               {"seconds": round(seconds), "limit_seconds_a_case": SECONDS,
                "memory_bytes": MEMORY_BYTES})  # fmt: skip
    return 1 if failed else 0


PROMISE = (
    "Run files, sweep files, judge files and rows around every bound (aliases, depth, size, keys "
    "twice, numbers, tags) are read or refused in one sentence, within seconds and a gigabyte"
)
MENDED = (
    "A row of 70 MiB in a .json took half a minute to be refused, and 60,000 keys in a run file "
    "eight seconds; each takes less than one now.",
)

if __name__ == "__main__":
    sys.exit(main())
