"""What the checks of rows and their tokens take for a defect, and what they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.models.find import find_model
from tunebook.models.tokenizer import load_tokenizer
from tunebook.plan import ends
from tunebook.plan.checks import (
    answer_not_trained,
    idle_section,
    illegal_label,
    input_equals_output,
    literal_special_token,
    padding_in_loss,
    rank_above_width,
    row_count_mismatch,
    stale_cache,
    token_id_out_of_range,
)
from tunebook.plan.rows import Row, batch_rows
from tunebook.plan.subject import Subject
from tunebook.records import Finding

Check = Callable[[Subject], Any]
SubjectOf = Callable[..., Subject]


@pytest.fixture
def subject_with(tmp_path: Path, subject_of: SubjectOf) -> SubjectOf:
    """Give a function that writes rows and prepares them."""

    def make(rows: Sequence[dict[str, Any]], **changes: Any) -> Subject:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return subject_of({"path": str(path)}, **changes)

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model whose files can be changed."""
    return Path(shutil.copytree(find_model("tunebook/tiny"), tmp_path / "model"))


def finding(check: Check, subject: Subject) -> Finding | None:
    return next(iter(check(subject)), None)


def answers(*texts: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"Say {n} and more.", "completion": texts[n % len(texts)]} for n in range(60)
    ]


def test_a_token_that_no_row_uses_may_lie_beyond_the_embedding(subject_with: SubjectOf) -> None:
    subject = subject_with(answers("Yes, that is so."))
    assert subject.codec is not None
    subject.codec.special_ids |= {subject.config["vocab_size"]}
    assert finding(token_id_out_of_range.check, subject) is None


def test_text_that_is_also_the_pad_token_is_not_padding(
    subject_with: SubjectOf, model: Path
) -> None:
    edit_json(model / "tokenizer_config.json", pad_token="!")
    subject = subject_with(answers("Wow! And then!!!!", "No! Never."), model=str(model))
    assert subject.codec is not None
    assert subject.codec.decode([subject.codec.pad_id or 0]) == "!"
    assert finding(padding_in_loss.check, subject) is None


def test_pad_tokens_that_stand_in_stored_rows_are_padding(subject_with: SubjectOf) -> None:
    subject = subject_with(answers("Yes, that is so."))
    assert subject.codec is not None
    pad = subject.codec.pad_id
    padded = replace(
        batch_rows(subject)[0], stored=None, ids=np.append(batch_rows(subject)[0].ids, [pad, pad])
    )
    from tunebook.plan.rows import padding_of

    assert padding_of(padded, subject.codec)[-3:].tolist() == [False, True, True]
    unread = replace(padded, fresh=None)
    assert padding_of(unread, subject.codec)[-2:].tolist() == [True, True]


def test_a_row_of_another_step_is_not_looked_for_in_the_whole_run(
    subject_with: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_with(answers("Yes, that is so."), train={"epochs": 50})
    assert finding(row_count_mismatch.check, subject) is None
    first, *others = subject.batches
    strange = replace(first, example_ids=("rows#999", *first.example_ids[1:]))
    subject = replace(subject, batches=(strange, *others))
    assert subject.prepared is not None
    real, n_read = type(subject.prepared.train).row, []
    monkeypatch.setattr(
        type(subject.prepared.train), "row", lambda s, i: (n_read.append(i), real(s, i))[1]
    )
    found = finding(row_count_mismatch.check, subject)
    assert found is not None
    assert found.evidence["examples"] == ["rows#999"]
    assert len(n_read) == subject.recipe.train.effective_batch_size


def test_a_template_that_leaves_part_of_an_answer_out_is_named(
    subject_with: SubjectOf, model: Path
) -> None:
    said = "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}" + said + "<|endoftext|>{% endfor %}"
    )
    rows = answers("I wonder what to say, so I wait.</think>That is so.")
    subject = subject_with(rows, model=str(model))
    assert finding(stale_cache.check, subject) is None
    found = finding(answer_not_trained.check, subject)
    assert found is not None
    assert "the chat template leaves a part of it out" in found.message
    assert "template: chat" in found.way_out


