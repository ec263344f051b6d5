"""A run from the command line: train, stop, kill, resume, and what it leaves behind."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book

STEPS = 30


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def write_rows(folder: Path, n: int = 60) -> Path:
    rng = random.Random(3)
    words = "red green blue cat dog bird sun moon rain snow".split()
    rows = [
        {
            "instruction": f"Say {rng.choice(words)} {i}",
            "input": rng.choice(words) if i % 3 == 0 else "",
            "output": " ".join(rng.choices(words, k=rng.randint(2, 9))),
        }
        for i in range(n)
    ]
    path = folder / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_run(book: Path, name: str, model: Path, **changes: Any) -> Path:
    write_rows(book)
    values: dict[str, Any] = {
        "name": name,
        "model": str(model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "accept": ["random-base"],  # the models of these tests have learned nothing
        "max_seq_len": 256,
        "validation": {"fraction": 0.15},
        "train": {"max_steps": STEPS, "effective_batch_size": 4, "learning_rate": 1e-3},
        "evaluate": {"every": 10, "max_new_tokens": 8, "canary": 4},
        "checkpoint": {"every": 2, "keep": 2},
        "notebook": {
            "hypothesis": "It learns the words.",
            "predict": ["val_loss < base_val_loss", "no non_finite", "val_loss < ghost.val_loss"],
        },
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    path = book / f"{name}.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def tunebook(book: Path, *args: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunebook", *map(str, args)],
        cwd=book,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(book: Path, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunebook", *map(str, args)],
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background ignores Ctrl-C, and its children would too.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def weights(run: RunFolder) -> dict[str, bytes]:
    name = "adapter_model" if (run.final / "adapter_config.json").exists() else "model"
    return {k: v.tobytes() for k, v in load_file(run.final / f"{name}.safetensors").items()}


def history(run: RunFolder) -> list[tuple[Any, ...]]:
    """List what happened, without times and memory."""
    events = read_events(run)
    return [
        *[("step", s.step, s.loss, s.grad_norm, s.canary_loss, s.examples) for s in events.steps],
        *[("validation", v.step, v.loss, v.examples_hash) for v in events.validations],
        *[("sample", s.step, s.prompt, s.text) for s in events.samples],
    ]


def wait_for_step(
    run: RunFolder, step: int, process: subprocess.Popen[str], seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        if run.events.exists() and any(s.step >= step for s in read_events(run).steps):
            return
        time.sleep(0.05)
    raise AssertionError(f"the run did not come to step {step} in {seconds:g} s")


def test_a_run_from_run_file_to_page(book: Path, tiny_model: Path) -> None:
    done = tunebook(book, "train", write_run(book, "run_1", tiny_model))
    assert done.returncode == 0, done.stderr
    run = RunFolder(book, "run_1")
    events = read_events(run)
    assert [s.step for s in events.steps] == list(range(1, STEPS + 1))
    assert [v.step for v in events.validations] == [0, 10, 20, 30]
    assert events.validations[-1].loss < events.validations[0].loss
    assert all(s.canary_loss is not None and s.padding_tokens == 0 for s in events.steps)
    # The last step of a cosine to min_lr 0 moves nothing.
    assert all(0 < (s.changed_fraction or 0) <= 1 for s in events.steps[:-1])
    data = json.loads(run.data_json.read_text())
    assert data["validation_overlap"][0] == 0 < data["validation_overlap"][1]
    account = data["sources"][0]
    assert account["rows_in"] == account["rows_out"] + sum(account["dropped"].values()) == 60
    page = run.notebook_md.read_text(encoding="utf-8")
    for expected in ("It learns the words.", "val_loss < base_val_loss", "⟦", "rows.json"):
        assert expected in page
    table = json.loads(tunebook(book, "runs", "--json").stdout)
    assert [(r["name"], r["state"]) for r in table] == [("run_1", "finished")]
    assert table[0]["outcome"] == "2 of 3 held, 1 unknown"

    again = tunebook(book, "train", book / "run_1.yaml")
    assert again.returncode == 2
    assert "run run_1 is finished; `tunebook new NAME --from run_1`" in again.stderr
    finished = tunebook(book, "resume", "run_1")
    assert finished.returncode == 2
    assert "run run_1 is finished" in finished.stderr
    assert "Traceback" not in again.stderr + finished.stderr

    before = tunebook(book, "runs", "--json").stdout
    (book / ".tunebook" / "index.db").unlink()
    assert tunebook(book, "reindex").returncode == 0
    assert tunebook(book, "runs", "--json").stdout == before


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_it_writes_loads_elsewhere(book: Path, tiny_gpt2: Path, method: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tunebook.models.load import load_adapter, load_model

    path = write_run(book, "run_1", tiny_gpt2, method=method, train={"max_steps": 4})
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    run = RunFolder(book, "run_1")
    ids_BT = torch.tensor([[5, 9, 30, 12, 44, 7]])
    if method == "full":
        own = load_model(str(run.final), device="cpu", precision="fp32", attention="sdpa").causal
        other = AutoModelForCausalLM.from_pretrained(run.final)
    else:
        base = load_model(str(tiny_gpt2), device="cpu", precision="fp32", attention="sdpa")
        own = load_adapter(base, run.final).network
        other = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(tiny_gpt2), run.final
        )
    untouched = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    with torch.no_grad():
        logits = other.eval()(input_ids=ids_BT).logits
        torch.testing.assert_close(own.eval()(input_ids=ids_BT).logits, logits)
        assert not torch.allclose(untouched(input_ids=ids_BT).logits, logits)


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGINT, 130)],
)
def test_a_signal_saves_and_pauses_and_resume_ends_bit_equal(
    book: Path, tiny_gpt2: Path, number: signal.Signals, code: int
) -> None:
    # Of 16 rows a plan makes another micro-batch than a run without one would.
    train = {"effective_batch_size": 16, "max_steps": 60}
    assert tunebook(book, "train", write_run(book, "whole", tiny_gpt2, train=train)).returncode == 0
    path = write_run(book, "parted", tiny_gpt2, train=train, checkpoint={"every": 1000})
    process = start(book, "train", path)
    run = RunFolder(book, "parted")
    wait_for_step(run, 3, process)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code, (out, error)
    assert "tunebook resume parted" in error
    assert ("saving and pausing; Ctrl-C again" in error) == (number == signal.SIGINT)
    state = json.loads(tunebook(book, "runs", "--json").stdout)[-2:]
    assert {r["name"]: r["state"] for r in state}["parted"] == "paused"
    # How micro-batches are cut is part of the checkpoint: a plan may get lost.
    run.plan_json.unlink()
    assert tunebook(book, "resume", "parted").returncode == 0
    assert weights(run) == weights(RunFolder(book, "whole"))
    assert history(run) == history(RunFolder(book, "whole"))


@pytest.mark.slow  # test_short_faults kills as well
def test_killed_launcher_and_killed_trainer_end_in_the_same_weights_and_history(
    book: Path, tiny_gpt2: Path
) -> None:
    """GPT-2 has dropout, so its draws count too; `benchmarks/faults_io` kills by the thousand."""
    longer = {"train": {"max_steps": 300}, "evaluate": {"every": 50}}
    assert tunebook(book, "train", write_run(book, "whole", tiny_gpt2, **longer)).returncode == 0
    path = write_run(book, "killed", tiny_gpt2, **longer)
    run = RunFolder(book, "killed")
    rng = random.Random(20)
    for kill in range(3):
        process = start(book, *(["resume", "killed"] if kill else ["train", path]))
        wait_for_kill(run, process, rng)
        os.kill(process.pid if kill % 2 else trainer_of(run) or process.pid, signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        assert process.returncode != 0, "the run ended before it was killed"
        assert "Traceback" not in error
    finish = tunebook(book, "resume", "killed")
    assert finish.returncode == 0, finish.stderr
    assert weights(run) == weights(RunFolder(book, "whole"))
    assert history(run) == history(RunFolder(book, "whole"))


def wait_for_kill(run: RunFolder, process: subprocess.Popen[str], rng: random.Random) -> None:
    """Wait until a new attempt took a few steps more than any before it, then a moment."""
    before = read_events(run, superseded=True)
    goal = max((s.step for s in before.steps), default=0) + rng.randint(1, 5)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        events = read_events(run, superseded=True)
        if len(events.states) > len(before.states) and any(
            s.step >= goal for s in events.steps[-3:]
        ):
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.05))


def trainer_of(run: RunFolder) -> int | None:
    try:
        found: int = json.loads((run.path / "heartbeat.json").read_text())["pid"]
    except (OSError, ValueError, KeyError):
        return None
    try:
        os.kill(found, 0)
    except OSError:
        return None
    return found


def test_a_checkpoint_with_one_byte_changed_is_named_and_the_older_one_used(
    book: Path, tiny_model: Path
) -> None:
    path = write_run(book, "run_1", tiny_model, checkpoint={"every": 2, "keep": 5})
    process = start(book, "train", path)
    run = RunFolder(book, "run_1")
    wait_for_step(run, 12, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    newest = max(run.checkpoints.glob("step-*"), key=lambda p: int(p.name[5:]))
    damaged = newest / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    done = tunebook(book, "resume", "run_1")
    assert done.returncode == 0, done.stderr
    assert "optimizer.safetensors" in done.stderr
    assert newest.name in done.stderr


def test_a_loss_that_is_not_finite_stops_the_run_with_the_rows_named(
    book: Path, tiny_model: Path
) -> None:
    path = write_run(book, "run_1", tiny_model, train={"learning_rate": 1e30, "max_grad_norm": 0})
    done = tunebook(book, "train", path)
    assert done.returncode == 1, done.stderr
    assert "not finite" in done.stderr
    assert "rows#" in done.stderr
    run = RunFolder(book, "run_1")
    events = read_events(run)
    assert events.states[-1]["state"] == "stopped"
    assert [v.kind for v in events.verdicts] == ["random_base", "non_finite"]
    # The first update makes weights of 1e30, which are numbers yet.
    assert [s.applied for s in events.steps] == [True, False, False, False]
    assert "3 steps had a loss or gradient that was not finite" in done.stderr
