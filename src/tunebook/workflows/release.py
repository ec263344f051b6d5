"""Write a run's weights for others, and call it done only when a fresh load says the same.

1. The weights are read as they were trained, on the base they were trained on, and asked.
2. They are written aside: whole, as an adapter, or merged into the base.
3. A new process loads that folder with transformers and peft alone and is asked the same.
4. Where both agree the card is written, the folder gets its name, and the run a record of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import psutil

from tunebook import __version__
from tunebook.book.atomic import write_text
from tunebook.book.checkpoints import (
    clear_asides,
    read_manifest,
    verify_checkpoint,
    writing_folder,
)
from tunebook.book.events import Events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
from tunebook.book.releases import Form, Release, Verification, add_release
from tunebook.errors import BookError, GgufFailed, StorageError, TunebookError, UsageError
from tunebook.kinds import FAULTS
from tunebook.models.export import (
    Under,
    copy_adapter,
    copy_whole,
    score_fresh,
    set_generation,
    stored_precision,
    write_chat_template,
    write_merged,
)
from tunebook.models.find import find_model
from tunebook.models.screen import ADAPTER_CONFIG
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.pages.model_card import write_card
from tunebook.pages.run_page import read_page_source
from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import EMBEDDED
from tunebook.recipe.load import read_resolved
from tunebook.recipe.methods import Quantization
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.units import format_bytes
from tunebook.workflows.model import build_model
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.release_check import (
    Probes,
    Trained,
    ask_trained,
    choose_probes,
    compare,
    probe_texts,
    refuse_other_loss,
    refuse_other_tokens,
)
from tunebook.workflows.release_licences import find_licences
from tunebook.workflows.release_template import (
    ChatTemplate,
    choose_chat_template,
    refuse_other_chats,
)
from tunebook.workflows.to_gguf import Converter, convert
from tunebook.workflows.weights import base_hash, find_weights, weights_step

Say = Callable[[str], None]
Put = Callable[[Path, Path], object]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is released: `folder` holds the weights, `base` those under an adapter, else None."""

    run: RunFolder
    recipe: Recipe
    environment: Mapping[str, object]
    weights: str
    folder: Path
    step: int
    form: Form
    base: Path | None
    base_name: str
    precision: str

    @property
    def quantization(self) -> Quantization | None:
        """How the base under an adapter was quantized, None where it was not."""
        quantized = self.base is not None and self.recipe.method == "qlora"
        return self.recipe.quantization if quantized else None


def release(
    name: str,
    out: Path,
    book: Path,
    *,
    form: str | None = None,
    weights: str = "final",
    say: Say = lambda _text: None,
    put: Put = shutil.copyfile,
    replace: bool = False,
    converter: Converter | None = None,
) -> Release:
    """Release the weights of a run into a new folder, verified against the trained model.

    `form` is adapter or merged (None: an adapter stays one), `weights` final, best or step-N, and
    `put` copies or links a file that stays as it is; `replace` allows for a folder that is there
    already; a `converter` makes a GGUF file of the verified weights. Raises UsageError or BookError
    before anything is written, ParentMismatch when the base is not the one trained on,
    ReleaseRefused when the exported weights differ from the trained ones; nothing is left at `out`
    then. Raises GgufFailed, and the release is there, when the converter fails.
    """
    failed: list[GgufFailed] = []

    def finish(folder: Path, draft: Release) -> Release:
        if converter is None:
            return draft
        say(f"making a GGUF file with {converter.command[-1]}")
        try:
            made = convert(converter, folder, draft.run, draft.precision)
        except GgufFailed as error:
            failed.append(error)
            return draft
        return dataclasses.replace(draft, gguf=made)

    done = write_release(
        name, out, book, form=form, weights=weights, say=say, put=put, over=replace, finish=finish
    )
    add_release(open_run(book, name), done)
    build_notebook(book, say)
    if failed:
        raise GgufFailed(f"{failed[0]}; {out} is kept without it, and is verified")
    return done