def test_checks_look_at_the_same_rows_only_once(
    subject_with: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunebook.plan.checks import CHECKS

    subject, n_found = subject_with(answers("Yes, that is so.")), []
    real = ends._end
    monkeypatch.setattr(ends, "_end", lambda *a: (n_found.append(1), real(*a))[1])
    for check in CHECKS.values():
        list(check(subject))
    assert len(n_found) == len(ends.ends(subject)) > 0


def test_a_check_that_breaks_off_is_said_and_takes_nothing_with_it(
    subject_with: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunebook.plan.checks import CHECKS, run_checks

    subject = subject_with(answers("Yes, that is so."))
    whole = run_checks(subject)
    monkeypatch.setitem(CHECKS, "truncation", lambda _: [][1])
    checked = run_checks(subject)
    assert checked.n_passed == whole.n_passed - 1
    (found,) = (f for f in checked.findings if f.name == "check-failed")
    assert (found.level, found.evidence["check"]) == ("warn", "truncation")
    assert "broke off with IndexError" in found.message
    assert [f for f in checked.findings if f is not found] == list(whole.findings)


def test_settings_of_another_method_are_no_silent_ones(subject_with: SubjectOf) -> None:
    rows = answers("Yes, that is so.")
    assert finding(idle_section.check, subject_with(rows, method="lora", lora={"rank": 8})) is None
    found = finding(idle_section.check, subject_with(rows, lora={"rank": 8}))
    assert found is not None
    assert found.message == "`lora` is set, and method full does not read it"
    assert found.way_out == "say method: lora or qlora or relora, or leave `lora` out"


def test_a_rank_beyond_the_weights_is_a_warning(subject_with: SubjectOf) -> None:
    rows = answers("Yes, that is so.") * 8
    subject = subject_with(rows, method="lora", lora={"rank": 65})
    assert finding(rank_above_width.check, replace(subject, adapted_width=65)) is None
    found = finding(rank_above_width.check, replace(subject, adapted_width=64))
    assert found is not None
    assert (found.level, found.evidence) == ("warn", {"rank": 65, "width": 64})


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_one_row_that_speaks_of_a_special_token_is_only_told(subject_with: SubjectOf) -> None:
    rows = answers(*["Yes, that is so."] * 4) * 5
    rows[7] = {"prompt": "What ends a text?", "completion": "The token <|endoftext|> ends it."}
    found = finding(literal_special_token.check, subject_with(rows, validation={"fraction": 0}))
    assert found is not None
    assert found.level == "warn"
    rows[7]["completion"] = "Nothing does.<|endoftext|>"
    found = finding(literal_special_token.check, subject_with(rows, validation={"fraction": 0}))
    assert found is not None
    assert found.level == "refuse"


def test_a_special_token_as_the_first_text_of_a_row_is_named() -> None:
    codec = load_tokenizer("tunebook/tiny")
    for text in ("<|endoftext|>", "<|endoftext|> and more"):
        ids = np.array(codec.encode(text, specials=False)[0])
        target = np.arange(len(ids)) > 0
        row = Row("text", "text#1", ids, target, True)
        found = literal_special_token.strings_in(row, codec, frozenset(["<|endoftext|>"]))
        assert found == {"<|endoftext|>": True}


@pytest.mark.parametrize("same", [True, False])
def test_inputs_that_share_lines_are_held_against_their_answers(
    subject_with: SubjectOf, same: bool
) -> None:
    rows = []
    for n in range(60):
        code = f"def f{n}(x):\n  return x"
        answer = code if same else f"def g{n * 7}(x):\n  return x"
        rows.append({"instruction": "Mend this:", "input": code, "output": answer})
    found = finding(input_equals_output.check, subject_with(rows))
    assert (found is not None) == same


def test_words_behind_the_moves_do_not_keep_a_label_from_being_judged() -> None:
    pytest.importorskip("chess")
    asked = "1. e4 e5 2. Nf3 Which move does Black play here?"
    assert illegal_label.is_legal(asked, "Nc6")
    assert illegal_label.is_legal(asked, "Ke4") is False
    assert illegal_label.is_legal("1. e4 {best} e5 2. Nf3", "Bb5") is None
    assert illegal_label.is_legal("1. Which move is best?", "Nc6") is None
