"""Prompts joined by a missing comma, given-away answers and tasks done before (6, 15, 16)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Caught = Callable[..., Mapping[str, Any]]
WORDS = "sea roof cat fire rain book child story coat lamp road bread ship bell wind snow".split()


def sayings(n: int) -> list[str]:
    draw = random.Random(7)
    return [f"{' '.join(draw.sample(WORDS, 5))} {i}" for i in range(n)]


@pytest.mark.defect(6, "prompt-variant", "P")
@pytest.mark.parametrize("stop", [".", ""])
def test_two_prompts_that_a_missing_comma_joined_are_shown(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path], stop: str
) -> None:
    whole = [
        f"Say more{stop}",
        f"Explain this saying{stop}",
        f"Say what this saying says{stop}",
    ]
    joined = [whole[0], whole[1] + whole[2]]

    def rows(prompts: list[str]) -> list[dict[str, str]]:
        return [
            {"instruction": prompts[i % len(prompts)], "input": text, "output": f"It is {i * i}."}
            for i, text in enumerate(sayings(60))
        ]

    run_file = write_run(write_data("sayings.json", rows(whole)))
    found = caught(
        run_file, "prompt-variant", "warn", lambda _p: write_data("sayings.json", rows(joined))
    )
    shown = found["evidence"]
    assert shown["joined"][0]["text"] == joined[1]
    assert {line["text"] for line in shown["fixed_texts"]} >= set(joined)
    assert sum(variant["rows"] for variant in shown["variants"]) == shown["sampled_rows"]


@pytest.mark.defect(6, "prompt-variant", "P")
def test_a_variant_that_holds_another_is_told_from_one_that_says_more(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    whole = ["Explain this saying to me:", "Say this in plain words:", "Which mood has this?"]
    joined = [whole[0], whole[1], f"{whole[0]} {whole[1]}"]

    def rows(prompts: list[str]) -> list[dict[str, str]]:
        return [
            {"prompt": f"{prompts[i % 3]} {text}", "completion": f"It is {i * i}."}
            for i, text in enumerate(sayings(60))
        ]

    run_file = write_run(write_data("sayings.jsonl", rows(whole)))
    caught(run_file, "prompt-variant", "warn", lambda _p: write_data("sayings.jsonl", rows(joined)))


@pytest.mark.defect(16, "input-equals-output", "P")
def test_a_list_that_is_sorted_before_it_is_shown_needs_no_sorting(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    def rows(*, in_place: bool) -> list[dict[str, str]]:
        draw, found = random.Random(3), []
        for _ in range(60):
            shown = [str(draw.randrange(100, 999)) for _ in range(6)]
            answer = sorted(shown)
            if in_place:
                shown.sort()
            found.append(
                {"instruction": "Sort.", "input": " ".join(shown), "output": " ".join(answer)}
            )
        return found

    run_file = write_run(write_data("sort.json", rows(in_place=False)))
    found = caught(
        run_file,
        "input-equals-output",
        "warn",
        lambda _p: write_data("sort.json", rows(in_place=True)),
    )
    assert found["evidence"]["share"] == 1


@pytest.mark.defect(15, "answer-in-prompt", "P")
def test_moves_that_were_to_be_masked_give_the_answer_away(
    caught: Caught,
    random_games: Callable[[int], list[dict[str, str]]],
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
) -> None:
    from tunebook.data.chess import tasks

    real = tasks._prompt

    def unmasked(task: Any, game: Any, settings: Any, moves: str, plies: int) -> str:
        shown = tasks.number_moves(game, game.san)
        return real(task, game, settings, shown, plies)

    source = {"path": str(write_data("games.jsonl", random_games(60)))}
    run_file = write_run([{**source, "chess": {"tasks": ["masked_moves"]}}], max_seq_len=512)
    found = caught(
        run_file,
        "answer-in-prompt",
        "warn",
        lambda patch: patch.setattr(tasks, "_prompt", unmasked),
    )
    assert found["evidence"]["share"] == 1
    assert found["evidence"]["by_chance"] < 0.5


@pytest.mark.defect(15, "answer-in-prompt", "P")
def test_a_text_that_is_asked_for_and_given_is_found_by_its_length(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    def rows(*, given: bool) -> list[dict[str, str]]:
        found = []
        for i, text in enumerate(sayings(60)):
            answer = f"{text[::-1]} is what it says backwards"
            hint = f" ({answer})" if given and i % 5 == 0 else ""
            found.append({"prompt": f"Write {text} backwards{hint}", "completion": answer})
        return found

    run_file = write_run(write_data("back.jsonl", rows(given=False)))
    found = caught(
        run_file,
        "answer-in-prompt",
        "warn",
        lambda _p: write_data("back.jsonl", rows(given=True)),
    )
    assert found["evidence"]["share"] == pytest.approx(0.2, abs=0.1)
