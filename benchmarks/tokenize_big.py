"""Prepare a large JSONL text set and print MB/s and the peak memory of the whole process tree.

    python benchmarks/tokenize_big.py SET.jsonl TOKENIZER_FOLDER [--workers 2] [--filter SPEC] ...

The set is read, tokenized into memory-mapped segments and packed to rows of 1,024 tokens. Memory is
the proportional set size (PSS): what processes share is counted once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path


class PeakMemory(threading.Thread):
    """Watches the proportional set size of this process and its descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._ended = threading.Event()

    def run(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._ended.wait(0.25):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except (psutil.Error, AttributeError):
                    continue
            self.peak_bytes = max(self.peak_bytes, total)

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--filter", action="append", default=[], dest="filters")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--library", choices=("gigatoken", "tiktoken", "tokenizers"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.path.parent) as folder:
        print(json.dumps(measure(options, options.cache or Path(folder))), flush=True)


def measure(options: argparse.Namespace, cache: Path) -> dict[str, object]:
    from transformers import PreTrainedTokenizerFast

    from tunebook.cli.data.filter import read_filter
    from tunebook.data.build import TokenSettings, Workers, build_source
    from tunebook.data.order import TrainSet
    from tunebook.data.shards import Part, Shards
    from tunebook.models.tokenizer import Codec
    from tunebook.recipe.tree import Source

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(options.tokenizer / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    codec = Codec(tokenizer, options.tokenizer, options.tokenizer.name)
    if options.library is not None:
        codec.libraries = (options.library,) if options.library != "tokenizers" else ()
    filters = [read_filter(text) for text in options.filters]
    source = Source(path=str(options.path), format="text", filters=filters)
    memory = PeakMemory()
    memory.start()
    began = time.monotonic()
    built = build_source(
        source,
        TokenSettings("cpt", "auto", "all", 1024, "split"),
        codec,
        cache,
        lambda text: None,
        workers=Workers(options.workers),
        watch=lambda progress: None,
    )
    tokenized = time.monotonic()
    import numpy as np

    shards = Shards([Part("big", built.store, np.arange(len(built.store), dtype=np.int64))])
    rows = TrainSet([shards], [1.0], seed=0, packing=True, max_seq_len=1024)
    rows.row(0)
    ended = time.monotonic()
    megabytes = options.path.stat().st_size / 1e6
    facts = built.store.facts
    return {
        "library": codec.encoder.library,
        "megabytes": round(megabytes),
        "filters": options.filters,
        "workers": options.workers,
        "seconds": round(ended - began, 2),
        "packing_seconds": round(ended - tokenized, 2),
        "mb_per_second": round(megabytes / (ended - began), 1),
        "peak_pss_mib": round(memory.end() / 2**20),
        "rows_in": facts["rows_in"],
        "dropped": facts["dropped"],
        "tokens": built.store.n_tokens,
        "packed_rows": rows.rows_per_epoch,
        "seal": built.store.content_hash[:16],
    }


if __name__ == "__main__":
    main()
