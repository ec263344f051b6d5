"""Segments come out the same whoever makes them, and a wrong row is named by its own line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tunebook.data.build import Progress, TokenSettings, Workers, build_source
from tunebook.data.shards import Part, Shards
from tunebook.errors import DataError, UsageError
from tunebook.models.encoders import ENCODERS, tiktoken_encoder
from tunebook.recipe.tree import Source

SETTINGS = TokenSettings("cpt", "auto", "all", 64, "split")


@pytest.fixture
def small_pieces(monkeypatch):
    """Cut small files into many pieces, and hand them to processes."""
    monkeypatch.setattr("tunebook.data.pieces.PIECE_BYTES", 2000)


def texts(n: int) -> list[str]:
    return [
        f"Text number {i % 5} says that é and ü are letters, {'again ' * (i % 9)}."
        for i in range(n)
    ]


def build(path: Path, cache: Path, codec, workers: Workers, **more: object):
    source = Source(
        path=str(path), filters=["exact_duplicate", {"short_response": {"min_words": 12}}]
    )
    return build_source(source, SETTINGS, codec, cache, lambda text: None, workers=workers, **more)


def write_rows(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": t}) + "\n\n" for t in rows), encoding="utf-8")
    return path


@pytest.mark.usefixtures("small_pieces")
def test_one_process_and_many_make_the_same_store(tmp_path, codec):
    path = write_rows(tmp_path / "a.jsonl", texts(300))
    alone = build(path, tmp_path / "one", codec, Workers(1))
    together = build(path, tmp_path / "two", codec, Workers(3))
    assert alone.store.content_hash == together.store.content_hash
    assert len(list(alone.store.folder.glob("ids-*.bin"))) > 5
    assert alone.store.facts["rows_in"] == 300
    assert alone.store.facts["blank_lines"] == 300
    dropped = alone.store.facts["dropped"]
    assert dropped["exact duplicate"] > 0
    assert dropped["short response"] > 0
    assert sum(dropped.values()) + alone.store.facts["rows_out"] == 300


@pytest.mark.usefixtures("small_pieces")
def test_pieces_do_not_change_what_a_row_is(tmp_path, codec, monkeypatch):
    path = write_rows(tmp_path / "a.jsonl", texts(200))
    cut = build(path, tmp_path / "cut", codec, Workers(1))
    monkeypatch.setattr("tunebook.data.pieces.PIECE_BYTES", 10**9)
    whole = build(path, tmp_path / "whole", codec, Workers(1))
    assert len(list(whole.store.folder.glob("ids-*.bin"))) == 1
    one, other = (
        [shards.example(i) for i in range(len(shards))]
        for shards in (Shards([Part("a", b.store, range(len(b.store)))]) for b in (cut, whole))
    )
    assert one == other
    assert list(cut.store.drops()) == list(whole.store.drops())


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": 3}', "line 501: text is 3, not a text"),
        ('{"text": ', "line 501 is not valid JSON"),
        ("[1]", "line 501 is a list"),
    ],
)
def test_a_wrong_row_in_a_later_piece_is_named_by_its_line(tmp_path, codec, workers, line, said):
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": t}) for t in texts(900)]
    path.write_text("\n".join([*rows[:500], line, *rows[500:]]), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        build(path, tmp_path / "cache", codec, Workers(workers))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("small_pieces")
def test_bytes_that_are_no_utf8_in_a_later_piece_are_named(tmp_path, codec):
    path = write_rows(tmp_path / "a.jsonl", texts(100))
    good = path.read_bytes()
    path.write_bytes(good + b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=f"line 201, byte {len(good) + 13} is 0xe9"):
        build(path, tmp_path / "cache", codec, Workers(1))


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_preparation_goes_on_where_it_was(tmp_path, codec):
    path = write_rows(tmp_path / "a.jsonl", texts(400))

    class Killed(Exception):
        pass

    seen: list[Progress] = []

    def kill_half_way(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 7:
            raise Killed

    with pytest.raises(Killed):
        build(path, tmp_path / "cache", codec, Workers(1), watch=kill_half_way)
    later: list[Progress] = []
    again = build(path, tmp_path / "cache", codec, Workers(1), watch=later.append)
    assert later[-1].started_bytes == seen[-1].done_bytes
    assert later[-1].done_bytes == path.stat().st_size
    whole = build(path, tmp_path / "other", codec, Workers(1))
    assert again.store.content_hash == whole.store.content_hash
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [again.store.folder.name]


SCRIPT = """
import sys
from pathlib import Path
from tunebook.data import pieces
from tunebook.data.build import TokenSettings, Workers, build_source
from tunebook.models.tokenizer import load_tokenizer
from tunebook.models.encoders import ENCODERS, tiktoken_encoder
from tunebook.recipe.tree import Source

