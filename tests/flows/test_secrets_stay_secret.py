"""No key of the environment is in a file that a command leaves, or in what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_train_flow import tunebook, write_run

from hub_server import serve_hub
from judge_server import Act, judge_server, says

CANARIES = {
    "HF_TOKEN": "hf_canaryHubToken0123456789",
    "HUGGING_FACE_HUB_TOKEN": "hf_canaryOldToken0123456789",
    "WANDB_API_KEY": "canaryb0123456789012345678901234567890ab",
    "OPENAI_API_KEY": "sk-canary-openai-0123456789",
    "MY_JUDGE_KEY": "sk-canary-judge-0123456789",
    "RAY_AUTH_TOKEN": "canary-ray-0123456789",
}


def held_in(data: bytes) -> list[str]:
    return [name for name, value in CANARIES.items() if value.encode() in data]


@pytest.fixture
def place(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the book, and with the home of whoever runs the commands."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield tmp_path
    found = {
        str(path.relative_to(tmp_path)): names
        for path in tmp_path.rglob("*")
        if path.is_file() and (names := held_in(path.read_bytes()))
    }
    assert found == {}


def run(book: Path, *words: object, code: int = 0) -> None:
    done = tunebook(book, *words)
    assert done.returncode == code, done.stderr
    assert held_in((done.stdout + done.stderr).encode()) == [], words


@pytest.mark.slow
def test_no_command_writes_or_says_a_key(
    place: Path, book: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    short = {"train": {"max_steps": 6, "learning_rate": 3e-2}}
    trackers = {"report_to": ["tensorboard", "wandb"]}
    path = write_run(book, "run_1", tiny_gpt2, method="lora", **short, **trackers)
    run(book, "plan", path)
    run(book, "train", path)
    run(book, "--debug", "train", path, code=2)
    broken = write_run(book, "run_2", book / "nowhere", **trackers)
    run(book, "--debug", "train", broken, code=2)
    run(book, "release", "run_1", "out", "--merged")
    run(book, "release", "run_1", "out", "--merged", "--push", "org/m", "--dry-run")
    run(book, "release", "--check", "out")
    run(book, "notebook", "build", "--html")
    for words in (["doctor"], ["doctor", "--json"], ["show", "run_1"], ["runs", "--json"]):
        run(book, *words)

    rows = [{"prompt": f"Say item-{i}", "reference": "yes"} for i in range(4)]
    (book / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def repeat(_prompt: str, _nth: int) -> Act:
        return says(f'{{"score": 50, "reason": "{CANARIES["MY_JUDGE_KEY"]}"}}')

    def refuse(_prompt: str, _nth: int) -> Act:
        return Act(401, f"no: {CANARIES['MY_JUDGE_KEY']}".encode())

    for behave, code in ((refuse, 1), (repeat, 0)):
        with judge_server(behave) as server:
            asked = (
                "--base-url",
                server.base_url,
                "--judge-model",
                "m",
                "--key-env",
                "MY_JUDGE_KEY",
            )
            few = ("--questions", "questions.jsonl", "--n", "4", "--max-new-tokens", "4")
            run(book, "--debug", "judge", "run_1", *asked, *few, code=code)

    with serve_hub() as hub:  # it does not take the token, and repeats it
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        again = ("release", "run_1", "out", "--merged", "--push", "org/m")
        run(book, *again, code=1)
        run(book, "--debug", *again, code=1)
        hub.fail["/repos/create"] = 500
        run(book, "--debug", *again, code=1)
