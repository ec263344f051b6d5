from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from made_evaluations import make_evaluation
from made_runs import make_plan, make_run, make_step
from tunebook.book import page_stamps
from tunebook.book.checkpoints import mark_best
from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder, list_runs
from tunebook.errors import StorageError
from tunebook.workflows import notebook, standing_pages
from tunebook.workflows.note import write_note
from tunebook.workflows.notebook import build_notebook

Change = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files settle at once, and a figure be one line that says what it was drawn of."""
    monkeypatch.setattr(page_stamps, "SETTLED_SECONDS", 0.0)

    def draw(runs, form):  # type: ignore[no-untyped-def]
        return f'<svg data-numbers="{runs[0].digest()}">'.encode()

    monkeypatch.setattr(notebook, "draw_figure", draw)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name the runs whose events are read, for their pages or for the list of runs."""
    from tunebook.book import summary
    from tunebook.pages import run_steps

    names: list[str] = []
    for module in (run_steps, summary):
        plainly = module.read_events

        def reading(run, *rest, plainly=plainly):  # type: ignore[no-untyped-def]
            names.append(run.name)
            return plainly(run, *rest)

        monkeypatch.setattr(module, "read_events", reading)
    return names


def a_book_of_kin(book: Path) -> None:
    """A base with children of both kinds, grandchildren, strangers, and claims about others."""
    make_run(book, "base", predict=("no divergence", "val_loss < 3"))
    make_run(book, "child", extends="base", learning_rate=1e-4, loss=1.9)
    make_run(book, "tuned", model="run:base", loss=1.5)
    make_run(book, "far", extends="child", predict=("val_loss < base.val_loss",))
    make_run(book, "claims", predict=("val_loss < child.val_loss", "val_loss < later.val_loss"))
    make_run(book, "alone", predict=("val_loss < 1",))
    make_run(book, "broken-off", state="running", predict=("val_loss < 9",))
    make_run(book, "two", rank=8)


def more_steps(book: Path, name: str) -> None:
    with EventWriter(RunFolder(book, name), 2) as events:
        events.write("step", make_step(random.randrange(11, 1000), 1.0))


def step_and_end(book: Path, name: str, state: str) -> None:
    with EventWriter(RunFolder(book, name), 3) as events:
        events.write("state", {"state": state, "reason": "", "step": 11})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    path.write_text(text.replace(old, new) if old in text else text.replace(new, old))


def edit_unseen(book: Path) -> None:
    """Change a file, and give it the size and the time that it had."""
    path = RunFolder(book, "two").data_json
    before = path.stat()
    edit(path, '"tokens": 2000', '"tokens": 3000')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename(book: Path, old: str, new: str) -> None:
    if (book / "runs" / new).exists():
        old, new = new, old
    os.rename(book / "runs" / old, book / "runs" / new)


def delete_or_make(book: Path, name: str, **how: object) -> None:
    run = RunFolder(book, name)
    if run.exists():
        shutil.rmtree(run.path)
    else:
        make_run(book, name, **how)  # type: ignore[arg-type]


def weights(book: Path, name: str) -> None:
    run = RunFolder(book, name)
    for folder in (run.checkpoints / "step-5", run.checkpoints / "step-10", run.final):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"x" * random.randrange(1, 9999))
    mark_best(run, random.choice((5, 10)))


def drop(path: Path) -> None:
    path.unlink(missing_ok=True)


def run(book: Path, name: str) -> RunFolder:
    return RunFolder(book, name)


