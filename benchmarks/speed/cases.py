"""What is trained: the cases, and their models and rows, which all contenders read from files.

Run as a script it makes both: `python cases.py SPEC.json FOLDER`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SEED = 0
LORA_RANK, LORA_ALPHA = 16, 16

# Dropout is 0 everywhere, so that losses can be compared; the vocabulary is GPT-2's.
_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-tiny": {"kind": "gpt2", "n_layer": 4, "n_embd": 32, "n_head": 2},
    "gpt2-30m": {"kind": "gpt2", "n_layer": 6, "n_embd": 384, "n_head": 6},
    "gpt2-124m": {"kind": "gpt2"},
    "llama-tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                   "intermediate_size": 160},
    "llama-30m": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
                  "intermediate_size": 704},
    "llama-124m": {"hidden_size": 640, "num_hidden_layers": 12, "num_attention_heads": 10,
                   "intermediate_size": 1728},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: a model's shape, what learns, and how many rows make a step.

    `rows` of None are as many as the steps take, each once; fewer are gone through again, in
    another order in each epoch. `layers` are those that get an adapter, `all` or `last:3`. A goal
    is (what, whose, against whom, at least so many times), or of a loss at most so far from fp32.
    `best_of` names the case whose best settings of peers are taken, where it is another.
    """

    name: str
    shape: str
    contenders: tuple[str, ...]
    method: str = "full"
    batch: int = 8
    steps: int = 20
    rows: int | None = None
    layers: str = "all"
    learning_rate: float = 5e-5
    max_grad_norm: float = 1.0
    device: str = "cpu"
    goals: tuple[tuple[str, str, str, float], ...] = ()
    best_of: str = ""


_PEERS = ("hf", "hf-best", "trl", "trl-best")
_OWN = ("tunebook", "tunebook-bf16")


# Speed in the epochs that read what the first one kept.
LATER = "speed of later epochs"


def _against(own: str, times: float, *peers: str) -> tuple[tuple[str, str, str, float], ...]:
    return tuple(("speed", own, peer, times) for peer in peers)


