"""Every mistake of a user: one sentence, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_train_flow import history, start, tunebook, wait_for_step, weights, write_run

from made_runs import make_run
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.errors import TunebookError
from tunebook.workflows.train import load_recipe, start_run


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def train_here(book: Path, run_file: Path, *overrides: str) -> RunFolder:
    """Do what launcher and trainer do, in this process, so that torch is imported only once."""
    from tunebook.workflows.training import run_to_end

    run = start_run(book, load_recipe(run_file, overrides, book))
    with EventWriter(run, 1) as events:
        run_to_end(run, events, lambda: None, lambda: None)
    return run


def expect(book: Path, run_file: Path, *overrides: str) -> str:
    """Train, expecting a mistake of the user; gives its sentence."""
    with pytest.raises(TunebookError) as caught:
        train_here(book, run_file, *overrides)
    assert caught.value.exit_code == 2, caught.value
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["empty"]),
        (b'[{"instruction": "a", "output": "b"},\n {"instruction": "a", "output": }]', ["2"]),
        (b'[{"instruction": "a"}]', ["instruction"]),
        (b'[{"question": "a", "foo": "b"}]', ["format"]),
        ('[{"instruction": "caf\xe9", "output": "b"}]'.encode("latin-1"), ["UTF-8"]),
        (b'[{"instruction": "a", "output": ""}]', ["no row"]),
        (b'[{"prompt": "a", "chosen": "b", "rejected": "c"}]', ["preference"]),
    ],
)
def test_data_that_cannot_be_used_is_named(
    book: Path, tiny_model: Path, content: bytes, expected: list[str]
) -> None:
    path = write_run(book, "run_1", tiny_model)
    (book / "rows.json").write_bytes(content)
    sentence = expect(book, path)
    assert "rows.json" in sentence
    for word in expected:
        assert word in sentence


def test_a_missing_data_file_is_named(book: Path, tiny_model: Path) -> None:
    path = write_run(book, "run_1", tiny_model, data=[{"path": "nowhere.json"}])
    assert "nowhere.json" in expect(book, path)


def test_a_missing_data_file_is_named_before_anything_slow_or_lasting(
    book: Path, tiny_model: Path
) -> None:
    path = write_run(book, "run_1", tiny_model, data=[{"path": "nowhere.json"}])
    for verb in ("plan", "train"):
        program = (
            "import sys; from tunebook.cli.main import main; code = main(sys.argv[1:]);"
            "sys.exit(99 if 'torch' in sys.modules else code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, verb, str(path)],
            cwd=book, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "there is no data file" in done.stderr
    assert not (book / "runs" / "run_1").exists()


def test_an_unknown_format_lists_the_known_ones(book: Path, tiny_model: Path) -> None:
    path = write_run(book, "run_1", tiny_model, data=[{"path": "rows.json", "format": "parket"}])
    sentence = expect(book, path)
    assert "parket" in sentence
    assert "alpaca" in sentence


def test_filters_that_leave_nothing_are_named(book: Path, tiny_model: Path) -> None:
    data = [{"path": "rows.json", "filters": [{"short_response": {"min_words": 99}}]}]
    sentence = expect(book, write_run(book, "run_1", tiny_model, data=data))
    assert "no row is left" in sentence
    assert "60 short response" in sentence or "60 short_response" in sentence


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.learning_rate=-1e-5", ["train.learning_rate", "-1e-05"]),
        ("train.learning_rate=fast", ["train.learning_rate", "fast"]),
        ("train.lerning_rate=1e-5", ["lerning_rate", "learning_rate"]),
        ("method=relora lora.variant=dora", ["relora", "dora", "rslora"]),
        ("devices=2 method=qlora", ["devices: 2", "qlora", "one device"]),
        ("train.warmup_steps=3 train.warmup_fraction=0.1", ["warmup_steps", "warmup_fraction"]),
        ("notebook.predict=[loss will fall]", ["loss will fall"]),
        ("model=org/nothing", ["org/nothing", "HF_TOKEN", "HF_HUB_OFFLINE"]),
        ("model=./nowhere", ["nowhere", "folder"]),
        ("model=run:ghost", ["ghost"]),
        ("max_seq_len=40 overlong=cut", ["no target tokens"]),
        ("train.effective_batch_size=4096", ["effective_batch_size 4096", "rows"]),
        ("train.effective_batch_size=6 train.micro_batch_size=4", ["multiple"]),
        ("device=cuda", ["cuda"]),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(
    book: Path, tiny_model: Path, override: str, expected: list[str]
) -> None:
    if override == "device=cuda":
        import torch

        if torch.cuda.is_available():  # there it is no mistake
            pytest.skip("this machine has CUDA")
    changes = {"train": {"max_steps": None, "epochs": 1}}
    overrides = [override] if "[" in override else override.split()
    sentence = expect(book, write_run(book, "run_1", tiny_model, **changes), *overrides)
    for word in expected:
        assert word in sentence


def test_a_token_that_is_there_already_is_refused_before_there_is_a_folder(
    book: Path, tiny_model: Path
) -> None:
    path = write_run(book, "run_1", tiny_model, add_tokens=["<|endoftext|>"])
    assert "has '<|endoftext|>' already" in expect(book, path)
    assert not (book / "runs" / "run_1").exists()


def test_a_run_named_without_its_prefix_is_told_from_a_model_on_the_hub(
    book: Path, tiny_model: Path
) -> None:
    make_run(book, "v1")
    for model in ("v1", "v1/best"):
        sentence = expect(book, write_run(book, "v2", tiny_model), f"model={model}")
        assert f"model '{model}': did you mean `run:{model}`, a run of this book? (" in sentence
    assert not (book / "runs" / "v2").exists()


def _without(model: Path, target: Path, *names: str) -> Path:
    shutil.copytree(model, target)
    for name in names:
        (target / name).unlink()
    return target


def test_a_folder_that_is_no_model_and_a_missing_tokenizer_are_named(
    book: Path, tiny_model: Path
) -> None:
    no_config = _without(tiny_model, book / "m1", "config.json")
    assert "config.json" in expect(book, write_run(book, "run_1", no_config))
    no_tokenizer = _without(tiny_model, book / "m2", "tokenizer.json")
    assert "tokenizer" in expect(book, write_run(book, "run_1", no_tokenizer))
    pickled = _without(tiny_model, book / "m3", "model.safetensors")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pickle" in expect(book, write_run(book, "run_1", pickled))
    broken = _without(tiny_model, book / "m4")
    weights_file = broken / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    assert "(it is cut: it has" in expect(book, write_run(book, "run_1", broken))


def test_rows_beyond_the_models_context_are_refused(book: Path, tiny_gpt2: Path) -> None:
    long_rows = [{"instruction": "a", "output": "word " * 400} for _ in range(8)]
    path = write_run(book, "run_1", tiny_gpt2, max_seq_len=4096)
    (book / "rows.json").write_text(json.dumps(long_rows))
    sentence = expect(book, path, "train.effective_batch_size=2")
    assert "max_seq_len 4096" in sentence


def test_a_failed_start_by_a_file_elsewhere_is_tried_again_by_name(
    book: Path, tiny_model: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "files"
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_text('{"prompt": "q"}\n')
    (elsewhere / "r.yaml").write_text(
        f"name: r\nmodel: {tiny_model}\naccept: [random-base]\ndata: [{{path: a.jsonl}}]\n"
        "validation: {fraction: 0}\ntrain: {max_steps: 1, effective_batch_size: 1}\n"
    )
    assert "line 1" in expect(book, elsewhere / "r.yaml")
    (elsewhere / "a.jsonl").write_text('{"prompt": "q", "completion": "a"}\n' * 2)
    run = train_here(book, Path("r"))
    assert read_events(run).steps
    shutil.rmtree(run.path / "events")
    shutil.rmtree(run.final)
    shutil.rmtree(elsewhere)
    assert "which is gone" in expect(book, Path("r"))


@pytest.mark.slow
def test_a_failed_start_does_not_use_up_the_name(book: Path, tiny_model: Path) -> None:
    path = write_run(book, "run_1", tiny_model, data=[{"path": "nowhere.json"}])
    failed = tunebook(book, "train", path)
    assert failed.returncode == 2
    assert failed.stderr.count("nowhere.json") >= 1
    assert "Traceback" not in failed.stderr
    path = write_run(book, "run_1", tiny_model, train={"max_steps": 2})
    assert tunebook(book, "train", path).returncode == 0


def test_a_command_outside_a_book_says_how_to_make_one(tmp_path: Path) -> None:
    done = tunebook(tmp_path, "runs")
    assert done.returncode == 2
    assert "tunebook init" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(book: Path, tiny_model: Path) -> None:
    path = write_run(book, "run_1", tiny_model)
    shutil.rmtree(book / "runs")
    (book / "runs").write_text("a file where the folder should be")
    done = tunebook(book, "train", path)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "runs" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Mount a disk of 24 MiB, which takes the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_pauses_the_run_and_resume_ends_bit_equal(
    book: Path, small_disk: Path, tiny_model: Path
) -> None:
    assert tunebook(book, "train", write_run(book, "run_1", tiny_model)).returncode == 0
    small = create_book(small_disk / "book")
    process = start(small, "train", write_run(small, "run_1", tiny_model))
    run = RunFolder(small, "run_1")
    wait_for_step(run, 6, process)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert "Traceback" not in error
    assert "full" in error or "space" in error
    filler.unlink()
    done = tunebook(small, "resume", "run_1")
    assert done.returncode == 0, done.stderr
    whole = RunFolder(book, "run_1")
    assert weights(run) == weights(whole)
    assert history(run) == history(whole)


def test_stop_pauses_a_run_that_trains_elsewhere(book: Path, tiny_model: Path) -> None:
    process = start(book, "train", write_run(book, "run_1", tiny_model, train={"max_steps": 400}))
    run = RunFolder(book, "run_1")
    wait_for_step(run, 2, process)
    second = tunebook(book, "resume", "run_1")
    assert second.returncode == 2, second.stderr
    assert "is being trained" in second.stderr
    assert tunebook(book, "stop", "run_1").returncode == 0
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert read_events(run).states[-1]["state"] == "paused"


def test_the_trainer_dies_with_its_launcher(book: Path, tiny_model: Path) -> None:
    import psutil

    process = start(book, "train", write_run(book, "run_1", tiny_model, train={"max_steps": 400}))
    run = RunFolder(book, "run_1")
    wait_for_step(run, 1, process)
    trainer = psutil.Process(json.loads(run.heartbeat_json.read_text())["pid"])
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    _, alive = psutil.wait_procs([trainer], timeout=10)
    assert not alive
    table = json.loads(tunebook(book, "runs", "--json").stdout)
    assert table[0]["state"] == "paused"
