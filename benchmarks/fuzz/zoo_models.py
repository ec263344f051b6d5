"""Folders that pretend to be models and are traps; each plants its canary when it is sprung."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Trap = Callable[[Path, Path], None]
"""Given a whole model's folder, and the canary's path, makes a trap of it."""


def _change(name: str, **keys: Any) -> Trap:
    def change(folder: Path, canary: Path) -> None:
        path = folder / name
        known = json.loads(path.read_text()) if path.exists() else {}
        told = json.loads(json.dumps(keys).replace("CANARY", str(canary)))
        path.write_text(json.dumps({**known, **told}))
        _code(folder, canary)

    return change


def _code(folder: Path, canary: Path) -> None:
    """Put Python beside the model that plants the canary when it is imported."""
    text = f"open({str(canary)!r}, 'w').write('imported')\nclass Evil:\n    pass\n"
    for name in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "configuration_evil.py"):
        (folder / name).write_text(text)
    (folder / "custom_generate").mkdir(exist_ok=True)
    (folder / "custom_generate" / "generate.py").write_text(text)


def _payload(canary: Path) -> bytes:
    """Write a pickle that runs a command, without pickle."""
    return f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()


def pickled(folder: Path, canary: Path) -> None:
    """Weights only as pickle."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(_payload(canary))
    (folder / "model.ckpt").write_bytes(_payload(canary))


def pickle_renamed(folder: Path, canary: Path) -> None:
    """A pickle that is called safetensors."""
    (folder / "model.safetensors").write_bytes(_payload(canary))


def pickle_beside(folder: Path, canary: Path) -> None:
    """A pickle for whoever does not find the weights under their name."""
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    (folder / "pytorch_model.bin").write_bytes(_payload(canary))


def pickled_zip(folder: Path, canary: Path) -> None:
    """Weights as torch writes them today: a zip, of which the pickle runs a command."""
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
        file.writestr("archive/data.pkl", _payload(canary))
        file.writestr("archive/version", "3\n")


def pickled_index(folder: Path, canary: Path) -> None:
    """An index of pickles that leads out of its folder."""
    (folder / "model.safetensors").unlink()
    (folder.parent / "outside.bin").write_bytes(_payload(canary))
    index = {"weight_map": {"transformer.wte.weight": "../outside.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(_payload(canary))


def pickled_large(folder: Path, _canary: Path) -> None:
    """Pickled weights of a few hundred bytes that stand for terabytes."""
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"wte": torch.zeros(1).expand(1 << 40)}, folder / "pytorch_model.bin")


def _header(text: bytes, data: bytes = b"\0" * 64, claimed: int | None = None) -> Trap:
    def write(folder: Path, _canary: Path) -> None:
        size = struct.pack("<Q", len(text) if claimed is None else claimed)
        (folder / "model.safetensors").write_bytes(size + text + data)

    return write


