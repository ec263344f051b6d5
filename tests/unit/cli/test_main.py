from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from tunebook import __version__
from tunebook.cli import main as frame
from tunebook.errors import PlanRefused, RunFileError


def run(monkeypatch: pytest.MonkeyPatch, command: click.Command, *args: str) -> int:
    """Run a command in the place of `doctor`."""
    module = ModuleType("tunebook.cli.doctor")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tunebook.cli.doctor", module)
    monkeypatch.setattr(frame.importlib.util, "find_spec", lambda name: name)
    return frame.main(["doctor", *args])


def raising(error: BaseException) -> click.Command:
    @click.command("doctor")
    @click.argument("words", nargs=-1)
    def command(words: tuple[str, ...]) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RunFileError("a.yaml:3: no"), 2, "tunebook: a.yaml:3: no\n"),
        (PlanRefused("it does not fit"), 3, "tunebook: it does not fit\n"),
        (
            ZeroDivisionError("by\nzero"),
            1,
            "tunebook: this is a bug in tunebook: ZeroDivisionError: by zero; "
            "run again with --debug for the traceback\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_every_failure_is_one_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    assert run(monkeypatch, raising(error)) == code
    captured = capsys.readouterr()
    assert captured.err == said
    assert captured.out == ""


@pytest.mark.parametrize("args", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    run(monkeypatch, raising(ValueError("x")))
    assert "Traceback" not in capsys.readouterr().err
    assert frame.main(args) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_command_may_return_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("doctor")
    def command() -> int:
        return 143

    assert run(monkeypatch, command) == 143


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["trian"], "tunebook: there is no command `trian`; did you mean `train`?"),
        (["--colour"], "tunebook: no such option"),
        (["schema", "--nope"], "`tunebook schema --help` shows how it is used"),
        (["schema", "extra"], "tunebook: got unexpected extra argument (extra)"),
        (["train"], "tunebook: missing argument"),
    ],
)
def test_wrong_usage_exits_2_in_one_line(
    capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    assert frame.main(args) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_help_lists_every_verb_without_importing_one(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["--help"], ["-h"], []):
        assert frame.main(args) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {verb} " in out for verb in frame.VERBS)


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunebook {__version__}\n"


def test_python_m_tunebook_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunebook", "nothing-such"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tunebook: there is no command `nothing-such`")


def test_a_closed_pipe_is_quiet() -> None:
    done = subprocess.run(
        f"{sys.executable} -m tunebook schema | head -c 1 && exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stdout == "{"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["ui", "--token", "a\udcffb"], 3),
        (["ui", "--host=a\udcffb"], 2),
        (["ui", "--name", "a\udcffb"], 3),
        (["note", "run_1", "a\udcffb"], 3),
        (["note", "run_1", "a", "--tag", "a\udcffb"], 5),
        (["new", "run_1", "notebook.hypothesis=a\udcffb"], 3),
        (["a\udcffb"], 1),
    ],
)
def test_a_word_that_is_no_text_is_refused_in_a_sentence_without_being_repeated(
    words: list[str],
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert frame.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tunebook: word {number} after `tunebook` is not UTF-8")
    assert "a\udcffb" not in said
    assert said.count("\n") == 1


def test_a_file_whose_name_is_no_text_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        (tmp_path / "a\udcffb.csv").write_text("step,loss\n1,2\n")
    except OSError:
        pytest.skip("this disk knows names in UTF-8 only")
    assert frame.main(["import", "a\udcffb.csv", "--book", "."]) == 2
    assert "the file's name is not UTF-8" in capsys.readouterr().err
