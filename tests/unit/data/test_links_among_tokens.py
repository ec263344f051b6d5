"""Links that lie where tokens are written are taken out, and nothing is written through them."""

from __future__ import annotations

import os
import shutil

from tunebook.data.prepare import prepare
from tunebook.recipe.tree import Recipe


def test_no_token_file_is_written_through_a_link(write, codec, tmp_path):
    rows = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(30)]
    recipe = Recipe(name="r", model="m", data=[{"path": str(write("a.jsonl", rows))}])
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    prepare(recipe, codec, cache, lambda text: None)
    (made,) = cache.iterdir()
    names = [path.name for path in made.iterdir()]
    outside.mkdir()
    for name in names:
        (outside / name).write_bytes(b"precious")
    made.rename(outside / "made")
    before = {path.name: path.read_bytes() for path in (outside / "made").iterdir()}
    aside = cache / f".tmp-{made.name[:16]}"
    aside.mkdir()
    for name in names:
        (aside / name).symlink_to(outside / name)
    os.mkfifo(aside / "00000.json")
    (aside / "folder").mkdir()
    made.symlink_to(outside / "made")
    (outside / "made" / "index.json").write_bytes(b"of another")
    prepare(recipe, codec, cache, lambda text: None)
    assert made.is_dir()
    assert not made.is_symlink()
    assert {name: (made / name).read_bytes() for name in names} == before
    assert {(outside / name).read_bytes() for name in names} == {b"precious"}
    assert (outside / "made" / "index.json").read_bytes() == b"of another"
    rest = {k: v for k, v in before.items() if k != "index.json"}
    assert {k: (outside / "made" / k).read_bytes() for k in rest} == rest
    shutil.rmtree(made)
    aside.symlink_to(outside)
    prepare(recipe, codec, cache, lambda text: None)
    assert {(outside / name).read_bytes() for name in names} == {b"precious"}
    assert not (outside / "lock").exists()
