"""Which chat template an exported tokenizer gets, and when it gets none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, GenerationConfig

from made_runs import make_run
from tunebook.book.places import RunFolder
from tunebook.errors import ReleaseRefused
from tunebook.models.export import set_generation, write_chat_template
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.recipe.load import read_resolved
from tunebook.recipe.tree import Recipe
from tunebook.workflows.release_template import choose_chat_template, refuse_other_chats

OTHER = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture
def run(book: Path) -> RunFolder:
    """A run of format lines."""
    return make_run(book, "run_1")


@pytest.fixture
def spoiled(tiny_model: Path, tmp_path: Path) -> Callable[[Callable[[Tokenizer], None]], Codec]:
    """Give a function that loads the tokenizer of the tiny model after a change to it."""

    def load(change: Callable[[Tokenizer], None]) -> Codec:
        tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
        change(tokenizer)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        for name in ("config.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
        return load_tokenizer(str(tmp_path))

    return load


def recipe_of(run: RunFolder, **changes: Any) -> Recipe:
    recipe, _ = read_resolved(run.resolved_yaml.read_text("utf-8"))
    return recipe.model_copy(update=changes)


def folder_with(tmp_path: Path, source: Path, template: str | None = None) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    if template is not None:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({**config, "chat_template": template})
        )
        (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_plain_template_takes_the_place_of_the_tokenizers_own(
    run: RunFolder, tiny_model: Path, tmp_path: Path
) -> None:
    codec = load_tokenizer(str(tiny_model))
    told: list[str] = []
    found = choose_chat_template(run, recipe_of(run), codec, told.append)
    assert (found.name, told) == ("lines", [])
    assert len(found.chats) == len(found.ids) > 5
    folder = folder_with(tmp_path, tiny_model, OTHER)
    original = (folder / "tokenizer_config.json").read_bytes()
    linked = tmp_path / "linked"
    linked.hardlink_to(folder / "tokenizer_config.json")
    write_chat_template(folder, str(found.text))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [tokenizer.apply_chat_template(c, add_generation_prompt=True) for c in found.chats]
    refuse_other_chats(found, [one["input_ids"] for one in asked])
    assert tokenizer.chat_template == found.text
    assert b"<{{" not in (folder / "tokenizer_config.json").read_bytes()
    assert linked.read_bytes() == original  # a release may be hard links to the run's own files
    with pytest.raises(ReleaseRefused, match="the exported chat template makes"):
        refuse_other_chats(found, [[1]] * len(found.ids))


def test_a_run_that_was_trained_in_no_template_or_the_tokenizers_own_leaves_it(
    run: RunFolder, tiny_model: Path
) -> None:
    codec = load_tokenizer(str(tiny_model))
    text = choose_chat_template(run, recipe_of(run, stage="cpt"), codec, print)
    assert (text.name, text.text) == (None, None)
    codec.tokenizer.chat_template = OTHER
    talking = Codec(codec.tokenizer, codec.folder, codec.name)
    own = choose_chat_template(run, recipe_of(run), talking, print)
    assert (own.name, own.text) == ("model", None)
    plain = choose_chat_template(run, recipe_of(run, template="qa"), talking, print)
    assert plain.name == "qa"


def test_a_tokenizer_that_looks_back_over_an_end_token_gets_none(
    run: RunFolder, spoiled: Callable[[Callable[[Tokenizer], None]], Codec], tmp_path: Path
) -> None:
    """Training wrote each turn for itself, with all that stands behind the end token before it."""

    def swallow_line_ends(tokenizer: Tokenizer) -> None:
        end = AddedToken("<|endoftext|>", special=True, normalized=False, rstrip=True)
        tokenizer.add_special_tokens([end])

    told: list[str] = []
    codec = spoiled(swallow_line_ends)
    found = choose_chat_template(run, recipe_of(run, template="chat"), codec, told.append)
    assert (found.name, found.text) == (None, "")
    assert told[0].startswith("no chat template is exported: of ")
    write_chat_template(folder_with(tmp_path, codec.folder, OTHER), "")
    assert AutoTokenizer.from_pretrained(tmp_path / "export").chat_template is None
    # With one answer there is nothing behind an end token.
    assert choose_chat_template(run, recipe_of(run), codec, print).name == "lines"


def test_an_export_stops_where_training_taught_it_to(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 1}))
    set_generation(tmp_path, [2])
    assert not path.exists()
    set_generation(tmp_path, [7])
    found = GenerationConfig.from_pretrained(tmp_path)
    assert (found.eos_token_id, found.pad_token_id) == ([7, 2], 1)
    path.write_text(json.dumps({"eos_token_id": [7, 9], "temperature": 0.6}))
    before = path.stat().st_mtime_ns
    set_generation(tmp_path, [9])
    assert path.stat().st_mtime_ns == before
    set_generation(tmp_path, [9], do_sample=True)
    assert json.loads(path.read_text("utf-8")) == {
        "eos_token_id": [7, 9],
        "temperature": 0.6,
        "do_sample": True,
    }
