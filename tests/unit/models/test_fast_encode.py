"""Fast encoding gives the tokens and places that `tokenizers` gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tunebook.errors import LibraryFault
from tunebook.models.encoders import ENCODERS
from tunebook.models.fast_encode import FastEncoder

SPECIAL = "<|end|>"
TEXT = [
    "The cat sat on the mat, didn't it? 1234 5678.",
    "naïve café — “so” 日本語 😀 e\u0301",
    "  x\n\ty  ",
]


def byte_level(normalizer: object | None = None) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 5, trainer)
    return tokenizer.to_str()


def pieces() -> str:
    """Make a small Llama-like tokenizer: pieces with a leading space mark, and byte fallback."""
    tokens = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "c", "a", "t", "▁c", "at", "é"]
    model = models.BPE(
        vocab={token: n for n, token in enumerate(tokens)},
        merges=[("▁", "c"), ("a", "t")],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.ByteFallback()
    return tokenizer.to_str()


TOKENIZERS = {
    "byte-level": byte_level(),
    "byte-level NFC": byte_level(normalizers.NFC()),
    "pieces": pieces(),
}
words = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=40)
    | st.sampled_from([SPECIAL, "cat cat", "e\u0301", "\u212b", "▁", "<0x0A>", *TEXT]),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("libraries", [["gigatoken"], ["tiktoken"], []])
@given(texts=st.lists(words, max_size=6))
@settings(max_examples=40, deadline=None)
def test_tokens_are_those_of_tokenizers_and_tile_the_text(name, libraries, texts):
    encoder = FastEncoder(TOKENIZERS[name], libraries=libraries)
    plain = Tokenizer.from_str(TOKENIZERS[name])
    plain.encode_special_tokens = True
    ids, counts, n_bytes, starts = encoder.encode(texts, specials=False)
    wanted = [plain.encode(text, add_special_tokens=False).ids for text in texts]
    assert counts.tolist() == [len(one) for one in wanted]
    assert ids.tolist() == [i for one in wanted for i in one]
    if starts is None:
        sums = (
            [int(part.sum()) for part in np.split(n_bytes, np.cumsum(counts)[:-1])] if texts else []
        )
        assert sums == [len(text.encode()) for text in texts]
    else:
        ends = starts + n_bytes
        for text, part in zip(texts, np.split(ends, np.cumsum(counts)[:-1]), strict=True):
            assert not len(part) or part.max() <= len(text.encode())


def test_special_strings_become_tokens_only_when_asked():
    encoder = FastEncoder(TOKENIZERS["byte-level"])
    special = Tokenizer.from_str(TOKENIZERS["byte-level"]).token_to_id(SPECIAL)
    assert special in encoder.encode([f"a{SPECIAL}b"], specials=True)[0]
    assert special not in encoder.encode([f"a{SPECIAL}b"], specials=False)[0]


def test_a_text_that_its_tokens_do_not_spell_gets_its_places_from_tokenizers():
    encoder = FastEncoder(TOKENIZERS["byte-level NFC"])
    _, counts, n_bytes, starts = encoder.encode(["cat", "e\u0301 cat"], specials=False)
    assert starts is not None
    second = slice(int(counts[0]), int(counts.sum()))
    assert int((starts + n_bytes)[second].max()) == len("e\u0301 cat".encode())


def test_a_tokenizer_of_another_kind_is_read_through_offsets():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "cat": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = FastEncoder(tokenizer.to_str())
    ids, counts, n_bytes, starts = encoder.encode(["a  cat", "é cat"], specials=False)
    assert encoder.library == "tokenizers"
    assert ids.tolist() == [0, 1, 2, 1]
    assert counts.tolist() == [2, 2]
    assert starts.tolist() == [0, 3, 0, 3]
    assert n_bytes.tolist() == [1, 3, 2, 3]


def wrong(tokenizer_json: str):
    """Make an encoder that is always wrong."""
    return lambda texts: (
        np.zeros(len(texts), dtype=np.uint32),
        np.ones(len(texts), dtype=np.int64),
    )


@pytest.mark.parametrize("library", ["gigatoken", "tiktoken"])
def test_each_library_encodes_a_byte_level_tokenizer(library):
    pytest.importorskip(library)
    assert FastEncoder(TOKENIZERS["byte-level"], libraries=[library]).library == library


def test_a_library_that_encodes_otherwise_is_not_used(monkeypatch):
    pytest.importorskip("gigatoken")
    monkeypatch.setitem(ENCODERS, "gigatoken", wrong)
    encoder = FastEncoder(TOKENIZERS["byte-level"], libraries=["gigatoken"])
    assert encoder.library == "tokenizers"
    assert "otherwise" in encoder.why_not
    assert FastEncoder(TOKENIZERS["byte-level"]).library == "tiktoken"


def test_a_library_that_errs_later_is_reported():
    encoder = FastEncoder(TOKENIZERS["byte-level"])
    assert encoder.library != "tokenizers"
    encoder._fast = wrong("")
    with pytest.raises(LibraryFault, match="otherwise than tokenizers") as caught:
        encoder.encode(["The cat"], specials=False)
    assert caught.value.library == encoder.library


def test_a_tokenizer_that_a_library_cannot_express_is_left_to_another():
    known = json.loads(TOKENIZERS["byte-level"])
    digits = {"type": "Digits", "individual_digits": True}
    known["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, known["pre_tokenizer"]]}
    encoder = FastEncoder(json.dumps(known), libraries=["tiktoken"])
    assert encoder.library == "tokenizers"
    assert "not cut by a pattern alone" in encoder.why_not


def test_lengths_saved_in_a_tokenizer_cut_nothing():
    tokenizer = Tokenizer.from_str(TOKENIZERS["byte-level"])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    whole = FastEncoder(TOKENIZERS["byte-level"]).encode(TEXT, specials=False)
    for libraries in ([], ["tiktoken"], ["gigatoken"]):
        found = FastEncoder(tokenizer.to_str(), libraries=libraries).encode(TEXT, specials=False)
        assert found[0].tolist() == whole[0].tolist()
        assert found[1].tolist() == whole[1].tolist()


def test_a_begin_token_in_front_does_not_move_the_text_behind_it():
    known = json.loads(TOKENIZERS["pieces"])
    known["added_tokens"] = [
        {
            "id": 0,
            "content": "<unk>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    ]
    text = "<unk>cat"
    _, _, n_bytes, starts = FastEncoder(json.dumps(known)).encode([text], specials=True)
    assert starts is not None
    assert starts[0] == 0
    assert n_bytes[0] == 5
    assert (starts + n_bytes).max() == len(text)


def test_a_tokenizer_that_changes_text_in_other_ways_is_read_through_offsets():
    lower = byte_level(normalizers.Lowercase())
    encoder = FastEncoder(lower)
    assert encoder.library == "tokenizers"
    assert encoder.encode(["The CAT"], specials=False)[3] is not None
