"""A run that is long enough is looked at once, and says what bounds it wherever it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load_file

from tunebook.book.events import EventTail, EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.cli.live import PlainView
from tunebook.cli.main import main
from tunebook.pages.run_page import build_run_page
from tunebook.web.app import make_app
from tunebook.workflows import speed
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

STEPS = 5


def train(book: Path, model: Path, name: str, profile: bool | str = "auto") -> RunFolder:
    rows = [{"instruction": f"Say {n}", "output": f"That is {n}."} for n in range(40)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "name": name,
        "model": str(model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "validation": {"fraction": 0.1},
        "evaluate": {"prompts": [], "every": STEPS, "canary": 0, "profile": profile},
        "train": {"max_steps": STEPS, "effective_batch_size": 4, "micro_batch_size": 2},
        "checkpoint": {"every": 100},
        "accept": ["random-base"],
    }
    run = start_run(book, load_recipe(values, (), book))
    with EventWriter(run, 1) as events:
        run_to_end(run, events, lambda: None, lambda: None)
    return run


@pytest.mark.parametrize(
    ("stated", "seconds", "left", "looked_at"),
    [
        ("auto", 61.0, 1.0, True),
        ("auto", 61.0, 0.9, False),
        ("auto", None, 0.1, True),
        (True, 1.0, 1.0, True),
        (False, 9999.0, 1.0, False),
    ],
)
def test_long_runs_are_looked_at_and_others_when_asked(
    stated: bool | Literal["auto"], seconds: float | None, left: float, looked_at: bool
) -> None:
    assert speed.is_looked_at(stated, seconds, left) is looked_at


def test_looking_at_a_step_changes_no_bit_and_is_told_everywhere(
    book: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = train(book, tiny_model, "short")
    assert "not measured: the run is short (forward and backward" in build_run_page(short, book)
    assert not read_events(short).profiles
    monkeypatch.setattr(speed, "matrix_product_flops", lambda *_: 1e12)
    run = train(book, tiny_model, "run_1", profile=True)
    for name, tensor in load_file(short.final / "model.safetensors").items():
        assert torch.equal(tensor, load_file(run.final / "model.safetensors")[name]), name

    events = read_events(run)
    (profile,) = events.profiles
    assert profile.step == 3
    assert sum(profile.groups.values()) == pytest.approx(profile.seconds)
    step = events.steps[2]
    assert step.tokens is not None
    assert step.target_tokens is not None
    # What torch counts of the products that were made is what the convention counts, but for the
    # last MLP, which is made only where a token is trained.
    plan = json.loads(run.plan_json.read_text())
    groups, total = plan["parameters"]["groups"], plan["parameters"]["total_untied"]
    head = groups["head"] + total - plan["parameters"]["total"]
    weights = groups["attention"] + groups["mlp"] + groups["other"]
    counted = 6 * weights * step.tokens + 6 * head * step.target_tokens
    spared = 6 * groups["mlp"] // 2 * (step.tokens - step.target_tokens)
    assert profile.product_flops == pytest.approx(counted - spared, rel=0.001)
    assert plan["operations"]["token"] > 6 * weights
    assert plan["operations"]["target_token"] == 6 * head

    monkeypatch.chdir(book)
    capsys.readouterr()
    assert main(["show", "run_1"]) == 0
    said = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("speed"))
    assert "of what matrix products reach here, bound by " in said
    main(["show", "run_1", "--json"])
    assert json.loads(capsys.readouterr().out)["speed"]["bound"] in said
    assert said.split(maxsplit=1)[1] in build_run_page(run, book)
    web = TestClient(make_app(book), base_url="http://127.0.0.1").get("/runs/run_1").text
    assert "of what matrix products reach here, bound by " in web

    view = PlainView()
    for kind, payload in EventTail(run).poll():
        view(kind, payload)
    shown = capsys.readouterr().err
    assert "speed: " in shown
    assert ", bound by " in shown
