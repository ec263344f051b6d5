"""A licence is what a file states, in its own words; nothing is matched or guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.book.licences import Licence, read_cached_licence, read_licence


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("files", "identifier", "words", "told_by"),
    [
        ({"README__md": "---\nlicense: MIT\n---\n# x\n"}, "mit", "MIT", "README.md"),
        ({"README__md": "---\nlicense: [cc-by-4.0]\n---\n"}, "cc-by-4.0", "cc-by-4.0", "README.md"),
        ({"README__md": "---\nlicense: [mit, gpl]\n---\n"}, None, "mit, gpl", "README.md"),
        ({"README__md": "---\nlicense: My Own 2\n---\n"}, None, "My Own 2", "README.md"),
        ({"LICENSE": "\n  Apache   License\nVersion 2.0\n"}, None, "“Apache License”", "LICENSE"),
        ({"LICENCE__txt": "SPDX-License-Identifier: MIT\n"}, "mit", "MIT", "LICENCE.txt"),
        ({"config__json": '{"license": "mit"}'}, "mit", "mit", "config.json"),
        (
            {"README__md": "---\nlicense: mit\n---\n", "LICENSE": "GPL\n"},
            "mit",
            "mit",
            "README.md",
        ),
        ({"README__md": "# license: mit\n", "LICENSE": "GPL"}, None, "“GPL”", "LICENSE"),
    ],
)
def test_a_stated_licence_is_read_with_the_file_that_states_it(
    tmp_path: Path, files: dict[str, str], identifier: str | None, words: str, told_by: str
) -> None:
    found = read_licence(write(tmp_path, **files))
    assert found == Licence(identifier, words, told_by)


def test_a_licence_of_its_own_keeps_its_name_and_link(tmp_path: Path) -> None:
    card = "---\nlicense: other\nlicense_name: gemma-terms\nlicense_link: LICENSE\n---\n"
    found = read_licence(write(tmp_path, README__md=card))
    assert found == Licence("other", "other (gemma-terms)", "README.md", "gemma-terms", "LICENSE")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README__md": "---\nlicense: unknown\n---\n"},
        {"README__md": "---\nlicense: [\n---\n"},
        {"README__md": "---\n- a\n---\n"},
        {"README__md": "MIT is a place.\n"},
        {"LICENSE": " \n"},
        {"config__json": "[1]"},
        {"config__json": "{"},
    ],
)
def test_what_nobody_states_is_not_guessed(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_licence(write(tmp_path, **files)) is None


def test_a_card_in_the_cache_of_the_hub_is_read_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "datasets--org--rows"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    write(snapshot, README__md="---\nlicense:\n- cc0-1.0\n---\n")
    found = read_cached_licence("org/rows", "dataset", None)
    assert found is not None
    assert found.identifier == "cc0-1.0"
    assert read_cached_licence("org/rows", "dataset", "v2") is None
    assert read_cached_licence("org/rows", "model", None) is None
    assert read_cached_licence("no such", "model", None) is None
    # Of a model without a card, its LICENSE or config is asked.
    (snapshot / "README.md").unlink()
    write(snapshot, config__json='{"license": "mit"}')
    found = read_cached_licence("org/rows", "dataset", "main")
    assert found == Licence("mit", "mit", "config.json")
