"""Tokenize the same JSONL text set with `datasets.map` and with tunebook, turn about, in one run.

    python benchmarks/speed/tokenization.py SET.jsonl TOKENIZER_FOLDER [--repeats 3]

`datasets.map` gets the same tokenizer, batches of 1,000 rows and the number of processes that is
fastest for it on the first tenth of the set; its conversion of the JSON file to Arrow is timed and
given apart. It only tokenizes. tunebook reads, hashes, tokenizes, cuts to 1,024 tokens, writes,
seals and packs, with each of the libraries that may encode.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import Goal, write_result

PROCESSES = (1, 2, 3, 4)
HERE = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n-proc", type=int)
    parser.add_argument("--only-datasets", action="store_true")
    options = parser.parse_args()
    if options.only_datasets:
        print(json.dumps(run_datasets(options.path, options.tokenizer, options.n_proc)))
        return
    best = find_best(options)
    libraries = ("gigatoken", "tiktoken", "tokenizers")
    found: dict[str, list[float]] = {name: [] for name in ("datasets.map", *libraries)}
    for _ in range(options.repeats):
        own = in_child("speed/tokenization.py", options, "--only-datasets", "--n-proc", str(best))
        found["datasets.map"].append(own["map_seconds"])
        print(own, flush=True)
        for name in libraries:
            result = in_child("tokenize_big.py", options, "--library", name)
            found[name].append(result["seconds"])
            print(result, flush=True)
    megabytes = options.path.stat().st_size / 1e6
    table: list[list[object]] = []
    for name, seconds in found.items():
        ratios = [a / b for a, b in zip(found["datasets.map"], seconds, strict=True)]
        speed = megabytes / statistics.median(seconds)
        spread = [round(f(ratios), 2) for f in (statistics.median, min, max)]
        table.append([name, round(speed, 1), *spread])
        print(
            f"{name}: {megabytes / statistics.median(seconds):.1f} MB/s, "
            f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
        )
    by_name = {str(row[0]): row for row in table}
    write_result(
        "tokenization",
        title="From rows of text to tokens on disk",
        command="python benchmarks/speed/tokenization.py SET.jsonl TOKENIZER_FOLDER",
        settings={
            "set": f"{megabytes:.0f} MB of JSONL (benchmarks/make_big_text.py)",
            "processes_of_datasets": best,
            "processes_of_tunebook": 2,
            "rounds": options.repeats,
        },
        columns=["what encodes", "MB/s", "x datasets.map", "least", "most"],
        rows=table,
        goals=[
            Goal("fast path (gigatoken)", 50, by_name["gigatoken"][1], unit="MB/s"),
            Goal("fallback (tiktoken)", 2, *by_name["tiktoken"][2:]),
        ],
        notes=[
            "tunebook also hashes, cuts, seals and packs; `datasets.map` tokenizes alone.",
            "Where a tokenizer is no byte-level one of one pattern, `tokenizers` is the fallback.",
        ],
    )


def find_best(options: argparse.Namespace) -> int:
    """Find the number of processes that is fastest for `datasets.map` on a tenth of the set."""
    part = options.path.with_suffix(".tenth.jsonl")
    with options.path.open("rb") as source, part.open("wb") as target:
        target.writelines(source.readlines(options.path.stat().st_size // 10))
    speeds = {}
    for n in PROCESSES:
        result = in_child(
            "speed/tokenization.py",
            argparse.Namespace(path=part, tokenizer=options.tokenizer),
            *("--only-datasets", "--n-proc", str(n)),
        )
        speeds[n] = result["map_seconds"]
    part.unlink()
    print("datasets.map on a tenth, seconds by processes:", speeds, flush=True)
    return min(speeds, key=speeds.__getitem__)


def in_child(script: str, options: argparse.Namespace, *more: str) -> dict[str, float]:
    """Run a script in a process of its own and read its last line."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(options.path), str(options.tokenizer), *more],
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_datasets(path: Path, folder: Path, n_proc: int) -> dict[str, float]:
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    tokenizer.model_max_length = int(1e30)
    cache = tempfile.mkdtemp(dir=path.parent)
    try:
        began = time.monotonic()
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
        read = time.monotonic()
        rows.map(
            lambda batch: tokenizer(batch["text"], return_attention_mask=False),
            batched=True,
            remove_columns=rows.column_names,
            num_proc=n_proc if n_proc > 1 else None,
        )
        return {
            "n_proc": n_proc,
            "load_seconds": round(read - began, 2),
            "map_seconds": round(time.monotonic() - read, 2),
        }
    finally:
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
