"""What `tunebook release` writes, and what it refuses to write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train_flow import write_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunebook.book.checkpoints import verify_checkpoint
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.releases import read_releases
from tunebook.cli.main import main
from tunebook.data.batches import collate
from tunebook.data.order import SourcedExample
from tunebook.data.prepare import prepare
from tunebook.errors import ModelError, TunebookError
from tunebook.models.export import copy_adapter, score_fresh
from tunebook.models.tokenizer import load_tokenizer
from tunebook.pages.model_card import write_card
from tunebook.pages.run_page import read_page_source
from tunebook.recipe.load import read_resolved
from tunebook.units import format_count
from tunebook.workflows.release_part import release_part
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

Train = Callable[..., RunFolder]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The model is so small that threads wait for each other longer than they work."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def train_in(book: Path, name: str, model: Path, **changes: Any) -> RunFolder:
    """Train a short run in this process."""
    short = {
        "train": {"max_steps": 6, "learning_rate": 3e-2},
        "checkpoint": {"every": 3},
        "evaluate": {"every": 6, "max_new_tokens": 4},
    }
    run = start_run(book, load_recipe(write_run(book, name, model, **short | changes), (), book))
    with EventWriter(run, 1) as events:
        run_to_end(run, events, lambda: None, lambda: None)
    return run


@pytest.fixture
def train(book: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Give a function that trains a short run; commands are called in its book."""
    monkeypatch.chdir(book)
    return lambda name, model=tiny_gpt2, **changes: train_in(book, name, model, **changes)


@pytest.fixture(scope="module")
def bf16_run(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> RunFolder:
    """An adapter that was trained in bf16, on a base that is stored in fp32."""
    book = create_book(tmp_path_factory.mktemp("bf16") / "book")
    few = {
        "train": {"max_steps": 3, "learning_rate": 3e-2},
        "checkpoint": {"every": 2},
        "evaluate": {"max_new_tokens": 4},
    }
    with pytest.MonkeyPatch.context() as patch:  # scored as seldom as a large model
        patch.setattr("tunebook.train.loop._SMALL_MODEL_PARAMETERS", 0)
        return train_in(book, "run_1", tiny_gpt2, method="lora", precision="bf16", **few)


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 9, 30, 12, 44, 7]])).logits
    return found


def test_a_fault_of_the_verifier_is_told_from_one_of_the_weights(
    tmp_path: Path, fresh_is_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="weights cannot be loaded in a fresh process: "):
        score_fresh(tmp_path, None, [], [])
    broken = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nKeyError: 'rounded'\n")
    monkeypatch.setattr("tunebook.models.export.subprocess.run", lambda *_, **__: broken)
    with pytest.raises(TunebookError, match=r"broke off: KeyError: 'rounded'; .* says nothing of"):
        score_fresh(tmp_path, None, [], [])


