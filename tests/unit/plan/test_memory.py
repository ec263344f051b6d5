"""What a plan says of memory, held against tensors that are really there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, MixtralConfig

from tunebook.errors import RunFileError
from tunebook.models.packed import packed_bytes
from tunebook.models.skeleton import with_rows_for
from tunebook.plan.batch_shapes import Sizes, full_rows
from tunebook.plan.batch_size import rows_per_device
from tunebook.plan.devices import Device, parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Rehearsal, Shape
from tunebook.recipe.tree import Recipe
from tunebook.workflows.room import find_room

SHAPE = Shape((24, 9, 31), (12, 9, 1))


def recipe(**changes: Any) -> Recipe:
    values = {"name": "a", "model": "x", "data": [{"path": "x"}], "max_seq_len": 32, **changes}
    return Recipe.model_validate(values)


def llama(layers: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )


def gpt2(layers: int = 2) -> GPT2Config:
    return GPT2Config(
        vocab_size=320, n_positions=128, n_embd=32, n_layer=layers, n_head=4, attn_pdrop=0.0
    )


def setting(config: Any, device: str | Device = "t4", **changes: Any) -> Setting:
    where = parse_device(device) if isinstance(device, str) else device
    return Setting(config, recipe(**changes), "fp32", where)


def real_peak(
    config: Any, run: Recipe, added_ids: tuple[int, ...] = (), checkpointing: bool | int = False
) -> int:
    """Take a real step of SHAPE, and count what torch's own allocator counted."""
    from transformers import AutoModelForCausalLM

    from tunebook.models.attention import FLAT, register_flat_attention
    from tunebook.models.checkpointing import set_checkpointing
    from tunebook.models.layers import freeze_modules
    from tunebook.models.load import LoadedModel, wrap_in_lora
    from tunebook.step.forward import Scorer
    from tunebook.step.movement import WeightSample
    from tunebook.step.optimization import Optimization
    from tunebook.step.update import take_step

    register_flat_attention()
    causal = AutoModelForCausalLM.from_config(config)
    causal.set_attn_implementation(FLAT)
    freeze_modules(causal, run.freeze)
    network = wrap_in_lora(causal, run.lora, added_ids) if run.method == "lora" else causal
    if checkpointing:
        set_checkpointing(causal, checkpointing)
    loaded = LoadedModel(network, causal, Path(), True, None)
    optimization = Optimization(loaded.trainable(), run.train)
    sample = WeightSample(optimization.masters)

    def step(number: int) -> None:
        batch, rate = SHAPE.batch(), 1e-4
        take_step(
            loaded,
            Scorer(True, True),
            optimization,
            sample,
            [batch],
            learning_rate=rate,
            max_grad_norm=1.0,
            seed=0,
            step=number,
        )

    step(1)
    kept = [*network.parameters(), *network.buffers()]
    kept += [v for state in optimization.optimizer.state.values() for v in state.values()]
    now = most = sum(
        {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}.values()
    )
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step(2)
    events = profile.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


FROZEN = {"freeze": ["layers:0", "embed_tokens"]}
NEW_TOKEN = {"method": "lora", "add_tokens": ["<new>"]}
LAST_DORA = {"method": "lora", "lora": {"layers": "last:1", "variant": "dora"}}


@pytest.mark.parametrize(
    "changes", [{"method": "full"}, {"method": "lora"}, FROZEN, LAST_DORA, NEW_TOKEN]
)
@pytest.mark.parametrize("make", [gpt2, llama])
def test_the_rehearsed_peak_is_that_of_a_real_step(make: Any, changes: Any) -> None:
    if make is gpt2 and "freeze" in changes:
        changes = {"freeze": ["layers:0", "wte"]}
    run = recipe(**changes)
    ids = (320,) if run.add_tokens else ()
    config = with_rows_for(make(), ids) if ids else make()
    rehearsed = Rehearsal(config, run, "fp32", on_cuda=False, added_ids=ids).train((SHAPE,))
    assert sum(rehearsed.parts.values()) == rehearsed.n_bytes
    assert rehearsed.n_bytes == pytest.approx(real_peak(config, run, ids), rel=0.02)


