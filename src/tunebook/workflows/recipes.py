"""The five recipes: what each notebook did, as commands of tunebook that end in a report.

A recipe is a folder of plain files: `recipe.yaml` with its steps, run files, data, and `report.md`,
a template. Its steps are commands that anyone can type; what a step prints as JSON is kept and is
all that the report knows. A recipe is run in a book of its own, into which its files are copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunebook.book.atomic import storage_errors, write_text
from tunebook.book.liveness import ENDED, current_state
from tunebook.book.places import MARK, RunFolder, create_book
from tunebook.book.writing import make_folder, refuse_to_write_through_links
from tunebook.data.chess.engine import find_engine
from tunebook.errors import BookError, RunEnded, RunFileError, UsageError
from tunebook.recipe.yaml_text import parse_yaml, read_text
from tunebook.regular import read_regular
from tunebook.workflows.launch import child_environment
from tunebook.workflows.recipe_report import write_report

FOLDER = Path(__file__).parent.parent / "embedded" / "recipes"
TWIN = "twin"
FULL = "full"
REPORT = "report.md"
_ANSWERS = "answers"
_DONE = "done.json"
_INTERRUPTED = (129, 130, 143)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


class Step(BaseModel):
    """One command of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(min_length=1, description="What follows `tunebook` on the command line.")
    keep: str | None = Field(
        None, pattern=r"^[a-z][a-z0-9_]*$", description="Keep what it prints as JSON by this name."
    )
    text: bool = Field(False, description="What is kept is text, such as a table, and no JSON.")
    exit_code: int = Field(0, description="What it ends with, where that is the point of it.")
    needs: str | None = Field(None, description="A program without which the step is left out.")

    @model_validator(mode="after")
    def _training_is_asked_of_the_book(self) -> Step:
        # A training that ended as the recipe was killed is not trained again to hear its answer.
        if self.keep and self.run.startswith("train "):
            raise ValueError(
                "`keep` is for what can be asked again; ask `runs --json` of trainings"
            )
        return self


class RecipeFile(BaseModel):
    """What `recipe.yaml` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    notebook: str = Field(description="What was trained in the notebook, in a sentence.")
    minutes: float = Field(gt=0, description="How long the twin takes on two cores.")
    steps: list[Step] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class FoundRecipe:
    """A recipe with its name and the folder of its files."""

    name: str
    folder: Path
    file: RecipeFile

    @property
    def full(self) -> list[Path]:
        """The run files of the notebook's own model and hardware."""
        return sorted((self.folder / FULL).glob("*.yaml"))


def list_recipes() -> list[FoundRecipe]:
    """List the recipes that the package carries, by name."""
    return [find_recipe(path.parent.name) for path in sorted(FOLDER.glob("*/recipe.yaml"))]


