"""The held-out loss: tunebook's scoring beside `Trainer.evaluate`, turn about in one process.

    python benchmarks/speed/validation.py [--case gpt2-124m-full-b8] [--rows 64] [--rounds 5]

Both score the same rows with the same weights in fp32 and on the same threads. transformers'
Trainer at its defaults (8 rows at a time in the order of the file, padded to the longest), and with
`prediction_loss_only`, which keeps no logits. Its mean is of means of batches; tunebook's is of
tokens, and is held against a plain loop over the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import CASES, DATA, Work, changed
from compare import make_work
from record import package_versions, write_result
from textbook import labels_of, load_causal

from tunebook.data.batches import collate, numbers_by_batch
from tunebook.data.order import SourcedExample
from tunebook.models.load import load_model
from tunebook.models.tokenizer import load_tokenizer
from tunebook.records import Tokens
from tunebook.step.check import choose_scorer
from tunebook.step.score import mean_loss, score_examples
from tunebook.workflows.planning import VALIDATION_TOKENS_PER_BATCH

SAME = 1e-5


def ours(work: Work, rows: list[dict[str, Any]]) -> Callable[[], float]:
    """Give what scores the rows as a run does."""
    loaded = load_model(work.model, device="cpu", precision="fp32", attention="auto")
    scorer = choose_scorer(loaded, load_tokenizer(work.model).vocab_size)
    examples = [
        SourcedExample(
            Tokens(row["id"], row["id"], tuple(row["ids"]), tuple(map(bool, row["target"]))), "rows"
        )
        for row in rows
    ]
    numbers = numbers_by_batch([len(row["ids"]) for row in rows], VALIDATION_TOKENS_PER_BATCH)
    batches = [collate([examples[number] for number in batch]) for batch in numbers]
    return lambda: mean_loss(score_examples(loaded, scorer, batches))


def theirs(work: Work, rows: list[dict[str, Any]], folder: str, **said: Any) -> Callable[[], float]:
    """Give what scores the rows as transformers' Trainer does."""
    from transformers import (
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(work.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    features = [
        {"input_ids": r["ids"], "labels": labels_of(r), "attention_mask": [1] * len(r["ids"])}
        for r in rows
    ]
    trainer = Trainer(
        model=load_causal(work),
        args=TrainingArguments(
            output_dir=folder, use_cpu=True, report_to=[], disable_tqdm=True, **said
        ),
        eval_dataset=features,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    return lambda: float(trainer.evaluate()["eval_loss"])


@torch.no_grad()
def plainly(work: Work, rows: list[dict[str, Any]]) -> float:
    """Give the mean over all target tokens, a row at a time."""
    model, total, count = load_causal(work).eval(), 0.0, 0
    for row in rows:
        labels = torch.tensor(labels_of(row)[1:])
        logits_TV = model(torch.tensor([row["ids"]])).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits_TV, labels, reduction="sum"))
        count += int((labels != -100).sum())
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", default="gpt2-124m-full-b8", choices=list(CASES))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    case = changed(CASES[asked.case], steps=-(-asked.rows // CASES[asked.case].batch))
    with tempfile.TemporaryDirectory() as name:
        work = make_work(case, Path(name), asked.data)
        rows = json.loads(Path(work.rows_file).read_bytes())[: asked.rows]
        expected = plainly(work, rows)
        ways = {
            "tunebook": ours(work, rows),
            "Trainer, defaults": theirs(work, rows, name),
            "Trainer, prediction_loss_only": theirs(work, rows, name, prediction_loss_only=True),
        }
        found = {way: do() for way, do in ways.items()}  # and warm
        if abs(found["tunebook"] - expected) > SAME:
            raise SystemExit(f"tunebook's loss {found['tunebook']} is not {expected}")
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(asked.rounds):
            for way, do in list(ways.items())[:: 1 if turn % 2 else -1]:
                began = time.perf_counter()
                do()
                seconds[way].append(time.perf_counter() - began)
            print(*(f"{way}: {taken[-1]:.2f} s;" for way, taken in seconds.items()), flush=True)
    table: list[list[Any]] = []
    n_tokens = sum(len(row["ids"]) for row in rows)
    for way, taken in seconds.items():
        ratios = [b / a for a, b in zip(seconds["tunebook"], taken, strict=True)]
        spread = [round(f(ratios), 2) for f in (statistics.median, min, max)]
        table.append(
            [way, round(n_tokens / statistics.median(taken)), *spread, f"{found[way]:.6f}"]
        )
        print(*table[-1])
    write_result(
        "validation",
        title="The held-out loss",
        command=f"python benchmarks/speed/validation.py --case {asked.case} --rows {asked.rows} "
        f"--rounds {asked.rounds}",
        settings={
            "model": case.shape,
            "rows": f"{len(rows)} of {n_tokens} tokens",
            "threads": torch.get_num_threads(),
            "rounds": asked.rounds,
        },
        columns=["way", "tokens/s", "tunebook is x as fast", "least", "most", "loss"],
        rows=table,
        notes=[
            f"The mean over target tokens, by a plain loop, is {expected:.6f}; the Trainer's is a "
            "mean of the means of its batches."
        ],
        versions=package_versions("torch", "transformers", "accelerate"),
    )


if __name__ == "__main__":
    main()
