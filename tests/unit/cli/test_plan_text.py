from __future__ import annotations

from dataclasses import replace

from tunebook.cli.plan_text import plan_text
from tunebook.plan.result import (
    Disk,
    Memory,
    Parameters,
    Plan,
    Time,
    Tokenizer,
    refusal_reason,
)
from tunebook.records import Finding

PADDING = Finding("padding-in-loss", "refuse", "12 % of target tokens are padding.", {}, "mend it")
RANDOM = Finding("random-base", "refuse", "The weights are random.", {}, "load them")
WASTE = Finding("padding-waste", "warn", "31 % of tokens are padding.", {}, "pack rows")

PLAN = Plan(
    model="openai-community/gpt2-medium",
    method="lora",
    device="t4",
    precision="fp16",
    parameters=Parameters(
        354_823_168, 406_286_336, 6_291_456, 6_291_456, {"embeddings": 354_823_168}
    ),
    memory=Memory(
        9 * 2**30, 12 * 2**30, None, None, 13 * 2**30, 15 * 2**30,
        {"weights": 9 * 2**30, "logits and loss": 3 * 2**30},
        {"tokens": 8192, "examples": 8, "longest_example": 1024, "typical_tokens": 2048},
    ),
    micro_batch_size=8,
    gradient_accumulation_steps=4,
    effective_batch_size=32,
    gradient_checkpointing=False,
    epochs=8.0,
    steps=2988,
    tokens=200,
    target_tokens=84,
    time=Time(1140.0, None, "a data sheet"),
    disk=Disk(2**30, 80 * 2**30, 2**20, 3, 2**20),
    rows={
        "in": 12_000, "dropped": 41, "out": 11_959, "cut": 7, "an_epoch": 11_839, "held_out": 120
    },
    dropped={"exact_duplicate": 41},
    lengths={"mean": 284.3, "max": 1024},
    tokenizer=Tokenizer("gpt2", 50_257, "<|endoftext|>", None, None),
    findings=(WASTE, RANDOM, PADDING),
    accepted=("random-base",),
    n_passed=24,
    probe={"loss": 5.25, "seconds": 1.5, "tokens": 8192, "peak_bytes": 2**30},
)  # fmt: skip


def facts(plan: Plan) -> list[str]:
    """Give the lines of a plan with their columns pulled together."""
    return [" ".join(line.split()) for line in plan_text(plan).splitlines()]


def test_a_plan_states_every_fact_on_a_line_of_its_own() -> None:
    lines = facts(PLAN)
    for line in (
        "354,823,168 parameters, 1.32 GiB as fp32",
        "406,286,336 with the tied head counted apart",
        "trainable 6,291,456 in the adapter, 1.74 % of all (method lora)",
        "memory train 9 GiB 2,048 tokens",
        "longest batch 12 GiB 8,192 tokens, 8 examples, 1,024 in the longest",
        "device 15 GiB fits, 2 GiB to spare",
        "logits and loss 3 GiB 25 %",
        "batch 32 rows a step: 4 x 8",
        "data rows: 12,000 in, 41 dropped, 11,959 out, 7 cut",
        "8 epochs of 11,839 rows, 120 rows held out",
        "42 % of tokens carry loss",
        "probe loss 5.250, seconds 1.5 s, tokens 8,192, peak 1 GiB",
    ):
        assert line in lines


def test_what_was_not_measured_is_never_a_number() -> None:
    bare = replace(PLAN, time=Time(None, None, ""), disk=None, rows=None, tokenizer=None)
    lines = facts(bare)
    for label in ("evaluation", "samples", "time", "disk", "data", "tokenizer"):
        assert f"{label} not measured" in lines
    unknown = replace(PLAN, memory=replace(PLAN.memory, device_bytes=None))
    assert "device not known" in facts(unknown)


def test_refused_findings_come_first_and_the_accepted_are_named_as_such() -> None:
    lines = facts(PLAN)
    start = lines.index("checks 24 checks passed, 1 refused, 1 accepted, 1 warning")
    assert lines[start + 1 :] == [
        "refused padding-in-loss: 12 % of target tokens are padding.",
        "way out: mend it",
        "accepted random-base: The weights are random.",
        "way out: load them",
        "warning padding-waste: 31 % of tokens are padding.",
        "way out: pack rows",
    ]


def test_the_sentence_of_a_refusal_names_each_finding_once_and_none_that_is_accepted() -> None:
    refused = replace(PLAN, findings=(PADDING, PADDING, RANDOM)).refusals
    said = refusal_reason("run_16", refused)
    assert said.count("--accept padding-in-loss") == 1
    assert "random-base" not in said


def test_long_sentences_fold_under_themselves_and_long_names_stay_whole() -> None:
    name = "/data/" + "folder/" * 20 + "model"
    wordy = replace(PLAN, model=name, words=("one word after the other " * 8,))
    lines = plan_text(wordy, width=60).splitlines()
    assert lines[0].endswith(name)
    assert max(map(len, lines[1:])) <= 60
    labels = {line[:12].strip() for line in lines}
    assert {"model", "note", ""} < labels
    assert plan_text(wordy).count("\n") < plan_text(wordy, width=60).count("\n")


def test_a_plan_that_does_not_fit_says_by_how_much() -> None:
    full = replace(PLAN, memory=replace(PLAN.memory, resident_bytes=16 * 2**30))
    assert "device 15 GiB does not fit, 1 GiB too little" in facts(full)
