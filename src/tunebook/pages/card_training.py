"""The parts of a model card that say how to use the weights, and how they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunebook.book.events import read_events
from tunebook.book.releases import Release
from tunebook.book.run_file import resumed_from
from tunebook.data.chat import ChatRenderer
from tunebook.data.render import prompt_form
from tunebook.pages.card_lineage import on_hub
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.pages.run_page import PageSource
from tunebook.recipe.hub_path import EMBEDDED
from tunebook.units import format_count, format_seconds

_SETTINGS = (
    "stage",
    "method",
    "lora.rank",
    "lora.alpha",
    "lora.dropout",
    "lora.target_modules",
    "lora.layers",
    "lora.variant",
    "quantization.kind",
    "quantization.double",
    "relora.merge_every",
    "relora.warmup_steps",
    "relora.reset_optimizer",
    "freeze",
    "add_tokens",
    "max_seq_len",
    "train_on",
    "packing",
    "train.epochs",
    "train.max_steps",
    "train.max_tokens",
    "train.effective_batch_size",
    "train.optimizer",
    "train.learning_rate",
    "train.schedule",
    "train.min_lr",
    "train.warmup_steps",
    "train.warmup_fraction",
    "train.betas",
    "train.momentum",
    "train.weight_decay",
    "train.max_grad_norm",
    "seed",
)
_SECTIONS_OF = {
    "lora": ("lora", "qlora", "relora"),
    "quantization": ("qlora",),
    "relora": ("relora",),
}
"""Which methods a section of the run file is for; the others leave it idle."""


def write_use(release: Release, config: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Write the lines of Python that load the release and ask it as it was trained."""
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    folder = "FOLDER"  # or its name on the hub, which only its reader knows
    if release.form == "adapter":
        name, _, revision = release.base.partition("@")
        where = f'"{name}"' + (f', revision="{revision}"' if revision else "")
        note = "" if on_hub(name) else "  # the folder of the base, see below"
        if name == EMBEDDED:  # it comes with the package, and lies on no hub
            where, note = 'files("tunebook") / "embedded" / "tiny"', ""
        four = ""
        if config.get("method") == "qlora":
            lines[0] += ", BitsAndBytesConfig"
            four = ", quantization_config=four_bits"
            kind, double = (config.get(f"quantization.{key}") for key in ("kind", "double"))
            made = f'load_in_4bit=True, bnb_4bit_quant_type="{kind}"'
            made += f", bnb_4bit_use_double_quant={double}"
        lines[1:] = [
            "from peft import PeftModel",
            "",
            *([f"four_bits = BitsAndBytesConfig({made})"] if four else []),
            f"base = AutoModelForCausalLM.from_pretrained({where}{four}){note}",
            *(["base.resize_token_embeddings(len(tokenizer))"] if config.get("add_tokens") else []),
            f'model = PeftModel.from_pretrained(base, "{folder}")',
        ]
        if name == EMBEDDED:
            lines.insert(0, "from importlib.resources import files")
    else:
        lines.append(f'model = AutoModelForCausalLM.from_pretrained("{folder}")')
    lines.insert(lines.index("") + 1, f'tokenizer = AutoTokenizer.from_pretrained("{folder}")')
    templates = _templates(data)
    # Releases of old do not say whether their tokenizer asks.
    if release.chat_template or templates[:1] == [ChatRenderer.name]:
        asked = (
            'ids = tokenizer.apply_chat_template([{"role": "user", "content": "..."}], '
            'add_generation_prompt=True, return_dict=True, return_tensors="pt")'
        )
    else:
        form = (prompt_form(templates[0]) if templates else None) or "{prompt}"
        lines.append(f'prompt = {form!r}.replace("{{prompt}}", "...")')
        asked = 'ids = tokenizer(prompt, return_tensors="pt")'
    lines += [
        asked,
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0]))",
    ]
    return "## Use\n\n" + fence("\n".join(lines), "python")


def write_training(release: Release, source: PageSource) -> str:
    """Write every setting that decided the weights, what training took, and on what it ran."""
    config, events = source.summary.config, source.events
    method = config.get("method")
    idle = [f"{section}." for section, of in _SECTIONS_OF.items() if method not in of]
    idle.append("train.betas" if config.get("train.optimizer") == "sgd" else "train.momentum")
    keys = [key for key in _SETTINGS if not key.startswith(tuple(idle))]
    set_keys = [key for key in keys if config.get(key) not in (None, [])]
    rows = [[escape(key), code(str(config[key]))] for key in set_keys]
    steps = [s for s in events.steps or read_events(source.run).steps if s.step <= release.step]
    facts = (
        ("device", events.fact("device")),
        ("precision", events.fact("precision")),
        ("steps", release.step),
        ("target tokens seen", sum(s.target_tokens or 0 for s in steps)),
        ("time in steps", sum(s.seconds or 0.0 for s in steps)),
    )
    for name, value in facts:
        shown = "not measured" if not value else str(value)
        if isinstance(value, int) and value:
            shown = format_count(value)
        if isinstance(value, float):
            shown = format_seconds(value)
        rows.append([name, escape(shown)])
    versions = source.environment.get("versions")
    used = version_words(versions) if isinstance(versions, Mapping) else "releases not recorded"
    note = f"\nTrained with {escape(used)}.\n{_prompts(source.data, release.chat_template)}"
    if fork := resumed_from(source.environment):
        note = (
            f"\nSteps 1 to {fork[1]} were those of run {code(fork[0])}; tokens and time are of the "
            f"later steps alone.\n{note}"
        )
    return f"## Training\n\n{table(['setting', 'value'], rows)}{note}"


def version_words(versions: Mapping[str, Any]) -> str:
    """Write releases of libraries as `torch 2.13.0, peft 0.21.2`, without those not there."""
    return ", ".join(f"{name} {found}" for name, found in versions.items() if found)


def _templates(data: Mapping[str, Any]) -> list[str]:
    return [name for name in str(data.get("template") or "").split(", ") if name]


def _prompts(data: Mapping[str, Any], of_tokenizer: str | None) -> str:
    """Show how prompts were written: a model answers well in the form it was trained in.

    `of_tokenizer` names the template that the exported tokenizer's chat template writes.
    """
    parts = []
    for name in _templates(data):
        form = prompt_form(name)
        if form is not None:
            same = "; the tokenizer's chat template writes the same" if name == of_tokenizer else ""
            parts.append(f"Template {code(name)} asks like this{same}:\n\n{fence(form, 'text')}")
        elif name == ChatRenderer.name:
            parts.append("Prompts were written in the chat template of the tokenizer.\n")
        else:
            parts.append(f"Rows were written as {escape(name)}.\n")
    return "".join(f"\n{part}" for part in parts)
