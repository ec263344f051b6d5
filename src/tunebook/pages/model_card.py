"""The card of a release: what it is, what it was made of, what was measured, and what was not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from tunebook.book.events import read_events
from tunebook.book.releases import Release, Verification
from tunebook.book.run_file import resumed_from, weight_parent
from tunebook.book.summary import perplexity
from tunebook.data.chat import ChatRenderer
from tunebook.data.render import prompt_form
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.pages.run_page import PageSource
from tunebook.records import RunSummary, ValidationRecord
from tunebook.units import format_count, format_number, format_percent, format_seconds

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_EMBEDDED = "tunebook/tiny"
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


def write_card(release: Release, source: PageSource) -> str:
    """Write the model card of a release, its front matter included; no path of this machine."""
    base = release.base.partition("@")[0]
    datasets = [name for name in _source_names(source.data) if _HUB_ID.match(name)]
    head = ModelCardData(
        base_model=base if _on_hub(base) else None,
        library_name="peft" if release.form == "adapter" else "transformers",
        license="unknown",
        pipeline_tag="text-generation",
        datasets=datasets or None,
        tags=["tunebook", *(["lora"] if release.form != "whole" else [])],
    )
    sections = [
        f"# {release.run}\n",
        _in_short(release, source),
        _use(release, source.summary.config, source.data),
        _training(release, source),
        _data(source.data),
        _results(release, source),
        _lineage(release, source),
        _verified(release),
    ]
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n".join(filter(None, sections))))


def verification_words(found: Verification) -> str:
    """Say in a line what was compared, how far it was off, and how far it might have been."""
    words = (
        f"log-probabilities of {format_count(found.tokens)} tokens of {found.examples} "
        f"{found.rows_from}: mean difference {found.mean:.1e} nats (at most "
        f"{found.mean_allowed:.1e}), largest {found.largest:.1e}"
    )
    if found.largest_allowed is not None:
        words += f" (at most {found.largest_allowed:.1e})"
    words += f"; {found.reason}"
    if found.loss_not_compared:
        words += f"; the loss of training was not compared: {found.loss_not_compared}"
    return words


def _on_hub(base: str) -> bool:
    return base != _EMBEDDED and bool(_HUB_ID.match(base))


def _in_short(release: Release, source: PageSource) -> str:
    what = {
        "adapter": f"A LoRA adapter for {code(release.base)}",
        "merged": f"{code(release.base)} with a LoRA adapter merged into it",
        "whole": f"{code(release.base)}, fine-tuned as a whole",
    }[release.form]
    part, parts = (source.summary.config.get(key) for key in ("part", "parts"))
    progress = ""
    if part is not None and part != parts:
        progress = (
            f"**Work in progress: part {part} of {parts}.** The training set is taken in parts; "
            "the parts after this one are not in these weights.\n\n"
        )
    elif part is not None:
        progress = f"Part {part} of {parts}: the last one.\n\n"
    return (
        f"{progress}{what}. Weights are those after step {release.step} ({release.weights}), as "
        f"{release.precision}.\n\nLicense: unknown; that of the base and of the data decide. "
        "Language: not stated.\n"
    )


def _use(release: Release, config: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    folder = "FOLDER"
    if release.form == "adapter":
        name, _, revision = release.base.partition("@")
        where = f'"{name}"' + (f', revision="{revision}"' if revision else "")
        note = "" if _on_hub(name) else "  # the folder of the base, see below"
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


def _training(release: Release, source: PageSource) -> str:
    config, events = source.summary.config, source.events
    method = config.get("method")
    idle = [f"{section}." for section, of in _SECTIONS_OF.items() if method not in of]
    keys = [key for key in _SETTINGS if not key.startswith(tuple(idle))]
    set_keys = [key for key in keys if config.get(key) not in (None, [])]
    rows = [[escape(key), code(str(config[key]))] for key in set_keys]
    steps = [s for s in events.steps or read_events(source.run).steps if s.step <= release.step]
    facts = (
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
    note = _prompts(source.data, release.chat_template)
    if fork := resumed_from(source.environment):
        note = (
            f"\nSteps 1 to {fork[1]} were those of run {code(fork[0])}; tokens and time are of the "
            f"later steps alone.\n{note}"
        )
    return f"## Training\n\n{table(['setting', 'value'], rows)}{note}"


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


def _source_names(data: Mapping[str, Any]) -> list[str]:
    """Name sources as others may know them: a hub id, or the bare name of a file."""
    names = []
    for source in _sources(data):
        path = str(source.get("path") or source.get("name") or "")
        names.append(path if _HUB_ID.match(path) else PurePosixPath(path).name)
    return names


def _sources(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [source for source in data.get("sources") or [] if isinstance(source, Mapping)]


def _data(data: Mapping[str, Any]) -> str:
    rows = []
    for name, source in zip(_source_names(data), _sources(data), strict=True):
        dropped = source.get("dropped") or {}
        reasons = ", ".join(f"{format_count(n)} {escape(str(why))}" for why, n in dropped.items())
        counts = [_count(source.get(k)) for k in ("rows_out", "train_rows", "target_tokens")]
        digest = code(str(source.get("content_hash") or "")[:12])
        rows.append([escape(name), digest, _count(source.get("rows_in")), reasons or "none"])
        rows[-1] += counts
    if not rows:
        return ""
    header = ["source", "content", "rows in", "dropped", "rows out", "trained on", "target tokens"]
    return f"## Data\n\n{table(header, rows, right=header[2:3] + header[4:])}"


def _count(value: object) -> str:
    return format_count(value) if isinstance(value, int) else "not measured"


def _results(release: Release, source: PageSource) -> str:
    validations = source.events.validations
    rows = [
        _result("before training", next((v for v in validations if v.step == 0), None)),
        _result("these weights", next((v for v in validations if v.step == release.step), None)),
    ]
    header = ["", "held-out loss", "95 % interval", "perplexity", "examples", "target tokens"]
    return (
        f"## Results\n\n{table(header, rows, right=header[1:])}\nNot measured: quality as people "
        "or a judge see it, other tasks and languages, safety, and bias.\n"
    )


def _result(name: str, found: ValidationRecord | None) -> list[str]:
    if found is None:
        return [name, *["not measured"] * 5]
    low_high = found.interval
    interval = "unknown" if low_high is None else " to ".join(map(format_number, low_high))
    return [
        name,
        format_number(found.loss),
        interval,
        format_number(perplexity(found.loss)),
        _count(found.examples),
        _count(found.target_tokens),
    ]


def _lineage(release: Release, source: PageSource) -> str:
    chain = _chain(source.summary, source.runs)
    lines = [f"- {code(name)}" for name in chain]
    lines.append(f"- {code(release.base)}, the base{_hash(release.base_weights)}")
    return "## Lineage\n\nFrom these weights back to the base:\n\n" + "\n".join(lines) + "\n"


def _chain(summary: RunSummary, runs: Mapping[str, RunSummary]) -> Sequence[str]:
    names = [summary.name]
    while (parent := weight_parent(summary.model)) and parent[0] not in names:
        names.append(parent[0])
        if parent[0] not in runs:
            break
        summary = runs[parent[0]]
    return names


def _hash(content: str | None) -> str:
    return f" (sha256 of its weights {code(content)})" if content else ""


def _verified(release: Release) -> str:
    found = release.verification
    lines = [
        "The files were loaded in a fresh process with transformers"
        f"{' and peft' if release.form == 'adapter' else ''} alone and held against the trained "
        f"model, both computing in fp32: {escape(verification_words(found))}."
    ]
    if found.adapter_effect:
        share = format_percent(found.mean / found.adapter_effect)
        lines.append(
            f"Training moved the same log-probabilities by {found.adapter_effect:.1e} in the mean; "
            f"the difference above is {share} of that."
        )
    if found.loss_recorded is not None and found.loss_again is not None:
        lines.append(
            f"Over {found.loss_examples} held-out examples training recorded a loss of "
            f"{found.loss_recorded:.4f} for these weights; they give {found.loss_again:.4f} now."
        )
    lines.append(
        f"`MANIFEST.json` holds the sha256 of every file. Made with tunebook {release.tunebook}."
    )
    return "## How it was verified\n\n" + "\n\n".join(lines) + "\n"