@pytest.mark.parametrize("changes", [{"method": "full"}, {"method": "lora"}, {"freeze": ["mlp"]}])
def test_layers_that_are_not_rehearsed_are_foretold_exactly(changes: Any) -> None:
    planner = MemoryPlanner(setting(llama(12), **changes))
    whole = Rehearsal(llama(12), recipe(**changes), "fp32", on_cuda=True).train((SHAPE,))
    assert planner.train_peak(SHAPE, accumulates=False).n_bytes == whole.n_bytes


def test_a_model_whose_layers_differ_is_rehearsed_whole() -> None:
    config = llama(12)
    config.layer_types = ["full_attention", "sliding_attention"] * 6
    planner = MemoryPlanner(setting(config))
    stated = planner.plan(full_rows(planner.setting.recipe, 1, 64), accumulates=False).stated
    assert not any("layers were rehearsed" in sentence for sentence in stated)


def test_checkpointing_keeps_less() -> None:
    plain = MemoryPlanner(setting(llama(6)))
    frugal = MemoryPlanner(replace(setting(llama(6)), checkpointing=True))
    less = frugal.train_peak(SHAPE, accumulates=False).parts["activations"]
    assert less < 0.7 * plain.train_peak(SHAPE, accumulates=False).parts["activations"]


@pytest.mark.parametrize("layers", [1, 3, True])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_of_the_layers_that_are_checkpointed_the_peak_is_foretold(
    make: Any, layers: bool | int
) -> None:
    planner = MemoryPlanner(
        replace(
            setting(make(4), Device("cpu", "cpu", None, None, True, False, {}, False)),
            checkpointing=layers,
        )
    )
    planned = planner.train_peak(SHAPE, accumulates=False).n_bytes
    real = real_peak(make(4), planner.setting.recipe, checkpointing=layers)
    assert planned == pytest.approx(real, rel=0.02)


def test_each_layer_more_that_is_checkpointed_takes_less() -> None:
    found = []
    for layers in (False, 3, 9, True):
        planner = MemoryPlanner(replace(setting(llama(12)), checkpointing=layers))
        found.append(planner.train_peak(SHAPE, accumulates=False).n_bytes)
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def test_gradients_of_an_earlier_micro_batch_are_counted() -> None:
    planner = MemoryPlanner(setting(llama()))
    alone = planner.train_peak(SHAPE, accumulates=False).n_bytes
    assert planner.train_peak(SHAPE, accumulates=True).n_bytes > alone


def test_four_bits_are_half_a_byte_and_their_scales() -> None:
    # 64 weights to a scale of fp32; doubly quantized, a byte, and fp32 for 256 of them.
    assert packed_bytes(64 * 256, double=False) == 64 * 128 + 4 * 256
    assert packed_bytes(64 * 256, double=True) == 64 * 128 + 256 + 4


def test_several_devices_share_what_is_sharded() -> None:
    one = MemoryPlanner(setting(llama(12)))
    four = MemoryPlanner(setting(llama(12), replace(parse_device("t4"), count=4)))
    alone, shared = (p.train_peak(SHAPE, accumulates=False).parts for p in (one, four))
    for name in ("weights", "optimizer"):
        assert shared[name] == alone[name] // 4
    # One device adds the head's gradient to where it is kept as it is made, several do not.
    assert shared["activations"] == pytest.approx(alone["activations"], rel=0.05)
    assert shared["communication"] > 0


def test_a_batch_that_devices_cannot_share_is_refused_in_a_sentence() -> None:
    with pytest.raises(RunFileError, match="multiple of 3"):
        rows_per_device(recipe(train={"effective_batch_size": 8}), 3)


def test_a_mixture_of_experts_is_rehearsed_in_fp32() -> None:
    config = MixtralConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    memory = MemoryPlanner(setting(config)).plan(full_rows(recipe(), 2, 64), accumulates=False)
    assert memory.parts["activations"] > 0
    assert not any("could not be rehearsed" in sentence for sentence in memory.stated)


def test_a_step_that_cannot_be_rehearsed_is_said_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no rule for this operator")

    monkeypatch.setattr(Rehearsal, "train", fail)
    memory = MemoryPlanner(setting(llama())).plan(full_rows(recipe(), 2, 64), accumulates=False)
    assert any("no rule for this operator" in sentence for sentence in memory.stated)
    assert memory.longest_batch_bytes == sum(memory.parts.values())


