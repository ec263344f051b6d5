"""Release a finished part as work in progress, in a process of its own.

The chain's own process stays small for the days it runs, and outlives a release that the kernel
ends for want of memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tunebook.book.inside import refuse_linked_run
from tunebook.book.places import RunFolder
from tunebook.book.releases import read_releases
from tunebook.book.writing import open_to_write, refuse_to_write_through_links
from tunebook.errors import ParentMismatch, ReleaseRefused, RunEnded, TunebookError
from tunebook.workflows.launch import Watcher, child_environment
from tunebook.workflows.trainer import die_with_launcher


def release_part(run: RunFolder, watch: Watcher) -> str | None:
    """Release a trained part unless that was done; give why it failed, None when it did not.

    Raises RunEnded when its weights are not what was trained, or on Ctrl-C; BookError where its
    log is behind a link.
    """
    if any(each.to == place_of(run) for each in read_releases(run)):
        return None
    refuse_linked_run(run)
    watch("note", {"text": f"releasing {run.name} as work in progress"})
    try:
        code, said = _in_child(run)
    except KeyboardInterrupt:
        raise RunEnded(f"the release of {run.name} was stopped", 130) from None
    return _what_came(run, code, said, watch)


def _in_child(run: RunFolder) -> tuple[int, bytes]:
    command = [sys.executable, "-P", "-m", "tunebook.workflows.release_part", str(run.path)]
    # The child dies when its standard input closes, as it does on the way out of this block.
    with (
        open_to_write(run.book, run.train_log, "append") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(),
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
        ) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.read()
        return process.wait(), said


def _what_came(run: RunFolder, code: int, said: bytes, watch: Watcher) -> str | None:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    if not lines:
        why = "the process was killed" if code < 0 else f"it ended with {code}, see train.log"
        return f"{run.name}: {why}"
    answer = json.loads(lines[-1])
    if answer.get("refused"):
        raise RunEnded(f"{run.name} is trained, and not released: {answer['text']}", answer["code"])
    if answer.get("code"):
        return f"{run.name}: {answer['text']}"
    watch("note", {"text": f"released {place_of(run)}, verified: {answer['text']}"})
    return None


def place_of(run: RunFolder) -> str:
    """Name the folder of a part's release as `release.json` does."""
    return run.release.relative_to(run.book).as_posix()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name where the volume can, so that it takes no room twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def main(folder: str) -> int:
    """Release the part in a run folder; the last line on standard output tells what came of it."""
    path = Path(folder)
    run = RunFolder(path.parent.parent, path.name)
    die_with_launcher()
    # torch comes with these, and whoever asks whether there is anything to do needs none.
    from tunebook.pages.model_card import verification_words
    from tunebook.workflows.release import release

    try:
        refuse_to_write_through_links(run.book, run.release)
        # A folder without a record is what a killed release left between its last two steps.
        made = release(run.name, run.release, run.book, put=link_or_copy, replace=True)
    except TunebookError as error:
        refused = isinstance(error, (ReleaseRefused, ParentMismatch))
        answer = {"text": str(error), "code": error.exit_code, "refused": refused}
    else:
        answer = {"text": verification_words(made.verification), "code": 0}
    print(json.dumps(answer), flush=True)
    return int(str(answer["code"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
