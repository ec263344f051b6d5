"""A tokenizer as the data layer wants it: ids with character offsets, and a chat template."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError, first_line
from tunebook.models.encoders import ENCODERS
from tunebook.models.fast_encode import FastEncoder, FlatTokens
from tunebook.models.find import find_tokenizer, has_tokenizer
from tunebook.models.own_files import refuse_link_out
from tunebook.models.screen import screen_folder
from tunebook.models.tried import refuse_endless

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)

Encoded = tuple[list[int], list[tuple[int, int]]]


class Codec:
    """A transformers tokenizer behind the few calls that data preparation makes.

    `libraries` may encode in place of `tokenizers`, where they give the very same tokens.
    A pickled copy does without transformers, which costs seconds and hundreds of megabytes in every
    process, until it has to render a chat template.
    """

    def __init__(self, tokenizer: Any, folder: Path, name: str) -> None:
        self._tokenizer = tokenizer
        self._json = str(tokenizer.backend_tokenizer.to_str())
        self._encoder: FastEncoder | None = None
        self.libraries: tuple[str, ...] = tuple(ENCODERS)
        self.folder = folder
        self.name = name
        self.fingerprint = _fingerprint(folder)
        self.added_ids: tuple[int, ...] = ()
        self.vocab_size = len(tokenizer)
        self.eos_id: int | None = tokenizer.eos_token_id
        self.pad_id: int | None = tokenizer.pad_token_id
        self.bos_id = self._own_bos()
        self.special_ids = frozenset(int(i) for i in tokenizer.all_special_ids) | frozenset(
            int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special
        )
        self.special_strings = tuple(
            sorted({tokenizer.convert_ids_to_tokens(i) for i in self.special_ids}, key=len)[::-1]
        )
        self.normalizes_specials = tokenizer.backend_tokenizer.normalizer is not None and any(
            token.special and token.normalized for token in tokenizer.added_tokens_decoder.values()
        )
        template = tokenizer.chat_template
        self.chat_template: str | None = template if isinstance(template, str) else None
        self.has_chat_template = self.chat_template is not None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None, "_encoder": None}

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = _load(self.folder)
        return self._tokenizer

    @property
    def encoder(self) -> FastEncoder:
        """What encodes many texts; it says which library it uses."""
        if self._encoder is None:
            self._encoder = FastEncoder(self._json, libraries=self.libraries)
        return self._encoder

    def _own_bos(self) -> int | None:
        """Find out whether the tokenizer puts a begin token in front of text by itself."""
        with_specials = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        bos = self.tokenizer.bos_token_id
        return int(bos) if bos is not None and with_specials[:1] == [bos] else None

    def encode(self, text: str, *, specials: bool) -> Encoded:
        """Encode one text without begin or end tokens, with character offsets."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            split_special_tokens=not specials,
        )
        return encoded["input_ids"], [(int(a), int(b)) for a, b in encoded["offset_mapping"]]

    def encode_flat(self, texts: Sequence[str], *, specials: bool) -> FlatTokens:
        """Encode texts; with `specials=False` the text of a special token is plain text."""
        return self.encoder.encode(texts, specials=specials)

    def without(self, library: str) -> Codec:
        """Give the same tokenizer that does not use a library any more."""
        other = copy.copy(self)
        other.libraries = tuple(name for name in self.libraries if name != library)
        other._encoder = None
        return other

    def render_chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool
    ) -> str:
        """Render messages through the model's own chat template, in transformers' sandbox.

        Raises ModelError when the template refuses them.
        """
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except Exception as error:  # whatever a stranger's Jinja raises
            raise ModelError(
                f"the chat template of {self.name} refuses these messages ({error}); use "
                "`template: chat` or another plain template"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as text, special tokens shown."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def load_tokenizer(model: str, add_tokens: Sequence[str] = (), kept_in: Path = Path()) -> Codec:
    """Load the tokenizer of a model; ModelError when it is missing or gives no offsets.

    With `add_tokens` it grows by these; it is then written into a folder of its own below
    `kept_in`. ModelError for a token that it has already.
    """
    codec = _load_codec(model)
    return _grown(codec, tuple(add_tokens), kept_in) if add_tokens else codec


def refuse_known_tokens(codec: Codec, tokens: Sequence[str]) -> None:
    """Raise ModelError for a new token that a tokenizer has already."""
    known = codec.tokenizer.get_vocab()
    for token in tokens:
        if token in known:
            raise ModelError(
                f"`add_tokens`: the tokenizer of {codec.name} has {token!r} already, with its "
                "embedding; leave it out"
            )


def _grown(codec: Codec, tokens: tuple[str, ...], kept_in: Path) -> Codec:
    from tokenizers import AddedToken

    refuse_known_tokens(codec, tokens)
    tokenizer = codec.tokenizer
    # No special ones: those are split where they stand in the text of a row.
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    key = hashlib.sha256(json.dumps([codec.fingerprint, tokens]).encode()).hexdigest()
    folder = kept_in / f"tokenizer-{key[:32]}"
    if not folder.is_dir():
        aside = kept_in / f".tokenizer-{key[:32]}-{os.getpid()}"
        aside.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(codec.folder / "config.json", aside / "config.json")
        tokenizer.save_pretrained(aside)
        os.replace(aside, folder)
    screen_folder(folder, codec.name)  # it may have come with a stranger's book
    grown = Codec(_load(folder), folder, codec.name)
    # Not of its files: another transformers may write them otherwise.
    grown.fingerprint = key
    ids = grown.tokenizer.convert_tokens_to_ids(list(tokens))
    grown.added_ids = tuple(int(i) for i in ids)
    return grown


def _load_codec(model: str) -> Codec:
    folder = find_tokenizer(model)
    if not has_tokenizer(folder):
        raise ModelError(
            f"model {model!r}: {folder} holds no tokenizer (tokenizer.json or tokenizer.model); "
            "copy the base model's tokenizer files into it"
        )
    refuse_endless(folder, model)
    try:
        tokenizer = _load(folder)
    except Exception as error:  # a damaged file surfaces as many types
        said = first_line(error)
        raise ModelError(
            f"model {model!r}: its tokenizer in {folder} cannot be loaded: {said}"
        ) from None
    if not tokenizer.is_fast:
        raise ModelError(
            f"model {model!r}: its tokenizer gives no character offsets, so which tokens are "
            "trained cannot be told; convert it to tokenizer.json with transformers"
        )
    return Codec(tokenizer, folder, model)


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    # Rows are cut by max_seq_len, with an account; a warning per long text would say it twice.
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def copy_tokenizer(
    source: Path, target: Path, put: Callable[[Path, Path], object] = shutil.copyfile
) -> None:
    """Copy the tokenizer's own files unchanged, so that what is released is what was used.

    `put` copies or links one file. Raises ModelError for a link out of the folder.
    """
    for name in _FILES:
        if (source / name).is_file():
            refuse_link_out(source / name, source, f"model {str(source)!r}")
            put(source / name, target / name)


def tokenizer_bytes(folder: Path) -> int:
    """Give the size of what `copy_tokenizer` copies."""
    files = (folder / name for name in _FILES)
    return sum(path.stat().st_size for path in files if path.is_file())


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _FILES:
        path = folder / name
        if path.is_file():
            digest.update(json.dumps([name, path.stat().st_size]).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
