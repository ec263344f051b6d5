"""Rows that are lost, kept or made of something else, each by the mistake of some notebook."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

import tunebook.data.build as build
import tunebook.data.seal as seal
import tunebook.data.segment as segment
import tunebook.data.sides as sides
from tunebook.data.filters.chain import NEVER, Chain, Filter, Outcome
from tunebook.data.filters.regex import Regex

COLOURS = "red green blue yellow white black brown grey".split()
THINGS = "river mountain garden window letter candle bridge".split()


def rows(n: int = 56, *, first: int = 0) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"Tell me about the {COLOURS[i % 8]} {THINGS[i % 7]} number {i}.",
            "input": "",
            "output": f"The {THINGS[i % 7]} is {COLOURS[i % 8]}, and {i} people saw it.",
        }
        for i in range(first, first + n)
    ]


# --- filters and rewrites -----------------------------------------------------------------------


@pytest.mark.defect(4, "filter-without-effect", "plan")
@pytest.mark.parametrize("broken", ["pattern", "stage"])
def test_a_rewrite_that_can_never_match_is_named(broken, write_data, write_run, caught):
    data = write_data("rows.json", rows())

    def run_with(pattern):
        filters = [{"regex": {"pattern": pattern, "replace": "a few"}}]
        return write_run([{"path": str(data), "filters": filters}])

    def break_it(patch):
        if broken == "pattern":
            run_with(r"\d+ people$ saw")
        else:
            patch.setattr(Regex, "rewrite", lambda _self, example: example)

    found = caught(run_with(r"\d+ people"), "filter-without-effect", "warn", break_it, "--no-probe")
    assert found["evidence"] == {"source": "rows", "filter": "regex", "rows": 56, "changed": 0}


@pytest.mark.defect(5, "rewrite-unused", "plan")
def test_refined_answers_that_are_not_written_are_named(write_data, write_run, caught):
    filters = [{"regex": {"pattern": "people saw it", "replace": "visitors looked at it"}}]
    data = write_data("rows.json", rows())

    def write_the_original(patch):
        patch.setattr(segment, "_rewritten", lambda read, example: read)

    found = caught(
        write_run([{"path": str(data), "filters": filters}]),
        "rewrite-unused",
        "warn",
        write_the_original,
        "--no-probe",
    )
    assert found["evidence"]["rows"] == found["evidence"]["rewritten_rows"] == 56


@pytest.mark.defect(20, "row-count-mismatch", "plan")
@pytest.mark.parametrize("counted", [True, False])
def test_a_drop_that_is_counted_and_not_made_is_refused(counted, write_data, write_run, caught):
    short = [{**row, "output": "Yes."} for row in rows(8, first=100)]
    data = write_data("rows.json", [*rows(), *short])
    run = write_run([{"path": str(data), "filters": [{"short_response": {"min_words": 4}}]}])
    dropped = 0

    def continue_the_wrong_loop(chain, example):
        nonlocal dropped
        for step in chain.steps:
            if isinstance(step, Filter) and step.reason(example) is not None:
                dropped += 1
                continue
        return Outcome(example, None, NEVER, (), ())

    write_index = seal.write_index

    def log_the_drops(folder, dtype, tokens, files, facts):
        facts = {**facts, "dropped": {**facts["dropped"], "short response": dropped}}
        write_index(folder, dtype, tokens, files, facts)

    def break_it(patch):
        patch.setattr(Chain, "run", continue_the_wrong_loop)
        if counted:
            patch.setattr(seal, "write_index", log_the_drops)

    found = caught(run, "row-count-mismatch", "refuse", break_it, "--no-probe")
    assert "64" in found["message"] if counted else "short_response" in found["message"]


# --- rows that are lost -------------------------------------------------------------------------


def lose_last_of_three(patch):
    cut = build.cut_pieces

    def cut_fewer(*args):
        pieces = [piece for piece in cut(*args) if piece.number % 3 != 2]
        return [replace(piece, number=number) for number, piece in enumerate(pieces)]

    patch.setattr(build, "cut_pieces", cut_fewer)


def lose_last_chunk(patch):
    chunks = segment._chunks
    patch.setattr(segment, "_chunks", lambda reads: list(chunks(reads))[:-1])
    patch.setattr(segment, "_CHUNK_ROWS", 6)


def lose_the_drops(patch):
    drops = seal._drops
    patch.setattr(seal, "_drops", lambda judged, *rest: drops(judged[:0], *rest))


@pytest.mark.defect(24, "row-count-mismatch", "plan")
@pytest.mark.parametrize("lose", [lose_last_of_three, lose_last_chunk, lose_the_drops])
def test_rows_that_a_shard_loses_are_missed(lose, write_data, write_run, caught):
    unanswered = {**rows(1)[0], "output": ""}
    for number in range(6):
        write_data(f"talk/{number}.jsonl", [*rows(8, first=9 * number), unanswered])
    path = str(write_data("talk/6.jsonl", rows(8, first=90)).parent)
    found = caught(write_run([{"path": path}]), "row-count-mismatch", "refuse", lose, "--no-probe")
    assert found["evidence"]["source"] == "talk"


@pytest.mark.defect(24, "row-count-mismatch", "plan")
def test_a_remainder_that_no_part_takes_is_missed(write_data, write_run, caught):
    data = write_data("rows.json", rows(60))
    run = write_run(data, parts=7, part=2, validation={"fraction": 0})

    def floor(_store, numbers, parts, _by="document"):
        part = np.arange(len(numbers)) // (len(numbers) // parts) + 1
        return np.where(part > parts, 0, part).astype(np.int16)

    def lose_the_remainder(patch):
        patch.setattr(sides, "part_of_each", floor)

    found = caught(run, "row-count-mismatch", "refuse", lose_the_remainder, "--no-probe")
    assert found["evidence"]["whole"] - sum(found["evidence"]["parts"]) == 60 % 7


# --- tokens of something else -------------------------------------------------------------------


@pytest.mark.defect(23, "stale-cache", "plan")
@pytest.mark.parametrize("keyed_by", ["file name", "nothing that changes"])
def test_tokens_of_an_older_file_are_refused(keyed_by, write_data, write_run, plan_json, caught):
    data = write_data("rows.json", rows())
    run = write_run(data)

    def key_by_name(patch):
        patch.setattr(build, "_key", lambda _origin: "rows.json")
        if keyed_by == "nothing that changes":
            patch.setattr(build, "hash_files", lambda _located: "0" * 64)
        plan_json(run, "--no-probe")
        write_data("rows.json", rows(first=1000))

    found = caught(run, "stale-cache", "refuse", key_by_name, "--no-probe")["evidence"]
    if keyed_by == "file name":
        assert found["differs"] == ["content"]
    else:
        assert found["rows"] == found["rows_read_anew"] > 30


@pytest.mark.defect(23, "stale-cache", "plan")
def test_a_file_that_changed_is_tokenized_again(write_data, write_run, plan_json):
    run = write_run(write_data("rows.json", rows()))
    plan_json(run, "--no-probe")
    write_data("rows.json", rows(first=1000))
    code, plan = plan_json(run, "--no-probe")
    assert (code, "stale-cache" in {found["name"] for found in plan["checks"]}) == (0, False)


# --- statistics ---------------------------------------------------------------------------------


@pytest.mark.defect(26, "n, mean, median, percentiles", "data stats")
def test_statistics_are_those_of_all_rows(write_data, tunebook):
    # Two long rows at the end: what averages as it goes gives them far too much weight.
    texts = [{"text": "a" * n} for n in (*range(10, 60), 4000, 5000)]
    code, out, err = tunebook("data", "stats", write_data("rows.jsonl", texts), "--json")
    assert code == 0, err
    (source,) = json.loads(out).values()
    found = source["lengths"]
    assert found["n"] == 52
    assert found["mean"] == pytest.approx(source["tokens"] / 52)
    assert found["min"] <= found["median"] == found["percentiles"]["p50"] < found["mean"]
    assert found["max"] > 20 * statistics.median([found["median"]])
