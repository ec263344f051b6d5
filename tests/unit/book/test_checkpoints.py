from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunebook.book.checkpoints import (
    MANIFEST,
    best_step,
    clear_stale_folders,
    list_checkpoints,
    mark_best,
    newest_good_checkpoint,
    rotate_checkpoints,
    stale_folders,
    verify_checkpoint,
    writing_checkpoint,
    writing_folder,
)
from tunebook.book.places import RunFolder
from tunebook.errors import CheckpointError, StorageError

DEAD = 2**22 + 1  # beyond the largest process id


@pytest.fixture
def run(book: Path) -> RunFolder:
    folder = RunFolder(book, "r")
    for step in (1, 2, 10):
        with writing_checkpoint(folder, step) as path:
            (path / "model.safetensors").write_bytes(bytes(range(100)) + bytes([step]))
            (path / "state").mkdir()
            (path / "state" / "state.json").write_text(f'{{"step": {step}}}')
    return folder


def names(run: RunFolder) -> list[str]:
    return [path.name for path in list_checkpoints(run)]


def test_checkpoints_are_listed_by_step_and_verify(run: RunFolder) -> None:
    assert names(run) == ["step-1", "step-2", "step-10"]
    for path in list_checkpoints(run):
        verify_checkpoint(path)


def test_nothing_of_a_failed_save_stays(run: RunFolder) -> None:
    def save() -> None:
        with writing_checkpoint(run, 11) as path:
            (path / "half").write_text("x")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        save()
    assert sorted(os.listdir(run.checkpoints)) == ["step-1", "step-10", "step-2"]


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), ValueError("I/O error: no room (os error 28)")],
    ids=["os", "library"],
)
def test_a_full_disk_says_what_and_where_and_leaves_the_old_ones_good(
    run: RunFolder, error: Exception
) -> None:
    sentence = r"disk is full: cannot save .*step-11; needs .* free;"
    with pytest.raises(StorageError, match=sentence), writing_checkpoint(run, 11):
        raise error
    assert newest_good_checkpoint(run) == (run.checkpoints / "step-10", [])


def test_an_unwritable_folder_is_named(run: RunFolder) -> None:
    with pytest.raises(StorageError, match="is not writable"), writing_folder(run.final):
        raise PermissionError(13, "Permission denied")


def test_a_missing_a_cut_and_an_altered_file_are_named_and_an_older_one_is_found(
    run: RunFolder,
) -> None:
    newest = run.checkpoints / "step-10"
    (newest / "state" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"state\.json is missing"):
        verify_checkpoint(newest)
    middle = run.checkpoints / "step-2" / "model.safetensors"
    whole = middle.read_bytes()
    middle.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: it has 100 bytes"):
        verify_checkpoint(middle.parent)
    middle.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: its bytes changed"):
        verify_checkpoint(middle.parent)
    good, problems = newest_good_checkpoint(run)
    assert good == run.checkpoints / "step-1"
    assert "state.json" in problems[0]
    assert "model.safetensors" in problems[1]


def test_every_flipped_bit_of_every_file_is_noticed(run: RunFolder) -> None:
    newest = run.checkpoints / "step-10"
    for path in (newest / MANIFEST, newest / "state" / "state.json", newest / "model.safetensors"):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
            with pytest.raises(CheckpointError, match=path.name):
                verify_checkpoint(newest)
        path.write_bytes(whole)
    verify_checkpoint(newest)


def test_every_cut_of_a_manifest_is_noticed(run: RunFolder) -> None:
    manifest = run.checkpoints / "step-10" / MANIFEST
    whole = manifest.read_bytes()
    for stop in range(len(whole)):
        manifest.write_bytes(whole[:stop])
        with pytest.raises(CheckpointError, match=MANIFEST):
            verify_checkpoint(manifest.parent)


def test_a_folder_without_a_manifest_was_never_completed(run: RunFolder) -> None:
    (run.checkpoints / "step-11").mkdir()
    good, problems = newest_good_checkpoint(run)
    assert good == run.checkpoints / "step-10"
    assert "never completed" in problems[0]


def test_no_checkpoint_at_all_is_none(book: Path) -> None:
    assert newest_good_checkpoint(RunFolder(book, "x")) == (None, [])


def test_saving_a_step_again_replaces_it_whole(run: RunFolder) -> None:
    with writing_checkpoint(run, 10) as path:
        (path / "other").write_text("new")
    verify_checkpoint(run.checkpoints / "step-10")
    assert sorted(os.listdir(run.checkpoints / "step-10")) == [MANIFEST, "other"]
    assert len(os.listdir(run.checkpoints)) == 3


def test_rotation_keeps_the_newest_the_best_and_the_protected(run: RunFolder) -> None:
    with writing_checkpoint(run, 11) as path:
        (path / "a").write_text("a")
    mark_best(run, 1)
    rotate_checkpoints(run, keep=1, protect={2})
    assert names(run) == ["step-1", "step-2", "step-11"]
    assert best_step(run) == 1
    assert os.readlink(run.best) == "checkpoints/step-1"
    mark_best(run, 11)
    rotate_checkpoints(run, keep=1, protect=set())
    assert names(run) == ["step-11"]


@pytest.mark.parametrize(
    "line",
    [
        "model: run:r/step-1",
        "recipe: {{model: {book}/runs/r/checkpoints/step-1}}",
        "environment: {{adapter: {book}/runs/r/checkpoints/step-1}}",
        "model: ../r/checkpoints/step-1",
    ],
)
def test_rotation_keeps_a_checkpoint_that_another_run_started_from(
    run: RunFolder, line: str
) -> None:
    child = RunFolder(run.book, "child")
    child.path.mkdir()
    file = child.resolved_yaml if "book" in line else child.run_yaml
    file.write_text(line.format(book=run.book))
    (run.book / "runs" / "other").mkdir()
    (run.book / "runs" / "other" / "run.yaml").write_text("model: run:ar/step-2")
    rotate_checkpoints(run, keep=1, protect=set())
    assert names(run) == ["step-1", "step-10"]


def test_what_dead_processes_left_is_cleared_and_what_living_ones_write_is_not(
    run: RunFolder,
) -> None:
    for name in (f".tmp-12-{DEAD}", f".trash-step-1-{DEAD}", f".tmp-12-{os.getpid()}"):
        (run.checkpoints / name).mkdir()
    assert len(stale_folders(run)) == 2
    clear_stale_folders(run)
    assert stale_folders(run) == []
    assert (run.checkpoints / f".tmp-12-{os.getpid()}").is_dir()


def test_a_folder_set_aside_by_a_process_that_died_before_replacing_it_is_put_back(
    run: RunFolder,
) -> None:
    os.rename(run.checkpoints / "step-10", run.checkpoints / f".old-step-10-{DEAD}")
    clear_stale_folders(run)
    verify_checkpoint(run.checkpoints / "step-10")
