"""What is left of a run after a fault, and runs to put faults into."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import toy


def weights(book: Path, name: str) -> dict[str, bytes]:
    """Read the bytes of every tensor of a finished run."""
    from safetensors.numpy import load_file

    (path,) = (book / "runs" / name / "final").glob("*model.safetensors")
    return {key: value.tobytes() for key, value in load_file(path).items()}


def history(book: Path, name: str) -> list[tuple[object, ...]]:
    """List what happened in a run, without times and memory."""
    from tunebook.book.events import read_events
    from tunebook.book.places import RunFolder

    events = read_events(RunFolder(book, name))
    return [
        *[("step", s.step, s.loss, s.grad_norm, s.examples) for s in events.steps],
        *[("validation", v.step, v.loss, v.examples_hash) for v in events.validations],
        *[("sample", s.step, s.prompt, s.text) for s in events.samples],
    ]


def newest(book: Path, name: str) -> int:
    """Give the step of the newest good checkpoint; AssertionError if any is damaged."""
    from tunebook.book.checkpoints import newest_good_checkpoint
    from tunebook.book.places import RunFolder
    from tunebook.train.state import read_position

    found, problems = newest_good_checkpoint(RunFolder(book, name))
    assert not problems, problems
    return read_position(found).step if found else 0


def is_finished(book: Path, name: str) -> bool:
    """Tell whether the last state is finished: only the launcher's page was cut short then."""
    from tunebook.book.liveness import current_state
    from tunebook.book.places import RunFolder

    return current_state(RunFolder(book, name)) == "finished"


def whole_run(book: Path, name: str, **changes: Any) -> None:
    """Train a run that nothing happens to; without a plan when `changes` say nothing else."""
    done = forked.run(book, "train", str(toy.write_run(book, name, **changes)))
    assert done.returncode == 0, done.said()


def paused_run(book: Path, name: str, at_step: int, **changes: Any) -> Path:
    """Train a run, kill it when the checkpoint of a step stands, and set a copy of it aside."""
    run = book / "runs" / name

    def inside() -> None:
        import tunebook.workflows.training as training

        rotate = training._rotate

        def rotate_and_die(*args: Any) -> None:
            rotate(*args)
            if (run / "checkpoints" / f"step-{at_step}").exists():
                os.kill(os.getpid(), signal.SIGKILL)

        training._rotate = rotate_and_die

    path = toy.write_run(book, name, **changes)
    died = forked.run(book, "train", str(path), inside=inside)
    assert died.returncode == 1, died.said()
    assert newest(book, name) == at_step
    aside = book / "aside" / name
    shutil.copytree(run, aside, symlinks=True)
    return aside


def put_back(book: Path, aside: Path) -> Path:
    """Make a run what it was when it was set aside."""
    run = book / "runs" / aside.name
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(aside, run, symlinks=True)
    return run


def resume(book: Path, name: str, inside: Callable[[], None] = lambda: None) -> forked.Command:
    """Run the real `tunebook resume`; AssertionError where it shows a traceback."""
    command = forked.run(book, "resume", name, inside=inside)
    said = command.said()
    assert "Traceback" not in said, said
    assert "this is a bug" not in said, said
    return command


def finish(book: Path, name: str, whole: str) -> str:
    """Resume a run to its end and compare it with an uninterrupted one; gives what was said."""
    said = ""
    if not is_finished(book, name):
        command = resume(book, name)
        said = command.said()
        assert command.returncode == 0, said
    assert weights(book, name) == weights(book, whole), f"{name}: the weights differ"
    assert history(book, name) == history(book, whole), f"{name}: the history differs"
    return said
