"""Trained weights as other tools load them: whole, as an adapter, or merged into their base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from tunebook.errors import ModelError, TunebookError
from tunebook.models.adapter_bounds import refuse_boundless
from tunebook.models.load import load_model, peft_as_it_is, quieten_transformers
from tunebook.models.own_files import refuse_link_out
from tunebook.models.plain_config import plain_config
from tunebook.models.quantize import take_quantized_values
from tunebook.models.screen import ADAPTER_CONFIG, read_settings, screen_adapter
from tunebook.models.tokenizer import copy_tokenizer
from tunebook.models.weight_files import why_not_read
from tunebook.recipe.methods import Quantization

_FRESH = Path(__file__).with_name("fresh.py")
_WHOLE = ("model*.safetensors", "model.safetensors.index.json", "config.json")
_ADAPTER = ("adapter_model.safetensors",)
_GENERATION = "generation_config.json"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, slots=True)
class Under:
    """What is under an adapter; None: it is not quantized, or has embeddings enough.

    `rounded`: it was trained on rounded to bf16, whatever it is stored as.
    """

    folder: Path
    quantization: Quantization | None
    embeddings: int | None
    rounded: bool = False


@dataclass(frozen=True, slots=True)
class FreshScores:
    """What a fresh load of a folder gave: log-probabilities per row, ids per text and per chat."""

    log_probs: list[list[float]]
    encoded: list[list[int]]
    asked: list[list[int]]


def stored_precision(folder: Path) -> str:
    """Read in which precision a folder's weights are stored: fp32, bf16 or fp16.

    The first weight in the files decides; ModelError when there is none, or it is of another kind.
    """
    for path in sorted(folder.glob("*model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    kind = str(file.get_slice(name).get_dtype())
                    found = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}.get(kind)
                    if found:
                        return found
        except (SafetensorError, OSError) as error:
            raise ModelError(why_not_read(path, error)) from None
    raise ModelError(f"{folder} holds no weights as fp32, bf16 or fp16; name another folder")


def copy_whole(source: Path, target: Path, put: Callable[[Path, Path], object]) -> None:
    """Copy a whole model's own files; `put` copies or links one file."""
    _put_files(source, target, (*_WHOLE, _GENERATION), put)
    copy_tokenizer(source, target, put)
    _name_no_code(target)


