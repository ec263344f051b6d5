"""The trials of a sweep on a Ray cluster of two nodes, one of which is lost."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_sweep_command import check_whole, write_sweep
from test_train_flow import start, tunebook

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.errors import UsageError
from tunebook.workflows.sweep_ray import RayWorkers


def test_a_missing_ray_is_one_sentence_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'tunebook\[ray\]'"):
        RayWorkers(tmp_path, "auto", None)


def test_a_missing_optuna_is_one_sentence_that_names_the_extra(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunebook.workflows.sweep import sweep

    path = write_sweep(book, tiny_model, search="random")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'tunebook\[sweep\]'"):
        sweep(path, book=book)


@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused_before_anything_is_trained(
    book: Path, tiny_model: Path
) -> None:
    path = write_sweep(book, tiny_model)
    done = tunebook(book, "sweep", path, "--on", "127.0.0.1:1")
    assert done.returncode == 2
    assert "no Ray cluster answers there" in done.stderr
    assert not (book / "runs/rates-001").exists()


@pytest.mark.slow
def test_trials_of_a_lost_node_go_on_from_their_checkpoints_on_the_other(
    book: Path, tiny_model: Path
) -> None:
    cluster: Any = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        lost = cluster.add_node(num_cpus=1)
        over = {"train.learning_rate": [1e-3, 1e-4, 1e-5], "train.effective_batch_size": [2, 4]}
        path = write_sweep(book, tiny_model, over=over, seeds=2)
        process = start(book, "sweep", path, "--on", cluster.address)
        # Both nodes train something.
        runs = [RunFolder(book, name) for name in ("rates-001-s0", "rates-001-s1")]
        until = time.monotonic() + 240
        while not all(run.exists() and len(read_events(run).steps) >= 3 for run in runs):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 0, err
    finally:
        cluster.shutdown()
    check_whole(book, 12)
    attempts = [{s["attempt"] for s in read_events(run).states} for run in runs]
    assert sorted(map(len, attempts)) == [1, 2]