def write_release(
    name: str,
    out: Path,
    book: Path,
    *,
    form: str | None = None,
    weights: str = "final",
    say: Say = lambda _text: None,
    put: Put = shutil.copyfile,
    over: bool = False,
    generation: Mapping[str, object] = MappingProxyType({}),
    finish: Callable[[Path, Release], Release] = lambda _folder, draft: draft,
) -> Release:
    """Write and verify a release as `release` does, without a word of it in the run.

    `over` allows for a folder that is there already; `generation` are keys that its generation
    config is to have; `finish` adds to the verified folder before its card is written. Raises as
    `release` does.
    """
    run = open_run(book, name)
    _refuse_taken(out, over)
    subject = _subject(run, weights, form)
    say(f"reading {weights} of run {run.name} as it was trained")
    verify_checkpoint(subject.folder)
    if subject.base is not None:
        base_hash(run, subject.recipe, subject.environment, say)
    _refuse_without_memory(subject)
    source = read_page_source(run, book)
    clear_asides(out.parent, out.name)
    with writing_folder(out) as folder:
        found, template = _write_verified(subject, folder, source.events, say, put, generation)
        draft = finish(folder, _release(subject, out, found, template))
        card = write_card(draft, source, find_licences(source, weights))
        write_text(folder / "README.md", card)
    if faults := [kind for kind in source.summary.verdicts if kind in FAULTS]:
        say(f"note: {', '.join(faults)} found in the run, as its card says")
    files = {path: str(facts["sha256"]) for path, facts in read_manifest(out).items()}
    return dataclasses.replace(draft, files=files)


# --- what is asked for --------------------------------------------------------------------------


def _refuse_taken(out: Path, replace: bool) -> None:
    if out.is_dir() and (replace or not any(out.iterdir())):
        return
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists and is not empty; name a new folder for the release")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {out.parent}: {error.strerror}; name another") from None


def _subject(run: RunFolder, weights: str, form: str | None) -> _Subject:
    state = current_state(run)
    if state == "running":
        raise BookError(
            f"run {run.name} is being trained; release it when it is done, or "
            f"`tunebook stop {run.name}` lets it save and pause"
        )
    folder = find_weights(run, weights)
    recipe, environment = read_resolved(read_text(run.resolved_yaml))
    is_adapter = (folder / ADAPTER_CONFIG).exists()
    if form == "adapter" and not is_adapter:
        raise UsageError(
            f"run {run.name} trained whole weights (method {recipe.method}), no adapter; leave "
            "--adapter out"
        )
    base = find_model(recipe.model) if is_adapter else None
    return _Subject(
        run=run,
        recipe=recipe,
        environment=environment,
        weights=weights,
        folder=folder,
        step=weights_step(run, folder),
        form="whole" if not is_adapter else "merged" if form == "merged" else "adapter",
        base=base,
        base_name=_base_name(run, recipe, environment),
        precision=stored_precision(folder),
    )


def _base_name(run: RunFolder, recipe: Recipe, environment: Mapping[str, object]) -> str:
    """Name the base for others: its hub id, or a bare name where it is a folder here."""
    written = str(environment.get("model_as_written") or recipe.model)
    folder = expand_home(recipe.model)
    if recipe.model == EMBEDDED or not folder.is_dir():
        return recipe.model
    runs = (run.book / "runs").resolve()
    with contextlib.suppress(ValueError):
        return folder.resolve().relative_to(runs).parts[0]
    return written.partition(":")[2] if written.startswith("run:") else folder.resolve().name


def _refuse_without_memory(subject: _Subject) -> None:
    """Raise TunebookError where fp32 weights do not fit into memory: the kernel would kill us."""
    weights = subject.base or subject.folder
    stored = sum(path.stat().st_size for path in weights.glob("*.safetensors"))
    needs = stored * (1 if stored_precision(weights) == "fp32" else 2)
    free = psutil.virtual_memory().available
    if needs > free:
        raise TunebookError(
            f"releasing run {subject.run.name} computes in fp32 and needs "
            f"{format_bytes(needs)} of memory, {format_bytes(free)} are free; free some, or "
            "release it on a machine that has it"
        )


# --- written and asked --------------------------------------------------------------------------


