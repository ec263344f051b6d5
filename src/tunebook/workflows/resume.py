"""Go on with an interrupted run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tunebook.book.inside import refuse_linked_run
from tunebook.book.places import find_book, open_run
from tunebook.book.summary import summarize
from tunebook.errors import BookError, UsageError
from tunebook.records import RunSummary
from tunebook.workflows.changes import TAKEN_OVER, refuse_changes, resumed_recipe, words
from tunebook.workflows.fork import fork_run
from tunebook.workflows.hosts import Hosts
from tunebook.workflows.join import join_run, refuse_on_hosts
from tunebook.workflows.launch import Watcher
from tunebook.workflows.train import train_run
from tunebook.workflows.weights import refuse_imported


def resume(
    name: str,
    overrides: Sequence[str] = (),
    *,
    fork: str | None = None,
    book: Path | None = None,
    watch: Watcher = lambda _kind, _payload: None,
    hosts: Hosts | None = None,
) -> RunSummary:
    """Train a paused or failed run from its newest good checkpoint, or from step 0 without one.

    With `hosts` this is one of several that go on with it. With `fork`, a new run of that name goes
    on instead, with what changed since and `overrides`.
    Raises BookError when there is no such run, nothing is left of it to train, or something changed
    since it began.
    """
    book = find_book() if book is None else book
    run = open_run(book, name)
    refuse_imported(run)
    refuse_linked_run(run)
    other = [text for text in overrides if text.partition("=")[0].strip() not in TAKEN_OVER]
    if other and fork is None:
        raise UsageError(
            f"{other[0]} would change run {name}; `tunebook resume {name} --fork NEW "
            f"{shlex.join(overrides)}` goes on with it as a new run"
        )
    if hosts is not None and run.resolved_yaml.exists():
        if fork is not None:
            raise UsageError(f"--fork {fork} begins on one host; leave --nnodes out")
        recipe = resumed_recipe(run, overrides)
        refuse_on_hosts(recipe, hosts)
        if hosts.number:
            return join_run(run, watch, hosts, devices=recipe.devices, resumes=True)
    summary = summarize(run)
    if fork is not None and summary.state not in ("new", "running"):
        child, changes = fork_run(run, fork, overrides)
        for text in words(changes):
            watch("note", {"text": f"changed since {name}: {text}"})
        return train_run(child, watch)
    if summary.state == "finished":
        raise BookError(
            f"run {name} is finished; `model: run:{name}` in a new run file trains on from its "
            "weights"
        )
    if summary.state == "running":
        raise BookError(
            f"run {name} is being trained; `tunebook watch {name}` shows it, "
            f"`tunebook stop {name}` lets it save and pause"
        )
    if summary.state == "new":
        raise BookError(f"run {name} was never started; `tunebook train {name}` starts it")
    if summary.state == "stopped":
        raise BookError(
            f"run {name} was stopped by a verdict; `tunebook new NAME --from {name} key=value` "
            "makes a run that mends the cause"
        )
    refuse_changes(run, watch, overrides)
    return train_run(run, watch, hosts)