CHANGES: dict[str, Change] = {
    "nothing": lambda book: None,
    "a run goes on": lambda book: more_steps(book, "child"),
    "a run that others compare with goes on": lambda book: more_steps(book, "base"),
    "a run ends otherwise": lambda book: step_and_end(
        book, "broken-off", random.choice(("failed", "finished", "paused"))
    ),
    "an evaluation": lambda book: make_evaluation(run(book, "tuned"), [random.random(), 1.0]),
    "an evaluation is taken away": lambda book: shutil.rmtree(
        run(book, "tuned").evaluations, ignore_errors=True
    ),
    "a broken evaluation": lambda book: (
        run(book, "two").evaluations.mkdir(exist_ok=True),
        (run(book, "two").evaluations / "probe-final-1.json").write_text("{"),
    ),
    "a note": lambda book: write_note(book, ["alone"], "again", ["later"]),
    "words on a page": lambda book: run(book, "two").notebook_md.write_text(
        "My words.\n" + run(book, "two").notebook_md.read_text()
    ),
    "a tampered page": lambda book: edit(run(book, "two").notebook_md, "val_loss", "val_gain"),
    "a page without its end": lambda book: edit(
        run(book, "far").notebook_md, "<!-- tunebook:end", "<!-- end"
    ),
    "a page is deleted": lambda book: drop(run(book, "child").notebook_md),
    "the index page is deleted": lambda book: drop(book / "notebook.md"),
    "a figure is deleted": lambda book: drop(run(book, "base").curve_svg),
    "a figure of other numbers": lambda book: run(book, "base").curve_svg.write_text(
        '<svg data-numbers="0123456789abcdef">'
    ),
    "a figure of nothing": lambda book: run(book, "far").curve_svg.write_text("<svg>"),
    "a figure where nothing was drawn": lambda book: run(book, "new").curve_svg.write_text("<svg>"),
    "a parent's settings": lambda book: edit(
        run(book, "base").resolved_yaml, "epochs: 1.0", "epochs: 2.0"
    ),
    "another model": lambda book: edit(
        run(book, "two").resolved_yaml, "as_written: tunebook/tiny", "as_written: run:far"
    ),
    "a plan": lambda book: make_plan(run(book, "alone"), seconds=random.random()),
    "a broken seal": lambda book: edit(run(book, "alone").seal_json, "few", "many"),
    "rows of data": lambda book: edit(run(book, "two").data_json, "empty answer", "too short"),
    "an edit of the same size and time": edit_unseen,
    "weights": lambda book: weights(book, "child"),
    "a child comes or goes": lambda book: delete_or_make(book, "new-child", extends="far"),
    "weights of a run are trained on": lambda book: delete_or_make(book, "on", model="run:child"),
    "the run of a prediction comes or goes": lambda book: delete_or_make(book, "later", loss=5.0),
    "a parent is renamed": lambda book: rename(book, "base", "other-base"),
    "two runs change their names": lambda book: (
        rename(book, "alone", ".aside"),
        rename(book, "two", "alone"),
        rename(book, ".aside", "two"),
    ),
    "a new run": lambda book: (
        run(book, "new").path.mkdir(exist_ok=True),
        run(book, "new").run_yaml.write_text(f"name: new\nmodel: m\nseed: {random.random()}\n"),
    ),
    "stamps that are broken": lambda book: (book / ".tunebook/pages.json").write_text("{"),
    "stamps that are gone": lambda book: drop(book / ".tunebook/pages.json"),
    "damaged events": lambda book: [
        path.write_bytes(b"{" + path.read_bytes()) for path in run(book, "two").events.iterdir()
    ],
}  # fmt: skip


def files(book: Path) -> dict[str, bytes | str]:
    """Everything in a book but the throw-away folder, by path."""
    return {
        str(path.relative_to(book)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in book.rglob("*")
        if ".tunebook" not in path.parts and (path.is_symlink() or path.is_file())
    }


def in_full(book: Path, aside: Path) -> dict[str, bytes | str]:
    """Give the files of a book as a full build would leave them."""
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(book, aside, symlinks=True)
    build_notebook(aside, drawing_seconds=math.inf, every_page=True)
    return files(aside)


def check_in_turn(book: Path, aside: Path, names: list[str]) -> None:
    a_book_of_kin(book)
    build_notebook(book, drawing_seconds=math.inf)
    for name in names:
        try:
            CHANGES[name](book)
        except OSError:
            continue  # of a run that an earlier change renamed, took away or brought back
        whole = in_full(book, aside)
        build_notebook(book, drawing_seconds=math.inf)
        found = files(book)
        differing = [key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key)]
        assert not differing, f"after {name!r}: {differing}"


def test_after_each_change_the_pages_are_those_of_a_full_build(book: Path, tmp_path: Path) -> None:
    random.seed(0)
    check_in_turn(book, tmp_path / "aside", list(CHANGES))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_in_any_order_of_changes_the_pages_are_those_of_a_full_build(
    book: Path, tmp_path: Path, seed: int
) -> None:
    random.seed(seed)
    check_in_turn(book, tmp_path / "aside", random.choices(list(CHANGES), k=60))