def _write_verified(
    subject: _Subject,
    folder: Path,
    events: Events,
    say: Say,
    put: Put,
    generation: Mapping[str, object],
) -> tuple[Verification, ChatTemplate]:
    recipe = subject.recipe
    codec = load_tokenizer(recipe.model, recipe.add_tokens, subject.run.cache_dir)
    template = choose_chat_template(subject.run, recipe, codec, say)
    probes = choose_probes(subject.run, subject.recipe, codec, events, say)
    trained, under = _ask_trained(subject, codec, probes, events)
    refuse_other_loss(subject.run, trained, subject.precision)
    say(f"writing {subject.form} weights")
    rounded = _write(subject, under, folder, put)
    if template.text is not None:
        write_chat_template(folder, template.text)
    if subject.form != "adapter":
        ends = [] if codec.eos_id is None else [codec.eos_id]
        set_generation(folder, ends, **generation)
    say("loading them in a fresh process")
    texts = probe_texts(codec, probes)
    base = under if subject.form == "adapter" else None
    fresh = score_fresh(folder, base, probes.rows, texts, template.chats)
    refuse_other_tokens(codec, texts, fresh.encoded)
    refuse_other_chats(template, fresh.asked)
    found = compare(trained, fresh.log_probs, probes, rounded=rounded)
    if subject.form == "adapter" and under and under.rounded:
        words = f"{found.reason}, on the base rounded to bf16 as in training"
        found = dataclasses.replace(found, reason=words)
    return found, template


def _ask_trained(
    subject: _Subject, codec: Codec, probes: Probes, events: Events
) -> tuple[Trained, Under | None]:
    # On the CPU, where every machine that can load the weights in fp32 gives the same sums.
    own: dict[str, object] = {"device": "cpu", "devices": 1, "precision": _trained_in(subject)}
    if subject.base is None:  # relora saves whole weights, with its adapter in them
        own["method"] = "full"
    recipe = subject.recipe.model_copy(update=own)
    loaded, scorer = build_model(
        recipe, subject.environment, codec, subject.folder, checkpointing=False
    )
    canary = next((s.canary_loss for s in events.steps if s.step == subject.step), None)
    trained = ask_trained(loaded, scorer, probes, canary, with_base=subject.base is not None)
    if subject.base is None:
        return trained, None
    rows = loaded.causal.get_input_embeddings().weight.shape[0]
    grown = codec.added_ids and max(codec.added_ids) + 1 == rows
    rounded = _trained_in(subject) == "bf16"
    return trained, Under(subject.base, subject.quantization, rows if grown else None, rounded)


def _trained_in(subject: _Subject) -> str:
    """Tell the precision of training: that of the weights it saved; 4 bits are computed in fp32."""
    if subject.quantization is not None:
        return "fp32"
    return "bf16" if subject.precision == "bf16" else "fp32"


def _write(subject: _Subject, under: Under | None, folder: Path, put: Put) -> str | None:
    """Write the weights; say why they are rounded, None where they are as they were trained."""
    if subject.base is None or under is None:
        copy_whole(subject.folder, folder, put)
        return None
    if subject.form == "adapter":
        copy_adapter(subject.folder, folder, subject.base, subject.base_name, put)
        return None
    kept = write_merged(subject.folder, folder, under)
    return None if kept == "fp32" and _trained_in(subject) == "fp32" else f"rounded once to {kept}"


def _release(subject: _Subject, out: Path, found: Verification, template: ChatTemplate) -> Release:
    stored = stored_precision(subject.base) if subject.base and subject.form == "merged" else None
    inside = out.resolve().is_relative_to(subject.run.book.resolve())
    return Release(
        run=subject.run.name,
        weights=subject.weights,
        step=subject.step,
        form=subject.form,
        to=str(out.resolve().relative_to(subject.run.book.resolve())) if inside else out.name,
        precision=stored or subject.precision,
        base=subject.base_name,
        base_weights=_text(subject.environment.get("base_weights")),
        files={},
        verification=found,
        tunebook=__version__,
        chat_template=template.name,
        versions=_versions(),
        released=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