def _tensor(start: int, end: int, shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def _tensors(**found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()


def _template(text: str) -> Trap:
    def write(folder: Path, canary: Path) -> None:
        (folder / "chat_template.jinja").write_text(text.replace("CANARY", str(canary)))

    return write


def _index(name: str) -> Trap:
    def write(folder: Path, canary: Path) -> None:
        whole = folder / "model.safetensors"
        outside = folder.parent / "outside.safetensors"
        shutil.move(whole, outside)
        if name == "link.safetensors":
            os.symlink(outside, folder / name)
        index = {"metadata": {"total_size": 1}, "weight_map": {"transformer.wte.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return write


def link_out(folder: Path, canary: Path) -> None:
    """A licence that is somebody's key, and would be released with the model."""
    secret = folder.parent / "id_rsa"
    secret.write_text("SECRET")
    os.symlink(secret, folder / "LICENSE")


def _tokenizer(change: Callable[[dict[str, Any]], Any]) -> Trap:
    def write(folder: Path, _canary: Path) -> None:
        path = folder / "tokenizer.json"
        known = json.loads(path.read_text())
        path.write_text(change(known) or json.dumps(known))

    return write


def _pattern(text: str) -> Trap:
    split = {"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False}
    return _tokenizer(lambda known: known.update(pre_tokenizer=split))


def _deep(known: dict[str, Any]) -> str:
    return json.dumps(known)[:-1] + ', "deep": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}"


def _deep_config(folder: Path, _canary: Path) -> None:
    text = (folder / "config.json").read_text().rstrip().removesuffix("}")
    (folder / "config.json").write_text(text + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}")


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def _more_template(folder: Path, _canary: Path) -> None:
    (folder / "additional_chat_templates").mkdir(exist_ok=True)
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(ENDLESS)


def _beside(folder: Path, canary: Path) -> None:
    """A harmless template where nobody looks, and an endless one where transformers does."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    _change("chat_template.json", chat_template="{{ messages[0].content }}")(folder, canary)
    _change("tokenizer_config.json", chat_template=ENDLESS)(folder, canary)


def _escaped(folder: Path, canary: Path) -> None:
    """A key that reads otherwise than it is written."""
    _pattern("(a+)+$|(x+x+)+y|([a-z]+)*!$")(folder, canary)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"Regex"', '"Rege\\u0078"'))


def _versioned(folder: Path, canary: Path) -> None:
    """A tokenizer that is in another file than tokenizer.json, by the version of transformers."""
    _pattern("(a+)+$|(x+x+)+y|([a-z]+)*!$")(folder, canary)
    shutil.copyfile(folder / "tokenizer.json", folder / "tokenizer.1.0.json")
    _pattern("a")(folder, canary)
    _change("tokenizer_config.json", fast_tokenizer_files=["tokenizer.1.0.json"])(folder, canary)


def template_link(folder: Path, canary: Path) -> None:
    """A chat template that is somebody's key, and would be released with the model."""
    secret = folder.parent / "id_rsa"
    secret.write_text("SECRET")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    os.symlink(secret, folder / "chat_template.jinja")


GEMMAS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
NOTES = "SECRET-of-the-user"
"""A line of the user's file; it may be in nothing that is made of a model."""


def _notes(name: str, whole: bool, **keys: Any) -> Trap:
    """Name a file of the user's in the settings of a tokenizer, as what its words are.

    `whole`: the folder has a tokenizer of its own as well.
    """

    def write(folder: Path, canary: Path) -> None:
        notes = [NOTES, "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "say", "1", "the"]
        (canary.parent / "notes.txt").write_text("\n".join(notes))
        (canary.parent / "merges.txt").write_text("#version: 0.2\n")
        vocabulary = {word: i for i, word in enumerate([*notes, *GEMMAS])}
        (canary.parent / "notes.json").write_text(json.dumps(vocabulary))
        known = json.loads((folder / "tokenizer.json").read_text())
        known["added_tokens"].append({**known["added_tokens"][0], "id": 9999, "content": NOTES})
        (canary.parent / "tokenizer.json").write_text(json.dumps(known))
        if not whole:
            (folder / "tokenizer.json").unlink()
            (folder / "vocab.json").write_text("{}")
            (folder / "merges.txt").write_text("#version: 0.2\n")
        told = json.dumps(keys).replace("BESIDE", str(canary.parent))
        _change(name, **json.loads(told))(folder, canary)

    return write


_MAP = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
_TOKENIZER_MAP = {"AutoTokenizer": [None, "tokenization_evil.Evil"]}

ZOO: dict[str, Trap] = {
    "pickled-weights": pickled,
    "pickled-zip": pickled_zip,
    "pickled-index": pickled_index,
    "pickled-large": pickled_large,
    "pickle-renamed": pickle_renamed,
    "pickle-beside": pickle_beside,
    "header-longer-than-file": _header(b"{}", claimed=1 << 40),
    "header-of-100-megabytes": _header(b"{" + b" " * (101 << 20) + b"}"),
    "header-no-utf8": _header(b'{"\xff\xfe": 1}'),
    "header-no-json": _header(b"{'a': 1}"),
    "header-deep": _header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "offsets-overlap": _header(_tensors(a=_tensor(0, 64, [16]), b=_tensor(32, 64, [8]))),
    "offsets-behind-the-end": _header(_tensors(a=_tensor(0, 1 << 50, [1 << 48]))),
    "offsets-backwards": _header(_tensors(a=_tensor(64, 0, [16]))),
    "shape-lies": _header(_tensors(a=_tensor(0, 64, [1 << 32, 1 << 32]))),
    "name-twice": _header(
        b'{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},'
        b'"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}'
    ),
    "config-auto-map": _change("config.json", auto_map=_MAP),
    "config-auto-map-unknown": _change("config.json", auto_map=_MAP, model_type="evil"),
    "config-flash": _change("config.json", _attn_implementation="flash_attention_2"),
    "config-trust": _change("config.json", trust_remote_code=True, auto_map=None),
    "config-nested-auto-map": _change("config.json", text_config={"auto_map": _MAP}),
    "config-kernel": _change("config.json", _attn_implementation="evil/kernel:run"),
    "config-kernel-internal": _change(
        "config.json", _attn_implementation_internal="evil/kernel", experts_implementation="e/k"
    ),
    "config-vocabulary-10-12": _change("config.json", vocab_size=10**12),
    "config-layers-10-9": _change("config.json", n_layer=10**9),
    "config-width-negative": _change("config.json", n_embd=-16),
    "config-words-as-numbers": _change("config.json", n_layer="many", n_head=[1]),
    "config-deep": _deep_config,
    "config-is-a-list": lambda folder, _c: (folder / "config.json").write_text("[1]") and None,
    "tokenizer-auto-map": _change(
        "tokenizer_config.json", auto_map=_TOKENIZER_MAP, tokenizer_class="EvilTokenizer"
    ),
    "tokenizer-class-elsewhere": _change("tokenizer_config.json", tokenizer_class="os.system"),
    "tokenizer-million-levels": _tokenizer(_deep),
    "tokenizer-pattern-bomb": _pattern("(a+)+$|(x+x+)+y|([a-z]+)*!$"),
    "tokenizer-pattern-escaped": _escaped,
    "tokenizer-pattern-versioned": _versioned,
    "generation-code": _change(
        "generation_config.json", custom_generate="custom_generate", trust_remote_code=True
    ),
    "template-loop-bomb": _template(ENDLESS),
    "template-list": _change(
        "tokenizer_config.json", chat_template=[{"name": "default", "template": ENDLESS}]
    ),
    "template-beside": _beside,
    "template-more": _more_template,
    "template-in-special-tokens": _change("special_tokens_map.json", chat_template=ENDLESS),
    "template-link": template_link,
    "template-climb": _template(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}"
    ),
    "template-memory-bomb": _template(
        "{% set s = namespace(t='a' * 1000) %}"
        "{% for i in range(60) %}{% set s.t = s.t + s.t %}{% endfor %}{{ s.t }}"
    ),
    "template-long": _template("{{ 'a' * 100000000 }}"),
    "index-climbs": _index("../outside.safetensors"),
    "index-passwd": _index("../../../../../../../../etc/passwd"),
    "index-absolute": _index("/etc/passwd"),
    "index-link": _index("link.safetensors"),
    "link-out": link_out,
    "users-file-vocab": _notes(
        "tokenizer_config.json", False, tokenizer_class="BertTokenizer", vocab="BESIDE/notes.txt"
    ),
    "users-file-inputs": _notes(
        "tokenizer_config.json",
        False,
        tokenizer_class="BertTokenizer",
        init_inputs=["BESIDE/notes.txt"],
    ),
    "users-file-json": _notes(
        "tokenizer_config.json",
        False,
        tokenizer_class="GemmaTokenizer",
        vocab_file="BESIDE/notes.json",
        merges_file="BESIDE/merges.txt",
    ),
    "users-file-special-whole": _notes(
        "special_tokens_map.json", True, tokenizer_file="BESIDE/tokenizer.json"
    ),
}
"""Traps by name: a folder is sprung where one verb or another opens it as a model."""


def _adapter(**keys: Any) -> Trap:
    return _change("adapter_config.json", **keys)


def adapter_pickled(folder: Path, canary: Path) -> None:
    """An adapter only as pickle."""
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(_payload(canary))


ADAPTERS: dict[str, Trap] = {
    "adapter-pickled": adapter_pickled,
    "adapter-auto-map": _adapter(auto_map=_MAP),
    "adapter-auto-mapping": _adapter(
        auto_mapping={"base_model_class": "Evil", "parent_library": "evil"}
    ),
    "adapter-megatron": _adapter(megatron_config={"a": 1}, megatron_core="evil"),
    "adapter-base-elsewhere": _adapter(base_model_name_or_path="../../../../etc"),
    "adapter-kind": _adapter(peft_type="EVIL"),
    "adapter-rank": _adapter(r=10**12),
    "adapter-pattern": _adapter(target_modules="(a+)+$"),
}
"""Traps that are adapters, sprung in the `final` folder of a run."""
