"""What `tunebook plan` does: what a run will need, and whether it can work at all."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tunebook.book.places import RunFolder
from tunebook.data.build import Say
from tunebook.data.prepare import prepare
from tunebook.errors import (
    BookError,
    DataError,
    DefectError,
    ModelError,
    RunFileError,
    TunebookError,
)
from tunebook.models.find import find_config, has_pickled_weights
from tunebook.models.screen import way_to_convert
from tunebook.models.skeleton import WeightFiles, build_skeleton, check_weights, load_config
from tunebook.models.tokenizer import load_tokenizer
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.devices import parse_device
from tunebook.plan.probe import Probe
from tunebook.plan.result import Plan, fault_of
from tunebook.recipe.tree import Recipe
from tunebook.step.optimization import Optimization
from tunebook.workflows.model import build_model
from tunebook.workflows.planning import Known, make_plan, try_longest
from tunebook.workflows.room import TryOut
from tunebook.workflows.run_data import unread_tokens
from tunebook.workflows.run_folder import refuse_taken
from tunebook.workflows.to_plan import ToPlan
from tunebook.workflows.train import refuse_on_several

# A plan is to take seconds: a larger model is looked at when it is trained.
_MOST_PROBED_PARAMETERS = 2_000_000_000


def plan(asked: ToPlan, *, probe: bool = True, say: Say = lambda _: None) -> Plan:
    """Plan a recipe for this machine or for a device to be rented; `probe`: try out its weights.

    Raises what is wrong with the model's config or the data; everything else that keeps the run
    from working is among the plan's findings.
    """
    recipe, book = asked.recipe, asked.book
    where = parse_device(recipe.device, recipe.devices)
    config = load_config(recipe.model)
    weights = check_weights(recipe.model, build_skeleton(config))
    if weights.state == "damaged":
        raise ModelError(str(weights.message))
    if weights.state == "absent" and has_pickled_weights(find_config(recipe.model)):
        raise ModelError(f"{weights.message}; {way_to_convert(recipe.model)}")
    with tempfile.TemporaryDirectory(prefix="tunebook-plan-") as aside:
        folder = RunFolder(book or Path(aside), recipe.name)
        known = Known(recipe, config, where, folder.path if book else Path.cwd(), weights)
        known = _with_data(replace(known, words=_words(asked, weights)), folder.cache_dir, say)
        made = make_plan(known, _try_out(known, asked.environment) if probe else None)
        return replace(made, faults=known.faults)


def _not_measured(recipe: Recipe, error: TunebookError) -> str:
    return (
        f"tokens not measured, so every row is taken as long as max_seq_len, {recipe.max_seq_len}: "
        f"{error}"
    )


def _words(asked: ToPlan, weights: WeightFiles) -> tuple[str, ...]:
    """Say what keeps this machine, or this book, from training what is planned."""
    recipe, words = asked.recipe, []
    # A config.json alone is planned, and whether that is on purpose it does not say.
    if weights.state in ("absent", "incomplete"):
        words.append(f"can be planned, and not trained: {weights.message}")
    try:
        # Of a set of parts, those that are trained are passed over.
        if asked.book is not None and (recipe.parts is None or recipe.part is not None):
            refuse_taken(RunFolder(asked.book, recipe.name))
    except BookError as error:
        words.append(f"can be planned, and not trained: {error}")
    try:
        refuse_on_several(recipe, recipe.devices)
    except RunFileError as error:
        words.append(f"can be planned, and not trained: {error}")
    if _lacks_bitsandbytes(recipe):
        words.append("to train it, and to try it out here: `pip install 'tunebook[quant]'`")
    return tuple(words)


def _lacks_bitsandbytes(recipe: Recipe) -> bool:
    return recipe.method == "qlora" and find_spec("bitsandbytes") is None


def _with_data(known: Known, cache_dir: Path, say: Say) -> Known:
    """Prepare the data; without weights a plan goes on without data and says so."""
    recipe = known.recipe
    try:
        codec = load_tokenizer(recipe.model, recipe.add_tokens, cache_dir)
    except ModelError as error:
        if known.weights.state == "complete" or recipe.add_tokens:
            raise
        return replace(known, words=(*known.words, _not_measured(recipe, error)))
    try:
        prepared = prepare(recipe, codec, cache_dir, say)
    except DefectError as error:
        return replace(known, codec=codec, faults=(fault_of(error),))
    except DataError as error:
        if known.weights.state == "complete":
            raise
        return replace(known, codec=codec, words=(*known.words, _not_measured(recipe, error)))
    words = (*known.words, *unread_tokens(prepared, codec))
    return replace(known, codec=codec, prepared=prepared, words=words)


def _try_out(known: Known, environment: dict[str, object]) -> TryOut | None:
    """Give what goes through the real model, where its weights and its device are here."""
    if known.weights.state != "complete" or not known.device.present:
        return None
    if known.device.count > 1 or _lacks_bitsandbytes(known.recipe):
        return None
    if (known.weights.n_stored or 0) > _MOST_PROBED_PARAMETERS:
        return None

    def try_out(sizes: Sizes, checkpointing: bool | int) -> Probe | None:
        assert known.codec is not None
        loaded, scorer = build_model(
            known.recipe, environment, known.codec, None, checkpointing=checkpointing
        )
        optimization = Optimization(loaded.trainable(), known.recipe.train, exact=loaded.exact)
        return try_longest(known, loaded, scorer, optimization, sizes)

    return try_out
