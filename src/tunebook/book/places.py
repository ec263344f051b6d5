"""Where everything in a book lies; nothing else in the project joins these paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tunebook.errors import BookError

MARK = "tunebook.yaml"
_SLUG = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")

_BOOK_YAML = """\
# This file marks a book: `tunebook` finds it from any folder below.
format_version: 1
"""
_IGNORE = """\
# The index and the caches are rebuilt at any time.
*
!.gitignore
"""
_STARTED = ("resolved.yaml", "seal.json", "events", "checkpoints", "final")


class RunFolder:
    """The paths of one run; making one touches nothing on disk."""

    __slots__ = ("book", "name", "path")

    def __init__(self, book: Path, name: str):
        if not _SLUG.match(name):
            raise BookError(
                f"`{name}` cannot name a run: use letters, digits, dot, dash and underscore, "
                "at most 100 of them"
            )
        self.book = book
        self.name = name
        self.path = book / "runs" / name

    @property
    def run_yaml(self) -> Path:
        """The run file as its author wrote it."""
        return self.path / "run.yaml"

    @property
    def resolved_yaml(self) -> Path:
        """Every value, defaults included, with the environment."""
        return self.path / "resolved.yaml"

    @property
    def data_json(self) -> Path:
        """Where every row of every source went."""
        return self.path / "data.json"

    @property
    def plan_json(self) -> Path:
        """What was planned before step 1 and, at the end, what it came to."""
        return self.path / "plan.json"

    @property
    def seal_json(self) -> Path:
        """Hypothesis and predictions, hashed before step 1."""
        return self.path / "seal.json"

    @property
    def events(self) -> Path:
        """The folder of append-only event files, one per process."""
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        """The folder of `step-<n>` checkpoints."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """The trained model, in names that other tools load."""
        return self.path / "final"

    @property
    def best(self) -> Path:
        """A link to the checkpoint with the lowest held-out loss."""
        return self.path / "best"

    @property
    def release_json(self) -> Path:
        """What was released of the run, and how it was verified."""
        return self.path / "release.json"

    @property
    def release(self) -> Path:
        """Where a part is released as work in progress."""
        return self.book / "releases" / self.name

    @property
    def evaluations(self) -> Path:
        """The folder of evaluations: a file with a line per question asked, and what it came to."""
        return self.path / "evaluations"

    @property
    def notebook_md(self) -> Path:
        """The run's page."""
        return self.path / "notebook.md"

    @property
    def curve_svg(self) -> Path:
        """The figure on the run's page."""
        return self.path / "curve.svg"

    @property
    def train_log(self) -> Path:
        """What the trainer said."""
        return self.path / "train.log"

    def train_log_of(self, host: int) -> Path:
        """What the trainer said on one of several hosts, counted from 0."""
        return self.train_log if host == 0 else self.path / f"train-host-{host}.log"

    @property
    def tensorboard(self) -> Path:
        """The folder of event files for TensorBoard (`report_to`)."""
        return self.path / "tensorboard"

    @property
    def wandb_json(self) -> Path:
        """The id of the run at W&B, and up to which step it was told (`report_to`)."""
        return self.path / "wandb.json"

    def report_log(self, logger: str) -> Path:
        """Name the file for what a logger's process said."""
        return self.path / f"report-{logger}.log"

    @property
    def stop_requested(self) -> Path:
        """The file that asks the trainer to save and pause at its next step."""
        return self.path / "stop-requested"

    @property
    def heartbeat_json(self) -> Path:
        """Which process trains the run, and when it last said so."""
        return self.path / "heartbeat.json"

    @property
    def cache_dir(self) -> Path:
        """The book's folder of token caches; BookError where it is a link or behind one."""
        from tunebook.book.writing import refuse_to_write_through_links

        refuse_to_write_through_links(self.book, self.book / ".tunebook" / "cache")
        return self.book / ".tunebook" / "cache"

    @property
    def judge_cache(self) -> Path:
        """The book's folder of scores that a judge was paid for."""
        return self.book / ".tunebook" / "judge"

    @property
    def judge_anchor(self) -> Path:
        """The book's folder of frozen answers and what judges gave them in every session."""
        return self.book / "judge-anchor"

    def exists(self) -> bool:
        """Tell whether the folder is there."""
        return self.path.is_dir()

    def started(self) -> bool:
        """Tell whether anything but the run file (and the author's page) was written."""
        return any((self.path / name).exists() for name in _STARTED)

    def __repr__(self) -> str:
        return f"RunFolder({self.name!r} in {str(self.book)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and (self.book, self.name) == (other.book, other.name)

    def __hash__(self) -> int:
        return hash((self.book, self.name))