if __name__ == "__main__":
    pieces.PIECE_BYTES = 20_000
    build_source(
        Source(path=sys.argv[1]), TokenSettings("cpt", "auto", "all", 64, "split"),
        load_tokenizer("tunebook/tiny"), Path(sys.argv[2]), print, workers=Workers(2),
    )
"""


def test_processes_that_prepare_data_end_with_the_one_that_was_killed(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", texts(200_000))
    script = tmp_path / "prepare.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(path), str(tmp_path / "cache")], stdout=subprocess.DEVNULL
    )
    parent = psutil.Process(process.pid)
    facts = tmp_path / "cache"
    _wait(lambda: len(list(facts.glob(".tmp-*/facts-*.json"))) > 2)
    children = parent.children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait(lambda: not any(c.is_running() and c.status() != "zombie" for c in children))


def _wait(until, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends, "waited too long"
        time.sleep(0.05)


@pytest.mark.usefixtures("small_pieces")
def test_a_ray_cluster_makes_the_same_store_with_no_code_of_the_working_folder(
    tmp_path, codec, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    for name in ("numpy", "orjson", "tokenizers", "tunebook"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')\n")
    path = write_rows(tmp_path / "a.jsonl", texts(200))
    alone = build(path, tmp_path / "one", codec, Workers(1))
    on_ray = build(path, tmp_path / "two", codec, Workers(on="local"))
    assert alone.store.content_hash == on_ray.store.content_hash
    assert not (tmp_path / "RAN").exists()
    assert Path.cwd() == tmp_path


def test_without_ray_the_way_out_is_said(tmp_path, codec, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = write_rows(tmp_path / "a.jsonl", texts(20))
    with pytest.raises(UsageError, match=r"pip install 'tunebook\[ray\]'"):
        build(path, tmp_path / "cache", codec, Workers(on="local"))


@pytest.mark.usefixtures("small_pieces")
def test_of_several_wrong_rows_the_first_is_named_by_many_processes_too(tmp_path, codec):
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": t}) for t in texts(900)]
    rows[100], rows[140], rows[180] = '{"text": 1}', '{"text": 2}', '{"text": 3}'
    path.write_text("\n".join(rows), encoding="utf-8")
    for _ in range(3):
        with pytest.raises(DataError, match="line 101: "):
            build(path, tmp_path / "cache", codec, Workers(3))


@pytest.mark.usefixtures("small_pieces")
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, codec):
    path = write_rows(tmp_path / "a.jsonl", texts(200))

    def change(progress: Progress) -> None:
        path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")

    with pytest.raises(DataError, match="changed while it was read"):
        build(path, tmp_path / "cache", codec, Workers(1), watch=change)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("small_pieces")
def test_what_a_faulty_library_made_is_made_again_without_it(tmp_path, codec, monkeypatch):
    path = write_rows(tmp_path / "a.jsonl", texts(300))
    good = build(
        path, tmp_path / "good", codec.without("gigatoken").without("tiktoken"), Workers(1)
    )
    calls = []

    def turns_wrong(tokenizer_json):
        right = tiktoken_encoder(tokenizer_json)

        def encode(some):
            calls.append(some)
            ids, counts = right(some)
            return (ids, counts) if len(calls) < 5 else (ids * 0, counts)

        return encode

    monkeypatch.setitem(ENCODERS, "gigatoken", turns_wrong)
    monkeypatch.setattr("tunebook.models.fast_encode._WATCH_EVERY_BYTES", 1)
    fresh = codec.without("nothing")
    again = build(path, tmp_path / "again", fresh, Workers(1))
    assert len(calls) >= 5
    assert again.store.content_hash == good.store.content_hash


def test_the_same_bytes_under_another_kind_or_format_are_other_tokens(tmp_path, codec):
    line = json.dumps({"question": "How far?", "answer": "5", "unit": "km", "text": "x"}) + "\n"
    for name in ("a.jsonl", "a.txt"):
        (tmp_path / name).write_text(line * 3)
    keys = set()
    for name, settings in (
        ("a.jsonl", {"format": "text"}),
        ("a.txt", {"format": "text"}),
        ("a.txt", {"format": "text", "document": "line"}),
    ):
        source = Source(path=str(tmp_path / name), **settings)
        built = build_source(source, SETTINGS, codec, tmp_path / "cache", print)
        keys.add(built.store.folder.name)
    assert len(keys) == 3
