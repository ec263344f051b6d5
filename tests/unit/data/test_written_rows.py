"""Rows that `data filter`, `data split` and `data chess` write, and what is read of them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.cli.main import main
from tunebook.data.render import choose_renderer
from tunebook.workflows.data_filter import filter_rows, open_source
from tunebook.workflows.data_show import source_of

TALKS = [
    {
        "persona": ["I sail.", f"I am number {n}."],
        "turns": [
            {"speaker": speaker, "text": f"{said} {n}"}
            for said in ("Hello you", "Where to", "Until then")
            for speaker in ("Ann", "Bob")
        ],
    }
    for n in range(12)
]
GAMES = [
    {"Moves": "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7".split(), "Result": "1-0"},
    {"Moves": "d2d4 d7d5 c2c4".split(), "Result": "1/2-1/2"},
]


def reads_of(path: Path, stage: str | None = None):
    detected, reader = open_source(source_of(str(path)), stage)
    return detected, list(reader.examples())


def rendered(path: Path, codec) -> list[list[tuple[str, bool]]]:
    """Write every example of a file as its own template has it."""
    detected, found = reads_of(path)
    renderer = choose_renderer("auto", detected.format, codec, "sft")
    return [list(renderer.render(read.example).segments) for read in found]


def data(*arguments: object) -> int:
    return main(["data", *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("a.txt", "hope: a small step\nfear: a big one: really \n"),
        ("a.jsonl", TALKS),
        ("a.jsonl", GAMES),
        ("a.jsonl", [{"question": "Why?", "answer": "2", "unit": "m"}]),
    ],
    ids=["lines", "persona", "chess", "qa"],
)
def test_written_rows_are_rendered_as_their_source_is(write, tmp_path, codec, name, rows) -> None:
    path, out = write(name, rows), tmp_path / "kept.jsonl"
    filter_rows(str(path), [], out=out)
    assert rendered(out, codec) == rendered(path, codec)
    assert [r.document for r in reads_of(out)[1]] == [r.document for r in reads_of(path)[1]]


def test_the_answers_of_a_talk_stay_on_one_side_when_they_are_filtered_first(
    write, tmp_path, capsys
) -> None:
    kept = tmp_path / "kept.jsonl"
    filter_rows(str(write("a.jsonl", TALKS)), [], out=kept)
    assert data("split", kept, "--fraction", 0.4, "--out", tmp_path / "out") == 0
    capsys.readouterr()
    talks_of = {}
    for side in ("validation", "train"):
        rows = (tmp_path / "out" / f"kept-{side}.jsonl").read_text().splitlines()
        talks_of[side] = {json.loads(row)["messages"][0]["content"] for row in rows}
        assert len(rows) == 3 * len(talks_of[side]) > 0
    assert not talks_of["validation"] & talks_of["train"]


def test_a_filtered_talk_is_held_out_where_it_was_held_out_before(write, tmp_path, capsys) -> None:
    path, kept = write("a.jsonl", TALKS), tmp_path / "kept.jsonl"
    filter_rows(str(path), [], out=kept)
    held = []
    for one in (path, kept):
        data("split", one, "--fraction", 0.4, "--out", tmp_path / f"out-{one.stem}")
        rows = (tmp_path / f"out-{one.stem}" / f"{one.stem}-validation.jsonl").read_text()
        held.append(rows)
    capsys.readouterr()
    assert held[0] == held[1]


def test_questions_of_a_game_stay_together_and_read_as_chess(write, tmp_path, capsys) -> None:
    out = tmp_path / "asked.jsonl"
    assert data("chess", write("g.jsonl", GAMES), "--out", out, "--set", "per_game=2") == 0
    capsys.readouterr()
    detected, found = reads_of(out)
    assert detected.format == "pgn"
    assert "rows of the same document stay together" in detected.reason
    games = [json.loads(line)["game"] for line in out.read_text().splitlines()]
    assert len({(game, r.document) for game, r in zip(games, found, strict=True)}) == 2


def test_texts_that_a_rewrite_parted_stay_one_document(write, tmp_path) -> None:
    text = "The sea was calm.<|endoftext|>The rain fell."
    path, out = write("a.jsonl", [{"text": text}, {"text": "Night."}]), tmp_path / "kept.jsonl"
    filter_rows(str(path), [{"repair_special_tokens": {}}], out=out)
    documents = [read.document for read in reads_of(out)[1]]
    assert len(documents) == 3
    assert documents[0] == documents[1] != documents[2]


def test_rows_of_the_user_that_name_their_document_stay_together(write) -> None:
    rows = [{"prompt": f"p{n}", "completion": "c", "document": n // 2} for n in range(4)]
    detected, found = reads_of(write("a.jsonl", rows))
    assert detected.reason.endswith("; rows of the same document stay together")
    assert "not read" not in detected.reason
    assert [r.document == found[0].document for r in found] == [True, True, False, False]


def test_a_column_that_is_the_prompt_names_no_document(write) -> None:
    path = write("a.jsonl", [{"document": "Long ago.", "summary": "Once."}])
    source = source_of(str(path), columns={"prompt": "document", "completion": "summary"})
    detected, reader = open_source(source, None)
    assert "stay together" not in detected.reason
    (read,) = reader.examples()
    assert read.document == read.content


def test_a_filter_that_leaves_nothing_says_so_and_fails(write, tmp_path, capsys) -> None:
    path, out = write("a.jsonl", [{"prompt": "Who?", "completion": "I."}]), tmp_path / "kept.jsonl"
    code = data("filter", path, "--filter", "short_response:min_words=9", "--out", out)
    said, err = capsys.readouterr()
    assert code == 1
    assert "nothing is left of 1 rows (1 short response)" in err
    assert f"kept       {out}: empty, no row is left" in said


def test_split_takes_what_says_what_a_file_is(write, tmp_path, capsys) -> None:
    rows = [{"ask": f"Question {n}", "say": f"Answer {n}", "text": f"T {n}"} for n in range(9)]
    path = write("a.jsonl", rows)
    asked = ("split", path, "--column", "prompt=ask", "--column", "completion=say")
    assert data(*asked, "--fraction", 0.3, "--out", tmp_path / "out") == 0
    assert "9 rows in: 9 used, 0 dropped" in capsys.readouterr().out
    written = (tmp_path / "out" / "a-train.jsonl").read_text()
    assert set(json.loads(written.splitlines()[0])) == {"prompt", "completion"}
    assert data(*asked, "--fraction", 0.3, "--out", tmp_path / "out") == 2
    assert "--force writes over it" in capsys.readouterr().err
    assert data(*asked, "--fraction", 0.3, "--out", tmp_path / "out", "--force") == 0
    assert (tmp_path / "out" / "a-train.jsonl").read_text() == written
    capsys.readouterr()


def test_split_refuses_for_a_run_file_what_the_run_file_says(write, capsys) -> None:
    path = write("run.yaml", "name: r\n")
    assert data("split", path, "--format", "qa") == 2
    assert "--format is for a data file" in capsys.readouterr().err
