"""Answers per second: tunebook's batches beside `model.generate`, turn about in one process.

    python benchmarks/speed/generation.py [--model tunebook/tiny] [--rows FILE] [--prompts 96]

Rivals: transformers' `generate` prompt by prompt, and in left-padded batches of 16 in the order
of the file. All answer greedily, `--tokens` new tokens at most, with a key/value cache, and stop at
the end token. Prints new tokens per second and the ratios; the answers must be the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from record import write_result

from tunebook.data.render import choose_renderer
from tunebook.evaluate.questions import read_questions
from tunebook.models.attention import own_attention
from tunebook.models.generate import Sampling, end_ids, generate
from tunebook.models.load import LoadedModel, choose_device, choose_precision, load_model
from tunebook.models.tokenizer import load_tokenizer

ROWS = Path(__file__).resolve().parents[3] / "shared/data/instruct/alpaca-random-9k.json.gz"
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tunebook/tiny")
    parser.add_argument("--rows", default=str(ROWS))
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    loaded = load_model(asked.model, device=device, precision=precision, attention="auto")
    codec = load_tokenizer(asked.model)
    renderer = choose_renderer("alpaca", "alpaca", codec, "sft")
    room = (loaded.context_length or 1 << 20) - asked.tokens
    rows = [q.prompt_ids(renderer) for q in read_questions(asked.rows)[: 4 * asked.prompts]]
    prompts = [ids for ids in rows if len(ids) <= room][: asked.prompts]
    ends = end_ids(loaded, codec.eos_id)
    ways: dict[str, Callable[[], list[tuple[int, ...]]]] = {
        "tunebook": lambda: ours(loaded, prompts, asked.tokens, ends),
        "one by one": lambda: theirs(loaded, prompts, asked.tokens, ends, 1),
        f"batches of {BATCH}": lambda: theirs(loaded, prompts, asked.tokens, ends, BATCH),
    }
    ways["tunebook"]()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        answers = {}
        for name, way in ways.items():
            began = time.perf_counter()
            answers[name] = way()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
        same = {
            name: sum(a == b for a, b in zip(found, answers["tunebook"], strict=True))
            for name, found in answers.items()
        }
        print(" ".join(f"{name}: {seconds[name][-1]:.2f} s;" for name in ways), same, flush=True)
    tokens = sum(map(len, answers["tunebook"]))
    lengths = sorted(map(len, prompts))
    print(
        f"{asked.model} on {device}, {precision}, {torch.get_num_threads()} threads; "
        f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens, {tokens} new tokens"
    )
    table: list[list[object]] = []
    for name in ways:
        ratios = [
            theirs / own for theirs, own in zip(seconds[name], seconds["tunebook"], strict=True)
        ]
        speed = tokens / statistics.median(seconds[name])
        spread = [round(f(ratios), 2) for f in (statistics.median, min, max)]
        table.append([name, round(speed), *spread, f"{same[name]} of {len(prompts)}"])
        print(
            f"{name}: {tokens / statistics.median(seconds[name]):.0f} tokens/s; tunebook is "
            f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    write_result(
        "generation",
        title="Answers to a batch of prompts",
        command=f"python benchmarks/speed/generation.py --model {asked.model} "
        f"--prompts {asked.prompts} --tokens {asked.tokens} --rounds {asked.rounds}",
        settings={
            "model": asked.model,
            "device": f"{device}, {precision}",
            "threads": torch.get_num_threads(),
            "prompts": f"{len(prompts)} of {lengths[0]} to {lengths[-1]} tokens",
            "new_tokens": tokens,
            "rounds": asked.rounds,
        },
        columns=["way", "new tokens/s", "tunebook is x as fast", "least", "most", "same answers"],
        rows=table,
        notes=["tunebook calls the same `generate`: it sorts by length and fills batches by room."],
    )


def ours(
    loaded: LoadedModel, prompts: list[list[int]], tokens: int, ends: list[int]
) -> list[tuple[int, ...]]:
    found = dict(generate(loaded, prompts, Sampling(tokens), ends))
    return [found[number].ids for number in range(len(prompts))]


@torch.no_grad()
def theirs(
    loaded: LoadedModel, prompts: list[list[int]], tokens: int, ends: list[int], size: int
) -> list[tuple[int, ...]]:
    model = loaded.causal.eval()
    attention = model.config._attn_implementation
    model.set_attn_implementation(own_attention(model))
    found: list[tuple[int, ...]] = []
    for batch in _chunks(prompts, size):
        width = max(map(len, batch))
        pads = [width - len(ids) for ids in batch]
        ids = [[ends[0]] * pad + ids for pad, ids in zip(pads, batch, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in pads]
        out = model.generate(
            input_ids=torch.tensor(ids, device=loaded.device),
            attention_mask=torch.tensor(mask, device=loaded.device),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        for row in out[:, width:].tolist():
            stop = next((place for place, token in enumerate(row) if token in ends), None)
            found.append(tuple(row[:stop]))
    model.set_attn_implementation(attention)
    return found


def _chunks(prompts: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    for start in range(0, len(prompts), size):
        yield prompts[start : start + size]


if __name__ == "__main__":
    main()
