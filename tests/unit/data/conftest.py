"""A real byte-level tokenizer, small, with the special tokens of five chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tunebook.models.tokenizer import Codec

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
]
_TRAINING_TEXT = [
    "The quick brown fox jumps over the lazy dog. hope: Better a small hope in the hand.",
    "What is the capital of France? The capital of France is Paris. user assistant model system",
    "### Instruction: ### Response: Below is an instruction that describes a task.",
]

MakeCodec = Callable[..., Codec]


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXT, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_codec(tmp_path_factory: pytest.TempPathFactory) -> MakeCodec:
    """Give a function that makes a codec with an end token and perhaps a chat template."""
    plain = _tokenizer().to_str()

    def make(chat_template: str | None = None, eos: str | None = "<|endoftext|>") -> Codec:
        folder = tmp_path_factory.mktemp("tokenizer")
        (folder / "tokenizer.json").write_text(plain)
        (folder / "tokenizer_config.json").write_text(json.dumps({"t": chat_template, "e": eos}))
        fast = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(plain),
            eos_token=eos,
            additional_special_tokens=[s for s in SPECIALS if s != eos],
        )
        fast.chat_template = chat_template
        return Codec(fast, folder, "small")

    return make


@pytest.fixture(scope="session")
def codec(make_codec: MakeCodec) -> Codec:
    """Give the codec without a chat template."""
    return make_codec()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes | list[object]], Path]:
    """Give a function that writes a data file: text, bytes, or rows as .json or .jsonl."""

    def write_file(name: str, content: str | bytes | list[object]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list) and name.endswith(".jsonl"):
            content = "".join(json.dumps(row) + "\n" for row in content)
        elif isinstance(content, list):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file