def find_book(start: Path | None = None) -> Path:
    """Walk up from a folder to the one that holds `tunebook.yaml`; BookError if there is none."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / MARK).is_file():
            return folder
    raise BookError(f"no book here or above {here}; make one with `tunebook init mybook`")


def find_book_of(file: object) -> Path:
    """Find the book here or above, else the one around a file that is named from elsewhere."""
    try:
        return find_book()
    except BookError:
        if isinstance(file, str | Path) and (path := Path(file)).is_file():
            return find_book(path.parent)
        raise


def create_book(folder: Path) -> Path:
    """Make a book in a new or existing folder; BookError if it already is one."""
    from tunebook.book.atomic import storage_errors, write_text

    if folder.is_symlink() and not folder.exists():
        raise BookError(f"{folder} is a link that leads to no folder; name a folder for the book")
    if (folder / MARK).exists():
        raise BookError(f"{folder} already is a book; `tunebook new NAME` starts a run in it")
    if folder.exists() and not folder.is_dir():
        raise BookError(f"{folder} is a file; name a folder for the book")
    new = [path for path in (folder, *_parts_of_a_book(folder)) if not os.path.lexists(path)]
    with storage_errors(f"make the book {folder}", folder.parent):
        try:
            (folder / "runs").mkdir(parents=True, exist_ok=True)
            make_hidden_dir(folder)
            _write_new(folder / "notebook.md", "")
            # The mark comes last: a folder with a mark is a whole book.
            write_text(folder / MARK, _BOOK_YAML)
        except BaseException:
            _take_back(new)
            raise
    return folder.resolve()


def _parts_of_a_book(folder: Path) -> list[Path]:
    hidden = folder / ".tunebook"
    return [folder / "runs", hidden, hidden / ".gitignore", folder / "notebook.md", folder / MARK]


def _take_back(made: Sequence[Path]) -> None:
    for path in reversed(made):
        with suppress(OSError):  # what somebody put something into stays
            path.rmdir() if path.is_dir() else path.unlink()


def make_hidden_dir(book: Path) -> Path:
    """Make the folder of a book that git leaves out, where it is not there.

    Raises OSError if refused, BookError where it is a link.
    """
    from tunebook.book.atomic import write_text
    from tunebook.book.writing import make_folder

    hidden = make_folder(book, book / ".tunebook")
    ignored = hidden / ".gitignore"
    # A full disk left an empty one in books of before.
    if not ignored.exists() or not ignored.stat().st_size:
        write_text(ignored, _IGNORE)
    return hidden


def _write_new(path: Path, text: str) -> None:
    """Write a file where nothing stands, not even a link that leads nowhere."""
    with suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
        file.write(text)


def ui_token_file(book: Path) -> Path:
    """Name the file of what visitors of the book's pages must know; only its owner may read it."""
    return book / ".tunebook" / "ui-token"


def page_lock(book: Path) -> Path:
    """Name the file that whoever writes a page of a book locks meanwhile."""
    return book / ".tunebook" / "pages.lock"


def page_stamps(book: Path) -> Path:
    """Name the throw-away file that says of what each page was written."""
    return book / ".tunebook" / "pages.json"


def served_dir(book: Path) -> Path:
    """Give the folder of released weights that are served, by what they were made of."""
    return book / ".tunebook" / "served"


def is_run_name(name: str) -> bool:
    """Tell whether a run can have a name: it is one part of a path, and leads nowhere else."""
    return _SLUG.match(name) is not None


def kept_steps(book: Path, name: str) -> Path:
    """Name the throw-away copy of what was read of a long run; BookError for no name of a run."""
    name = RunFolder(book, name).name
    return book / ".tunebook" / "steps" / f"{name}.npz"


def list_runs(book: Path) -> list[RunFolder]:
    """List the runs of a book by name; folders that begin with a dot are set aside.

    A link that leads out of `runs` is none: what is behind it would be told as part of the book.
    """
    return look_for_runs(book)[0]


def left_out_runs(book: Path) -> list[RunFolder]:
    """List what would be runs, and is no part of the book: links that lead out of `runs`."""
    return look_for_runs(book)[1]


def left_out_words(run: RunFolder) -> str:
    """Say of one of `left_out_runs` that it is left out, and why."""
    return f"runs/{run.name} is left out: {describe_left_out(run)}"


def look_for_runs(book: Path) -> tuple[list[RunFolder], list[RunFolder]]:
    """List what `list_runs` and `left_out_runs` give, in one look at the folder."""
    entries = [(RunFolder(book, name), stays) for name, stays in _entries(book)]
    runs = [run for run, stays in entries if stays]
    return runs, [run for run, stays in entries if not stays]


def describe_left_out(run: RunFolder) -> str:
    """Say why a link is no run of its book."""
    return (
        f"a link to {where_it_leads(run.path)}, which is not in the book; put the folder itself "
        "there, or make all of `runs` a link"
    )


def where_it_leads(link: Path) -> str:
    """Give what a link says, to be told."""
    try:
        return os.readlink(link)
    except OSError:  # put in order since it was looked at
        return "another place"


def _entries(book: Path) -> list[tuple[str, bool]]:
    try:
        with os.scandir(book / "runs") as found:
            folders = [(entry.name, entry.is_symlink()) for entry in found if _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    named = [(name, link) for name, link in folders if _SLUG.match(name)]
    return sorted((name, not link or _leads_to_a_run(book, name)) for name, link in named)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _leads_to_a_run(book: Path, name: str) -> bool:
    runs = (book / "runs").resolve()
    try:
        return (runs / name).resolve().parent == runs
    except (OSError, RuntimeError):
        return False


def open_run(book: Path, name: str) -> RunFolder:
    """Find a run by name; BookError names the nearest one."""
    # By the listing, which keeps capitals apart wherever the file system does not.
    with suppress(OSError):
        if _SLUG.match(name) and name in os.listdir(book / "runs"):
            run = RunFolder(book, name)
            if run.exists():
                if run.path.is_symlink() and not _leads_to_a_run(book, name):
                    raise BookError(f"runs/{name} is {describe_left_out(run)}")
                return run
    import difflib

    known = [run.name for run in list_runs(book)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if near:
        way_out = f"did you mean `{near[0]}`?"
    elif known:
        way_out = "`tunebook runs` lists what there is"
    else:
        way_out = "`tunebook new NAME` starts one"
    raise BookError(f"the book {book} has no run `{name}`; {way_out}")


def run_file_of(book: Path, name: str) -> Path:
    """Find what a child of a run is laid over: its resolved values, or its file when it is new."""
    run = open_run(book, name)
    return run.resolved_yaml if run.resolved_yaml.exists() else run.run_yaml
