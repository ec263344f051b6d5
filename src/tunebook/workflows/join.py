"""A run on several hosts, from those beside the first."""

from __future__ import annotations

import time

from tunebook.book.liveness import ENDED, current_state
from tunebook.book.places import RunFolder
from tunebook.book.summary import summarize
from tunebook.errors import BookError, RunFileError
from tunebook.recipe.tree import Recipe
from tunebook.records import RunSummary
from tunebook.workflows.hosts import ARRIVAL_SECONDS, Hosts
from tunebook.workflows.launch import Watcher, train_in_child


def refuse_on_hosts(recipe: Recipe, hosts: Hosts) -> None:
    """Raise RunFileError for devices that hosts cannot share, and for what trains in parts."""
    if recipe.devices % hosts.count or recipe.devices < hosts.count:
        raise RunFileError(
            f"`devices: {recipe.devices}` cannot be shared by {hosts.count} hosts; `devices` "
            f"counts those of all of them, as in devices: {hosts.count}"
        )
    if recipe.parts is not None and recipe.part is None:
        raise RunFileError("`parts` trains on one host; leave --nnodes out")


def _refuse_ended(run: RunFolder, resumes: bool) -> None:
    state = current_state(run) if run.exists() and run.started() else "new"
    if state in ENDED:
        raise BookError(f"run {run.name} is {state}: nothing is left of it to train")
    if not resumes and state in ("paused", "failed"):
        raise BookError(
            f"run {run.name} is {state}; say `tunebook resume {run.name}`, on all of its hosts"
        )


def join_run(
    run: RunFolder, watch: Watcher, hosts: Hosts, *, devices: int, resumes: bool
) -> RunSummary:
    """Train the share of this host in a run that the first host makes, in a book that both see.

    `devices` are those of all hosts, by the command that all were given: the first host may not
    have written them down yet.
    Raises BookError when the run is not there after ten minutes, and for one that the first host
    will refuse too: nothing would come of waiting for it.
    """
    until = time.monotonic() + ARRIVAL_SECONDS
    _refuse_ended(run, resumes)
    if not run.resolved_yaml.exists():
        watch("note", {"text": f"waiting for the first host to make run {run.name}"})
    while not run.resolved_yaml.exists():
        if time.monotonic() > until:
            raise BookError(
                f"run {run.name} is not in the book {run.book} after {ARRIVAL_SECONDS:g} s; start "
                "it on the first host (--node-rank 0), and keep the book where all hosts see it"
            )
        time.sleep(0.5)
    train_in_child(run, watch, hosts, devices)
    return summarize(run)
