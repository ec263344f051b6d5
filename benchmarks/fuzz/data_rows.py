"""Read data files that are broken in every way, through every reader (D1).

    python benchmarks/fuzz/data_rows.py --count 10000 --seed 0

Valid files of every format (JSON, JSON lines, CSV, TSV, parquet, PGN, text; plain, gzip and zstd)
are harmed byte by byte and value by value; others are generated rows; a few are bombs of depth or
of compression. Each is tokenized as `tunebook data stats` does.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sys
from functools import cache
from pathlib import Path
from typing import Any

import zstandard
from harness import Target, Wordless, arguments, fuzz
from mutate import ODD_TEXTS, mutate_bytes, mutate_value

ROWS: dict[str, list[dict[str, Any]]] = {
    "alpaca": [
        {"instruction": f"Say {n}", "input": "one" if n % 2 else "", "output": f"word {n}"}
        for n in range(6)
    ],
    "chat": [
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": f"Hello {n}"},
                {"role": "assistant", "content": "Good day."},
            ]
        }
        for n in range(5)
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": f"a{n}"}, {"from": "gpt", "value": "b"}]}
        for n in range(5)
    ],
    "completion": [{"prompt": f"p {n}", "completion": f"c {n}"} for n in range(6)],
    "qa": [{"question": f"q {n}?", "answer": f"a {n}"} for n in range(6)],
    "text": [{"text": f"A long text number {n}. " * 9} for n in range(5)],
}
TEXT = "Courage: a small step taken while afraid.\nHope: what is left.\n" * 5
PROSE = "# One\n\nIt rained on the roof. The cat slept.\n\n# Two\n\nNobody came.\n" * 4
PGN = (
    '[Event "x"]\n[White "A"]\n[Black "B"]\n[Result "1-0"]\n\n1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 1-0\n\n'
)
KINDS = ("json", "jsonl", "csv", "tsv", "parquet", "txt", "md", "pgn")


def pack(rows: list[Any], kind: str) -> bytes:
    """Write rows as a file of a kind."""
    if kind == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        return text.encode("utf-8", "surrogatepass")
    if kind == "json":
        text = json.dumps(rows, ensure_ascii=False, default=str)
        return text.encode("utf-8", "surrogatepass")
    if kind in ("csv", "tsv"):
        out = io.StringIO()
        writer = csv.writer(out, delimiter="," if kind == "csv" else "\t")
        flat = [row if isinstance(row, dict) else {"a": row} for row in rows] or [{"a": 1}]
        writer.writerow(flat[0])
        writer.writerows([row.values() for row in flat])
        return out.getvalue().encode("utf-8", "surrogatepass")
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    try:
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, sink)
    except Exception:  # a tree that has no columns
        parquet.write_table(pyarrow.table({"text": ["a", "b"]}), sink)
    return bytes(sink.getvalue())


@cache
def bombs() -> list[tuple[str, bytes]]:
    """Make files that are small and become large, or deep."""
    zeros = gzip.compress(b"\0" * (64 << 20))
    line = b'{"text": "' + b"a" * (80 << 20) + b'"}\n'
    deep = b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    return [
        ("a.jsonl.gz", zeros),
        ("a.txt.zst", zstandard.compress(b"\0" * (64 << 20))),
        ("a.jsonl.gz", gzip.compress(line, 1)),
        ("a.json.gz", gzip.compress(b"[" + line + b"]", 1)),
        ("a.csv.zst", zstandard.compress(b"text\n" + b'"' + b"a" * (80 << 20))),
        ("a.jsonl", deep),
        ("a.json", b"[" * 300_000),
        ("a.json", b"[" + deep + b"]"),
        ("a.jsonl", b'{"text": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
        ("a.jsonl", b'{"text": ' + b"9" * 300_000 + b"}"),
        ("a.jsonl", b'{"text": 1e' + b"9" * 300 + b"}"),
        ("a.csv", b"a," * 200_000 + b"\n" + b"1," * 200_000),
        ("a.txt", b"\n" * 2_000_000),
        ("a.txt", b"\xef\xbb\xbf"),
        ("a.parquet", b"PAR1" + b"\xff" * 40 + b"PAR1"),
        ("a.parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
        ("a.parquet.gz", gzip.compress(b"PAR1")),
        ("a.pgn", b"[Event " * 20_000),
        ("a.pgn", b"(" * 100_000),
        ("a.pgn", PGN.encode() + b"1. e4 " + b"{" * 50_000),
    ]


def draw(pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Make a data file."""
    if rng.random() < 0.005:
        name, raw = rng.choice(bombs()[5:])
        return {"name": name, "raw": raw, "format": "auto"}
    kind = rng.choice(KINDS)
    found = rng.choice(list(ROWS))
    if kind in ("txt", "md", "pgn"):
        text = PGN * 3 if kind == "pgn" else rng.choice((TEXT, PROSE))
        raw = text.encode()
        raw = mutate_bytes(raw, rng)
    elif rng.random() < 0.5:
        raw = mutate_bytes(pack(ROWS[found], kind), rng)
    else:
        rows: list[Any] = list(ROWS[found])
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(rows))
            rows[at] = mutate_value(rows[at], rng.choice([*pool, *ODD_TEXTS]), rng)
        raw = pack(rows, kind)
    name = f"rows.{kind}"
    if kind != "parquet" and rng.random() < 0.2:
        ending = rng.choice((".gz", ".zst"))
        raw = gzip.compress(raw, 1) if ending == ".gz" else zstandard.compress(raw)
        if rng.random() < 0.6:
            raw = mutate_bytes(raw, rng)
        name += ending
    stated = found if rng.random() < 0.3 and kind not in ("txt", "md", "pgn") else "auto"
    return {"name": name, "raw": raw, "format": stated}


@cache
def codec() -> Any:
    """Load the embedded tokenizer once, before the workers are forked."""
    from tunebook.models.tokenizer import load_tokenizer

    return load_tokenizer("tunebook/tiny")


def run(place: Path, case: dict[str, Any]) -> str:
    """Tokenize it as `tunebook data stats` does."""
    from tunebook.data.show import build_uncut
    from tunebook.data.stats import describe_source
    from tunebook.data.workers import Workers
    from tunebook.errors import TunebookError
    from tunebook.workflows.data_show import source_of

    path = place / case["name"]
    path.write_bytes(case["raw"])
    try:
        source = source_of(str(path), data_format=case["format"])
        built, _ = build_uncut(
            source, codec(), place / "cache", template="auto", stage=None, workers=Workers(1)
        )
        described = describe_source(built)
    except TunebookError as error:
        if path.name not in str(error):
            raise Wordless(f"no file is named: {error}") from None
        raise
    facts = built.store.facts
    if facts["rows_in"] < len({(int(r["row"]), int(r["sub"])) for r in built.store.rows}):
        raise Wordless(f"more rows than were read: {facts}")
    return f"{described.format}: taken"


TARGET = Target(
    "data-rows",
    "A data file is read or refused in one sentence that names the file and the row",
    ("D1",),
    draw,
    run,
    mended=(
        "A .zst of 98 KB was unpacked into 6 GB of memory; it is unpacked in small pieces now.",
    ),
)

if __name__ == "__main__":
    options = arguments(__doc__, 10_000)
    import pyarrow.parquet  # noqa: F401

    codec()
    bombs()
    sys.exit(fuzz(TARGET, options))