def test_released_weights_load_anywhere_and_carry_their_account(
    train: Train, book: Path, tiny_gpt2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run_1", method="lora", lora={"rank": 4})
    capsys.readouterr()  # training speaks, too
    assert main(["release", "run_1", "merged", "--merged", "--from", "step-3", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["form"], made["step"], made["weights"]) == ("merged", 3, "step-3")
    found = made["verification"]
    assert found["tokens"] > 100
    assert 0 <= found["mean"] <= found["largest"] < 1e-3
    assert found["loss_again"] == pytest.approx(found["loss_recorded"], abs=1e-4)
    assert main(["release", "run_1", "adapter"]) == 0
    for out in (book / "merged", book / "adapter"):
        verify_checkpoint(out)
        text = "".join(p.read_text("utf-8") for p in out.iterdir() if p.suffix != ".safetensors")
        for private in (str(book), str(tiny_gpt2), str(tiny_gpt2.parent)):
            assert private not in text
        tokenizer = AutoTokenizer.from_pretrained(out)
        assert len(tokenizer) == 300
        asked = [{"role": "user", "content": "Say red."}, {"role": "input", "content": "sun"}]
        assert tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False) == (
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nSay red.\n\n### Input:\nsun\n\n### Response:\n"
        )
    assert not torch.allclose(logits(book / "merged"), logits(tiny_gpt2), atol=1e-2)
    modes = {path.stat().st_mode for path in (book / "merged").iterdir()}
    assert len(modes) == 1  # who may read one file may read all
    # The adapter names its base by a bare name: whoever has it says where it is.
    config = json.loads((book / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == tiny_gpt2.name
    card = (book / "merged" / "README.md").read_text("utf-8")
    assert "\nlicense: unknown\n" in card
    assert "language:" not in card
    assert "rows.json" in card
    assert "ids = tokenizer.apply_chat_template(" in card
    assert "Template `alpaca` asks like this; the tokenizer's chat template writes the same" in card
    # Nothing was validated at step 3.
    assert re.search(r"\| these weights +\| +not measured \|", card)
    assert [r.to for r in read_releases(run)] == ["merged", "adapter"]
    source = read_page_source(run, book)
    seen = sum(step.target_tokens for step in source.events.steps[:3])
    assert len(source.events.steps) == 6
    assert re.search(rf"\| target tokens seen +\| +{format_count(seen)} +\|", card)
    forked = replace(source, environment={"resumed_from": {"run": "first", "step": 1}})
    assert "Steps 1 to 1 were those of run `first`" in write_card(read_releases(run)[0], forked)
    assert "## Released" in run.notebook_md.read_text("utf-8")


@pytest.mark.usefixtures("fresh_is_here")
def test_an_adapter_trained_in_bf16_is_exact_on_its_base_rounded_so(
    bf16_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bf16_run.book)
    assert main(["release", "run_1", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verification"]
    assert found["largest"] < found["largest_allowed"] == 1e-3
    assert found["adapter_effect"] > 2e-3
    assert found["reason"].endswith("on the base rounded to bf16 as in training")
    # The canary is scored after the last step, however seldom else.
    assert found["loss_again"] == pytest.approx(found["loss_recorded"], abs=0.05)
    assert main(["release", "run_1", "early", "--from", "step-2"]) == 0
    said = "the loss of training was not compared: not scored at this step"
    assert said in capsys.readouterr().out
    assert said in (bf16_run.book / "early" / "README.md").read_text("utf-8")


def without_adapter(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(value) for name, value in load_file(path).items()}, path)


def other_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text("utf-8"))
    whole["pre_tokenizer"]["add_prefix_space"] = True
    path.write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.usefixtures("fresh_is_here")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_adapter, "the exported weights do not say what the trained model says"),
        (other_tokenizer, "the exported tokenizer makes "),
    ],
)
def test_an_export_that_is_not_what_was_trained_is_refused(
    bf16_run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    def spoiled(source: Path, target: Path, *rest: Any) -> None:
        copy_adapter(source, target, *rest)
        spoil(target)

    monkeypatch.chdir(bf16_run.book)
    monkeypatch.setattr("tunebook.workflows.release.copy_adapter", spoiled)
    assert main(["release", "run_1", "spoiled"]) == 1
    assert said in capsys.readouterr().err
    assert not (bf16_run.book / "spoiled").exists()


@pytest.mark.usefixtures("fresh_is_here")
def test_whole_weights_are_released_also_when_their_data_is_gone(
    train: Train, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run_1")
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as small:
        small.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
        assert main(["release", "run_1", "out/whole"]) == 1
    assert "172 KiB of memory, 1000 B are free" in capsys.readouterr().err
    (book / "rows.json").unlink()
    assert main(["release", "run_1", "out/whole", "--from", "best"]) == 0
    told = capsys.readouterr()
    assert "its sampled answers are used" in told.err
    assert "prompts and answers of the run" in told.out
    torch.testing.assert_close(logits(book / "out" / "whole"), logits(run.best))
    for name in ("optimizer.safetensors", "state.json"):
        assert not (book / "out" / "whole" / name).exists()


@pytest.mark.usefixtures("fresh_is_here")
def test_faults_that_were_found_in_a_run_are_named_when_it_is_released(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train("run_1")

    def overfitted(run: RunFolder, book: Path) -> Any:
        source = read_page_source(run, book)
        return replace(source, summary=replace(source.summary, verdicts=("overfitting",)))

    monkeypatch.setattr("tunebook.workflows.release.read_page_source", overfitted)
    assert main(["release", "run_1", "out"]) == 0
    assert "note: overfitting found in the run, as its card says" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "form", "kind"),
    [
        ({"method": "qlora"}, [], "adapter"),
        ({"method": "qlora"}, ["--merged"], "merged"),
        ({"method": "relora", "relora": {"merge_every": 3, "warmup_steps": 1}}, [], "whole"),
        ({"method": "lora", "lora": {"variant": "dora"}}, ["--merged"], "merged"),
        ({"method": "lora", "add_tokens": ["<move>"]}, [], "adapter"),
        ({"method": "lora", "add_tokens": ["<move>"]}, ["--merged"], "merged"),
    ],
)
def test_every_method_is_released_as_trained(
    train: Train,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    form: list[str],
    kind: str,
) -> None:
    if changes["method"] == "qlora":
        pytest.importorskip("bitsandbytes")
    train("run_1", model=tiny_model, **changes)
    capsys.readouterr()
    assert main(["release", "run_1", "out", "--json", *form]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["form"] == kind
    assert made["verification"]["largest"] < 1e-3
    assert made["verification"]["loss_examples"] == 4


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_is_here")
def test_a_part_is_released_as_work_in_progress_once(train: Train, book: Path) -> None:
    told: list[str] = []

    def watch(_kind: str, payload: Mapping[str, Any]) -> None:
        told.append(payload["text"])

    run = train("big-part-1", parts=2, part=1, train={"max_steps": None, "epochs": 1})
    # What a release leaves that is killed between its last two steps: a folder without a record.
    run.release.mkdir(parents=True)
    (run.release / "README.md").touch()
    assert release_part(run, watch) is None
    assert told[-1].startswith("released releases/big-part-1, verified: ")
    assert "Work in progress: part 1 of 2" in (run.release / "README.md").read_text("utf-8")
    assert (run.release / "model.safetensors").samefile(run.final / "model.safetensors")
    told.clear()
    assert release_part(run, watch) is None
    assert not told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run_1", "taken"], "taken exists and is not empty"),
        (["run_1", "out", "--from", "step-9"], "run run_1 has no step-9 weights"),
        (["run_1", "out", "--from", "../run_2"], "run run_1 has no ../run_2 weights"),
        (["run_1", "out", "--adapter"], "trained whole weights (method full), no adapter"),
        (["run_9", "out"], "has no run `run_9`"),
        (["run_2", "out"], "run run_2 has no final weights (it is new)"),
    ],
)
def test_what_cannot_be_released_is_said_before_anything_is_read(
    book: Path,
    tiny_gpt2: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(book)
    run = start_run(book, load_recipe(write_run(book, "run_1", tiny_gpt2), (), book))
    run.final.mkdir()
    RunFolder(book, "run_2").path.mkdir()
    RunFolder(book, "run_2").run_yaml.write_text("name: run_2\n")
    (book / "taken").mkdir()
    (book / "taken" / "file").touch()
    assert main(["release", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (book / "out").exists()


PLAIN = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
asked = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(asked["base"] or asked["folder"], dtype=torch.float32)
if asked["base"]:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, asked["folder"])
model.eval()
total = count = 0
with torch.no_grad():
    for ids, target in asked["rows"]:
        labels = [i if t else -100 for i, t in zip(ids, target)]
        n = sum(target[1:])
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total, count = total + loss.item() * n, count + n
assert not any(name.split(".")[0] == "tunebook" for name in sys.modules)
print(json.dumps([total / count, count]))
"""
"""What anybody would write: the library's own loss of the rows that were held out."""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["adapter", "merged", "whole"])
def test_a_plain_program_gets_the_loss_that_training_recorded(
    train: Train, book: Path, tiny_gpt2: Path, tmp_path: Path, form: str
) -> None:
    run = train("run_1", method="full" if form == "whole" else "lora")
    merged = ["--merged"] if form == "merged" else []
    assert main(["release", "run_1", "out", *merged]) == 0
    recipe, _ = read_resolved(run.resolved_yaml.read_text("utf-8"))
    codec = load_tokenizer(recipe.model, recipe.add_tokens, run.cache_dir)
    held_out = prepare(recipe, codec, run.cache_dir, lambda _text: None).validation
    assert held_out is not None
    batches = [
        collate([SourcedExample(held_out.example(n), held_out.source_of(n))])
        for n in range(len(held_out))
    ]
    asked = {
        "folder": str(book / "out"),
        "base": str(tiny_gpt2) if form == "adapter" else None,
        "rows": [[batch.ids.tolist(), batch.target.tolist()] for batch in batches],
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loss, tokens = json.loads(done.stdout.splitlines()[-1])
    last = read_events(run).validations[-1]
    assert tokens == last.target_tokens
    assert loss == pytest.approx(last.loss, abs=1e-4)
    assert abs(loss - read_events(run).validations[0].loss) > 0.01
