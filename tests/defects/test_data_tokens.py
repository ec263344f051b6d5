"""Answers without loss and texts that are cut, each by the mistake of some notebook."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tunebook.data.segment as segment
import tunebook.step.horizon as horizon
from tunebook.data.window import most_to_leave_out

WORDS = "red green blue yellow white black brown grey river mountain garden".split()


def rows(n: int = 40) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"Say {' '.join(WORDS[: 1 + i % 5])} {i}.",
            "input": "",
            "output": f"{' '.join(WORDS[i % 4 : 4 + i % 7])} and {i} more",
        }
        for i in range(n)
    ]


@pytest.fixture
def run(write_data, write_run):
    """A run on short instructions."""
    return write_run(write_data("rows.json", rows()))


# --- what carries loss --------------------------------------------------------------------------


@pytest.mark.defect(12, "answer-not-trained", "plan")
def test_labels_that_the_collator_overwrites_are_refused(run, caught):
    collate = horizon.collate

    def overwrite(examples, **places):
        batch = collate(examples, **places)
        return replace(batch, target=~batch.target & (batch.positions > 0))

    def break_it(patch):
        patch.setattr(horizon, "collate", overwrite)

    found = caught(run, "answer-not-trained", "refuse", break_it, "--no-probe")
    assert found["evidence"]["rows"] >= 12  # of those in the first batches, each one


def span_of_row_0(block):
    target = np.zeros_like(block.target)
    (span,) = np.nonzero(block.target[: block.starts[1]])
    for start, stop in zip(block.starts, block.starts[1:], strict=False):
        target[start:stop][span[span < stop - start]] = True
    return replace(block, target=target)


def without_first_token(block):
    begins = block.target & ~np.concatenate([[False], block.target[:-1]])
    return replace(block, target=block.target & ~begins)


def tokenize_then(change):
    def break_it(patch):
        whole = segment.tokenize
        patch.setattr(segment, "tokenize", lambda *a, **k: change(whole(*a, **k)))

    return break_it


@pytest.mark.defect(22, "answer-not-trained", "plan")
def test_one_loss_span_for_a_whole_batch_is_refused(run, caught):
    found = caught(run, "answer-not-trained", "refuse", tokenize_then(span_of_row_0), "--no-probe")
    assert found["evidence"]["rows"] > 20


@pytest.mark.defect(22, "first-token-untrained", "plan")
def test_an_answer_whose_first_token_carries_no_loss_is_refused(run, caught):
    found = caught(
        run, "first-token-untrained", "refuse", tokenize_then(without_first_token), "--no-probe"
    )
    assert found["evidence"]["rows"] == found["evidence"]["rows_read_anew"] == 40


# --- what is cut --------------------------------------------------------------------------------


@pytest.mark.defect(14, "truncation", "plan")
def test_rows_that_are_cut_are_counted(run, write_data, write_run, caught):
    def cut_long_rows(_patch):
        write_run(write_data("rows.json", rows()), overlong="cut", max_seq_len=60)

    found = caught(run, "truncation", "warn", cut_long_rows, "--no-probe")
    assert found["evidence"]["told"]
    assert found["evidence"]["cut_rows"] > 0


@pytest.mark.defect(14, "truncation", "plan")
def test_rows_that_are_cut_and_not_counted_are_found(run, caught):
    def cut_untold(patch):
        fit = segment.fit

        def shorter(block, _limit, _overlong):
            fitted = fit(block, 60, "cut")
            return replace(fitted, cut=np.zeros_like(fitted.cut))

        patch.setattr(segment, "fit", shorter)

    found = caught(run, "truncation", "warn", cut_untold, "--no-probe")
    assert not found["evidence"]["told"]


@pytest.mark.defect(27, "context-lost", "plan")
def test_a_history_that_is_dropped_whole_is_named(write_data, write_run, caught):
    def talk(i, n_before):
        turns = []
        for n in range(n_before):
            turns.append({"role": "user", "content": f"question {n} of talk {i} {WORDS[n]}"})
            turns.append({"role": "assistant", "content": f"answer {n} {WORDS[n]} {i}"})
        last = [
            {"role": "user", "content": f"and what of {i}?"},
            {"role": "assistant", "content": f"nothing of {i}"},
        ]
        return {"messages": [*turns, *last], "window_from": 0}

    talks = [talk(i, 10 if i % 10 == 0 else 2) for i in range(60)]
    run = write_run(write_data("talks.json", talks), template="chat")

    def all_or_nothing(job, example, _whole):
        n_out = most_to_leave_out(example)
        kept = (*example.messages[: example.window_from], *example.messages[n_out:])
        return job.renderer.render(replace(example, messages=kept)), n_out

    def break_it(patch):
        patch.setattr(segment, "_leave_out", all_or_nothing)

    found = caught(run, "context-lost", "warn", break_it, "--no-probe")
    assert found["evidence"]["rows_bare"] == found["evidence"]["share_kept"]["0 %"] == 6