def with_memory(n_bytes: int) -> Device:
    return replace(parse_device("t4"), total_bytes=n_bytes)


def test_auto_takes_the_largest_batch_that_fits_and_says_so() -> None:
    roomy = find_room(setting(llama()), None, 64, None).chosen
    assert (roomy.micro_batch_size, roomy.word) == (32, None)
    # Just below what the largest needs with its margin.
    room = int(roomy.memory.resident_bytes / 0.9) - 1
    tight = find_room(setting(llama(), with_memory(room)), None, 64, None).chosen
    assert tight.micro_batch_size == 16
    assert tight.word == "micro_batch_size 16: 32 would not fit"
    assert tight.memory.resident_bytes <= 0.9 * room


def test_a_stated_batch_that_does_not_fit_is_told_which_would() -> None:
    train = {"effective_batch_size": 32, "micro_batch_size": 32}
    most = find_room(setting(llama(), train=train), None, 64, None).chosen.memory.resident_bytes
    small = setting(llama(), with_memory(most - (1 << 20)), train=train)
    chosen = find_room(small, None, 64, None).chosen
    assert chosen.micro_batch_size == 32
    assert 0 < chosen.memory.longest_batch["fitting_micro_batch_size"] < 32


WIDE = {"effective_batch_size": 16, "micro_batch_size": 16, "gradient_checkpointing": "auto"}
LONG = 1024


def wide(n_bytes: int = 1 << 40) -> Setting:
    config = llama(6)
    config.max_position_embeddings = LONG
    return setting(config, with_memory(n_bytes), train=WIDE, max_seq_len=LONG)


@pytest.mark.slow  # the next one is the short form
def test_checkpointing_on_auto_comes_only_where_nothing_else_fits_and_of_no_more_layers() -> None:
    roomy = find_room(wide(), None, LONG, None)
    assert roomy.planner.setting.checkpointing is False
    tight = find_room(wide(roomy.chosen.memory.resident_bytes - 1), None, LONG, None)
    assert tight.planner.setting.checkpointing == 3  # a tenth stays free
    assert str(tight.chosen.word).startswith("gradient checkpointing of the first 3 of 6 layers:")
    least = MemoryPlanner(replace(wide(), checkpointing=True))
    least_bytes = least.plan(full_rows(least.setting.recipe, 16, LONG), accumulates=False)
    tightest = find_room(wide(least_bytes.resident_bytes), None, LONG, None)
    assert tightest.planner.setting.checkpointing is True


def test_layers_that_were_counted_too_closely_are_all_checkpointed_before_a_row_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = find_room(wide(), None, LONG, None).chosen.memory.resident_bytes - 1
    monkeypatch.setattr(
        "tunebook.workflows.room._sizes_for",
        lambda recipe, _prepared, tokens: lambda size: full_rows(recipe, size, tokens),
    )
    tried = []

    def try_out(sizes: Sizes, checkpointing: bool | int) -> None:
        tried.append((len(sizes.longest.lengths), checkpointing))
        if checkpointing is not True:
            raise torch.OutOfMemoryError("CUDA out of memory")

    prepared: Any = object()
    found = find_room(wide(room), prepared, LONG, try_out)
    assert tried == [(16, 3), (16, True)]
    assert not found.faults
    assert found.planner.setting.checkpointing is True


def test_what_others_hold_of_a_device_is_not_there() -> None:
    here = Device("cpu", "cpu", 100, 30, True, False, {}, True)
    one = replace(setting(llama(), here), process_bytes=20)
    assert one.room == 50
    assert replace(one, device=replace(here, present=False)).room == 100


def test_code_that_products_in_half_precision_keep_is_planned_and_said() -> None:
    def planned(precision: str, steps: int | None) -> tuple[int, bool]:
        train = {"max_steps": steps} if steps else {"epochs": 1}
        given = replace(setting(llama(), "cpu", train=train), precision=precision)
        found = find_room(given, None, 64, None)
        said = any("code that products keep" in line for line in found.chosen.memory.stated)
        return found.planner.code_bytes, said

    assert planned("fp32", 40) == (0, False)
    short, long, whole = planned("bf16", 10), planned("bf16", 400), planned("bf16", None)
    assert short[1]
    assert 4 * short[0] == long[0] == whole[0] > 2**28