def test_the_events_of_other_runs_are_not_read(book: Path, read: list[str]) -> None:
    a_book_of_kin(book)
    build_notebook(book, drawing_seconds=math.inf)
    build_notebook(book)  # the list of runs reads each page once more, for notes
    read.clear()
    assert build_notebook(book) == []
    assert read == []
    more_steps(book, "alone")
    assert build_notebook(book) == [RunFolder(book, "alone").notebook_md]
    assert set(read) == {"alone"}


def test_of_a_change_only_the_pages_that_tell_of_it_are_written(
    book: Path, read: list[str]
) -> None:
    a_book_of_kin(book)
    build_notebook(book, drawing_seconds=math.inf)
    build_notebook(book)
    read.clear()
    more_steps(book, "child")
    build_notebook(book)
    # The family of child, and the run that claims something of it.
    assert set(read) == {"child", "base", "tuned", "far", "claims"}


def test_a_build_of_everything_reads_every_run(book: Path, read: list[str]) -> None:
    a_book_of_kin(book)
    build_notebook(book, drawing_seconds=math.inf)
    build_notebook(book)
    read.clear()
    build_notebook(book, every_page=True)
    assert len(set(read)) == 8


def test_a_living_run_is_written_at_each_build_and_once_when_it_died(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_book_of_kin(book)
    written: list[str] = []
    plainly = notebook.render_run_page

    def writing(source):  # type: ignore[no-untyped-def]
        written.append(source.run.name)
        return plainly(source)

    monkeypatch.setattr(notebook, "render_run_page", writing)
    living = RunFolder(book, "broken-off")
    with acquire_run(living):
        for _ in range(2):
            build_notebook(book, drawing_seconds=math.inf)
            written.clear()
        build_notebook(book)
        assert written == ["broken-off"]
        assert 'state: "running"' in living.notebook_md.read_text()
        beat = living.heartbeat_json.read_bytes()
    # As one that was killed leaves it: its file says that it lives, and no file says more.
    living.heartbeat_json.write_bytes(beat.replace(b'"process":"', b'"process":"another '))
    build_notebook(book)
    assert 'state: "paused"' in living.notebook_md.read_text()


def test_a_run_whose_trainer_is_dead_without_a_word_is_written_again(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(book, "a", predict=("val_loss < b.val_loss",))
    make_run(book, "b", state="running")
    alive = [True]
    monkeypatch.setattr("tunebook.book.liveness.is_alive", lambda run: alive[0])
    build_notebook(book)
    build_notebook(book)
    assert "b is still running" in RunFolder(book, "a").notebook_md.read_text()
    alive[0] = False
    changed = build_notebook(book)
    assert [path.parent.name for path in changed] == ["mybook", "a", "b"]
    assert "b is still running" not in RunFolder(book, "a").notebook_md.read_text()


def test_a_figure_that_there_was_no_time_for_is_drawn_by_a_later_build(
    book: Path, read: list[str]
) -> None:
    made = [make_run(book, name) for name in "abc"]
    build_notebook(book, drawing_seconds=0)
    drawn = [run.curve_svg.exists() for run in made]
    assert drawn.count(True) == 1
    assert build_notebook(book, drawing_seconds=0) == []
    read.clear()
    assert build_notebook(book, drawing_seconds=0) == []
    assert read == []
    build_notebook(book, drawing_seconds=math.inf)
    assert all(run.curve_svg.exists() for run in made)
    assert all("curve.svg" in run.notebook_md.read_text() for run in made)


def test_a_page_does_not_show_a_figure_that_is_gone_though_there_is_no_time_to_draw(
    book: Path,
) -> None:
    made = [make_run(book, name) for name in "abc"]
    build_notebook(book, drawing_seconds=math.inf)
    for run in made:
        run.curve_svg.unlink()
    build_notebook(book, drawing_seconds=0)
    shown = ["curve.svg" in run.notebook_md.read_text() for run in made]
    assert shown == [run.curve_svg.exists() for run in made]
    assert shown.count(True) == 1


def test_a_run_with_files_of_this_moment_is_looked_at_again(
    book: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_stamps, "SETTLED_SECONDS", 60.0)
    make_run(book, "a")
    build_notebook(book)
    build_notebook(book)
    read.clear()
    build_notebook(book)
    assert read == ["a"]


def test_a_run_with_a_link_that_leads_elsewhere_is_looked_at_again(
    book: Path, tmp_path: Path
) -> None:
    run = make_run(book, "a")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "model.safetensors").write_bytes(b"x" * 10)
    run.final.symlink_to(tmp_path / "disk")
    build_notebook(book)
    assert "10 B" in run.notebook_md.read_text()
    (tmp_path / "disk" / "model.safetensors").write_bytes(b"x" * 20)
    build_notebook(book)
    assert "20 B" in run.notebook_md.read_text()


def test_another_tunebook_writes_every_page(
    book: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_book_of_kin(book)
    build_notebook(book)
    build_notebook(book)
    read.clear()
    monkeypatch.setattr(standing_pages, "print_program", lambda: "another")
    build_notebook(book)
    assert len(set(read)) == 8


@pytest.mark.parametrize("where", ["stamps", "lock"])
def test_a_disk_that_refuses_the_stamps_costs_no_page(
    book: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    name = "write_atomically" if where == "stamps" else "alone"
    monkeypatch.setattr(page_stamps, name, full)
    run = make_run(book, "a")
    assert build_notebook(book) == [book / "notebook.md", run.notebook_md]
    assert not (book / ".tunebook" / "pages.json").exists()


@pytest.mark.parametrize("said", ["[]", "null", '{"pages": 3}', '{"pages": {"a": {"of": 1}}}', "x"])
def test_stamps_that_say_nothing_are_as_none(book: Path, said: str) -> None:
    run = make_run(book, "a")
    build_notebook(book)
    page = run.notebook_md.read_bytes()
    (book / ".tunebook" / "pages.json").write_text(said)
    run.notebook_md.unlink()
    build_notebook(book)
    assert run.notebook_md.read_bytes() == page


def test_no_stamp_is_written_before_its_page(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_book_of_kin(book)
    plainly = notebook.write_text

    def dying(path: Path, text: str) -> None:
        if path.parent.name == "far":
            raise KeyboardInterrupt
        plainly(path, text)

    monkeypatch.setattr(notebook, "write_text", dying)
    with pytest.raises(KeyboardInterrupt):
        build_notebook(book)
    assert "far" not in page_stamps.read_stamps(book)


def test_builds_at_the_same_time_leave_the_pages_of_a_full_build(
    book: Path, tmp_path: Path
) -> None:
    a_book_of_kin(book)
    build_notebook(book, drawing_seconds=math.inf)
    more_steps(book, "child")
    build = "import sys; from pathlib import Path; from tunebook.workflows import notebook as n; "
    build += "[n.build_notebook(Path(sys.argv[1])) for _ in range(3)]"
    both = [subprocess.Popen([sys.executable, "-c", build, str(book)]) for _ in range(2)]
    more_steps(book, "tuned")
    assert [one.wait() for one in both] == [0, 0]
    build_notebook(book, drawing_seconds=math.inf)
    assert files(book) == in_full(book, tmp_path / "aside")
    assert page_stamps.read_stamps(book).keys() == {run.name for run in list_runs(book)}


def test_one_more_trial_of_a_sweep_writes_its_own_page_and_that_of_its_base(
    book: Path, read: list[str]
) -> None:
    base = make_run(book, "base")
    for number in range(12):
        make_run(book, f"trial-{number:02d}", steps=1, extends="base", learning_rate=1e-4)
    build_notebook(book, drawing_seconds=math.inf)
    build_notebook(book)
    read.clear()
    make_run(book, "trial-99", steps=1, extends="base", learning_rate=1e-3)
    build_notebook(book)
    assert set(read) == {"trial-99", "base"}
    assert "[trial-99](../trial-99/notebook.md)" in base.notebook_md.read_text()


def test_a_process_that_is_older_than_its_program_leaves_nothing_alone(
    book: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(book, "a")
    build_notebook(book)
    build_notebook(book)
    read.clear()
    standing_pages.print_program.cache_clear()
    monkeypatch.setattr("psutil.Process.create_time", lambda process: 1e9)
    try:
        build_notebook(book)
    finally:
        standing_pages.print_program.cache_clear()
    assert read == ["a"]
