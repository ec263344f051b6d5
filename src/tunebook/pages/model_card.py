"""The card of a release: what it is, what it was made of, what was measured, and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from tunebook.book.licences import Licence
from tunebook.book.releases import Release, Verification
from tunebook.pages.card_data import datasets_of, write_data
from tunebook.pages.card_lineage import (
    Ancestor,
    find_ancestors,
    on_hub,
    public_name,
    root_model,
    write_lineage,
)
from tunebook.pages.card_results import hub_results, write_results, write_verdicts
from tunebook.pages.card_training import version_words, write_training, write_use
from tunebook.pages.markdown import code, escape, fence
from tunebook.pages.run_page import PageSource
from tunebook.units import format_count, format_percent

_UNKNOWN = "unknown"
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Licences:
    """What the base's files and those of each source, by its path, state; None: nothing."""

    base: Licence | None = None
    data: Mapping[str, Licence | None] = field(default_factory=dict)


def write_card(release: Release, source: PageSource, licences: Licences | None = None) -> str:
    """Write the model card of a release, its front matter included; no path of this machine."""
    licences = licences or Licences()
    ancestors = find_ancestors(source, release.weights)
    root = root_model(ancestors)
    base = release.base if root is None else public_name(root)
    sections = [
        f"# {release.run}\n",
        _in_short(release, source, licences),
        write_use(release, source.summary.config, source.data),
        _gguf(release),
        write_training(release, source),
        write_data(ancestors, licences.data),
        write_results(release, source),
        write_verdicts(source),
        write_lineage(ancestors, base, release.base_weights),
        _verified(release),
    ]
    head = _front_matter(release, source, ancestors, base, licences.base)
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n".join(filter(None, sections))))


def _front_matter(
    release: Release,
    source: PageSource,
    ancestors: Sequence[Ancestor],
    base: str,
    licence: Licence | None,
) -> ModelCardData:
    about: dict[str, Any] = {}
    if on_hub(base):
        about["base_model"] = base.partition("@")[0]
        about["base_model_relation"] = "adapter" if release.form == "adapter" else "finetune"
    results = hub_results(release, source)
    if results:
        about |= {"model_name": release.run, "eval_results": results}
    return ModelCardData(
        library_name="peft" if release.form == "adapter" else "transformers",
        pipeline_tag="text-generation",
        datasets=datasets_of(ancestors) or None,
        tags=["tunebook", *(["lora"] if release.form != "whole" else [])],
        **_licence_keys(licence),
        **about,
    )


def _licence_keys(licence: Licence | None) -> dict[str, Any]:
    """Give what the hub wants to know of a licence: `other` takes a name and a link."""
    if licence is None:
        return {"license": _UNKNOWN}
    if licence.identifier not in (None, _OTHER):
        return {"license": licence.identifier}
    name = licence.name or licence.words.strip("“”")
    return {"license": _OTHER, "license_name": name, "license_link": licence.link}


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


def _in_short(release: Release, source: PageSource, licences: Licences) -> str:
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
    licence = "unknown; that of the base and of the data decide"
    if licences.base is not None:
        stated, told_by = escape(licences.base.words), escape(licences.base.told_by)
        licence = f"{stated}, by {told_by} of the base; what the data asks for stands beside it"
    return (
        f"{progress}{what}. Weights are those after step {release.step} ({release.weights}), as "
        f"{release.precision}.\n\nLicense: {licence}. Language: not stated.\n"
    )


def _gguf(release: Release) -> str:
    made = release.gguf
    if made is None:
        return ""
    command = f'llama-cli -m {made.file} -p "..."'
    return (
        f"## GGUF\n\n{code(made.file)} holds the same weights as {made.type} for llama.cpp, made "
        f"by its {code(made.converter)}. What is said below of verification is of the safetensors; "
        f"the GGUF file itself was not asked.\n\n{fence(command, 'sh')}"
    )


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
    made = version_words({"tunebook": release.tunebook, **release.versions})
    lines.append(
        f"Released with {escape(made)}. `MANIFEST.json` holds the sha256 of every file, and "
        "`tunebook release --check FOLDER` holds the files against it."
    )
    return "## How it was verified\n\n" + "\n\n".join(lines) + "\n"
