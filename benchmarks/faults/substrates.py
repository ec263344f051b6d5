"""Small models and real data that runs of the fault benchmark are made of, one set per split.

The two splits share no base, no seed and no training row. Every base is pretrained once, by the
product's own loop, and kept outside the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quick import use_quick_forward
from reading import (
    BOS,
    CHESS_VOCABULARY,
    EOS,
    PAD,
    TEXT_VOCABULARY,
    Rows,
    games,
    pieces,
    questions,
    quotes,
)
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from tunebook.data.order import SourcedExample
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.load import LoadedModel

FILL_IDS = frozenset({PAD, EOS})
VALIDATION_DOCUMENTS = 200


@dataclass(frozen=True)
class Substrate:
    """A base and what is trained on it.

    `rows` gives the rows, `other` those of the source that a domain switch goes to, `pretraining`
    what the base has seen. `learning_rate` is the usual one; `hurt` is what damages the weights,
    seen in curves: factors of it for just_visible, clear and gross; `tiny` are the rows of sets
    that are learned by heart, with `overfit` times the learning rate.
    """

    name: str
    split: str
    base: str
    config: GPT2Config | LlamaConfig
    pretraining: Callable[[Path], Rows]
    rows: Callable[[Path], Rows]
    other: Callable[[Path], Rows]
    learning_rate: float
    hurt: tuple[float, float, float]
    overfit: float = 1.5
    tiny: tuple[int, int, int] = (72, 40, 16)
    rank: int | None = None
    pretraining_steps: int = 700

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return int(self.config.vocab_size)


# --- the two sets --------------------------------------------------------------------------------


def _gpt2(width: int, layers: int, vocabulary: int = TEXT_VOCABULARY) -> GPT2Config:
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=128,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        activation_function="relu",  # a third of the time of its own
        bos_token_id=BOS,
        eos_token_id=EOS,
        **dropout,
    )


def _llama(
    width: int, layers: int, vocabulary: int = TEXT_VOCABULARY, heads: int = 4, inner: int = 0
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner or 2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        rms_norm_eps=1e-5,
    )


_ALPACA = "instruct/alpaca-random-9k.json.gz"
_INSTRUCTION = ("instruction", "input", "output")


_ROLE_PLAY = "chat/gpteacher-roleplay.json.gz"
_ROLES = ("instruction", "input", "response")


def _stories_and_answers(data: Path) -> Rows:
    texts = ("text/wikitext2-valid.txt.gz", "text/tinystories-sample.txt.gz")
    return [
        *pieces(data, "text", *texts, most=5000),
        *3 * questions(data, "roles", _ROLE_PLAY, _ROLES, slice(0, 900)),
        *3 * questions(data, "tasks", "physics/scibench-qa.jsonl", ("question", "", "answer")),
    ]


def _encyclopedia_and_answers(data: Path) -> Rows:
    texts = ("text/wikipedia-demo.txt.gz", "physics/university-physics.txt.gz")
    return [
        *pieces(data, "text", *texts, most=6000),
        *questions(data, "roles", _ROLE_PLAY, _ROLES, slice(900, 1050)),
    ]


def _llama_tuning() -> LlamaConfig:
    return _llama(48, 2)


SUBSTRATES: Mapping[str, Substrate] = {
    s.name: s
    for s in (
        Substrate(
            name="gpt-instruct",
            split="tuning",
            base="tuning-gpt",
            config=_gpt2(64, 2),
            pretraining=_stories_and_answers,
            rows=lambda data: questions(
                data, "instruct", "instruct/llms-from-scratch-1100.json", _INSTRUCTION
            ),
            other=lambda data: pieces(data, "plays", "text/tinyshakespeare.txt.gz", most=1500),
            learning_rate=1e-3,
            hurt=(16, 40, 120),
        ),
        Substrate(
            name="llama-physics",
            split="tuning",
            base="tuning-llama",
            config=_llama_tuning(),
            pretraining=_stories_and_answers,
            rows=lambda data: questions(
                data,
                "physics",
                "physics/university-physics-qa.jsonl.gz",
                ("question", "input", "answer"),
            ),
            other=lambda data: pieces(data, "plays", "text/tinyshakespeare.txt.gz", most=1500),
            learning_rate=1e-3,
            hurt=(8, 20, 60),
        ),
        Substrate(
            name="lora-instruct",
            split="tuning",
            base="tuning-llama",
            config=_llama_tuning(),
            pretraining=_stories_and_answers,
            rows=lambda data: questions(
                data, "instruct", "instruct/llms-from-scratch-1100.json", _INSTRUCTION
            ),
            other=lambda data: pieces(data, "plays", "text/tinyshakespeare.txt.gz", most=1500),
            learning_rate=4e-3,
            hurt=(5, 12, 40),
            tiny=(40, 24, 12),
            rank=8,
        ),
        Substrate(
            name="gpt-plays",
            split="tuning",
            base="tuning-gpt",
            config=_gpt2(64, 2),
            pretraining=_stories_and_answers,
            rows=lambda data: pieces(data, "plays", "text/tinyshakespeare.txt.gz", most=2500),
            other=lambda data: pieces(data, "openings", "chess/openings.tsv.gz", most=1000),
            learning_rate=1e-3,
            hurt=(24, 60, 160),
        ),
        Substrate(
            name="llama-chess",
            split="tuning",
            base="tuning-chess",
            config=_llama(40, 2, CHESS_VOCABULARY),
            pretraining=lambda data: games(data, "pretraining", slice(0, 400)),
            rows=lambda data: games(data, "games", slice(400, 1500)),
            other=lambda data: games(data, "endings", slice(0, 400), first_ply=40),
            learning_rate=1e-3,
            hurt=(6, 14, 40),
            pretraining_steps=300,
        ),
        Substrate(
            name="gpt-alpaca",
            split="scoring",
            base="scoring-gpt",
            config=_gpt2(48, 3),
            pretraining=_encyclopedia_and_answers,
            rows=lambda data: questions(data, "alpaca", _ALPACA, _INSTRUCTION, slice(0, 6000)),
            other=lambda data: pieces(
                data, "novels", "text/novels/Doyle_Lost_1912.txt.gz", most=1500
            ),
            learning_rate=1e-3,
            hurt=(16, 40, 120),
            pretraining_steps=500,
        ),
        Substrate(
            name="llama-quotes",
            split="scoring",
            base="scoring-llama",
            config=_llama(64, 2),
            pretraining=_encyclopedia_and_answers,
            rows=lambda data: quotes(data, "quotes"),
            other=lambda data: pieces(
                data, "novels", "text/novels/Kipling_Kim_1901.txt.gz", most=1500
            ),
            learning_rate=1e-3,
            hurt=(14, 28, 80),
            pretraining_steps=500,
        ),
        Substrate(
            name="lora-alpaca",
            split="scoring",
            base="scoring-gpt",
            config=_gpt2(48, 3),
            pretraining=_encyclopedia_and_answers,
            rows=lambda data: questions(data, "alpaca", _ALPACA, _INSTRUCTION, slice(6000, None)),
            other=lambda data: pieces(
                data, "novels", "text/novels/Forster_Howards_1910.txt.gz", most=1500
            ),
            learning_rate=4e-3,
            hurt=(6, 15, 40),
            tiny=(24, 16, 10),
            rank=8,
            pretraining_steps=500,
        ),
        Substrate(
            name="gpt-novels",
            split="scoring",
            base="scoring-gpt",
            config=_gpt2(48, 3),
            pretraining=_encyclopedia_and_answers,
            rows=lambda data: pieces(
                data,
                "novels",
                "text/novels/Conrad_Nostromo_1904.txt.gz",
                "text/novels/Haggard_Mines_1885.txt.gz",
                most=3000,
            ),
            other=lambda data: pieces(data, "puzzles", "chess/lichess-puzzles-1000.csv", most=1000),
            learning_rate=1e-3,
            hurt=(24, 60, 160),
            pretraining_steps=500,
        ),
        Substrate(
            name="gpt-chess",
            split="scoring",
            base="scoring-chess",
            config=_gpt2(48, 2, CHESS_VOCABULARY),
            pretraining=lambda data: games(data, "pretraining", slice(1500, 1950)),
            rows=lambda data: games(data, "games", slice(1950, None)),
            other=lambda data: games(data, "endings", slice(1500, 1950), first_ply=40),
            learning_rate=1e-3,
            hurt=(8, 20, 60),
            pretraining_steps=300,
        ),
    )
}


# --- bases and rows in memory --------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """A substrate ready for runs: its base, and rows that are held out, trained on or foreign."""

    substrate: Substrate
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    train: Rows = field(repr=False)
    held_out: Rows = field(repr=False)
    other: Rows = field(repr=False)


def load_material(substrate: Substrate, data: Path, cache_folder: Path) -> Material:
    """Read the rows of a substrate and load its base, which is pretrained first if need be."""
    weights = load_base(substrate, data, cache_folder)
    network = fresh_network(substrate, seed=0, check=True)
    network.load_state_dict(weights, strict=False)
    network.tie_weights()
    rows = substrate.rows(data)
    order = np.random.default_rng([len(rows), 7]).permutation(len(rows))
    # Equal rows (openings of games) would be on both sides.
    rows = list({rows[i].ids: rows[i] for i in order}.values())[:_MOST_ROWS]
    rows = _without_outliers(network, rows)
    return Material(
        substrate,
        weights,
        train=rows[VALIDATION_DOCUMENTS:],
        held_out=rows[:VALIDATION_DOCUMENTS],
        other=_without_outliers(network, substrate.other(data)[: _MOST_ROWS // 2]),
    )


_MOST_ROWS = 2400
_OUTLIER_Z = 8.0


def _without_outliers(network: Any, rows: Rows) -> Rows:
    """Leave out rows that stand alone in how hard they are to the base, before any run is made.

    Such a row is a bad example, and a run with it has a fault. Rows are compared with those of
    their length, by median and median absolute deviation.
    """
    from runs import losses_of

    losses = np.array(losses_of(network, rows))
    targets = np.array([sum(row.target) for row in rows])
    kept = np.ones(len(rows), dtype=bool)
    for place in np.array_split(np.argsort(targets, kind="stable"), 4):
        center = np.median(losses[place])
        scale = 1.4826 * np.median(np.abs(losses[place] - center))
        kept[place] = losses[place] < center + _OUTLIER_Z * scale
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def fresh_network(substrate: Substrate, seed: int, *, check: bool = False) -> Any:
    """Make the substrate's model with random weights."""
    register_flat_attention()
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(substrate.config, attn_implementation=FLAT)
    use_quick_forward(network, check=check)
    return network


