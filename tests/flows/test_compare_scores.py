"""`tunebook compare --scores`: files of scores made elsewhere, without a book."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tunebook.cli.main import main


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    base = draw.uniform(0, 90, 110).round()
    found = {
        "a": (base + draw.normal(6, 10, 110)).round().tolist(),
        "b": base.tolist(),
        "close": (base + draw.normal(0, 2, 110)).tolist(),
        "noisy": (base + draw.normal(0, 40, 110)).tolist(),
    }
    for name, values in found.items():
        Path(f"{name}.json").write_text(json.dumps(values))
    return found


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert main(["compare", "--scores", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_each_of_the_three_verdicts_is_given_where_it_is_due(scores, capsys) -> None:
    found = compared(capsys, "a.json", "b.json")
    assert found["verdict"] == "different"
    assert found["difference"] == pytest.approx(np.mean(scores["a"]) - np.mean(scores["b"]))
    assert found["interval"][0] > 0
    assert (found["n"], found["n_needed"], found["margin"]) == (110, None, 3)
    assert compared(capsys, "close.json", "b.json")["verdict"] == "equivalent"
    found = compared(capsys, "noisy.json", "b.json")
    assert (found["verdict"], found["n_needed"] > 110) == ("cannot tell", True)


def test_identical_scores_are_equivalent(scores, capsys) -> None:
    found = compared(capsys, "a.json", "a.json")
    assert (found["verdict"], found["difference"], found["interval"]) == ("equivalent", 0, [0, 0])


def test_the_terminal_shows_difference_interval_p_and_power(scores, capsys) -> None:
    assert main(["compare", "--scores", "a.json", "b.json", "--margin", "20"]) == 0
    out = capsys.readouterr().out
    assert "a.json minus b.json\nverdict     different\n" in out
    assert "the difference is there, and below the margin" in out
    for word in (
        "95 % interval",
        "n 110",
        "p  ",
        "110 items show a difference of",
        "80 % of cases; the margin is 20",
    ):
        assert word in out


def test_the_terminal_says_how_many_items_would_decide_and_what_is_missing(scores, capsys) -> None:
    assert main(["compare", "--scores", "noisy.json", "b.json"]) == 0
    assert re.search(
        r"verdict     cannot tell, about [\d,]+ items needed\n", capsys.readouterr().out
    )
    Path("holes.json").write_text(json.dumps([None] * 4 + scores["a"][4:]))
    assert main(["compare", "--scores", "holes.json", "b.json"]) == 0
    out = capsys.readouterr().out
    assert "n 106, 4 missing" in out
    assert "verdict     cannot tell: 3.6% of the scores are missing, more than 2%\n" in out
    # Some of these are below 0, so that no scale is known.
    assert "if the missing scores are no lower and no higher than those seen\n" in out


def test_bounds_hold_for_any_missing_score_of_the_scale(scores, capsys) -> None:
    Path("g.json").write_text("[0.7, 0.6, 0.5, 0.8]")
    Path("h.json").write_text("[0.8, null, 0.9, 0.85]")
    assert main(["compare", "--scores", "g.json", "h.json"]) == 0
    assert ", whatever the missing scores are, from 0 to 1\n" in capsys.readouterr().out
    found = compared(capsys, "g.json", "h.json")
    assert found["bounds"] == pytest.approx([-0.2375, 0.0125])
    Path("g.json").write_text("[70, 60, 50, 80]")
    Path("h.json").write_text("[80, null, 90, 85]")
    assert compared(capsys, "g.json", "h.json")["bounds"] == [-23.75, 1.25]


def test_shares_beside_points_of_100_are_said_to_look_like_two_scales(scores, capsys) -> None:
    note = "look like different scales"
    for name, values in {"share": [0, 0.5, 1], "points": [71, 64.5, 80], "zeros": [0] * 3}.items():
        Path(f"{name}.json").write_text(json.dumps(values))
    assert main(["compare", "--scores", "share.json", "points.json"]) == 0
    found = capsys.readouterr()
    assert f"note: share.json (all from 0 to 1) and points.json (up to 100) {note}" in found.err
    assert note not in found.out
    assert main(["compare", "--scores", "zeros.json", "points.json"]) == 0
    assert note not in capsys.readouterr().err


def test_the_margin_is_three_points_of_the_scale_and_an_idle_one_is_named(scores, capsys) -> None:
    for name in ("close", "b"):
        shares = (np.clip(scores[name], 0, 100) / 100).tolist()
        Path(f"{name}1.json").write_text(json.dumps(shares))
        Path(f"{name}2.json").write_text(json.dumps([2 * share for share in shares]))
    found = compared(capsys, "close1.json", "b1.json")
    assert (found["margin"], found["verdict"]) == (0.03, "equivalent")
    assert main(["compare", "--scores", "close2.json", "b2.json", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["margin"] == 3
    assert "the margin of 3 is wider than the scores vary among themselves" in err


def test_objects_are_paired_by_id_and_lines_of_an_evaluation_by_what_was_asked(
    scores, capsys
) -> None:
    objects = [{"id": f"q{i}", "score": v} for i, v in enumerate(scores["b"])]
    Path("ids.json").write_text(json.dumps(objects[::-1]))
    Path("more.json").write_text(json.dumps([{**o, "score": o["score"] + 9} for o in objects[:99]]))
    assert main(["compare", "--scores", "ids.json", "more.json"]) == 2
    assert "99 are shared, 11 are only in the first" in capsys.readouterr().err
    found = compared(capsys, "ids.json", "more.json", "--shared-only")
    assert (found["difference"], found["n"]) == (-9, 99)
    head = json.dumps({"format_version": 1, "settings": {}})
    for name, hash_ in (("one", "x"), ("two", "x"), ("other", "y")):
        lines = [
            json.dumps({"item_id": f"q{i}", "item_hash": hash_, "repeat": 0, "value": v})
            for i, v in enumerate(scores["a" if name == "one" else "b"])
        ]
        Path(f"{name}.jsonl").write_text("\n".join([head, *lines]) + "\n")
    assert compared(capsys, "one.jsonl", "two.jsonl")["verdict"] == "different"
    assert main(["compare", "--scores", "one.jsonl", "other.jsonl"]) == 2


def test_three_files_give_every_pair_corrected_for_their_number(scores, capsys) -> None:
    found = compared(capsys, "a.json", "b.json", "close.json")
    assert [pair["subjects"] for pair in found] == [
        ["a.json", "b.json"], ["a.json", "close.json"], ["b.json", "close.json"],
    ]  # fmt: skip
    assert found[0]["p_adjusted"] == pytest.approx(3 * found[0]["p"], rel=0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "a.json has 110 scores and wrong.json has 2"),
        ("[1, NaN]", "NaN is no score"),
        ("[]", "holds no scores"),
        ('[1, "seven"]', 'score 2 is "seven", not a number'),
        ("[true]", "score 1 is true, not a number"),
        ("[1" + "0" * 400 + "]", "not a number"),
        ("{", "is not JSON of scores"),
        ("[" * 100_000, "is not JSON of scores"),
        ('{"a": 1}', "holds no list"),
        ('[{"id": "q"}]', "entry 1 has no id and score"),
        ('[{"id": "q", "score": 1}, {"id": "q", "score": 2}]', "item q has two rows"),
    ],
)
def test_bad_scores_end_in_one_sentence(scores, capsys, text: str, said: str) -> None:
    Path("wrong.json").write_text(text)
    assert main(["compare", "--scores", "a.json", "wrong.json"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_and_a_lone_file_are_refused(scores, capsys) -> None:
    assert main(["compare", "--scores", "a.json", "nowhere.json"]) == 2
    assert "cannot read nowhere.json" in capsys.readouterr().err
    assert main(["compare", "--scores", "a.json"]) == 2
    assert "two or more files" in capsys.readouterr().err