_DEFAULTS, _BEST = ("hf", "trl"), ("hf-best", "trl-best")
_EXACT = ("loss", "tunebook", "tunebook", 1e-5)
_ROUNDED = ("loss", "tunebook-bf16", "tunebook-bf16", 4e-3)
# The best settings of peers are in bf16, and so is what is held against them.
_FULL = (
    *_against("tunebook", 3.0, *_DEFAULTS),
    *_against("tunebook-bf16", 5.0, *_DEFAULTS),
    *_against("tunebook-bf16", 2.5, *_BEST),
    ("memory", "tunebook", "hf", 2.5),
    _EXACT,
    _ROUNDED,
)
CASES = {
    case.name: case
    for case in (
        Case(
            "gpt2-124m-full-b8", "gpt2-124m", (*_OWN, *_PEERS, "textbook"),
            goals=_FULL,
        ),
        Case(
            "gpt2-124m-lora-b8", "gpt2-124m", (*_OWN, *_PEERS), method="lora",
            best_of="gpt2-124m-full-b8",
            goals=(*_against("tunebook-bf16", 6.0, *_DEFAULTS),
                   *_against("tunebook-bf16", 2.5, *_BEST), ("memory", "tunebook-bf16", "hf", 4.0),
                   _EXACT, _ROUNDED),
        ),
        Case(
            "gpt2-124m-full-b2", "gpt2-124m", (*_OWN, "hf", "trl"), batch=2,
            goals=(*_against("tunebook", 1.6, *_DEFAULTS),
                   *_against("tunebook-bf16", 2.4, *_DEFAULTS), _EXACT, _ROUNDED),
        ),
        Case(
            "gpt2-124m-lora-last3-cached", "gpt2-124m", ("tunebook-cached", "tunebook", "hf"),
            method="lora", steps=24, rows=64, layers="last:3",
            goals=((LATER, "tunebook-cached", "tunebook", 1.5),
                   ("speed", "tunebook-cached", "hf", 8.0), _EXACT),
        ),
        Case(
            "gpt2-124m-qlora-b8", "gpt2-124m", (*_OWN, "tunebook-qlora"), method="lora",
            goals=(("speed", "tunebook-qlora", "tunebook-bf16", 0.8),),
        ),
        Case(
            "llama-30m-full-b8", "llama-30m",
            (*_OWN, *_PEERS, "litgpt", "litgpt-best", "textbook"), best_of="gpt2-124m-full-b8",
            goals=_FULL,
        ),
        Case(
            "llama-124m-full-b8", "llama-124m", (*_OWN, *_PEERS, "litgpt", "litgpt-best"),
            best_of="gpt2-124m-full-b8",
            goals=_FULL,
        ),
        Case("quick", "llama-tiny", ("tunebook", "textbook", "hf"), batch=4, steps=6),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """What a contender is given: files, and all that decides what a step does."""

    model: str
    rows_file: str
    data: str
    book: str
    case: Case

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Work:
        found = json.loads(path.read_bytes())
        return Work(**{**found, "case": Case(**found["case"])})

    def step_rows(self) -> list[list[dict[str, Any]]]:
        """Give the rows of each step, and of one more, which a loop may fetch ahead."""
        rows, batch = json.loads(Path(self.rows_file).read_bytes()), self.case.batch
        return [rows[i : i + batch] for i in range(0, len(rows), batch)]


def recipe_of(work: Work) -> dict[str, Any]:
    """Give the case as a run file of tunebook."""
    case = work.case
    return {
        "name": "speed",
        "model": work.model,
        "method": case.method,
        "seed": SEED,
        "device": case.device,
        "precision": "fp32" if case.device == "cpu" else "bf16",
        "data": [{"path": work.data, "sample": rows_needed(case)}],
        "template": "alpaca",
        "max_seq_len": 1024,
        "validation": {"fraction": 0},
        "accept": ["random-base"],
        "lora": {"rank": LORA_RANK, "alpha": LORA_ALPHA, "dropout": 0.0, "layers": case.layers},
        "train": {
            "max_steps": case.steps,
            "effective_batch_size": case.batch,
            "micro_batch_size": case.batch,
            "learning_rate": case.learning_rate,
            "schedule": "constant",
            "warmup_steps": 0,
            "max_grad_norm": case.max_grad_norm,
        },
    }


def rows_needed(case: Case) -> int:
    return case.rows or (case.steps + 1) * case.batch


def make_files(case: Case, folder: Path, data: Path) -> Work:
    """Write the case's model and rows into a folder, and say where they are."""
    rows = data / "instruct" / "alpaca-random-9k.json.gz" if data.is_dir() else data
    tokenizer = data / "tokenizers" / "gpt2" if data.is_dir() else None
    work = Work(
        str(_make_model(case, folder / "model", tokenizer)),
        str(folder / "rows.json"),
        str(rows),
        str(folder / "book"),
        case,
    )
    _make_rows(work, folder)
    return work


def _make_model(case: Case, folder: Path, tokenizer: Path | None) -> Path:
    import torch
    from transformers import (
        AutoTokenizer,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    from tunebook.models.find import find_model
    from tunebook.models.tokenizer import copy_tokenizer

    tokenizer = tokenizer or find_model("tunebook/tiny")
    vocabulary = len(AutoTokenizer.from_pretrained(tokenizer))
    sizes = dict(SHAPES[case.shape])
    torch.manual_seed(SEED)
    if sizes.pop("kind", "") == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **_NO_DROPOUT, **sizes))
    else:
        config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=1024,
                             tie_word_embeddings=False, pad_token_id=None, bos_token_id=None,
                             eos_token_id=vocabulary - 1, **sizes)  # fmt: skip
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    return folder


def _make_rows(work: Work, folder: Path) -> None:
    """Write the rows of every step in their order, as tunebook's own data path gives them."""
    from tunebook.data.prepare import prepare
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.recipe.tree import Recipe

    recipe = Recipe.model_validate(recipe_of(work))
    codec = load_tokenizer(work.model)
    train = prepare(recipe, codec, folder / "tokens", lambda _: None).train
    needed = (work.case.steps + 1) * work.case.batch
    if work.case.rows is None and train.rows_per_epoch < needed:
        raise SystemExit(f"{work.data} has {train.rows_per_epoch} rows; {needed} are needed")
    found = [train.row(index)[0].tokens for index in range(needed)]
    rows = [{"id": t.id, "ids": list(t.ids), "target": [int(x) for x in t.target]} for t in found]
    Path(work.rows_file).write_text(json.dumps(rows), encoding="utf-8")


def changed(case: Case, **changes: Any) -> Case:
    """Give a case with what the command line says otherwise."""
    return replace(case, **{key: value for key, value in changes.items() if value is not None})


if __name__ == "__main__":
    spec, target = Path(sys.argv[1]), Path(sys.argv[2])
    asked = json.loads(spec.read_bytes())
    made = make_files(Case(**asked["case"]), target, Path(asked["data"]))
    made.write(target / "work.json")
