"""Make ``tunebook/tiny``: a small English base model with its own tokenizer, trained from nothing.

``report_tiny_base.py`` beside this file scores the result and writes its card. The stages here,
each restartable, all working in ``--work DIR``:

    texts      clean the texts that may be trained on and the two novels held back
    tokenizer  train the byte-level BPE tokenizer and encode the training texts
    bench      measure the speed of one step here and suggest ``--steps`` for ``--minutes``
    train      pre-train; ``--resume`` goes on from the last checkpoint
    export     write the newest checkpoint as a fp16 model folder

The order of the training windows is a pure function of (seed, step), and the learning rate one of
(step, steps), so that an interrupted run that is resumed sees the same batches as one that was not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

HELD_BACK = ("Haggard_Mines_1885", "Trollope_Warden_1855")  # no other novel by these two is read
NOT_READ = ("Forster_",)  # he died in 1970: not yet free where copyright is life and 70 years
END, PAD = "<|endoftext|>", "<|pad|>"
VOCAB_SIZE = 4096
MAX_SEQ_LEN = 512
SEED = 20261121


# ---------------------------------------------------------------------------------------- texts


def read_gz(path: Path) -> str:
    """The text of a gzip file, with line ends and byte-order mark made uniform."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\u00a0", " ")


def unwrap(text: str) -> str:
    """Paragraphs on one line each, a blank line between them.

    Some of the novels are wrapped at about 72 columns, some of those without blank lines between
    paragraphs; left so, a small model spends its weights on where the lines break.
    """
    lines = [line.strip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    wrapped = lengths[int(len(lengths) * 0.98)] < 120
    width = lengths[int(len(lengths) * 0.9)]
    paragraphs: list[str] = []
    current: list[str] = []
    for line in lines:
        if line:
            current.append(line)
        # A short line that ends a sentence ends the paragraph where no blank line says so.
        ends = wrapped and len(line) < 0.8 * width and re.search(r"[.!?:\"'”’]$", line) is not None
        if current and (not line or not wrapped or ends):
            paragraphs.append(re.sub(r"\s+", " ", " ".join(current)))
            current = []
    if current:
        paragraphs.append(re.sub(r"\s+", " ", " ".join(current)))
    return "\n\n".join(paragraphs) + "\n"


def read_abstracts(paths: list[Path]) -> Iterator[str]:
    """Title and abstract of each arXiv record, each id once."""
    seen: set[str] = set()
    for path in paths:
        for line in read_gz(path).splitlines():
            row = json.loads(line)
            if row["id"] not in seen:
                seen.add(row["id"])
                title, abstract = (" ".join(row[key].split()) for key in ("title", "abstract"))
                yield f"{title}\n\n{abstract}\n"


def make_texts(data: Path, work: Path) -> None:
    """Write ``train.jsonl`` (one document a line) and ``held-back/*.txt``."""
    (work / "held-back").mkdir(parents=True, exist_ok=True)
    sizes: dict[str, dict[str, int]] = {}
    with open(work / "train.jsonl", "w", encoding="utf-8") as out:

        def add(source: str, text: str) -> None:
            out.write(json.dumps({"source": source, "text": text}) + "\n")
            size = sizes.setdefault(source, {"documents": 0, "bytes": 0})
            size["documents"] += 1
            size["bytes"] += len(text.encode())

        for path in sorted((data / "text/novels").glob("*.txt.gz")):
            if path.name.startswith(NOT_READ):
                continue
            name, text = path.name.removesuffix(".txt.gz"), unwrap(read_gz(path))
            if name in HELD_BACK:
                (work / "held-back" / f"{name}.txt").write_text(text, encoding="utf-8")
            else:
                add(name, text)
        add("tinyshakespeare", read_gz(data / "text/tinyshakespeare.txt.gz"))
        for book in ("astronomy-2e", "university-physics"):
            for section in read_gz(data / f"physics/{book}.txt.gz").split("\n\n\n"):
                if section.strip():
                    add(book, section.strip() + "\n")
        names = ("arxiv-astro-abstracts", "arxiv-physics-abstracts-9k")
        for text in read_abstracts([data / f"physics/{name}.jsonl.gz" for name in names]):
            add("arxiv-abstracts", text)
    held = data / "text/wikitext2-valid.txt.gz"  # scored, never trained on
    (work / "held-back/wikitext2-valid.txt").write_text(read_gz(held), encoding="utf-8")
    (work / "sources.json").write_text(json.dumps(sizes, indent=1))
    print(f"{sum(s['bytes'] for s in sizes.values()):,} bytes from {len(sizes)} sources")


def documents(work: Path) -> Iterator[str]:
    """The training documents, in file order."""
    with open(work / "train.jsonl", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def make_tokenizer(work: Path) -> None:
    """Train the tokenizer, save it, and write the training texts as one row of token ids."""
    bpe = Tokenizer(models.BPE())
    # Digits one by one: numbers would otherwise eat merges that words can use.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(documents(work), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_SEQ_LEN,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(work / "tokenizer")
    # The class name that transformers 4 and 5 both know.
    config = work / "tokenizer/tokenizer_config.json"
    settings = json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(settings, indent=2) + "\n")
    end = bpe.token_to_id(END)
    rows = []
    for text in documents(work):
        ids = bpe.encode(text).ids
        rows.append(np.array([end, *ids], dtype=np.uint16))
    tokens = np.concatenate(rows)
    np.save(work / "tokens.npy", tokens)
    print(f"{len(tokens):,} tokens, vocabulary {bpe.get_vocab_size()}")


# ------------------------------------------------------------------------------------- training


def build_model() -> LlamaForCausalLM:
    """The untrained model."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_SEQ_LEN,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    # Smaller writes into the residual stream, so that depth does not scale the start up.
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.num_hidden_layers))
    return model


def build_optimizer(model: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW, with weight decay on matrices only."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": 0.1},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate_scale(step: int, steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Warm-up, constant, then a straight fall to nothing (WSD): the end can be moved while flat."""
    decay_steps = max(1, int(steps * decay_fraction))
    return min(1.0, (step + 1) / warmup_steps, max(0.0, (steps - step) / decay_steps))


def batch_at(tokens: np.ndarray, step: int, micro_batch_size: int) -> torch.Tensor:
    """Windows of one step: each epoch shuffles all windows anew, by (SEED, epoch) alone."""
    windows = (len(tokens) - 1) // MAX_SEQ_LEN
    rows = []
    for index in range(step * micro_batch_size, (step + 1) * micro_batch_size):
        epoch, place = divmod(index, windows)
        order = _order(windows, epoch)
        start = int(order[place]) * MAX_SEQ_LEN
        rows.append(tokens[start : start + MAX_SEQ_LEN + 1].astype(np.int64))
    return torch.from_numpy(np.stack(rows))


_orders: dict[tuple[int, int], np.ndarray] = {}


def _order(windows: int, epoch: int) -> np.ndarray:
    if (windows, epoch) not in _orders:
        _orders[windows, epoch] = np.random.default_rng([SEED, epoch]).permutation(windows)
    return _orders[windows, epoch]


def loss_of(model: Callable[..., Any], batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each window's next tokens, in nats."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


def bench(work: Path, minutes: float, micro_batch_size: int, share: float) -> None:
    """Tokens per second of a training step, eager and compiled, fp32 and bf16."""
    tokens = np.load(work / "tokens.npy", mmap_mode="r")
    for compiled, bf16 in ((False, False), (False, True), (True, False)):
        model = build_model()
        optimizer = build_optimizer(model, 1e-3)
        step_model = torch.compile(model) if compiled else model
        seen: list[float] = []
        for step in range(6):
            start = time.monotonic()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = loss_of(step_model, batch_at(tokens, step, micro_batch_size))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(time.monotonic() - start)
        seconds = sorted(seen[1:])[2]  # the first step warms up or compiles
        print(
            f"compiled={compiled} bf16={bf16}: {seconds:.2f} s a step, "
            f"{micro_batch_size * MAX_SEQ_LEN / seconds:,.0f} tokens/s; "
            f"--steps {int(minutes * 60 * share / seconds)} for {minutes:g} minutes",
            flush=True,
        )


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Written aside and renamed: a kill while saving leaves the checkpoint before it."""
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def train(work: Path, args: argparse.Namespace) -> None:
    """Pre-train up to ``args.steps``."""
    tokens = np.load(work / "tokens.npy", mmap_mode="r")
    model, path = build_model(), work / "checkpoint.pt"
    optimizer = build_optimizer(model, args.learning_rate)
    first, seconds_before = 0, 0.0
    if args.resume and path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds_before = state["step"], state["seconds"]
    elif path.exists():
        raise SystemExit(f"{path} exists: pass --resume to go on from it, or move it away")
    step_model = torch.compile(model) if args.compile else model
    started = saved = time.monotonic()
    with open(work / "train-log.jsonl", "a", encoding="utf-8") as log:
        for step in range(first, args.steps):
            scale = learning_rate_scale(step, args.steps, args.warmup_steps, args.decay_fraction)
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * scale
            loss = loss_of(step_model, batch_at(tokens, step, args.micro_batch_size))
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            now, done = time.monotonic(), step + 1
            row = {
                "step": done,
                "loss": round(loss.item(), 4),
                "grad_norm": round(norm.item(), 3),
                "learning_rate": args.learning_rate * scale,
                "tokens": done * args.micro_batch_size * MAX_SEQ_LEN,
                "seconds": round(seconds_before + now - started, 1),
            }
            log.write(json.dumps(row) + "\n")
            if done % 20 == 0:
                log.flush()
                print(json.dumps(row), flush=True)
            if now - saved > 300 or done == args.steps:
                settings = {k: v for k, v in vars(args).items() if isinstance(v, int | float)}
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"step": done, "seconds": row["seconds"], "tokens": row["tokens"]}
                save_checkpoint(path, state | {"settings": settings})
                saved = now


def export(work: Path, out: Path) -> None:
    """The newest checkpoint as a model folder: fp16 weights, tokenizer, generation settings."""
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    model = build_model()
    model.load_state_dict(state["model"])
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    for path in (work / "tokenizer").iterdir():
        shutil.copy(path, out)
    GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=1).save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)  # the weights are written readable by their owner alone
    print(f"step {state['step']}: {sum(p.stat().st_size for p in out.iterdir()):,} bytes in {out}")


def main() -> None:
    """Read the command line and run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = ("texts", "tokenizer", "bench", "train", "export")
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--data", type=Path, help="folder with text/ and physics/ (texts)")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--out", type=Path, help="the model folder (export)")
    parser.add_argument("--steps", type=int, default=1500, help="may change while the rate is flat")
    parser.add_argument("--minutes", type=float, default=75, help="time to plan for (bench)")
    parser.add_argument("--share", type=float, default=0.6, help="of the measured speed (bench)")
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--warmup-steps", type=int, default=60)
    parser.add_argument("--decay-fraction", type=float, default=0.3)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--compile", action="store_true", help="train with torch.compile")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    if args.stage == "texts":
        make_texts(args.data, args.work)
    elif args.stage == "tokenizer":
        make_tokenizer(args.work)
    elif args.stage == "bench":
        bench(args.work, args.minutes, args.micro_batch_size, args.share)
    elif args.stage == "train":
        train(args.work, args)
    else:
        export(args.work, args.out)


if __name__ == "__main__":
    main()
