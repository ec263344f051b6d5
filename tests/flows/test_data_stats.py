"""`tunebook data stats` and `tunebook data prepare` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.cli.main import main

ROWS = (
    [{"prompt": f"What is {n} plus {n}?", "completion": f"It is {2 * n}."} for n in range(40)]
    + [{"prompt": "Twice?", "completion": "Said twice."}] * 2
    + [{"prompt": "x", "completion": ""}]
)


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (book / "a.jsonl").write_text(lines, encoding="utf-8")
    (book / "b.jsonl").write_text(lines, encoding="utf-8")
    (book / "r.yaml").write_text(
        "name: r\nmodel: tunebook/tiny\ndata:\n- path: a.jsonl\n"
        "- {path: b.jsonl, filters: [exact_duplicate]}\nvalidation: {fraction: 0.2}\n"
    )
    return book


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[str, str]:
    assert main(["data", *argv]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out, err


def test_a_file_is_measured_without_a_run(here, capsys):
    found = json.loads(run(capsys, "stats", "a.jsonl", "--json")[0])
    (one,) = found.values()
    assert one["rows_in"] == 43 == one["rows_out"] + sum(one["dropped"].values())
    assert one["dropped"] == {"empty answer": 1}
    assert one["repeated_rows"] == 1
    assert one["lengths"]["n"] == 42
    assert one["lengths"]["min"] <= one["lengths"]["percentiles"]["p50"] <= one["lengths"]["max"]
    assert one["lengths"]["mean"] * 42 == pytest.approx(one["tokens"])
    assert 0 < one["target_tokens"] < one["tokens"]


def test_every_source_of_a_run_file_is_measured_as_its_run_sees_it(here, capsys):
    found = json.loads(run(capsys, "stats", "r.yaml", "--json", "max_seq_len=12")[0])
    assert set(found) == {"a", "b"}
    assert found["b"]["dropped"]["exact duplicate"] == 1
    assert found["a"]["dropped"]["overlong"] > 0
    out, _ = run(capsys, "stats", "r.yaml")
    assert "43 in, 2 dropped, 41 out" in out
    assert "1 exact duplicate" in out


def test_what_is_prepared_is_not_tokenized_again(here, capsys):
    out, err = run(capsys, "prepare", "r.yaml", "--workers", "1")
    assert "a: 43 rows in, 1 dropped, 42 out" in out
    assert err.count("tokens made and kept") == 2
    _, err = run(capsys, "prepare", "r.yaml", "validation.fraction=0.5", "data.0.weight=3")
    assert "tokens made" not in err


def test_workers_and_a_cluster_exclude_each_other(here, capsys):
    _, err = run(capsys, "prepare", "r.yaml", "--workers", "2", "--on", "local", code=2)
    assert "either --workers or --on" in err


def test_a_missing_file_is_one_sentence(here, capsys):
    _, err = run(capsys, "stats", "none.jsonl", code=2)
    assert "there is no data file none.jsonl" in err


def test_sources_of_the_same_name_are_both_measured(here, capsys):
    (here / "more").mkdir()
    (here / "more" / "a.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    (here / "two.yaml").write_text(
        "name: two\nmodel: tunebook/tiny\ndata: [{path: a.jsonl}, {path: more/a.jsonl}]\n"
    )
    found = json.loads(run(capsys, "stats", "two.yaml", "--json")[0])
    assert {name: one["rows_in"] for name, one in found.items()} == {"a": 43, "a-2": 1}


def test_what_says_what_a_data_file_is_is_refused_for_a_run_file(here, capsys):
    _, err = run(capsys, "stats", "r.yaml", "--format", "text", code=2)
    assert "--format" in err
    assert "run file" in err


def test_settings_of_a_run_are_refused_for_a_data_file(here, capsys):
    _, err = run(capsys, "stats", "a.jsonl", "max_seq_len=8", code=2)
    assert "max_seq_len=8" in err
