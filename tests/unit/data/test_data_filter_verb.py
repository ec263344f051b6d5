"""`tunebook data filter` and `data score` as a user meets them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tunebook.cli.main import main
from tunebook.data.filters import FILTERS
from tunebook.errors import ModelError
from tunebook.workflows.data_filter import filter_rows, open_source
from tunebook.workflows.data_show import source_of

STORY = "the old sailor told the child a story about the sea and the rain fell on the roof"


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def messages_of(path: Path, stage: str | None = None):
    _, reader = open_source(source_of(str(path)), stage)
    return [(r.example.messages, r.example.window_from) for r in reader.examples()]


PAIRS = [
    {"prompt": "Who?", "completion": "A fox was it, said the hen."},
    {"prompt": "Who?", "completion": "A fox was it, said the hen."},
    {"prompt": "Why?", "completion": "So."},
    {"prompt": "", "completion": "Nobody asked for this answer."},
    {"prompt": "When?", "completion": "At night<|endoftext|>"},
]


def test_every_row_is_accounted_for_and_dropped_rows_are_written_with_their_reason(
    write, tmp_path, capsys
) -> None:
    out, dropped = tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl"
    code, said, _ = run(
        capsys,
        *("filter", write("a.jsonl", PAIRS), "--out", out, "--dropped", dropped),
        *("--filter", "repair_special_tokens", "--filter", "exact_duplicate"),
        *("--filter", "short_response:min_words=2", "--filter", "long_response"),
    )
    assert code == 0
    assert "rows       5 in" in said
    assert "dropped    1 exact duplicate: a#2" in said
    assert "dropped    1 short response: a#3" in said
    assert "dropped    1 empty prompt: a#4" in said
    assert "rows       2 out" in said
    assert "changed    1 rows by repair_special_tokens" in said
    assert "warning    filter long_response dropped or changed nothing" in said
    assert "before   user: When?⏎assistant: At night<|endoftext|>\n" in said
    assert "after    user: When?⏎assistant: At night\n" in said
    kept = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert kept == [PAIRS[0], {"prompt": "When?", "completion": "At night"}]
    lost = [orjson.loads(line) for line in dropped.read_bytes().splitlines()]
    assert [(row["id"], row["reason"]) for row in lost] == [
        ("a#2", "exact duplicate"),
        ("a#3", "short response"),
        ("a#4", "empty prompt"),
    ]
    assert lost[1]["completion"] == "So."


def test_its_json_adds_up(write, capsys) -> None:
    code, said, _ = run(
        capsys, "filter", write("a.jsonl", PAIRS), "--filter", "exact_duplicate", "--json"
    )
    found = json.loads(said)
    assert code == 0
    assert found["rows_in"] == sum(found["dropped"].values()) + found["rows_out"]
    assert found["filters"] == [{"exact_duplicate": {}}]


def test_rows_that_a_rewrite_leaves_empty_are_dropped(write, tmp_path) -> None:
    path = write("a.jsonl", [{"prompt": "a", "completion": "gone"}, *PAIRS[:1]])
    found = filter_rows(str(path), [{"regex": {"pattern": "gone"}}])
    assert dict(found.dropped) == {"empty answer": 1}
    assert found.rows_out == 1


@pytest.mark.parametrize(
    ("name", "rows", "written"),
    [
        ("a.jsonl", PAIRS[:3], "completion"),
        ("a.json", [{"instruction": "Say", "input": "x", "output": "y"}] * 2, "alpaca"),
        ("a.jsonl", [{"instruction": "Say", "output": "y"}], "alpaca"),
        ("a.jsonl", [{"question": "q?", "answer": "a"}], "qa"),
        ("a.jsonl", [{"text": "one\n\ntwo"}, {"text": "three"}], "text"),
        ("a.txt", "one\n\n<|endoftext|>\ntwo\n", "text"),
        ("a.txt", "hope: a small step\nfear: a big one\n", "lines"),
        (
            "a.jsonl",
            [
                {
                    "conversations": [
                        {"from": "system", "value": "Be kind."},
                        {"from": "human", "value": "Hi"},
                        {"from": "gpt", "value": "Hello"},
                        {"from": "human", "value": "Bye"},
                        {"from": "gpt", "value": "Go well"},
                    ]
                }
            ],
            "chat",
        ),
        (
            "a.jsonl",
            [
                {
                    "messages": [
                        {"role": "knowledge", "content": "Water is wet."},
                        {"role": "user", "content": "Hi"},
                        {"role": "assistant", "content": "Hello", "trained": False},
                        {"role": "user", "content": "Bye"},
                        {"role": "assistant", "content": "Go well"},
                    ],
                    "window_from": 1,
                }
            ],
            "chat",
        ),
    ],
)
def test_kept_rows_read_back_by_detection_as_the_same_examples(
    write, tmp_path, name, rows, written
) -> None:
    path, out = write(name, rows), tmp_path / "kept.jsonl"
    found = filter_rows(str(path), [], out=out)
    assert found.out_format == written
    assert messages_of(out) == messages_of(path)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "chat/wow-plus-plus-random.json.gz",
        "chat/taskmaster4-00.jsonl.gz",
        "chat/synthetic-persona-chat-valid.csv.gz",
        "chat/gpteacher-roleplay.json.gz",
        "instruct/alpaca-seed-tasks.jsonl",
        "physics/scibench-qa.jsonl",
        "quotes/gptj-quotes-validation.csv.gz",
    ],
)
def test_kept_rows_of_real_data_read_back_as_the_same_examples(shared_data, tmp_path, name) -> None:
    out = tmp_path / "kept.jsonl"
    found = filter_rows(str(shared_data / name), [], out=out)
    assert not found.dropped or found.rows_out > 0
    usable = [one for one in messages_of(shared_data / name) if one[0]]
    if not found.dropped:
        assert messages_of(out) == usable
    else:
        assert len(messages_of(out)) == found.rows_out


@pytest.mark.shared_data
def test_the_quotes_file_has_42_exact_duplicates(shared_data) -> None:
    found = filter_rows(
        str(shared_data / "quotes" / "gptj-quotes-validation.csv.gz"),
        [{"repair_special_tokens": {}}, {"exact_duplicate": {}}],
    )
    assert (found.rows_in, dict(found.dropped)) == (7962, {"exact duplicate": 42})


def test_an_output_that_is_there_is_kept_unless_force_is_said(write, tmp_path, capsys) -> None:
    path, out = write("a.jsonl", PAIRS), tmp_path / "kept.jsonl"
    out.write_text("mine")
    code, _, err = run(capsys, "filter", path, "--out", out)
    assert (code, out.read_text()) == (2, "mine")
    assert "is there already; --force writes over it" in err
    assert run(capsys, "filter", path, "--out", out, "--force")[0] == 0
    assert out.read_text() != "mine"


def test_the_file_that_is_read_is_never_written_over(write, capsys) -> None:
    path = write("a.jsonl", PAIRS)
    before = path.read_bytes()
    code, _, err = run(capsys, "filter", path, "--out", path, "--force")
    assert (code, path.read_bytes()) == (2, before)
    assert "is the file that is read" in err


def test_a_broken_row_leaves_no_output_behind(write, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in PAIRS) * 30 + "{broken\n"
    code, _, err = run(capsys, "filter", write("a.jsonl", rows), "--out", folder / "kept.jsonl")
    assert code == 2
    assert "line 151" in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("near_duplicat", "unknown filter 'near_duplicat'; did you mean 'near_duplicate'?"),
        ("short_response:min_words", "'min_words' is not KEY=VALUE"),
        ("short_response:min_words=few", "min_words is 'few', and must be a whole number"),
        ("regex:pattern=[", "pattern '[' is no regular expression"),
    ],
)
def test_a_wrong_filter_on_the_command_line_is_one_sentence(write, capsys, text, sentence) -> None:
    code, _, err = run(capsys, "filter", write("a.jsonl", PAIRS), "--filter", text)
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_a_comma_in_a_value_is_written_with_a_backslash(write) -> None:
    from tunebook.cli.data.filter import read_filter

    assert read_filter(r"regex:pattern=a\,b,replace=c=d") == {
        "regex": {"pattern": "a,b", "replace": "c=d"}
    }
    assert read_filter("near_duplicate:threshold=0.7,size=2") == {
        "near_duplicate": {"threshold": 0.7, "size": 2}
    }


def test_filters_run_in_the_order_they_are_named(write) -> None:
    rows = [{"prompt": "q", "completion": c} for c in ("one two</s>", "one two", "one two three")]
    path = str(write("a.jsonl", rows))
    repair, repeats = {"repair_special_tokens": {}}, {"exact_duplicate": {}}
    assert dict(filter_rows(path, [repair, repeats]).dropped) == {"exact duplicate": 1}
    assert dict(filter_rows(path, [repeats, repair]).dropped) == {}


# --- scores -------------------------------------------------------------------------------------


def stories(write, n_rows: int = 40) -> Path:
    words = STORY.split()
    rows = [" ".join(words[i % 9 :] * (1 + i % 7)) + f" {i}" for i in range(n_rows)]
    return write("stories.jsonl", [{"text": row} for row in rows])


def test_rows_are_kept_by_the_loss_a_model_gives_them(write, tmp_path, tiny_model, capsys) -> None:
    path, out = stories(write), tmp_path / "scores.jsonl"
    code, said, _ = run(
        capsys, "score", path, "--model", tiny_model, "--out", out, "--max-tokens", 64, "--json"
    )
    assert code == 0
    found = json.loads(said)
    lines = [orjson.loads(line) for line in out.read_bytes().splitlines()[1:]]
    losses = sorted(line["loss"] for line in lines)
    assert found["rows"] == len(losses) == 40
    assert found["loss"] == pytest.approx(sum(losses) / 40)
    assert sum(found["histogram"]) == 40
    low, high = (losses[9] + losses[10]) / 2, (losses[29] + losses[30]) / 2
    kept = filter_rows(str(path), [{"loss_band": {"scores": str(out), "low": low, "high": high}}])
    assert dict(kept.dropped) == {"loss below the band": 10, "loss above the band": 10}


def test_a_score_is_the_mean_loss_of_the_models_own_logits(write, tmp_path, tiny_model) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunebook.workflows.data_score import score

    path, out = write("a.jsonl", [{"text": STORY}]), tmp_path / "scores.jsonl"
    score(str(path), str(tiny_model), out, max_tokens=256)
    line = orjson.loads(out.read_bytes().splitlines()[1])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = tokenizer(STORY)["input_ids"]
    ids = torch.tensor([[*ids, tokenizer.eos_token_id]])
    with torch.no_grad():
        expected = model(ids, labels=ids).loss.item()
    assert line["loss"] == pytest.approx(expected, abs=1e-4)
    assert line["target_tokens"] == ids.shape[1] - 1


def test_scoring_that_was_cut_off_goes_on_and_ends_in_the_same_scores(
    write, tmp_path, tiny_model, capsys
) -> None:
    path, out = stories(write, 600), tmp_path / "scores.jsonl"
    arguments = ("score", path, "--model", tiny_model, "--out", out, "--max-tokens", 64)
    assert run(capsys, *arguments)[0] == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 3])
    assert run(capsys, *arguments)[0] == 0
    pairs = list(zip(whole.splitlines(), out.read_bytes().splitlines(), strict=True))
    assert len(pairs) == 601
    for one, other in pairs[1:]:
        before, after = orjson.loads(one), orjson.loads(other)
        # Rows of other batches differ in the last digits of a float.
        assert after["loss"] == pytest.approx(before["loss"], abs=1e-4)
        assert {**after, "loss": 0} == {**before, "loss": 0}
    said = run(capsys, *arguments)[1]
    assert "600 rows, 600 of them before" in said


def test_scores_of_another_file_or_setting_are_refused(write, tmp_path, tiny_model, capsys) -> None:
    path, out = stories(write), tmp_path / "scores.jsonl"
    arguments = ("--model", tiny_model, "--out", out, "--max-tokens")
    assert run(capsys, "score", path, *arguments, 64)[0] == 0
    code, _, err = run(capsys, "score", path, *arguments, 32)
    assert code == 2
    assert "begun with max_tokens 64, and this is max_tokens 32" in err
    other = write("other.jsonl", [{"text": "something else"}])
    assert "begun with source" in run(capsys, "score", other, *arguments, 64)[2]
    code, _, err = run(capsys, "filter", other, "--filter", f"loss_band:scores={out}")
    assert code == 2
    assert "other#1: the row has no score" in err
    assert "tunebook data score" in err


def test_a_band_that_does_not_fit_the_model_is_said_and_another_is_proposed(
    write, tmp_path, tiny_model, capsys
) -> None:
    path, out = stories(write), tmp_path / "scores, all.jsonl"
    asked = ("score", path, "--format", "text", "--document", "row", "--model", tiny_model)
    asked = (*asked, "--max-tokens", 64, "--out", out)
    code, said, _ = run(capsys, *asked, "--keep", 90, 91)
    assert code == 0
    assert "it keeps nothing; the middle 90 % of these rows are from " in said
    whole = said.splitlines()[-1].removeprefix("next").split()
    assert whole[:8] == f"tunebook data filter {path} --format text --document row".split()
    words = shlex.split(said.splitlines()[-1].removeprefix("next"))[2:]
    code, _, err = run(capsys, *words, "--out", tmp_path / "kept.jsonl")
    assert code == 0, err
    kept = len((tmp_path / "kept.jsonl").read_bytes().splitlines())
    assert 30 <= kept < 40
    assert "it drops nothing" in run(capsys, *asked, "--keep", 0, 90)[1]
    low = min(orjson.loads(line)["loss"] for line in out.read_bytes().splitlines()[1:])
    fitting = run(capsys, *asked, "--keep", round(low + 0.005, 4), 90, "--json")[1]
    assert json.loads(fitting)["proposed"] is None


def test_rows_scored_under_another_reading_say_so(write, tmp_path, tiny_model, capsys) -> None:
    parts = "".join(f"# Part {i}\n\n{STORY}\n\n" for i in range(3))
    path, out = write("a.md", parts), tmp_path / "s.jsonl"
    asked = ("score", path, "--document", "heading", "--model", tiny_model, "--out", out)
    assert run(capsys, *asked, "--max-tokens", 64)[0] == 0
    code, _, err = run(capsys, "filter", path, "--filter", f"loss_band:scores={out},low=0,high=99")
    assert code == 2
    assert "scored with document heading, and the file is read with document auto" in err
    assert "score the same file" not in err


def test_weights_that_cannot_be_told_apart_are_a_sentence(tmp_path) -> None:
    from tunebook.workflows.data_score import _hash_weights

    with pytest.raises(ModelError, match=r"config.json cannot be read \(No such file"):
        _hash_weights(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = _hash_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    assert _hash_weights(tmp_path) != before


def test_progress_without_a_terminal_is_said_less_and_less_often(monkeypatch, capsys) -> None:
    from tunebook.cli.data import score as verb

    now = 0.0
    monkeypatch.setattr(verb.time, "monotonic", lambda: now)
    watch = verb._lines()
    watch(500, 10_000, 0.0)
    for second in range(1, 3600):
        now = float(second)
        watch(500 + second, 10_000, now)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "scoring 10,000 rows, 500 of them before"
    assert said[1].startswith("scored 510 of 10,000 rows, ")
    assert said[1].endswith(" left")
    assert len(said) == 11


def test_chunks_longer_than_the_model_reads_are_refused(
    write, tmp_path, tiny_model, capsys
) -> None:
    code, _, err = run(
        capsys, "score", stories(write), "--model", tiny_model, "--out", tmp_path / "s.jsonl"
    )
    assert code == 2
    assert "reads at most 256 tokens; say --max-tokens 256" in err
    assert not (tmp_path / "s.jsonl").exists()


def test_filtering_imports_no_torch(write) -> None:
    path = write("a.jsonl", PAIRS)
    code = (
        "import sys; from tunebook.cli.main import main\n"
        f"main(['data', 'filter', {str(path)!r}, '--filter', 'near_duplicate'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_filter_is_documented_with_its_settings() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "filters.md"
    assert all(f"## {name}\n" in page.read_text(encoding="utf-8") for name in FILTERS)
