"""Every knob of a run, in one tree: its name, type, default, bounds and meaning.

The run file, the `key=value` overrides, the JSON Schema, the documentation and the run page all
come from here. A knob has one home; nothing else in the project defines a default.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from tunebook.kinds import stopping_kind
from tunebook.recipe.chess import Chess
from tunebook.recipe.device_names import device_name
from tunebook.recipe.finding_names import finding_name
from tunebook.recipe.measuring import Checkpoint, Evaluate
from tunebook.recipe.methods import Lora, Quantization, Relora, refuse_idle_cache
from tunebook.recipe.section import Section

FormatName = Literal[
    "auto",
    "alpaca",
    "chat",
    "sharegpt",
    "completion",
    "qa",
    "persona",
    "text",
    "lines",
    "chess-uci",
    "pgn",
]
SpeakerRole = Literal["user", "assistant", "knowledge", "system"]
TemplateName = Literal["auto", "model", "alpaca", "lines", "qa", "chat", "persona", "pgn", "none"]
DocumentUnit = Literal["auto", "row", "line", "file", "heading", "separator"]


SLUG = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


class Source(Section):
    """One source of training rows."""

    path: str = Field(
        description="A file, folder, glob or hub id[@revision][:split]; .gz and .zst are read."
    )
    format: FormatName = Field("auto", description="Detected and shown unless it is named.")
    columns: dict[str, str] = Field(
        {}, description="Own column names, as {prompt: question, response: answer}."
    )
    roles: dict[str, SpeakerRole] = Field(
        {},
        description="What speakers in the data are, as {Alice: user, Bob: assistant}; knowledge "
        "and system are context.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Repeats per epoch (4.0 = four times) or the share taken (0.1).",
    )
    sample: int | None = Field(
        None,
        gt=0,
        description="Train on at most this many examples, by hash: of a row that becomes several, "
        "such as a talk, each counts, and windows of a long text count as one. A smaller sample "
        "is part of a larger one, and the held-out examples stay the same.",
    )
    document: DocumentUnit = Field(
        "auto",
        description="What a split and a duplicate count by; auto is row, and file for plain text.",
    )
    separator: str = Field(
        "<|endoftext|>", min_length=1, description="The line that ends a document."
    )
    filters: list[str | dict[str, dict[str, float | int | str | bool]]] = Field(
        [], description="Names of filters, or {name: {setting: value}}."
    )
    chess: Chess = Field(Chess(), description="What is asked about games of chess.")
    learning_rate_scale: float = Field(
        1.0,
        gt=0,
        description="The gradient of this source's tokens counts so many times. With sgd that is "
        "another learning rate for them; adamw divides by the size of gradients, so there it "
        "changes the source's share of an update and not the update's length. Losses are reported "
        "as they are. Of a single source, or the same for all, it sets none apart and is refused.",
    )


class Validation(Section):
    """Which examples are held out."""

    fraction: float | None = Field(
        None, ge=0, lt=1, description="Share of documents held out, by hash; 0 holds out nothing."
    )
    sample: int | None = Field(
        None,
        gt=0,
        description="Score at most this many held-out examples, by hash; the rest is held out all "
        "the same.",
    )
    path: str | None = Field(None, description="A file of its own instead of a fraction.")
    format: FormatName = Field("auto", description="Format of that file.")
    columns: dict[str, str] = Field({}, description="Own column names of that file.")
    roles: dict[str, SpeakerRole] = Field({}, description="What its speakers are.")
    document: DocumentUnit = Field("auto", description="What a document of that file is.")

    @model_validator(mode="after")
    def _one_way(self) -> Validation:
        if self.path is not None and self.fraction is not None:
            raise ValueError("give either `fraction` or `path`, not both")
        return self


class Train(Section):
    """How the weights are updated."""

    epochs: float | None = Field(None, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, gt=0, description="Optimizer steps, instead of epochs.")
    max_tokens: int | None = Field(
        None, gt=0, description="Trained tokens, instead of epochs; rounded up to a whole step."
    )
    effective_batch_size: int = Field(
        32, gt=0, le=2**30, description="Rows per optimizer step, at most 1,073,741,824."
    )
    micro_batch_size: int | Literal["auto"] = Field(
        "auto",
        description="Rows per forward pass; auto is the largest divisor of the effective batch "
        "size up to 8. gradient_accumulation_steps follows.",
    )
    optimizer: Literal["adamw", "sgd", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit keeps AdamW's averages in 8 bits (Dettmers et al. 2022), with "
        "bitsandbytes on CUDA only: a quarter of the memory.",
    )
    learning_rate: float = Field(5e-5, gt=0, description="The peak learning rate.")
    schedule: Literal["constant", "linear", "cosine", "lr_range"] = Field(
        "cosine",
        description="Shape after the warm-up, down to min_lr; lr_range rises from min_lr to "
        "learning_rate by the same factor at each step, to find a good one (Smith 2017).",
    )
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the last step.")
    warmup_steps: int | None = Field(None, ge=0, description="Steps of linear warm-up.")
    warmup_fraction: float | None = Field(
        None, ge=0, lt=1, description="Share of all steps spent in warm-up, instead of steps."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled, on matrices only.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's averaging factors.")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD's momentum.")
    max_grad_norm: float = Field(1.0, ge=0, description="Clip the gradient norm here; 0 is off.")
    gradient_checkpointing: bool | Literal["auto"] = Field(
        False,
        description="Keep only what enters each layer, and compute the rest again in the backward "
        "pass: much less memory for about a third more time. auto: only where the plan finds no "
        "room otherwise, and of no more layers than it must.",
    )
    non_finite_limit: int = Field(
        3,
        gt=0,
        description="Stop after this many steps with a loss or gradient that is not finite.",
    )

    @field_validator("betas")
    @classmethod
    def _betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each beta must be at least 0 and below 1")
        return betas

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        stated = [k for k in ("epochs", "max_steps", "max_tokens") if getattr(self, k) is not None]
        if len(stated) > 1:
            raise ValueError(f"give exactly one of {' and '.join(stated)}")
        if self.warmup_steps is not None and self.warmup_fraction is not None:
            raise ValueError("give either `warmup_steps` or `warmup_fraction`, not both")
        if self.schedule == "lr_range" and not 0 < self.min_lr < self.learning_rate:
            raise ValueError("`schedule: lr_range` rises from a `min_lr` above 0")
        if self.min_lr > self.learning_rate:
            raise ValueError("`min_lr` must not be above `learning_rate`")
        if (
            isinstance(self.micro_batch_size, int)
            and self.effective_batch_size % self.micro_batch_size
        ):
            raise ValueError(
                f"`effective_batch_size` {self.effective_batch_size} must be a multiple of "
                f"`micro_batch_size` {self.micro_batch_size}"
            )
        return self

    @field_validator("micro_batch_size")
    @classmethod
    def _positive(cls, size: int | str) -> int | str:
        if isinstance(size, int) and size < 1:
            raise ValueError("must be at least 1")
        return size


class Notebook(Section):
    """What the author expects, sealed before step 1."""

    hypothesis: str | None = Field(None, description="Why this run is made.")
    predict: list[str] = Field(
        [], description="Such as `val_loss < run_10.val_loss`, `perplexity < 8`, `no non_finite`."
    )
    tags: list[str] = Field([], description="Words to find the run by.")
    links: list[str] = Field([], description="Addresses shown on the page.")


class Recipe(Section):
    """A run: model, data, method and everything that decides its result."""

    name: str = Field(description="A slug: letters, digits, dot, dash and underscore.")
    extends: str | None = Field(None, description="A run file or a run that this one changes.")
    model: str = Field(
        min_length=1,
        description="tunebook/tiny, a folder, a hub id[@revision], run:NAME or run:NAME/best.",
    )
    stage: Literal["cpt", "sft"] = Field(
        "sft", description="cpt: continued pre-training on text; sft: prompts and responses."
    )
    method: Literal["full", "lora", "qlora", "relora"] = Field(
        "full",
        description="full: all weights; lora: an adapter; qlora: an adapter on a base in 4 bits "
        "(extra quant); relora: an adapter that is added to the weights again and again.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Decides data order, samples and dropout.")
    device: Annotated[str, AfterValidator(device_name)] = Field(
        "auto",
        description="auto, cpu, cuda or mps; also a card such as t4, a100-80 or rtx4090, or a size "
        "such as cuda:15GiB, for a plan (trained on, it means cuda).",
    )
    devices: int = Field(
        1,
        gt=0,
        description="How many of them, on all hosts together; a process for each. Method full "
        "spreads the weights over them, lora has all on each.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 keeps fp32 master weights; auto is bf16 on CUDA, else fp32."
    )
    attention: Literal["auto", "sdpa", "eager"] = Field(
        "auto",
        description="auto: rows laid end to end, attention per document; sdpa and eager: the "
        "model's own attention, one document at a time.",
    )
    add_tokens: list[str] = Field(
        [],
        description="New tokens of the tokenizer, each with an embedding that is trained; their "
        "text in the data becomes one token. With an adapter only these embeddings are trained.",
    )
    data: list[Source] = Field(min_length=1, description="The sources of training rows.")
    template: TemplateName = Field(
        "auto", description="The model's chat template (model), else a named plain one."
    )
    train_on: Literal["response", "all"] | None = Field(
        None, description="Which tokens carry loss; by default response for sft, all for cpt."
    )
    max_seq_len: int = Field(1024, gt=1, description="Longest row in tokens.")
    overlong: Literal["drop", "cut", "split"] | None = Field(
        None, description="What happens to longer rows; by default drop for sft, split for cpt."
    )
    packing: bool | None = Field(
        None,
        description="Fill rows to max_seq_len with whole documents (a batch then counts such "
        "rows); by default off for sft, on for cpt. There is never padding.",
    )
    parts: int | None = Field(
        None,
        gt=1,
        le=1000,
        description="Train in so many runs NAME-part-1, NAME-part-2 and so on, each on its own "
        "slice of the training rows (by document hash), from the weights of the one before and "
        "with a learning-rate schedule of its own.",
    )
    release_parts: bool = Field(
        True,
        description="Release each part as work in progress when it is trained, into releases/NAME "
        "of the book; it takes no room twice, and memory for the weights in fp32.",
    )
    part: int | None = Field(
        None, gt=0, description="The slice that this run trains on, from 1; set by `parts`."
    )
    validation: Validation = Field(Validation(fraction=0.05), description="Held-out examples.")
    lora: Lora = Field(Lora(), description="Used by methods lora, qlora and relora.")
    quantization: Quantization = Field(Quantization(), description="Used by method qlora.")
    relora: Relora = Field(Relora(), description="Used by method relora.")
    freeze: list[str] = Field(
        [],
        description="With method full, what does not learn: modules by name or pattern "
        "(embed_tokens, *norm*), layers counted from 0 (layers:0-5).",
    )
    train: Train = Field(Train(), description="Optimizer, batch and schedule.")
    evaluate: Evaluate = Field(Evaluate(), description="What is measured while training.")
    checkpoint: Checkpoint = Field(Checkpoint(), description="When the run is saved.")
    accept: list[Annotated[str, AfterValidator(finding_name)]] = Field(
        [], description="Checks that the author takes on himself, by name; recorded in the run."
    )
    stop_on: list[Annotated[str, AfterValidator(stopping_kind)]] = Field(
        ["non_finite", "divergence"],
        description="Verdicts that end the run once they are confirmed: any fault of "
        "docs/verdicts.md that the log shows, such as overfitting; see train.non_finite_limit.",
    )
    report_to: list[Literal["wandb", "tensorboard"]] = Field(
        [],
        description="Also tell W&B or TensorBoard (extras wandb, tensorboard) what the book is "
        "told; the book stays the truth, and a logger that fails or hangs slows nothing.",
    )
    notebook: Notebook = Field(Notebook(), description="Hypothesis and predictions.")

    @field_validator("name")
    @classmethod
    def _slug(cls, name: str) -> str:
        if not SLUG.match(name):
            raise ValueError(
                "must be a slug: letters, digits, dot, dash and underscore, at most 100 of them"
            )
        return name

    @model_validator(mode="after")
    def _stage_defaults(self) -> Recipe:
        """Fill the defaults that depend on the stage, so that a resolved recipe states them."""
        text = self.stage == "cpt"
        fill: dict[str, object] = {
            "train_on": self.train_on or ("all" if text else "response"),
            "overlong": self.overlong or ("split" if text else "drop"),
            "packing": self.packing if self.packing is not None else text,
        }
        if self.train.epochs is self.train.max_steps is self.train.max_tokens is None:
            fill["train"] = self.train.model_copy(update={"epochs": 1.0})
        if self.validation.path is None and self.validation.fraction is None:
            fill["validation"] = self.validation.model_copy(update={"fraction": 0.05})
        for key, value in fill.items():
            object.__setattr__(self, key, value)
        if self.part is not None and self.part > (self.parts or 0):
            raise ValueError(f"`part: {self.part}` needs `parts` of at least that many")
        tokens = self.add_tokens
        if len(set(tokens)) < len(tokens) or not all(token.strip() for token in tokens):
            raise ValueError("`add_tokens` names tokens of visible text, each once")
        if tokens and self.method == "relora":
            raise ValueError(
                "`add_tokens` goes with methods full, lora and qlora: relora merges its adapter "
                "into the base, and the new embeddings would stay behind"
            )
        scales = {source.learning_rate_scale for source in self.data}
        if len(scales) == 1 and scales != {1.0}:
            raise ValueError(
                f"`learning_rate_scale` is {scales.pop()} for every source, which sets none apart; "
                "change train.learning_rate instead"
            )
        if self.freeze and self.method != "full":
            raise ValueError(
                f"`freeze` is for method full: with {self.method} all weights but the adapter are "
                "frozen; say freeze: [], and lora.layers for where the adapter is"
            )
        if self.method == "relora" and self.lora.variant == "dora":
            raise ValueError(
                "`method: relora` adds up products of matrices, and `lora.variant: dora` is more "
                "than one; say lora or rslora"
            )
        refuse_idle_cache(self.lora, self.method, self.devices, tokens)
        all_forgotten = self.relora.reset_optimizer == 1.0
        if self.method == "relora" and self.train.optimizer == "adamw_8bit" and not all_forgotten:
            raise ValueError(
                "`relora.reset_optimizer` below 1.0 compares averages by size, which adamw_8bit "
                "keeps as codes; say relora: {reset_optimizer: 1.0}, or train.optimizer: adamw"
            )
        if self.overlong == "split" and not text:
            raise ValueError("`overlong: split` is for stage cpt; use drop or cut")
        return self


EXCLUSIVE_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("train", ("epochs", "max_steps", "max_tokens")),
    ("train", ("warmup_steps", "warmup_fraction")),
    ("validation", ("fraction", "path")),
)
"""Keys of which a run file states one; a child that states one sets its parent's others aside."""