def copy_adapter(
    source: Path, target: Path, base: Path, base_name: str, put: Callable[[Path, Path], object]
) -> None:
    """Copy an adapter; its config then names the base by `base_name`, a hub id[@revision]."""
    _put_files(source, target, _ADAPTER, put)
    config = json.loads((source / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name, _, revision = base_name.partition("@")
    config |= {"base_model_name_or_path": name, "revision": revision or None}
    (target / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _put_files(base, target, (_GENERATION,), shutil.copyfile)
    copy_tokenizer(source, target, put)
    _name_no_code(target)


def write_merged(source: Path, target: Path, base: Under) -> str:
    """Merge an adapter into its base and save the whole, in the precision the base is stored in.

    The sum is taken in fp32 and rounded once. An adapter that was trained on a base in 4 bits is
    merged into the values that those bits stand for. Gives the precision.
    """
    from peft import PeftModel

    quieten_transformers()
    screen_adapter(source)
    causal = AutoModelForCausalLM.from_pretrained(
        base.folder,
        config=plain_config(AutoConfig.from_pretrained(base.folder, trust_remote_code=False)),
        dtype="auto",
        trust_remote_code=False,
        use_safetensors=True,
    )
    stored = {name: parameter.dtype for name, parameter in causal.named_parameters()}
    causal.float()
    if base.quantization is not None:
        twin = load_model(
            str(base.folder),
            device="cpu",
            precision="fp32",
            attention="auto",
            quantization=base.quantization,
        )
        take_quantized_values(causal, twin.causal)
        del twin
    if base.embeddings is not None:
        causal.resize_token_embeddings(base.embeddings, mean_resizing=False)
    refuse_boundless(source, causal)
    with peft_as_it_is():
        merged = merge(PeftModel.from_pretrained(causal, str(source)))
    for name, parameter in merged.named_parameters():
        parameter.data = parameter.data.to(stored[name])
    merged.save_pretrained(target)
    for path in target.glob("*.safetensors"):  # written for their owner's eyes alone
        shutil.copymode(target / "config.json", path)
    copy_tokenizer(source, target)
    _name_no_code(target)
    return stored_precision(target)


def _name_no_code(folder: Path) -> None:
    """Take out where code of the model's own lies: it was not used, and is not in the folder.

    Others that are given the folder, such as llama.cpp's converter, would look for it and run it:
    on the hub, or in a folder of that name where they are started. Links are replaced, as below.
    """
    for path in (folder / "config.json", folder / "tokenizer_config.json"):
        config = read_settings(path, f"model {str(folder)!r}") if path.is_file() else {}
        if config.pop("auto_map", None) is not None:
            path.unlink()
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def merge(network: Any) -> Any:
    """Add the adapter of a network to its weights and give the model without it."""
    return network.merge_and_unload(safe_merge=True)


def write_chat_template(folder: Path, text: str) -> None:
    """Give the tokenizer in a folder this chat template in place of any other; none for "".

    Files that are links to others are replaced, never written into.
    """
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if config.pop("chat_template", None) is not None:
        path.unlink()
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if text:
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")


def set_generation(folder: Path, ends: Sequence[int], **more: object) -> None:
    """Let a whole model in a folder stop at each of these tokens, whatever else ends its answers.

    `more` are other keys of its generation config. What says so already stays as it is.
    """
    path = folder / _GENERATION
    config: dict[str, Any] = {}
    for source in (folder / "config.json", path):
        if source.is_file():
            found = json.loads(source.read_text(encoding="utf-8"))
            # Without a file of its own, generation goes by what the model's config says.
            config = found if source == path else {k: found[k] for k in _TOKENS if k in found}
    stated = config.get("eos_token_id")
    own = stated if isinstance(stated, list) else [] if stated is None else [stated]
    missing = [token for token in ends if token not in own]
    changed = {**config, **more} | ({"eos_token_id": [*missing, *own]} if missing else {})
    if changed != config:
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")


def score_fresh(
    folder: Path,
    base: Under | None,
    rows: Sequence[Sequence[int]],
    texts: Sequence[str],
    chats: Sequence[Sequence[Mapping[str, str]]] = (),
) -> FreshScores:
    """Load an exported folder in a new process with transformers and peft alone, and ask it.

    Its model scores `rows` of token ids, its tokenizer encodes `texts` as it does by itself, and
    `chats` up to their next answer by its chat template. `base` is what is under an adapter, None
    for a whole model. Raises ModelError when it cannot be loaded, TunebookError when the process
    breaks off for another reason.
    """
    asked = {
        "folder": str(folder),
        "base": None if base is None else str(base.folder),
        "rounded": base is not None and base.rounded,
        "quantization": None if base is None else quantization_options(base.quantization),
        "embeddings": None if base is None else base.embeddings,
        "rows": rows,
        "texts": texts,
        "chats": chats,
    }
    done = subprocess.run(
        [sys.executable, "-P", str(_FRESH)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"the process ended with {done.returncode}"
        if done.returncode == -9:
            reason = "it was killed, which is what running out of memory looks like"
        raise TunebookError(
            f"the fresh process that was to ask the exported weights broke off: {reason}; this "
            "says nothing of the weights; nothing was released"
        )
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    if "not_loaded" in answer:
        raise ModelError(
            "the exported weights cannot be loaded in a fresh process: "
            f"{' '.join(answer['not_loaded'].split())[:300]}; nothing was released"
        )
    return FreshScores(answer["log_probs"], answer["encoded"], answer["asked"])


def quantization_options(quantization: Quantization | None) -> dict[str, object] | None:
    """Give what BitsAndBytesConfig takes for a base in 4 bits, None for a plain one."""
    if quantization is None:
        return None
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": quantization.kind,
        "bnb_4bit_use_double_quant": quantization.double,
    }


def _put_files(
    source: Path, target: Path, patterns: Sequence[str], put: Callable[[Path, Path], object]
) -> None:
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            refuse_link_out(path, source, f"model {str(source)!r}")
            put(path, target / path.name)
