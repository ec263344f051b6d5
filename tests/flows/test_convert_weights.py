"""Pickled weights become safetensors in a process of its own, or one sentence and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_train_flow import tunebook, write_run

from tunebook.book.places import create_book
from tunebook.errors import ModelError, UsageError
from tunebook.models.find import find_model
from tunebook.workflows import unpickling
from tunebook.workflows.convert_weights import convert_weights


class Runs:
    """Pickled, it asks whoever opens it to run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def states(model: Path) -> dict[str, Any]:
    """Give all the tensors of a GPT-2, head included, which is its embedding."""
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(model).state_dict())


@pytest.fixture
def bare(tiny_gpt2: Path, tmp_path: Path) -> Path:
    """A model's folder without weights, but with a licence."""
    folder = Path(shutil.copytree(tiny_gpt2, tmp_path / "old"))
    (folder / "model.safetensors").unlink()
    (folder / "LICENSE").write_text("MIT")
    (folder / "optimizer.pt").write_bytes(b"not opened")
    return folder


def write_shards(folder: Path, tensors: dict[str, Any]) -> None:
    import torch

    names = list(tensors)
    weight_map = {}
    for number, part in enumerate((names[:9], names[9:]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def same_answers(one: Path, other: Path) -> bool:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        models = (AutoModelForCausalLM.from_pretrained(each).eval() for each in (one, other))
        first, second = (model(ids).logits for model in models)
    return torch.equal(first, second)


def test_the_command_that_a_plan_names_converts_a_sharded_gpt2_which_is_then_complete(
    tiny_gpt2: Path, bare: Path, tmp_path: Path
) -> None:
    from tunebook.models.skeleton import build_skeleton, check_weights, load_config

    write_shards(bare, states(tiny_gpt2))
    before = hashes(bare)
    book = create_book(tmp_path / "book")
    refused = tunebook(book, "plan", write_run(book, "run_1", bare))
    assert refused.returncode == 2
    named = re.search(r"`(tunebook convert [^`]+)`", refused.stderr)
    assert named is not None
    words = shlex.split(named[1])
    done = tunebook(book, *words[1:])
    assert done.returncode == 0, done.stderr
    new = book / words[-1]
    assert same_answers(new, tiny_gpt2)
    assert hashes(bare) == before
    record = json.loads((new / "converted.json").read_text())
    bins = {name: digest for name, digest in before.items() if name.startswith("pytorch_model-")}
    assert record["sources_sha256"] == bins
    assert record["written_sha256"].items() <= hashes(new).items()
    kept = {"LICENSE", "config.json", "tokenizer.json", "model.safetensors.index.json"}
    assert kept <= {path.name for path in new.iterdir()}
    assert not list(new.glob("*.bin")) + list(new.glob("*.pt"))
    assert check_weights(str(new), build_skeleton(load_config(str(new)))).state == "complete"
    assert [path.name for path in book.iterdir() if path.name.startswith(f".tmp-{new.name}")] == []


@pytest.mark.parametrize("zipped", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_tied_head_is_written_once_and_each_part_stays_within_its_size(
    tiny_gpt2: Path, bare: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    import torch
    from safetensors.torch import load_file

    tensors = states(tiny_gpt2)
    wte = tensors["transformer.wte.weight"]
    tensors["lm_head.weight"] = wte
    tensors["a.slice"] = wte[3:5]
    tensors["turned"] = wte.T
    tensors["nan"] = torch.tensor([float("nan"), -0.0]).to(torch.bfloat16)
    tensors["number"] = torch.tensor(7)
    torch.save(tensors, bare / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(unpickling, "PART_BYTES", 20_000)
    made = convert_weights(str(bare), bare.parent / "new")
    found = {}
    for path in sorted(made.folder.glob("*.safetensors")):
        part = load_file(path)
        assert len(part) == 1 or sum(one.nbytes for one in part.values()) <= 20_000
        found |= part
    assert made.converted.tied == {"lm_head.weight": "transformer.wte.weight"}
    assert found.keys() == tensors.keys() - {"lm_head.weight"}
    for name, one in found.items():
        own = tensors[name].contiguous().reshape(-1)
        assert one.dtype == own.dtype
        assert one.shape == tensors[name].shape
        assert torch.equal(one.reshape(-1).view(torch.uint8), own.view(torch.uint8))


def _raw(folder: Path, canary: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())


def _of_today(folder: Path, canary: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(f"touch {canary}"), protocol=4))


def _zipped(folder: Path, canary: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(2), "b": Runs(f"touch {canary}")}, folder / "pytorch_model.bin")


def _in_a_shard(folder: Path, canary: Path) -> None:
    import torch

    write_shards(folder, {f"w{n}": torch.zeros(2) for n in range(20)})
    torch.save({"x": Runs(f"touch {canary}")}, folder / "pytorch_model-00002-of-00002.bin")


def _stretched(folder: Path, _canary: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(1).expand(1 << 40)}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("trap", "said"),
    [
        (_zipped, r"system', which is no part of a tensor"),
        (_in_a_shard, r"00002\.bin.*system', which is no part of a tensor"),
        (_of_today, r"the pickle instruction 149, which saved tensors have not"),
        pytest.param(_stretched, "several times as large", marks=pytest.mark.slow),
        pytest.param(_raw, "asks for 'os.system'", marks=pytest.mark.slow),
    ],
)
def test_a_trap_is_refused_in_one_sentence_and_nothing_is_run_or_left(
    bare: Path, trap: Callable[[Path, Path], None], said: str
) -> None:
    canary = bare.parent / "canary"
    trap(bare, canary)
    with pytest.raises(ModelError, match=said) as caught:
        convert_weights(str(bare), bare.parent / "new")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert [path.name for path in bare.parent.iterdir()] == ["old"]


def test_where_the_network_cannot_be_left_it_is_refused_unless_the_user_says_so(
    tiny_gpt2: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    torch.save({"state_dict": states(tiny_gpt2), "epoch": 3}, bare / "last.ckpt")
    cannot = (
        "import tunebook.models.shut_in as own;"
        "own.leave_network = lambda: 'unshare: Operation not permitted';"
    )
    before, after = unpickling._START.split("runpy.run_module", 1)
    monkeypatch.setattr(unpickling, "_START", f"{before}{cannot}runpy.run_module{after}")
    with pytest.raises(UsageError, match=r"Operation not permitted.*--without-isolation"):
        convert_weights(str(bare), bare.parent / "new")
    assert not (bare.parent / "new").exists()
    made = convert_weights(str(bare), bare.parent / "new", isolated=False)
    assert made.converted.left_out == ["epoch"]
    assert not json.loads((made.folder / "converted.json").read_text())["read_without_network"]
    assert find_model(str(made.folder)) == made.folder


def test_an_adapter_is_converted_too(tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    torch.save({"base.lora_A.weight": torch.ones(2, 3)}, folder / "adapter_model.bin")
    made = convert_weights(str(folder), tmp_path / "new")
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "converted.json"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors": b""}, "read as it is"),
        ({}, "holds no pickled weights"),
        ({"a.pt": b"", "b.ckpt": b""}, r"2 files that may be its weights \(a\.pt, b\.ckpt\)"),
        ({"pytorch_model.bin.index.json": b'{"weight_map": {}}'}, "no weight_map"),
        (
            {"pytorch_model.bin.index.json": b'{"weight_map": {"a": "../x.bin"}}'},
            r"names '\.\./x\.bin', which is no \.bin file of this folder",
        ),
        ({"pytorch_model.bin.index.json": b'{"weight_map": {"a": "x.bin"}}'}, "x.bin is missing"),
    ],
)
def test_what_is_not_to_be_converted_is_said_before_a_process_is_started(
    bare: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], said: str
) -> None:
    monkeypatch.setattr(unpickling, "_START", "raise SystemExit(9)")
    for name, content in files.items():
        (bare / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        convert_weights(str(bare), bare.parent / "new")
    (bare.parent / "taken").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        convert_weights(str(bare), bare.parent / "taken")


def test_a_process_that_breaks_off_leaves_nothing_and_says_why(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "pytorch_model.bin").write_bytes(b"x")
    monkeypatch.setattr(unpickling, "_START", "raise SystemExit('no memory for it')")
    with pytest.raises(Exception, match=r"did not do it \(no memory for it\)"):
        convert_weights(str(bare), bare.parent / "new")
    assert [path.name for path in bare.parent.iterdir()] == ["old"]
