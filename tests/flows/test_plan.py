"""`tunebook plan` from the command line, and what becomes of a plan when its run is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.places import create_book
from tunebook.cli.main import main

ROWS = 40
CHECKS_WITHOUT_DATA = (
    "disk-too-small", "idle-section", "out-of-memory", "token-id-out-of-range",
    "unsupported-precision",
)  # fmt: skip
TOO_LARGE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_attention_heads": 128,
    "num_hidden_layers": 6,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    book = create_book(tmp_path / "book")
    monkeypatch.chdir(book)
    rows = [f"colour: number {n} is blue like the sea" for n in range(ROWS)]
    (book / "rows.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return book


def write_run(book: Path, name: str = "run_1", **changes: Any) -> str:
    values: dict[str, Any] = {
        "name": name,
        "model": "tunebook/tiny",
        "data": [{"path": "rows.txt", "format": "lines"}],
        "max_seq_len": 64,
        "validation": {"fraction": 0.2},
        "train": {"max_steps": 4, "effective_batch_size": 4},
        "evaluate": {"every": 2, "max_new_tokens": 4},
    } | changes
    (book / f"{name}.yaml").write_text(json.dumps(values), encoding="utf-8")
    return f"{name}.yaml"


def huge(book: Path, **changes: Any) -> str:
    """Make a folder with the config of a huge model and a small tokenizer, without weights."""
    from tunebook.models.find import find_model

    folder = book / "huge"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(find_model("tunebook/tiny") / name, folder / name)
    (folder / "config.json").write_text(json.dumps(TOO_LARGE | changes), encoding="utf-8")
    return str(folder)


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[str, str]:
    assert main(list(argv)) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "bug in tunebook" not in err
    return out, err


def test_a_plan_of_the_embedded_model_prints_every_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(capsys, "plan", write_run(here))
    labels = [line[:12].strip() for line in out.splitlines() if line[:1].strip()]
    for label in ("model", "trainable", "memory", "time", "disk", "data", "tokenizer", "checks"):
        assert labels.count(label) == 1
    assert f"{ROWS} in, 0 dropped, {ROWS} out" in out
    assert "fits" in out
    assert not (here / "runs" / "run_1").exists(), "a plan makes no run"


def test_the_json_has_the_names_that_scripts_rely_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(capsys, "plan", write_run(here), "--no-probe", "--json")
    plan = json.loads(out)
    assert {"parameters", "memory", "micro_batch_size", "steps", "tokens", "target_tokens"} <= set(
        plan
    )
    assert {"seconds", "disk", "rows", "checks", "accepted"} <= set(plan)
    assert {"total", "total_untied", "trainable"} <= set(plan["parameters"])
    peaks = {"train_peak_bytes", "longest_batch_bytes", "evaluation_peak_bytes", "device_bytes"}
    assert {*peaks, "parts"} <= set(plan["memory"])
    assert {"needed_bytes", "free_bytes"} <= set(plan["disk"])
    assert {"in", "dropped", "out", "cut"} <= set(plan["rows"])
    for check in plan["checks"]:
        assert {"name", "level", "message", "evidence", "way_out"} <= set(check)
    parts = plan["memory"]["parts"]
    assert sum(parts.values()) == plan["memory"]["longest_batch_bytes"]


def test_a_model_that_is_too_large_is_refused_with_the_way_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(
        capsys, "plan", write_run(here, model=huge(here)), "--device", "t4", "--json", code=3
    )
    plan = json.loads(out)
    assert plan["memory"]["longest_batch_bytes"] > plan["memory"]["device_bytes"]
    refused = [check for check in plan["checks"] if check["level"] == "refuse"]
    assert refused
    assert all(check["way_out"] for check in refused)
    assert len(err.strip().splitlines()[-1:]) == 1
    assert f"--accept {refused[0]['name']}" in err


def test_a_config_that_transformers_rejects_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(capsys, "plan", write_run(here, model=huge(here, num_attention_heads=7)), code=2)
    assert out == ""
    assert err.strip().count("\n") == 0
    assert "config.json" in err


@pytest.mark.slow
def test_data_that_could_not_be_made_is_refused_in_plan_and_training_and_cannot_be_accepted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunebook.models.find import find_model

    endless = shutil.copytree(find_model("tunebook/tiny"), here / "endless")
    settings = json.loads((endless / "tokenizer_config.json").read_text(encoding="utf-8"))
    (endless / "tokenizer_config.json").write_text(
        json.dumps({key: value for key, value in settings.items() if key != "eos_token"})
    )
    rows = [{"instruction": f"Name {n}", "output": f"number {n}"} for n in range(ROWS)]
    (here / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    path = write_run(
        here, model=str(endless), data=[{"path": "rows.json"}], template="alpaca",
        accept=["eos-never-trained"],
    )  # fmt: skip
    _, planned = run(capsys, "plan", path, code=3)
    out, _ = run(capsys, "plan", path, "--json", code=3)
    _, trained = run(capsys, "train", path, code=3)
    for said in (planned, trained):
        assert "is refused: eos-never-trained: template alpaca: the tokenizer of" in said
        assert "--accept" not in said
        assert "set eos_token in its tokenizer_config.json" in said
    assert json.loads(out)["checks_passed"] <= len(CHECKS_WITHOUT_DATA)


def test_a_full_disk_is_refused_before_the_run_begins(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunebook.plan.disk.free_bytes", lambda _path: 0)
    out, _ = run(capsys, "plan", write_run(here), "--no-probe", "--json", code=3)
    assert [c["name"] for c in json.loads(out)["checks"] if c["level"] == "refuse"] == [
        "disk-too-small"
    ]
    run(capsys, "plan", "run_1.yaml", "--no-probe", "--accept", "disk-too-small")


def test_what_is_accepted_is_kept_with_the_run_and_the_plan_is_held_against_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunebook.book.places import RunFolder
    from tunebook.book.plans import read_plan
    from tunebook.recipe.load import read_resolved

    run(capsys, "train", write_run(here, accept=["split-leak"]), "--accept", "padding-waste")
    folder = RunFolder(here, "run_1")
    recipe, _ = read_resolved(folder.resolved_yaml.read_text(encoding="utf-8"))
    assert recipe.accept == ["split-leak", "padding-waste"]
    again, _ = run(capsys, "plan", "run_1.yaml", "--no-probe", "--json")
    assert json.loads(again)["notes"][0].startswith("can be planned, and not trained: run run_1 is")
    plan = read_plan(folder)
    assert plan["steps"] == 4
    assert plan["measured"]["seconds"] > 0
    assert min(plan["measured"][f"{part}_peak_bytes"] for part in ("loading", "resident")) > 2**27
    assert "## Plan against actual" in folder.notebook_md.read_text(encoding="utf-8")
    out, _ = run(capsys, "plan", "--history", "--json")
    found = json.loads(out)
    assert [one["name"] for one in found["runs"]] == ["run_1"]
    assert found["runs"][0]["seconds"]["error"] is not None


def test_weights_that_are_only_there_as_pickle_are_refused_before_a_run_is_begun(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunebook.models.find import find_model

    model = tmp_path / "pickled"
    shutil.copytree(find_model("tunebook/tiny"), model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert main(["plan", write_run(here, model=str(model)), "--no-probe"]) == 2
    told = capsys.readouterr().err
    assert "holds only pickled weights" in told
    assert "pickled -o pickled-safetensors` writes them as safetensors" in told
