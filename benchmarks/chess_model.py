"""Make a small, untrained chess model and a book with a run that trains it on games.

    python benchmarks/chess_model.py GAMES.pgn.gz BOOK [--steps N]
    cd BOOK && tunebook train chess.yaml && tunebook chess chess

The model is a Llama of 1.3M random weights. Its tokenizer is learned from the games: a move is a
token of letters and one of digits, so that a square is put together from what it is made of.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

RUN = """\
name: chess
model: {model}
stage: cpt
method: full
accept: [random-base]
data:
  - path: {games}
    format: pgn
    chess: {{header: [Result, WhiteElo, BlackElo]}}
max_seq_len: 512
validation: {{fraction: 0.03}}
train:
  max_steps: {steps}
  effective_batch_size: 2
  micro_batch_size: 2
  learning_rate: 2e-3
  warmup_steps: 60
  schedule: cosine
evaluate: {{every: 25%, canary: 0}}
checkpoint: {{every: 50%, keep: 1}}
"""


def save_tokenizer(games: Path, folder: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with gzip.open(games, "rt", encoding="utf-8") as lines:
        kept = ("[Result", "[WhiteElo", "[BlackElo", "1.")
        tokenizer.train_from_iterator((line for line in lines if line.startswith(kept)), trainer)
    end = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end)
    fast.save_pretrained(folder)
    return len(fast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("games", type=Path)
    parser.add_argument("book", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunebook.book.places import create_book

    create_book(arguments.book)
    folder = (arguments.book / "chess-base").resolve()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=save_tokenizer(arguments.games, folder),
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    run = RUN.format(model=folder, games=arguments.games.resolve(), steps=arguments.steps)
    (arguments.book / "chess.yaml").write_text(run, encoding="utf-8")


if __name__ == "__main__":
    main()