def find_recipe(name: str) -> FoundRecipe:
    """Read one of them; UsageError names those there are."""
    known = sorted(one.parent.name for one in FOLDER.glob("*/recipe.yaml"))
    if name not in known:
        raise UsageError(f"there is no recipe {name!r}; there are {', '.join(known)}")
    path = FOLDER / name / "recipe.yaml"
    text = parse_yaml(read_text(path), str(path))
    try:
        return FoundRecipe(name, path.parent, RecipeFile.model_validate(text.values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise RunFileError(f"{text.at(key)}: `{key}`: {first['msg']}") from None


def run_recipe(
    name: str, book: Path | None = None, *, say: Say = lambda _: None, fresh: bool = False
) -> Path:
    """Run the twin of a recipe in a book of its own and write its report; gives the report's path.

    A recipe that was broken off goes on where it was; `fresh` begins a new book, beside the one
    that is there. Raises RunEnded when a step did not end as it should.
    """
    found = find_recipe(name)
    folder = _book_for(found, book, fresh)
    left = []
    done = _read_done(folder)
    for number, step in enumerate(found.file.steps, 1):
        key = _key(step)
        if key in done:
            continue
        say(f"[{number}/{len(found.file.steps)}] tunebook {step.run}")
        if step.needs and not _is_here(step.needs):
            say(f"left out: there is no {step.needs} here")
            left.append(step.run)
            continue
        _take(folder, step, f"`tunebook recipes run {name} --book {shlex.quote(str(folder))}`")
        if step.exit_code:
            say(f"ended with {step.exit_code}, which is the point of this step")
        done[key] = step.run
        write_text(_place(folder, _DONE), json.dumps(done, indent=1))
    text = write_report(found.folder / REPORT, answers_of(folder), left)
    with storage_errors(f"write the report of {name}", folder):
        write_text(folder / REPORT, text)
    return folder / REPORT


def answers_of(book: Path) -> dict[str, Any]:
    """Give what the steps of a recipe have answered, by name."""
    return {path.stem: _read_json(path) for path in sorted(_place(book, _ANSWERS).glob("*.json"))}


def _place(book: Path, name: str) -> Path:
    return book / ".tunebook" / "recipe" / name


def _book_for(found: FoundRecipe, book: Path | None, fresh: bool) -> Path:
    """Make the book of a recipe with its files, or take the one that is there."""
    folder = book or Path(f"{found.name}-book")
    number = 2
    while fresh and folder.exists():
        first = book or Path(f"{found.name}-book")
        folder, number = first.with_name(f"{first.name}-{number}"), number + 1
    marker, answers = _place(folder, "name"), _place(folder, _ANSWERS)
    if not _has_files(folder):  # not begun, or without room for a first file
        with storage_errors(f"begin the recipe {found.name}", folder):
            make_folder(folder, marker.parent)
            write_text(marker, found.name)
    elif not marker.is_file() or marker.read_text(encoding="utf-8") != found.name:
        raise BookError(
            f"{folder} is there and is no book of the recipe {found.name}; say --book FOLDER for "
            "another place"
        )
    if not (folder / MARK).exists():
        create_book(folder)
    if not answers.is_dir():  # last of all, so that a copy that was broken off is made again
        with storage_errors(f"copy the recipe {found.name}", folder):
            refuse_to_write_through_links(folder, answers)
            for kind, target in ((TWIN, folder), (FULL, folder / FULL)):
                for path in (found.folder / kind).rglob("*"):
                    place = target / path.relative_to(found.folder / kind)
                    refuse_to_write_through_links(folder, place)
            shutil.copytree(found.folder / TWIN, folder, dirs_exist_ok=True)
            if (found.folder / FULL).is_dir():
                shutil.copytree(found.folder / FULL, folder / FULL, dirs_exist_ok=True)
            answers.mkdir()
    return folder


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else folder.exists()


def _read_done(book: Path) -> dict[str, str]:
    path = _place(book, _DONE)
    found: dict[str, str] = _read_json(path) if path.exists() else {}
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_regular(path))
    except ValueError as error:
        raise BookError(
            f"{path} cannot be read ({error}); begin a new book with `--fresh`"
        ) from None


def _key(step: Step) -> str:
    # Without defaults: a key that recipes gain later makes no step of an older book a new one.
    said = step.model_dump_json(exclude_defaults=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _is_here(program: str) -> bool:
    if program != "stockfish":
        return shutil.which(program) is not None
    with contextlib.suppress(UsageError):
        return bool(find_engine(None))
    return False


def _take(book: Path, step: Step, again: str) -> None:
    """Run one step; raises RunEnded when it ends otherwise than it should."""
    words = _going_on(book, shlex.split(step.run))
    if not words:
        return
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunebook", *words],
            cwd=book,
            stdout=said if step.keep else sys.stderr,
            env=child_environment(),
            process_group=0,  # a Ctrl-C comes to it once, from here
        )
        returncode = _wait(process)
        said.seek(0)
        printed = said.read().decode()
    if returncode in _INTERRUPTED or returncode < 0:
        code = returncode if returncode > 0 else 128 - returncode
        raise RunEnded(f"the recipe was stopped; {again} goes on with it, that run too", code)
    if returncode != step.exit_code:
        raise RunEnded(
            f"`tunebook {step.run}` ended with {returncode}, not {step.exit_code}; {again} goes on "
            "from there",
            1,
        )
    if step.keep:
        # A step that answers in something else than it should is a bug of the recipe.
        answer = json.dumps(printed) if step.text else json.dumps(json.loads(printed), indent=1)
        write_text(_place(book, _ANSWERS) / f"{step.keep}.json", answer)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a step; what would end this command goes to the step, which saves what it has."""
    if threading.current_thread() is not threading.main_thread():
        return process.wait()  # signals come to the main thread alone

    def pass_on(number: int, _frame: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _going_on(book: Path, words: list[str]) -> list[str]:
    """Turn `train FILE` into `resume RUN` where it was broken off, into nothing where it ended.

    It may have ended without the mark that it was done, when the recipe was killed in between.
    """
    if words[0] != "train" or not (book / words[1]).is_file():
        return words
    values: Mapping[str, Any] = parse_yaml(read_text(book / words[1]), words[1]).values
    # `train FILE part=1 name=NAME-part-1` names its run on the command line.
    stated = [word.removeprefix("name=") for word in words[2:] if word.startswith("name=")]
    run = RunFolder(book, stated[-1] if stated else str(values.get("name")))
    if not run.exists() or not run.started():
        return words
    state = current_state(run)
    if state in ENDED:
        return [] if state == "finished" else words
    return ["resume", run.name, *[word for word in words[2:] if word == "--json"]]
