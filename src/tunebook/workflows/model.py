"""The model of a run, loaded and ready for the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.exact import with_exact_weights
from tunebook.models.layers import freeze_modules
from tunebook.models.load import (
    LoadedModel,
    add_lora,
    choose_device,
    choose_precision,
    grow_vocabulary,
    load_adapter,
    load_model,
)
from tunebook.models.relora import Merger
from tunebook.models.tokenizer import Codec
from tunebook.recipe.tree import Recipe
from tunebook.step.below import find_below
from tunebook.step.check import check_below, choose_scorer
from tunebook.step.forward import Scorer
from tunebook.step.sharding import shard_model
from tunebook.step.team import ALONE, Team


def build_model(
    recipe: Recipe,
    environment: Mapping[str, object],
    codec: Codec,
    checkpoint: Path | None,
    *,
    checkpointing: bool | int,
    team: Team = ALONE,
) -> tuple[LoadedModel, Scorer]:
    """Load a run's model, from a checkpoint where there is one, and find its fast paths.

    `checkpointing` is of activations, of all layers or the first so many: what is not kept is
    computed again. A team spreads the
    weights of method full over its devices; of adapters and their base each rank has all.

    Raises ModelError for what cannot be loaded.
    """
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.precision, device)
    whole = recipe.method in ("full", "relora")  # a checkpoint has all weights, no adapter
    base = str(checkpoint) if checkpoint and whole else recipe.model
    spread = not team.alone and recipe.method == "full"
    loaded = load_model(
        base,
        # No device need have room for all of a model that is spread: the host takes it first.
        device="cpu" if spread else device,
        # Slices of weights that are spread are masters themselves, and rounded on their way.
        precision="fp32" if spread else precision,
        attention=recipe.attention,
        quantization=recipe.quantization if recipe.method == "qlora" else None,
    )
    # Its tokenizer is saved with the weights: a checkpoint's folder will be gone by then.
    loaded = replace(loaded, folder=codec.folder)
    grown = grow_vocabulary(loaded, codec.added_ids, recipe.seed)
    # Whole weights of a checkpoint have the rows that this run gave them: nothing to note.
    loaded = replace(grown, notes=loaded.notes) if checkpoint and whole else grown
    notes = (*loaded.notes, *freeze_modules(loaded.causal, recipe.freeze, codec.added_ids))
    loaded = replace(loaded, notes=notes)
    # Checked before an adapter is added: a fresh one changes nothing, and the check stays plain.
    scorer = choose_scorer(loaded, codec.vocab_size)
    if recipe.method != "full":
        start = None if whole else checkpoint or environment.get("adapter")
        loaded = (
            load_adapter(loaded, Path(str(start)))
            if start
            else add_lora(loaded, recipe.lora, recipe.model, recipe.seed, codec.added_ids)
        )
        if recipe.method == "relora":
            loaded = replace(loaded, merger=Merger(loaded.network, recipe.seed))
            if checkpoint and loaded.merger:
                loaded.merger.read(checkpoint)
        if hasattr(loaded.causal.get_output_embeddings(), "base_layer"):
            # The direct head reads the frozen weight and would leave the adapter on it untrained.
            scorer = replace(scorer, direct_head=False)
        scorer = replace(scorer, below=find_below(loaded.causal, recipe))
        if scorer.below is not None:
            check_below(loaded, scorer, codec.vocab_size)
    if precision == "bf16" and recipe.method == "full" and not spread and checkpoint is None:
        loaded = with_exact_weights(loaded, recipe.model, recipe.attention)
    if checkpointing:
        set_checkpointing(loaded.causal, checkpointing)
    if spread:
        loaded = shard_model(loaded, team, device, precision)
    return loaded, scorer
