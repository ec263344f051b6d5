from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from tunebook.plan.clock import (
    Cost,
    Speed,
    Work,
    count_cost,
    estimate_time,
    measured_speed,
    stated_speed,
    steps_due,
    times_due,
)
from tunebook.plan.devices import parse_device
from tunebook.plan.probe import Probe
from tunebook.plan.result import Parameters
from tunebook.step.horizon import Horizon

GPT2 = Parameters(
    total=124_439_808,
    total_untied=163_037_184,
    trainable=124_439_808,
    adapter=0,
    groups={
        "embeddings": 39_383_808,
        "attention": 28_348_416,
        "mlp": 56_669_184,
        "norms": 38_400,
        "head": 0,
        "other": 0,
    },
)
GPT2_CONFIG = {"n_layer": 12, "n_head": 12, "n_embd": 768}


def probe_of(tokens: int, target_tokens: int, seconds: float) -> Probe:
    return Probe(3.0, tokens, target_tokens, seconds, None, torch.zeros(1), torch.float32, 1)


def test_a_measured_2_748_examples_per_second_make_ten_parts_of_pygmalion_28_75_days() -> None:
    examples, length, targets = 682_701, 412, 97
    cost = Cost(body=1e9, head=1e8, attention=1e7, adapter=1e6, backward=1)
    micro_batch = probe_of(32 * length, 32 * targets, 32 / 2.748)
    ten = Work(10 * examples * length, 10 * examples * targets)
    time = estimate_time(ten, cost, measured_speed(micro_batch, cost))
    assert time.seconds is not None
    assert round(time.seconds / 86400, 2) == 28.75
    assert time.evaluation_seconds == 0
    assert "13,184 tokens of the longest micro-batch" in time.basis


def test_a_forward_pass_costs_two_operations_per_weight_and_the_backward_pass_twice_that() -> None:
    cost = count_cost(GPT2, GPT2_CONFIG, "full", context=1024)
    matrices = 28_348_416 + 56_669_184
    attention = 2 * 12 * 768 * 1024
    head = 768 * 50257
    assert cost.forward(1, 0) == 2 * matrices + attention
    assert cost.forward(0, 1) == 2 * head
    assert cost.training(10, 4) == 3 * cost.forward(10, 4)


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    adapter = 1_000_000
    frozen = Parameters(GPT2.total, GPT2.total_untied, adapter, adapter, GPT2.groups)
    lora = count_cost(frozen, GPT2_CONFIG, "lora", context=1024)
    full = count_cost(GPT2, GPT2_CONFIG, "full", context=1024)
    assert lora.training(100, 0) == pytest.approx(
        full.training(100, 0) * 2 / 3 + 100 * (2 * 12 * 768 * 1024 * (3 - 2) + 3 * 2 * adapter)
    )


def test_layers_below_the_lowest_that_learns_have_no_backward_pass_and_may_be_read() -> None:
    quarter = replace(GPT2, trainable=1_000_000, adapter=1_000_000, through=0.25)
    low = count_cost(quarter, GPT2_CONFIG, "lora", context=1024)
    every = count_cost(replace(quarter, through=1.0), GPT2_CONFIG, "lora", context=1024)
    layers = low.body + 2 * low.attention
    assert every.training(10, 5) - low.training(10, 5) == pytest.approx(10 * 0.75 * layers)
    assert low.below(10) == pytest.approx(10 * 0.75 * (low.body + low.attention))
    assert every.below(10) == 0
    whole = estimate_time(Work(100, 50), low, Speed(1.0, "said")).seconds
    read = estimate_time(Work(100, 50, read_tokens=60), low, Speed(1.0, "said")).seconds
    assert whole is not None
    assert read == pytest.approx(whole - low.below(60))


def test_evaluation_is_forward_only_and_part_of_the_whole() -> None:
    cost = Cost(body=1.0, head=0.0, attention=0.0, adapter=0.0, backward=2)
    time = estimate_time(Work(300, 0, 100, 0), cost, Speed(10.0, "said"))
    assert (time.seconds, time.evaluation_seconds) == (100.0, 10.0)


def test_a_rented_card_is_a_share_of_its_data_sheet_and_said_to_be() -> None:
    speed = stated_speed(parse_device("h100"), "bf16")
    four = stated_speed(parse_device("h100", 4), "bf16")
    assert speed is not None
    assert four is not None
    assert four.flops == 4 * speed.flops == 4 * 0.35 * 989e12
    assert "not measured: 35% of the 989 TFLOP/s in bf16" in speed.basis
    assert "4 devices" in four.basis


def test_where_nothing_is_known_there_is_no_time() -> None:
    cost = count_cost(GPT2, GPT2_CONFIG, "full", 100)
    assert stated_speed(parse_device("t4"), "bf16") is None
    time = estimate_time(Work(1, 1), cost, stated_speed(parse_device("cuda:15GiB"), "bf16"))
    assert (time.seconds, time.evaluation_seconds) == (None, None)
    assert "not measured" in time.basis


def test_a_cpu_is_measured_by_a_matrix_product() -> None:
    speed = stated_speed(parse_device("cpu"), "fp32")
    assert speed is not None
    assert 1e8 < speed.flops < 1e14


def test_what_is_due_is_counted_without_going_through_the_steps() -> None:
    every = [1, 3, 7, 100, "epoch", "1%", "5%", "33%", "33.4%", "100%", "0.5%"]
    for rows, batch, each in itertools.product((5, 29, 64, 200), (1, 4, 5), every):
        for per_epoch in (3, 17, 64, 500):
            horizon = Horizon(rows, math.ceil(rows / batch), per_epoch, batch, 1)
            steps = range(1, horizon.total_steps + 1)
            due = [s for s in steps if horizon.due(each, s) or s == horizon.total_steps]
            assert times_due(horizon, each) == len(due), (horizon, each)
            assert steps_due(horizon, each).tolist() == due, (horizon, each)
