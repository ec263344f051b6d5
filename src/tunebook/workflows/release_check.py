"""Whether exported weights still say what the trained model says."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch

from tunebook.book.data_account import read_data
from tunebook.book.events import Events
from tunebook.book.places import RunFolder
from tunebook.book.releases import Verification
from tunebook.data.batches import MicroBatch, collate
from tunebook.data.order import SourcedExample
from tunebook.data.prepare import Prepared, prepare
from tunebook.errors import BookError, DataError, ReleaseRefused, StorageError
from tunebook.models.fast_encode import TRIAL
from tunebook.models.load import LoadedModel
from tunebook.models.tokenizer import Codec
from tunebook.recipe.tree import Recipe
from tunebook.step.forward import Scorer, token_losses
from tunebook.step.score import mean_loss, score_examples

# Sums of fp32 in another order (another attention, whole logits): about 1e-5 was seen.
EXACT = 1e-3
# Weights rounded to 16 bits: see docs/decisions/0015.
ROUNDED = 0.05
_SHARE_OF_EFFECT = 0.5
# Ten times what the order of sums does: what training moved less cannot be told from the base.
_MEASURABLE = 1e-4
# A loss measured in training was summed in the precision of training.
_SAME_LOSS = {"fp32": 2e-3, "bf16": 0.05}
_TOKENS = 2048
_EXAMPLES = 16
_QUICK_TOKENS = 5_000_000


@dataclass(frozen=True, slots=True)
class Probes:
    """Rows to compare on; the first `n_canary` were scored while training, at every step or so."""

    batches: tuple[MicroBatch, ...]
    rows_from: str
    n_canary: int = 0

    @property
    def rows(self) -> list[list[int]]:
        """The token ids of every row."""
        return [batch.ids.tolist() for batch in self.batches]


@dataclass(frozen=True, slots=True)
class Trained:
    """What the trained model says of the probes; `base_log_probs` is what its base does."""

    log_probs: list[list[float]]
    base_log_probs: list[list[float]] | None
    loss_recorded: float | None
    loss_again: float | None


def choose_probes(
    run: RunFolder, recipe: Recipe, codec: Codec, events: Events, say: Callable[[str], None]
) -> Probes:
    """Take held-out examples of the run, else training rows, else the prompts it was asked.

    BookError when there is none of the three.
    """
    if cleaned_away(run):
        say("the run's tokens were cleaned away; its sampled answers are used")
        return _sampled(run, codec, events)
    try:
        prepared = prepare(recipe, codec, run.cache_dir, lambda _text: None)
    except (DataError, StorageError) as error:
        say(f"the data of run {run.name} cannot be read ({error}); its sampled answers are used")
        return _sampled(run, codec, events)
    held_out = prepared.validation
    shards = held_out or prepared.train.sources[0]
    n_canary = recipe.evaluate.canary if held_out else 0
    batches: list[MicroBatch] = []
    for number in range(min(len(shards), max(_EXAMPLES, n_canary))):
        if number >= max(n_canary, 1) and sum(len(b.ids) for b in batches) >= _TOKENS:
            break
        example = SourcedExample(shards.example(number), shards.source_of(number))
        batches.append(collate([example]))
    same = held_out is not None and _same_held_out(run, prepared)
    words = "held-out examples" if held_out is not None else "training rows"
    return Probes(tuple(batches), words, min(n_canary, len(batches)) if same else 0)


def cleaned_away(run: RunFolder) -> bool:
    """Tell whether the run's tokens would have to be made anew, and that would take long."""
    return any(
        source["tokens"] > _QUICK_TOKENS and not (run.cache_dir / source["cache_key"]).is_dir()
        for source in read_data(run).get("sources", [])
    )


def _same_held_out(run: RunFolder, prepared: Prepared) -> bool:
    return bool(prepared.validation_hash == read_data(run).get("validation_hash"))


def _sampled(run: RunFolder, codec: Codec, events: Events) -> Probes:
    batches = []
    for sample in events.samples[:_EXAMPLES]:
        ids = codec.encode(f"{sample.prompt}{sample.text}", specials=False)[0][:_TOKENS]
        if len(ids) > 1:
            batches.append(_batch(ids, sample.prompt))
    if not batches:
        raise BookError(
            f"run {run.name} has neither its data nor a sampled answer left, so nothing can be "
            "verified; put its data back"
        )
    return Probes(tuple(batches), "prompts and answers of the run")


def _batch(ids: Sequence[int], name: str) -> MicroBatch:
    places = np.arange(len(ids), dtype=np.int64)
    row = np.array(ids, dtype=np.int64)
    return MicroBatch(row, places, places > 0, places * 0, (len(ids),), (name,), ("",))


def ask_trained(
    loaded: LoadedModel,
    scorer: Scorer,
    probes: Probes,
    canary_loss: float | None,
    *,
    with_base: bool,
) -> Trained:
    """Score the probes with the trained model as training does, its arithmetic in fp32.

    `canary_loss` is what training recorded of these weights.
    """
    for parameter in loaded.causal.parameters():
        if parameter.is_floating_point():  # 4-bit weights stay what they are
            parameter.data = parameter.data.float()
    found = _log_probs(loaded, scorer, probes)
    base = None
    if with_base:
        with _without_adapter(loaded):
            base = _log_probs(loaded, scorer, probes)
    again = None
    if canary_loss is not None and probes.n_canary:
        canary = probes.batches[: probes.n_canary]
        again = mean_loss(score_examples(loaded, scorer, canary))
    return Trained(found, base, canary_loss if again is not None else None, again)


