"""The one safe join: whatever a stranger names or links, nothing outside of a book is shown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tunebook.book.inside import inside, open_inside, read_inside, shown
from tunebook.book.places import RunFolder, create_book, is_run_name, list_runs

PARTS = st.sampled_from(
    ["..", ".", "", "runs", "a", "b", "events", "notebook.md", "secret", "x\0y", "~", "\\..", "é"]
)
NAMES = st.one_of(
    st.lists(PARTS, max_size=8).map("/".join),
    st.lists(PARTS, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    st.text(max_size=40),
)
PLACES = ("notebook.md", "runs/a", "runs/a/notebook.md", "runs/a/events", "runs/a/events/x.jsonl",
          "runs/b", "runs/b/run.yaml", "runs/a/deep/er")  # fmt: skip
TARGETS = st.sampled_from(
    """.. ../.. ../../.. ../b ../../runs/b b notebook.md . / ../../../outside events run.yaml
    ../../../outside/secret ../outside/secret ../../outside ../a/events nowhere
    OUTSIDE OUTSIDE/secret""".split()
)
SECRET = b"a secret"


@contextmanager
def book_beside_a_secret() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        outside = place / "outside"
        (outside / "events").mkdir(parents=True)
        for path in ("secret", "notebook.md", "run.yaml", "events/x.jsonl", "x.jsonl", "er"):
            (outside / path).write_bytes(SECRET)
        book = create_book(place / "mybook")
        for run in "ab":
            (book / "runs" / run / "events").mkdir(parents=True)
            for file in ("notebook.md", "run.yaml", "events/x.jsonl"):
                (book / "runs" / run / file).write_text(f"own words of {run}")
        yield book, outside


@given(st.lists(NAMES, min_size=1, max_size=30))
def test_a_joined_name_stays_in_its_folder_or_is_refused(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "a"
        folder.mkdir()
        for name in names:
            try:
                found = inside(folder, name)
            except OSError:
                continue
            assert found.is_relative_to(folder)
            assert found != folder
            assert ".." not in found.parts


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(PLACES), TARGETS), min_size=1, max_size=4))
def test_no_way_of_laying_links_shows_what_lies_outside(links: list[tuple[str, str]]) -> None:
    with book_beside_a_secret() as (book, outside):
        for place, target in links:
            path = book / place
            if not path.parent.is_dir():
                continue
            if path.is_dir() and not path.is_symlink():
                os.rename(path, book / f".set-aside-{len(list(book.iterdir()))}")
            path.unlink(missing_ok=True)
            path.symlink_to(target.replace("OUTSIDE", str(outside)))
        for place in (*PLACES, "runs/a/run.yaml", "runs/b/events/x.jsonl", "runs/b/notebook.md"):
            try:
                found, told = shown(book, book / place), read_inside(book, book / place)
                with open_inside(book, book / place) as file:
                    assert file.read() == told
            except OSError:
                continue
            assert told != SECRET
            real, run = found.resolve(), place.split("/")[1] if "/" in place else None
            assert real.is_relative_to(book)
            # Not even what another run of the book says, but for a run that is a link to it.
            if run is not None and not (book / "runs" / run).is_symlink():
                assert real.is_relative_to(book / "runs" / run)
        for one in list_runs(book):
            assert one.path.resolve().parent == book / "runs"


@given(NAMES)
def test_a_name_of_a_run_is_one_part_of_a_path(name: str) -> None:
    if is_run_name(name):
        run = RunFolder(Path("/book"), name)
        assert os.path.normpath(run.path) == str(run.path)
        assert run.path.parent == Path("/book/runs")