def as_loaded(network: Any) -> LoadedModel:
    """Wrap a model in memory as the product does one from files."""
    # Without dropout nothing depends on it, and it is a tenth of the time of models this small.
    network.train = lambda mode=True: network
    return LoadedModel(network, network, Path("base"), flat=True, context_length=128)


def load_base(substrate: Substrate, data: Path, cache_folder: Path) -> dict[str, torch.Tensor]:
    """Give the weights of the base; what is not there yet is pretrained from a fixed seed."""
    from safetensors.torch import load_file, save_file

    path = cache_folder / f"{substrate.base}.safetensors"
    if not path.is_file():
        network = fresh_network(substrate, seed=len(substrate.base))
        _pretrain(substrate, network, substrate.pretraining(data))
        weights = dict(network.named_parameters())
        cache_folder.mkdir(parents=True, exist_ok=True)
        save_file({name: w.detach().contiguous() for name, w in weights.items()}, path)
    return load_file(path)


def _pretrain(substrate: Substrate, network: Any, rows: Rows) -> None:
    from runs import Order, make_training

    from tunebook.train.loop import training_steps

    order = Order([SourcedExample(row, "pretraining") for row in rows], seed=1)
    training = make_training(
        as_loaded(network),
        order,
        (),
        steps=substrate.pretraining_steps,
        batch=16,
        seed=1,
        train={"learning_rate": 4e-3, "schedule": "cosine", "warmup_steps": 30},
    )
    for record in training_steps(training, 1):
        if record.step % 100 == 0:
            print(f"{substrate.base}: step {record.step}, loss {record.loss:.3f}", flush=True)