@contextlib.contextmanager
def _without_adapter(loaded: LoadedModel) -> Iterator[None]:
    with loaded.network.disable_adapter():
        yield


@torch.no_grad()
def _log_probs(loaded: LoadedModel, scorer: Scorer, probes: Probes) -> list[list[float]]:
    loaded.network.eval()
    found = []
    for batch in probes.batches:
        every = replace(batch, target=batch.positions > 0)
        losses: list[float] = token_losses(loaded, scorer, every).losses_M.tolist()
        found.append([-loss for loss in losses])
    return found


def refuse_other_loss(run: RunFolder, trained: Trained, precision: str) -> None:
    """Raise ReleaseRefused where the weights do not give the loss that training recorded."""
    then, now = trained.loss_recorded, trained.loss_again
    if then is None or now is None or not math.isfinite(then):
        return
    allowed = _SAME_LOSS.get(precision, _SAME_LOSS["bf16"])
    if not abs(then - now) <= allowed:
        raise ReleaseRefused(
            f"run {run.name}: these weights gave a loss of {then:.4f} on the canary examples when "
            f"they were trained, and give {now:.4f} now, so they, or the base under them, are not "
            "those that were trained; put the old base back, or train again"
        )


def probe_texts(codec: Codec, probes: Probes) -> list[str]:
    """Give texts that tell one tokenizer from another: odd ones, its own tokens, and the probes."""
    known = codec.tokenizer.get_added_vocab()
    return [*TRIAL, *(f"a{token} b" for token in known), *map(codec.decode, probes.rows)]


def refuse_other_tokens(
    codec: Codec, texts: Sequence[str], encoded: Sequence[Sequence[int]]
) -> None:
    """Raise ReleaseRefused where an exported tokenizer encodes texts otherwise than the run's."""
    for text, found in zip(texts, encoded, strict=True):
        own = codec.tokenizer(text)["input_ids"]
        if list(found) != own:
            raise ReleaseRefused(
                f"the exported tokenizer makes {list(found)[:12]} of {text[:40]!r}, the one "
                f"trained with makes {own[:12]}; nothing was released"
            )


def compare(
    trained: Trained, exported: Sequence[Sequence[float]], probes: Probes, *, rounded: str | None
) -> Verification:
    """Hold what a fresh load says against the trained model, or raise ReleaseRefused.

    `rounded` says why the weights themselves differ, None where they should not.
    """
    pairs = _pairs(trained.log_probs, exported)
    differences = [abs(a - b) for a, b in pairs]
    mean, largest = fmean(differences), max(differences)
    effect = None
    allowed = EXACT if rounded is None else ROUNDED
    if trained.base_log_probs is not None:
        effect = fmean(abs(a - b) for a, b in _pairs(trained.log_probs, trained.base_log_probs))
        allowed = min(allowed, _SHARE_OF_EFFECT * effect)
    found = Verification(
        examples=len(probes.batches),
        tokens=len(pairs),
        rows_from=probes.rows_from,
        largest=largest,
        mean=mean,
        largest_allowed=EXACT if rounded is None else None,
        mean_allowed=allowed,
        reason=rounded or "the weights are the same, and fp32 sums are taken in another order",
        adapter_effect=effect,
        loss_recorded=trained.loss_recorded,
        loss_again=trained.loss_again,
        loss_examples=probes.n_canary if trained.loss_again is not None else None,
        loss_not_compared=_why_not_compared(trained, probes),
    )
    close = mean <= allowed and (rounded is not None or largest <= EXACT)
    if not close or _unmeasurable(effect):
        raise ReleaseRefused(_refusal(found, rounded))
    return found


def _why_not_compared(trained: Trained, probes: Probes) -> str | None:
    if trained.loss_again is not None:
        return None
    if probes.n_canary:
        return "not scored at this step"
    return "the examples it was measured on are not there"


def _unmeasurable(effect: float | None) -> bool:
    return effect is not None and effect < _MEASURABLE


def _refusal(found: Verification, rounded: str | None) -> str:
    if _unmeasurable(found.adapter_effect):
        return (
            f"training moved the log-probabilities of {found.tokens} tokens by "
            f"{found.adapter_effect:.2g} in the mean (at least {_MEASURABLE:.2g} is needed): too "
            "little to tell the exported weights from the base; nothing was released; train "
            "longer, or release a later step"
        )
    words = (
        "the exported weights do not say what the trained model says: over "
        f"{found.tokens} tokens the log-probabilities differ by {found.mean:.2g} in the mean (at "
        f"most {found.mean_allowed:.2g}) and {found.largest:.2g} at most"
    )
    if found.adapter_effect is not None:
        words += f", {found.reason}, where training moved them by {found.adapter_effect:.2g}"
    way_out = "; release the adapter instead" if rounded else ""
    return f"{words}; nothing was released{way_out}"


def _pairs(
    left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]
) -> list[tuple[float, float]]:
    return [
        pair
        for one, other in zip(left, right, strict=True)
        for pair in zip(one, other, strict=True)
    ]
